"""What the packaging files promise one another, and that `make` keeps its promises."""

import contextlib
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import oldest
import pytest
import setuptools
import yaml
from chapters import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec
from setuptools import find_packages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYPI_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "playwright-python": "playwright"}
"""Where conda-forge and PyPI call the same package differently: conda's name -> PyPI's."""
EXTRAS = {"pyright": {"nodejs"}}
"""What conda's package brings by itself, and PyPI's only when asked."""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def requirements() -> dict[str, Requirement]:
    """Every direct requirement in pyproject.toml, of the module and of both optional groups."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    parsed = [Requirement(line) for group in groups for line in group]
    by_name = {requirement.name: requirement for requirement in parsed}
    assert len(by_name) == len(parsed), "a package is required twice"
    return by_name


def pins() -> dict[str, Version]:
    """The pins in constraints.txt, whose lines have no form but `name==version`, in order."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pair) == 2 and pair[0] == canonicalize_name(pair[0]) for pair in pairs), pairs
    names = [name for name, _ in pairs]
    assert names == sorted(set(names))
    return {name: Version(version) for name, version in pairs}


def conda_dependencies() -> tuple[list[str], list[str]]:
    """The lines of environment.yml that conda solves, and those that it hands to pip."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (rest,) = [line for line in environment["dependencies"] if not isinstance(line, str)]
    return conda, rest["pip"]


# ---------------------------------------------------------------------------------------------------------------------
# pyproject.toml, constraints.txt and environment.yml


@pytest.mark.parametrize("requirement", requirements().values(), ids=str)
def test_every_requirement_has_a_lower_and_an_upper_bound(requirement):
    bounds = [specifier.operator for specifier in requirement.specifier if specifier.operator != "!="]
    assert sorted(bounds) == ["<", ">="]
    assert requirement.marker is None and requirement.extras == EXTRAS.get(requirement.name, set())


def test_conda_and_pip_ask_for_the_same_packages_in_the_same_ranges():
    conda, _ = conda_dependencies()
    ranges = {}
    for line in conda:
        name, _, bounds = line.partition(" ")
        ranges[PYPI_NAMES.get(name, name)] = SpecifierSet(bounds)
    expected = {name: requirement.specifier for name, requirement in requirements().items()}
    expected |= {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    assert ranges == expected


@pytest.mark.parametrize("line", conda_dependencies()[0])
def test_conda_can_read_each_line(line):
    name, _, bounds = line.partition(" ")
    spec = MatchSpec(line, strict=True)
    assert spec.name.normalized == name
    assert str(spec.version or "") == bounds
    assert spec.build is None and spec.channel is None


def test_conda_installs_the_project_itself_through_pip_and_nothing_else():
    assert conda_dependencies()[1] == ["-e ."]


def test_every_direct_requirement_is_pinned_within_its_range():
    outside = {
        name: f"{pins().get(name)} is not {requirement.specifier}"
        for name, requirement in requirements().items()
        if name not in pins() or pins()[name] not in requirement.specifier
    }
    assert outside == {}


def test_pins_leave_the_choice_of_a_torch_build_to_the_machine():
    assert [name for name, version in pins().items() if version.local] == []
    assert [name for name in pins() if name.startswith(("nvidia-", "cuda-", "triton"))] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_package_that_linux_needs_is_pinned(python):
    """Follows what each installed package requires of others; what is not installed here counts by its name alone."""
    linux = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    try:
        metadata.requires(PROJECT["name"])
    except metadata.PackageNotFoundError:
        pytest.skip("the project is not installed")
    todo = [(PROJECT["name"], frozenset(PROJECT["optional-dependencies"]))]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name in pins() and pins()[name].public != Version(package.version).public:
            pytest.skip(f"{name} is not installed in its pinned version, and may ask for other packages")
        for required in map(Requirement, package.requires or []):
            required_name = canonicalize_name(required.name)
            if name == "torch" and required_name.startswith(("nvidia-", "cuda-", "triton")):
                continue  # the build for graphics cards brings these in versions of its own choice
            active = [required.marker is None or required.marker.evaluate(linux | {"extra": e}) for e in {"", *extras}]
            if any(active):
                todo.append((required_name, frozenset(required.extras)))
    needed = {name for name, _ in seen} - {PROJECT["name"]}
    assert len(needed) > 100
    assert needed - set(pins()) == set()


def test_the_sites_packages_are_pinned_each_once_and_in_order():
    lines = (ROOT / "site" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines if not line.startswith("#")]
    assert names == sorted({canonicalize_name(name) for name in names}) and len(names) > 50
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines if not line.startswith("#"))


def test_the_module_is_installed_whole_and_nothing_else():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    installed = find_packages(str(ROOT), **tool["setuptools"]["packages"]["find"])
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "vrnn_tutorial").rglob("*.py")]
    assert set(installed) == {".".join(folder.parts) for folder in folders}


def test_the_oldest_of_everything_is_where_its_range_begins():
    assert oldest.oldest(Requirement("one[more]!=1.3,<2,>=1.2")) == "one==1.2"
    with pytest.raises(ValueError, match="one<2 does not say where its range begins"):
        oldest.oldest(Requirement("one<2"))
    torch, *others = oldest.constraints()
    assert torch in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = {Requirement(line).name: Requirement(line).specifier for line in others}
    assert found.keys() == requirements().keys() - {"torch"}
    for name, requirement in requirements().items():
        if name != "torch":
            (pinned,) = found[name]
            assert pinned.operator == "==" and pinned.version in requirement.specifier
            assert f">={pinned.version}" in str(requirement.specifier)


# ---------------------------------------------------------------------------------------------------------------------
# Continuous integration


def workflow(name: str) -> dict:
    """Without YAML's own types, for which `on` is a truth value."""
    return yaml.load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"), yaml.BaseLoader)


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_make_test_on_every_python():
    job = workflow("test")["jobs"]["test"]
    assert commands(job) == ["make test"]
    versions = job["strategy"]["matrix"]["python-version"]
    assert f">={versions[0]}" == PROJECT["requires-python"]
    assert [Version(version).minor for version in versions] == list(range(11, 15))
    assert 0 < int(job["timeout-minutes"]) <= 90


