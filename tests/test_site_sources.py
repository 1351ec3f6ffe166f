"""What the site is made of, before it is built: links, first cells, docstrings. built_site.py tests the rest."""

import os
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from chapters import CHAPTERS, NOTEBOOKS, ROOT, SOLUTIONS
from IPython.core.inputtransformer2 import TransformerManager

BUILD = runpy.run_path(str(ROOT / "site" / "build.py"))
DOCSTRINGS = runpy.run_path(str(ROOT / "site" / "docstrings.py"))
ADDRESS = "https://github.com/OWNER/NAME"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """As on a reader's machine, whatever runs these tests."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


def project(folder, urls):
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}')


@pytest.mark.parametrize("urls, expected", [("", None), ('urls = {Repository = "https://example.org/a/"}', "a")])
def test_the_repository_is_pyprojects(monkeypatch, tmp_path, urls, expected):
    project(tmp_path, urls)
    monkeypatch.setitem(BUILD["repository"].__globals__, "ROOT", tmp_path)
    assert BUILD["repository"]() == (expected and f"https://example.org/{expected}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "OWNER/NAME")
    assert BUILD["repository"]() == (f"https://example.org/{expected}" if expected else ADDRESS)


PAGES = {"README.md", "data/README.md", "notebooks/01_vae.ipynb", "notebooks/solutions/01_vae.ipynb"}


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("notebooks/01_vae.ipynb", "[Contents](../README.md)", "[Contents](../index.md)"),
        ("notebooks/solutions/01_vae.ipynb", "[Contents](../../README.md)", "[Contents](../../index.md)"),
        ("notebooks/01_vae.ipynb", "[its](solutions/01_vae.ipynb)", "[its](solutions/01_vae.ipynb)"),
        ("notebooks/01_vae.ipynb", "[some](#To-take)", "[some](#to-take)"),
        ("README.md", "[1](notebooks/01_vae.ipynb)", "[1](notebooks/01_vae.ipynb)"),
        ("README.md", "![words](figures/unrolled.png)", "![words](figures/unrolled.png)"),
        (
            "README.md",
            "[![a](figures/page.png)](site/a.html)",
            '<a href="site/a.html">\n\n![a](figures/page.png)\n\n</a>',
        ),
        ("README.md", "[it](https://example.org)", "[it](https://example.org)"),
        ("README.md", "`[it](none.md)` [it](none.md)", f"`[it](none.md)` [it]({ADDRESS}/blob/main/none.md)"),
        ("data/README.md", "[a](best/)", f"[a]({ADDRESS}/blob/main/data/best)"),
    ],
)
def test_a_link_leads_into_the_site_or_to_the_repository(page, before, after):
    assert BUILD["relinked"](before, page, PAGES, ADDRESS) == after


def test_where_no_repository_is_known_its_words_stay():
    assert BUILD["relinked"]("a [run](data/best/) of", "README.md", PAGES, None) == "a run of"


@pytest.fixture
def paged():
    """A chapter as its page shows it, with a repository and without."""
    page = CHAPTERS[4].relative_to(ROOT).as_posix()
    pages = {path.relative_to(ROOT).as_posix() for path in NOTEBOOKS}
    return [BUILD["paged"](nbformat.read(CHAPTERS[4], 4), page, pages, address) for address in (ADDRESS, None)]


def test_a_chapter_says_below_its_title_how_it_is_run(paged):
    with_one, without = ("".join(cell.source for cell in notebook.cells[:2]) for notebook in paged)
    name = CHAPTERS[4].name
    assert f"colab.research.google.com/github/OWNER/NAME/blob/colab/{name}" in with_one
    assert f"mybinder.org/v2/gh/OWNER/NAME/main?urlpath=lab/tree/notebooks/{name}" in with_one
    assert "need a network" in with_one
    assert "Colab" not in without and "[install it](../README.md#two-commands)" in without
    assert "## Two commands" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_solution_does_not():
    page = SOLUTIONS[0].relative_to(ROOT).as_posix()
    before = nbformat.read(SOLUTIONS[0], 4)
    assert len(BUILD["paged"](nbformat.read(SOLUTIONS[0], 4), page, set(), ADDRESS).cells) == len(before.cells)


def test_pictures_have_their_words_and_bars_of_progress_are_gone(paged):
    before, after = nbformat.read(CHAPTERS[4], 4), paged[0]
    kinds = [[tuple(o.get("data", "text")) for c in notebook.cells for o in c.get("outputs", ())]
             for notebook in (before, after)]  # fmt: skip
    assert ("text/plain",) in kinds[0] and kinds[1] == [kind for kind in kinds[0] if kind != ("text/plain",)]
    described = {cell.id: cell.metadata.alt for cell in before.cells if "alt" in cell.metadata}
    assert described
    assert {c.id: c.metadata.mystnb["image"]["alt"] for c in after.cells if "mystnb" in c.metadata} == described


def imported(page):
    """The scripts from outside its folder that a page's script imports."""
    script = (ROOT / "site" / page).with_suffix(".js").read_text(encoding="utf-8")
    return set(re.findall(r'from "\.\./([^"]+)"', script))


