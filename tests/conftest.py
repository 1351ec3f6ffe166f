"""For all tests: hypothesis tries the same examples in each run; no process is left with all of the long ones."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

pytest.register_assert_rewrite("answers")  # so that its assertions say what they compared

settings.register_profile(
    "same every time", derandomize=True, deadline=None, max_examples=25, report_multiple_bugs=False
)
settings.load_profile("same every time")

SECONDS = json.loads(Path(__file__).with_name("seconds.json").read_text())


class Scheduling(LoadFileScheduling):
    """A file is tested by one process, but each run of a whole chapter by any: it takes as long as many a file."""

    def _split_scope(self, nodeid):
        alone = ("tests/test_figures.py", "tests/test_papermill.py", "tests/weekly.py")
        return nodeid if nodeid.startswith(alone) else nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)  # mutants are tried without plugins
def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # the order is the one below, and not that of the number of tests
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config, items):
    """Processes that share the tests begin with the longest files: a short one at the end keeps no other waiting."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -SECONDS.get(item.nodeid.split("::")[0], math.inf))


@pytest.fixture
def quiet_disk(monkeypatch):
    """fsync guards against a loss of power, which no test here brings about, and waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the shell that started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Of all that an exercise's check or an answer makes anew: some chapters compute in the one, some in the other."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    yield
    torch.set_default_dtype(before)