def test_elsewhere_it_runs_readmes_commands_and_no_notebook():
    job = workflow("test")["jobs"]["elsewhere"]
    matrix = job["strategy"]["matrix"]
    assert matrix == {"os": ["macos-latest", "windows-latest"], "python-version": ["3.11", "3.14"]}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    *setting_up, tests = commands(job)
    assert all(command.replace("python", ".venv/bin/python", 1) in readme for command in setting_up)
    assert "notebooks" not in tests and all((ROOT / path).exists() for path in re.findall(r"tests\S*", tests))


def test_another_workflow_runs_everything_each_week():
    weekly = workflow("weekly")
    (job,) = weekly["jobs"].values()
    assert commands(job) == ["make ${{ matrix.target }}"]
    targets = job["strategy"]["matrix"]["target"]
    assert targets == ["test-all", "test-oldest", "test-site", "mutants"]
    assert set(targets) <= set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    (day,) = [schedule["cron"].split()[4] for schedule in weekly["on"]["schedule"]]
    assert day in "0123456"


def rights(workflow: dict) -> dict[str, set[str]]:
    """What each job may write, which a workflow as a whole may not."""
    assert workflow["permissions"] == {"contents": "read"}
    return {name: {what for what, how in job.get("permissions", {}).items() if how == "write"}
            for name, job in workflow["jobs"].items()}  # fmt: skip


def test_the_site_is_built_once_and_published_by_jobs_that_may_do_no_more_than_that():
    site = workflow("site")
    assert rights(site) == {"build": set(), "publish": {"pages", "id-token"}, "colab": {"contents"}}
    assert commands(site["jobs"]["build"]) == ["make site"]
    built = [step["with"]["path"] for step in site["jobs"]["build"]["steps"] if "path" in step.get("with", {})]
    assert built == ["site/_build/html", "site/_build/colab"]
    (push,) = commands(site["jobs"]["colab"])
    assert "--orphan colab" in push and "origin colab" in push, "the branch that the site's links name"