@pytest.mark.parametrize("page", BUILD["LIVE"])
def test_a_page_that_moves_is_led_to_from_its_chapter_and_asks_for_what_is_there(page):
    chapter, cell, words = BUILD["LIVE"][page]
    (path,) = (path for path in CHAPTERS if path.stem == chapter)
    cells = BUILD["paged"](nbformat.read(path, 4), path.relative_to(ROOT).as_posix(), set(), None).cells
    at = [each.id for each in cells].index(cell)
    assert cells[at + 1].source == f'<p><a href="../site/{page}">{words}</a></p>'
    asked = BUILD["asked_for"](ROOT / "site" / page)
    assert {Path(path).suffix for path in asked} - {".js"} == {".safetensors", ".png"}
    assert {path for path in asked if path.endswith(".js")} == imported(page)
    assert [path for path in asked if not (ROOT / path).is_file()] == []
    assert words.endswith(f"{re.search('<h1>(.+)</h1>', (ROOT / 'site' / page).read_text())[1]}.")
    assert f"site/{page}" in (ROOT / "site" / "index.md").read_text()


class Shell:
    """Of IPython, what a first cell needs: it writes down what is asked of it."""

    def __init__(self):
        self.asked = []

    def system(self, command):
        self.asked.append(command)

    def run_line_magic(self, name, rest, *_, **__):
        self.asked.append(f"{name} {rest}")
        if name == "cd":
            os.chdir(rest)


def test_the_first_cell_of_colab_fetches_installs_and_imports(monkeypatch, tmp_path):
    notebook = BUILD["for_colab"](nbformat.read(CHAPTERS[0], 4), ADDRESS)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells[1:]] == [cell.id for cell in nbformat.read(CHAPTERS[0], 4).cells]
    (tmp_path / "vrnn-tutorial" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["a"])
    shell = Shell()
    exec(TransformerManager().transform_cell(notebook.cells[0].source), {"get_ipython": lambda: shell})
    import sys

    assert shell.asked == [
        f"git clone --quiet --depth 1 {ADDRESS} vrnn-tutorial",
        "cd vrnn-tutorial/notebooks",
        "pip install --quiet -e .. anywidget scikit-learn",
    ]
    assert sys.path == [str(tmp_path / "vrnn-tutorial"), "a"]


def test_a_docstring_becomes_restructured_text():
    lines = [
        "Four nets, p(x | z) and **options:",
        "",
        "    prior | h",
        "",
        "Each `a|b`:",
        "- one",
        "  goes on",
        "- two",
        "All else.",
        "Args:",
        "    one, two,",
        "        three: counts.",
    ]
    assert DOCSTRINGS["restructured"](lines) == [
        r"Four nets, p(x \| z) and \*\*options::",
        "",
        "    prior | h",
        "",
        "Each `a|b`:",
        "",
        "- one",
        "  goes on",
        "- two",
        "",
        "All else.",
        "Args:",
        "    one, two, three: counts.",
    ]


def test_comments_behind_fields_and_above_names_are_found(tmp_path):
    (tmp_path / "room.py").write_text(
        "#: What is kept,\n#: of each.\nState = tuple\n# why not\nOther = 1\n\n\n"
        "class Step:\n    hidden: int  # (B, H)\n    z: int\n    #: of x\n    x = (\n        1\n    )\n"
    )
    assert DOCSTRINGS["comments"](tmp_path / "room.py", "m") == {
        "m.State": "What is kept, of each.",
        "m.Step.hidden": "(B, H)",
        "m.Step.x": "of x",
    }
