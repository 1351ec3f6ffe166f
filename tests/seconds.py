"""How many seconds each file of tests and each notebook takes: measures them, writes seconds.json and CONTRIBUTING.md.

    python tests/seconds.py tests notebooks --nbval    all of them (make seconds, which knows nbval's options)
    python tests/seconds.py tests/test_gaussian.py     this file only; the others' seconds stay as they were

They are seconds of the processor, of the processes that a test starts too: a busy machine changes little in them. They
are rounded to 1, 2, 5, 10, 20, ..., since machines differ by more than that. A file in which a test fails is not
measured. tests/conftest.py reads them, to begin with what takes longest.
"""

import json
import math
import os
import re
import sys
from collections import Counter

import pytest
from chapters import NOTEBOOKS, ROOT

SECONDS = ROOT / "tests" / "seconds.json"
PAGE = ROOT / "CONTRIBUTING.md"
STEPS = [step * 10**power for power in range(3) for step in (1, 2, 5)]


class Stopwatch:
    """A pytest plugin that adds up the processor's seconds of each file, and knows in which of them a test failed."""

    def __init__(self):
        self.seconds, self.failed = Counter(), set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        before = sum(os.times()[:4])
        result = yield
        self.seconds[file_of(item.nodeid)] += sum(os.times()[:4]) - before
        return result

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(file_of(report.nodeid))


def file_of(nodeid: str) -> str:
    """Of a test, the path of its file below the project's folder."""
    return nodeid.split("::")[0]


def files() -> list[str]:
    """All that is measured: files of tests, and notebooks."""
    return sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("tests/test_*.py"), *NOTEBOOKS])


def coarse(seconds: float) -> int:
    return min(STEPS, key=lambda step: abs(math.log(max(seconds, 1) / step)))


def told(page: str, seconds: dict[str, int]) -> str:
    """The page with the seconds of the files that a row of its floor plan names, in its last column."""

    def row(match: re.Match) -> str:
        named = re.findall(r"`(test_\w+\.py)`", match[1])
        return f"{match[1]} {', '.join(str(seconds.get(f'tests/{name}', '?')) for name in named)} |"

    return re.sub(r"(?m)^(\| `\w+(?:\.py|/)` \|[^|\n]+\|[^|\n]*`test_[^|\n]+\|)(?:[^|\n]*\|)?$", row, page)


def main(*arguments: str) -> int:
    stopwatch = Stopwatch()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[stopwatch])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return status  # a file in which it was interrupted would seem quick
    seconds = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    seconds |= {file: coarse(taken) for file, taken in stopwatch.seconds.items() if file not in stopwatch.failed}
    SECONDS.write_text(json.dumps({file: seconds[file] for file in files() if file in seconds}, indent=1) + "\n")
    PAGE.write_text(told(PAGE.read_text(encoding="utf-8"), seconds), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