def test_a_release_is_built_tried_and_published_without_a_secret():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    release = workflow("release")
    assert rights(release) == {"build": set(), "publish": {"id-token"}}
    assert release["on"] == {"push": {"tags": ["v*"]}} and release["jobs"]["publish"]["needs"] == "build"
    assert "secrets" not in text and "password" not in text and "token:" not in text.replace("id-token:", "")
    assert any('"$GITHUB_REF_NAME"' in command for command in commands(release["jobs"]["build"]))


def test_the_licence_names_what_is_under_another():
    told = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    named = re.findall(r"(?:data|figures|notebooks)/[\w/.]+\w/?", told)
    assert {"data/checkpoints/pen/", "figures/widgets/", "notebooks/07_the_pen.ipynb"} <= set(named)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert list((ROOT / "figures" / "widgets").glob("07_the_pen*"))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "vrnn_tutorial" / "__init__.py").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (version[1], PROJECT["license"])
    assert citation["abstract"].strip().startswith(PROJECT["description"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_before_a_commit_the_check_runs_and_nothing_from_elsewhere():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["entry"]) == ("local", "system", "make check")
    assert hook["always_run"] and not hook["pass_filenames"]


def test_everything_holds_what_takes_long_and_all_the_rest(tmp_path):
    """A file that is named beside its own folder, pytest leaves out without a word. Tried on files of these names."""
    (options,) = re.findall(r"-o (python_files=)'(.*?)'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    tests = {path.name for path in [*(ROOT / "tests").glob("test_*.py"), ROOT / "tests" / "weekly.py"]}
    (tmp_path / "tests").mkdir()
    for name in tests | {"helpers.py"}:
        (tmp_path / "tests" / name).write_text("def test():\n    pass\n")
    listing = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "".join(options), "tests"]
    known = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    how = {"cwd": tmp_path, "env": known, "capture_output": True, "text": True, "check": True}
    collected = subprocess.run(listing, **how).stdout
    assert set(re.findall(r"^tests/(\w+\.py)::", collected, flags=re.MULTILINE)) == tests


@needs_make
@pytest.mark.parametrize("beside", [True, False], ids=["with the reference", "without it"])
def test_ci_run_calls_make_test_and_tells_it_where_the_reference_text_lies(tmp_path, beside):
    project, reference = tmp_path / "project", tmp_path / "shared/reference/tinyshakespeare.txt"
    (project / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", project / ".ci/run")
    (project / "Makefile").write_text('test:\n\t@echo "make test: [$$TINYSHAKESPEARE_REFERENCE]"\n')
    if beside:
        reference.parent.mkdir(parents=True)
        reference.write_text("First Citizen:\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TINY", "MAKE", "MFLAGS"))}
    browser = tmp_path / "bin/chromium"  # one is there already, so that none is installed
    browser.parent.mkdir()
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    environment["PATH"] = f"{browser.parent}{os.pathsep}{environment['PATH']}"
    how = {"env": environment, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    ran = subprocess.run(["bash", "project/.ci/run"], cwd=tmp_path, **how)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"make test: [{reference if beside else ''}]"]

    (project / "Makefile").write_text("test:\n\t@false\n")
    assert subprocess.run(["bash", ".ci/run"], cwd=project, **how).returncode != 0


# ---------------------------------------------------------------------------------------------------------------------
# The Makefile, with a stand-in for Python that writes down what it is asked to do

STAND_IN = """#!/bin/sh
case "$*" in
    "-c "*) exec {python} "$@" ;;
esac
echo "$*" >> calls
case "$*" in
    "-m venv --clear .venv"*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    "-m pip "*) if test -e trouble; then . ./trouble; fi ;;
    "-m vrnn_tutorial data") mkdir -p data; echo text > data/shakespeare.txt ;;
esac
"""
SET_UP = [
    "-m venv --clear .venv",
    "-m pip install --disable-pip-version-check -e .[notebooks,test] -c constraints.txt",
    "-m vrnn_tutorial data",
]
CHECK = ["-m ruff check .", "-m ruff format --check .", "-m pyright --pythonpath .venv/bin/python"]


class Checkout:
    """A copy of the files that make looks at, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "site").mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "site/requirements.txt"):
            shutil.copy(ROOT / name, folder / name)
        for path in ("notebooks/01_vae.ipynb", "notebooks/solutions/01_vae.ipynb"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        self.python = self.executable("stand-in", STAND_IN.format(python=sys.executable))

    def executable(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)
        return f"./{name}"

    def make(self, *arguments: str) -> subprocess.CompletedProcess:
        # A make that runs these tests must not pass its own flags and variables on.
        taken = ("MAKE", "MFLAGS", "PYTHON", "LAB_ARGS", "PYTEST_ARGS", "NOTEBOOKS", "VRNN_TUTORIAL_DATA")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
        if not any(argument.startswith("PYTHON=") for argument in arguments):
            arguments = (*arguments, f"PYTHON={self.python}")
        return subprocess.run(["make", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)

    def calls(self, *arguments: str) -> list[str]:
        """What Python was asked to do by a call of make that must succeed."""
        log = self.folder / "calls"
        log.write_text("")
        ran = self.make(*arguments)
        assert ran.returncode == 0, ran.stderr
        return log.read_text().splitlines()

    def edit(self, name: str):
        """Gives a file a later time than the stamp, however coarse the file system's clock is."""
        later = (self.folder / ".venv/.installed").stat().st_mtime + 10
        os.utime(self.folder / name, (later, later))


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(("version", "refused"), [((3, 10, 13), True), ((3, 11, 0), False)])
def test_an_older_python_is_refused_before_pip_blames_a_package(version, refused, monkeypatch):
    asked = []
    monkeypatch.setattr(setuptools, "setup", lambda: asked.append("set up"))
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(platform, "python_version", lambda: ".".join(map(str, version)))
    with pytest.raises(SystemExit) if refused else contextlib.nullcontext() as stop:
        runpy.run_path(str(ROOT / "setup.py"))
    assert asked == ([] if refused else ["set up"])
    if refused:
        assert str(stop.value) == "Python 3.11 or newer is needed, but this is 3.10.13."


@needs_make
def test_make_alone_lists_the_targets_and_changes_nothing(checkout):
    before = sorted(checkout.folder.iterdir())
    ran = checkout.make()
    assert ran.returncode == 0
    listed = re.findall(r"^make (\w+) ", ran.stdout, flags=re.MULTILINE)
    assert set(listed) >= {"help", "setup", "lab", "check", "test", "mutants", "figures", "clean"}
    assert ran.stdout == checkout.make("help").stdout
    assert sorted(checkout.folder.iterdir()) == before


@needs_make
def test_set_up_happens_once(checkout):
    assert checkout.calls("setup") == SET_UP
    assert checkout.calls("setup") == []


@needs_make
@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("test", r"-m pytest .*\btests notebooks --nbval .*--nbval-sanitize-with tests/sanitize\.cfg"),
        ("test-all", r"-m pytest .* -o python_files=test_\*\.py weekly\.py tests notebooks --nbval .*"),
        ("lab", r"-m jupyterlab --ServerApp\.ip=127\.0\.0\.1 .*/notebooks"),
        ("seconds", r"tests/seconds\.py tests notebooks --nbval .*--nbval-sanitize-with tests/sanitize\.cfg"),
        ("mutants", r"tests/mutants/run\.py"),
        ("notebooks", r"tests/store\.py notebooks/01_vae\.ipynb notebooks/solutions/01_vae\.ipynb"),
        ("records", r"tests/records\.py"),
        ("figures", r"-m vrnn_tutorial figures"),
    ],
)
def test_each_target_sets_up_first_and_the_second_time_goes_straight_to_work(checkout, target, call):
    first, again = checkout.calls(target), checkout.calls(target)
    checks = CHECK if target in ("test", "test-all") else []
    assert first[:-1] == [*SET_UP, *checks]
    assert re.fullmatch(call, first[-1].strip())
    assert again == [*checks, first[-1]]


@needs_make
def test_the_site_has_an_environment_of_its_own_and_its_test_builds_it_first(checkout):
    install = "-m pip install --disable-pip-version-check -r site/requirements.txt"
    own = ["-m venv --clear .venv-site", install, "site/build.py"]
    assert checkout.calls("site") == own
    assert checkout.calls("site") == own[2:]
    assert checkout.calls("test-site", "PYTEST_ARGS=-x") == [*SET_UP, *own[2:], "-m pytest tests/built_site.py -x"]
    checkout.edit("site/requirements.txt")
    assert checkout.calls("site") == own


@needs_make
def test_the_check_needs_no_text(checkout):
    assert checkout.calls("check") == [*SET_UP[:2], *CHECK]


@needs_make
@pytest.mark.parametrize("target", ["test", "test-all"])
@pytest.mark.parametrize("fails", range(len(CHECK)))
def test_nothing_is_tested_while_the_check_fails(checkout, target, fails):
    checkout.calls("setup")
    checkout.executable(".venv/bin/python", f'#!/bin/sh\necho "$*" >> calls\ntest "$*" != "{CHECK[fails]}"\n')
    os.utime(checkout.folder / ".venv/bin/python", (0, 0))
    (checkout.folder / "calls").unlink()
    assert checkout.make(target).returncode != 0
    assert (checkout.folder / "calls").read_text().splitlines() == CHECK[: fails + 1]


@needs_make
def test_further_arguments_come_last_and_the_token_stays(checkout):
    (call,) = checkout.calls("lab", "LAB_ARGS=--no-browser --port=9000")[3:]
    assert call.endswith(" --no-browser --port=9000")
    assert "token" not in call and "password" not in call
    *_, call = checkout.calls("test", "PYTEST_ARGS=-x -k gaussian")
    assert call.startswith("-m pytest ") and call.endswith(" -x -k gaussian")


@needs_make
@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_without_fetching_the_text_again(checkout, name):
    checkout.calls("setup")
    checkout.edit(name)
    assert checkout.calls("setup") == SET_UP[1:2]


@needs_make
def test_a_lost_corpus_is_fetched_without_installing_again(checkout):
    checkout.calls("setup")
    (checkout.folder / "data/shakespeare.txt").unlink()
    assert checkout.calls("setup") == SET_UP[2:]


@needs_make
def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / """it's "a" $HOME of its own"""
    folder.mkdir()
    checkout = Checkout(folder)
    *before, call = checkout.calls("lab")
    assert before == SET_UP and f" --ServerApp.root_dir={folder} " in call


@needs_make
def test_a_data_folder_may_have_a_blank_in_its_name(checkout):
    data = "VRNN_TUTORIAL_DATA=./two words"
    assert checkout.calls("setup", data) == SET_UP
    (checkout.folder / "two words").mkdir()
    (checkout.folder / "two words" / "shakespeare.txt").touch()
    assert checkout.calls("setup", data) == []


@needs_make
@pytest.mark.parametrize("gone", ["its Python", "all but a link to it", "its pip"])
def test_a_broken_environment_is_made_anew(checkout, gone):
    """As when Python was upgraded, the folder was copied from elsewhere, or `venv` was stopped half-way."""
    checkout.calls("setup")
    python = checkout.folder / ".venv/bin/python"
    if gone == "its pip":
        python.write_text("#!/bin/sh\nexit 1\n")
        (checkout.folder / ".venv/.installed").unlink()
    else:
        python.unlink()
    if gone == "all but a link to it":
        python.symlink_to("/nowhere/python")
    assert checkout.calls("setup") == SET_UP[:2]
    assert checkout.calls("setup") == []


@needs_make
@pytest.mark.parametrize("trouble", ["exit 1", "kill -9 $PPID"], ids=["no network", "make killed"])
def test_an_interrupted_set_up_is_taken_up_again(checkout, trouble):
    (checkout.folder / "trouble").write_text(trouble)
    assert checkout.make("setup").returncode != 0
    assert not (checkout.folder / ".venv/.installed").exists()
    assert not (checkout.folder / "data").exists()
    (checkout.folder / "trouble").unlink()
    assert checkout.calls("setup") == SET_UP[1:]  # in the environment that is there


OLD = """#!/bin/sh
shift
exec {python} -c "
import platform, sys
sys.version_info, platform.python_version = (3, 10, 14), lambda: '3.10.14'
exec(sys.argv[1])" "$@"
"""


@needs_make
def test_an_old_or_missing_python_is_refused_in_one_sentence(checkout):
    old = checkout.executable("old", OLD.format(python=sys.executable))
    for python, found in [(old, "3.10.14"), ("./nowhere", "missing")]:
        ran = checkout.make("test", f"PYTHON={python}")
        assert ran.returncode != 0
        sentence, *rest = ran.stderr.splitlines()
        assert sentence.startswith(f"Python 3.11 or newer is needed, but {python} is {found}: ")
        assert ran.stdout == "" and all(line.startswith("make") for line in rest)
        assert not (checkout.folder / ".venv").exists()


@needs_make
def test_clean_takes_the_environment_and_leaves_data_and_runs(checkout):
    checkout.calls("setup")
    for name in ("runs/first/history.json", "vrnn_tutorial/__pycache__/cell.pyc", "vrnn_tutorial/cell.py"):
        (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.folder / name).touch()
    checkout.calls("clean")
    assert not (checkout.folder / ".venv").exists()
    assert not (checkout.folder / "vrnn_tutorial/__pycache__").exists()
    for name in ("runs/first/history.json", "vrnn_tutorial/cell.py", "data/shakespeare.txt"):
        assert (checkout.folder / name).exists()


# ---------------------------------------------------------------------------------------------------------------------
# What git holds


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def paths_of_one_machine(content: bytes, folders: list[Path]) -> list[str]:
    """Where a file names one of the folders, or anyone's home folder on Linux, macOS or Windows."""
    own = [rf"(?<![\w.~-]){re.escape(str(folder))}(?![\w.-])" for folder in folders if len(folder.parts) > 1]
    homes = [r"(?<![\w.~-])/(?:home|Users)/\w+", r"\b[A-Z]:\\+Users\\+\w+"]
    return [found.group().decode() for found in re.finditer("|".join(own + homes).encode(), content)]


def test_no_tracked_file_names_a_folder_of_one_machine():
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    found = [(path, paths_of_one_machine(path.read_bytes(), [ROOT, Path.home()])) for path in files]
    assert [(path, paths) for path, paths in found if paths] == []


def test_paths_of_one_machine_are_recognised():
    own = Path("/srv/ada/vrnn")
    for folder in (own, Path("/", "home", "ada"), Path("/", "Users", "ada")):
        for text in (f'File "{folder}/notebooks/a.py", line 1', f"cd {folder}", f"{folder}"):
            assert paths_of_one_machine(text.encode(), [own]) == [str(folder)]
    assert paths_of_one_machine(b"C:" + rb"\Users\ada\vrnn", []) == ["C:" + r"\Users\ada"]
    assert paths_of_one_machine(b"notebooks/home/x.py, example.org/Users/x, /srv/ada/vrnn-2, ~/data, /", [own]) == []


def test_what_make_and_training_leave_behind_stays_out_of_git():
    tracked_files()

    def ignored(names: list[str]) -> list[str]:
        return subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True).stdout.split()

    made = [".venv/bin/python", "data/shakespeare.txt", "data/kanji.safetensors", "runs/a/history.json"]
    made += ["vrnn_tutorial/__pycache__/cell.pyc", "notebooks/.ipynb_checkpoints/a.ipynb"]
    made += [".pytest_cache/README.md", ".ruff_cache/CACHEDIR.TAG", ".hypothesis/examples/a"]
    made += ["vrnn_tutorial.egg-info/PKG-INFO", "build/lib/a.py", "dist/a.whl"]
    assert ignored(made) == made
    assert ignored(["data/README.md", "data/char.safetensors", "constraints.txt", "notebooks/01_vae.ipynb"]) == []


def test_every_mutant_still_applies():
    patches = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
    assert patches
    for patch in patches:
        applied = subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, capture_output=True, text=True)
        assert applied.returncode == 0, f"{patch.name}: {applied.stderr}"
    for table in sorted((ROOT / "tests" / "mutants").glob("*.toml")):
        for name, fault in tomllib.loads(table.read_text(encoding="utf-8")).items():
            source = (ROOT / fault.get("page", f"notebooks/{fault.get('notebook')}.ipynb")).read_text(encoding="utf-8")
            if "cell" in fault:
                cells = json.loads(source)["cells"]
                source = "".join(line for cell in cells if cell["id"] == fault["cell"] for line in cell["source"])
            assert source.count(fault["old"]) == 1, f"{name} no longer finds {fault['old']!r} once"
