"""Builds the site out of what is committed; no cell is run.

    make site                 an environment of its own, then this
    python site/build.py      all into site/_build: `html` is the site, `colab` has the chapters as Colab opens them

Sphinx and myst-nb turn notebooks with their stored outputs into pages. What they need is laid out in `_build/source`
first: chapters and solutions with what only a page has, the pages in Markdown with links that lead somewhere, and the
pages that move by themselves, with the models that they ask for.
"""

import importlib.util
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import nbformat

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
BUILD = SITE / "_build"
#: Markdown that is shown as it is, and where it then lies.
PAGES = ("README.md", "data/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
#: Pages that move by themselves: the chapter and the cell below which a link leads there, and what the link says.
LIVE = {
    "microscope.html": (
        "03_vrnn_cell",
        "microscope-live-words",
        "These panels move without a kernel on a page of their own: Under the microscope.",
    ),
    "generation.html": (
        "05_generation",
        "slider-code-in-words",
        "These two columns move without a kernel on a page of their own: Two models write.",
    ),
    "pen.html": (
        "07_the_pen",
        "invented-live-words",
        "These forty move without a kernel, beside a sheet to draw on: Characters that do not exist.",
    ),
    "voices.html": (
        "08_bach",
        "listen-words",
        "The four models write, and sound, without a kernel on a page of their own: Four voices.",
    ),
}
#: A picture that leads to such a page, which Sphinx does not know.
LEADING = re.compile(r"\[(!\[[^\[\]]*\]\([^)\s]+\))\]\((site/[^)\s]+)\)")
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)")


def repository() -> str | None:
    """Where the project is published: as pyproject.toml says under [project.urls], else as the workflow that runs this.

    None where neither is known; then there is nothing that Colab or Binder could open.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if named := project.get("urls", {}).get("Repository"):
        return named.rstrip("/")
    if named := os.environ.get("GITHUB_REPOSITORY"):
        return f"https://github.com/{named}"
    return None


def chapters(folder: Path = ROOT / "notebooks") -> list[Path]:
    return sorted(folder.glob("[0-9]*.ipynb"))


def relinked(markdown: str, page: str, pages: set[str], address: str | None) -> str:
    """The page's Markdown with links that lead somewhere in the site.

    Args:
        markdown: of the page.
        page: its path in the project.
        pages: paths of all that the site has.
        address: the repository, to which a link to any other file leads; None leaves its words alone.
    """

    def replaced(link):
        picture, words, target = link.groups()
        if re.match(r"https?:|mailto:|attachment:", target):
            return link[0]
        if target.startswith("#"):
            return f"{picture}[{words}]({target.lower()})"  # Jupyter's anchors keep their capitals
        path = os.path.normpath(os.path.join(os.path.dirname(page), target))
        if page.endswith(".ipynb") and path == "README.md":
            return f"[{words}]({os.path.relpath('index.md', os.path.dirname(page))})"
        if path in pages or (picture and (ROOT / path).exists()):
            return link[0]
        return words if address is None else f"[{words}]({address}/blob/main/{path})"

    markdown = LEADING.sub(r'<a href="\2">\n\n\1\n\n</a>', markdown)
    parts = re.split(r"(```.*?```|`[^`]*`)", markdown, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else LINK.sub(replaced, part) for part in parts)


def launch(name: str, address: str | None) -> str:
    """How a chapter is run: in Markdown."""
    if address is None:
        return "To run this chapter, [install it](../README.md#two-commands)."
    owner = address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/colab/{name}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{owner}/main?urlpath=lab/tree/notebooks/{name}.ipynb"
    return (
        f"Run it: [open in Colab]({colab}) · [open in Binder]({binder}) · [install it](../README.md#two-commands). "
        "Colab and Binder need a network, and minutes to begin: Colab's first cell, or Binder's machine, fetches the "
        "package there."
    )


def paged(notebook: nbformat.NotebookNode, page: str, pages: set[str], address: str | None) -> nbformat.NotebookNode:
    """The notebook as its page shows it: pictures with alternative texts, no bars of progress, links that lead on.

    A chapter's page says how it is run, and where it moves by itself.
    """
    name = Path(page).stem
    is_chapter = Path(page).parent.name == "notebooks"
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, page, pages, address)
        else:
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
            if "alt" in cell.metadata:
                cell.metadata["mystnb"] = {"image": {"alt": cell.metadata.alt}}
        added = [launch(name, address)] if is_chapter and cell.id == "title" else []
        added += [f'<p><a href="../site/{live}">{words}</a></p>' for live, (*at, words) in LIVE.items()
                  if is_chapter and at == [name, cell.id]]  # fmt: skip
        cells += [nbformat.v4.new_markdown_cell(text) for text in added]
    notebook.cells = cells
    return notebook


def is_progress(output: nbformat.NotebookNode) -> bool:
    """A bar of progress: a widget in a notebook, of which a page would show the name."""
    return output.output_type == "display_data" and set(output.data) <= {
        "text/plain",
        "application/vnd.jupyter.widget-view+json",
    }


FIRST_CELL = """\
# Fetches the package and its trained models. This takes a minute and a network.
import os
import sys

!git clone --quiet --depth 1 {address} vrnn-tutorial
%cd vrnn-tutorial/notebooks
%pip install --quiet -e .. anywidget scikit-learn
sys.path.insert(0, os.path.abspath(".."))  # what was just installed is found without a restart
if "google.colab" in sys.modules:
    from google.colab import output

    output.enable_custom_widget_manager()"""


def for_colab(notebook: nbformat.NotebookNode, address: str) -> nbformat.NotebookNode:
    """The notebook with a first cell that fetches and installs the package, for where nothing is there yet."""
    cell = nbformat.v4.new_code_cell(FIRST_CELL.format(address=address), id="install")
    notebook.cells.insert(0, cell)
    return notebook


def asked_for(page: Path) -> set[str]:
    """The project's files that a page of site/ asks for outside its folder: models, pictures, a widget's script."""
    return {f[3:] for f in re.findall(r'(?:value|src|href)="(\.\./[^"#]+)"', page.read_text(encoding="utf-8"))}


def copied(path: str, folder: Path) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / path, folder / path)


def lay_out(source: Path, extra: Path, colab: Path, address: str | None) -> None:
    """Writes what Sphinx reads into `source`, what it copies as it is into `extra`, and the chapters of Colab."""
    notebooks = [*chapters(), *chapters(ROOT / "notebooks" / "solutions")]
    pages = {*PAGES, *(str(path.relative_to(ROOT).as_posix()) for path in notebooks)}
    for path in notebooks:
        page = path.relative_to(ROOT).as_posix()
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(paged(nbformat.read(path, 4), page, pages, address), source / page)
        if address and path.parent.name == "notebooks":
            nbformat.write(for_colab(nbformat.read(path, 4), address), colab / path.name)
    for page in PAGES:
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        text = relinked((ROOT / page).read_text(encoding="utf-8"), page, pages, address)
        (source / page).write_text(text, encoding="utf-8")
    for page in SITE.glob("*.md"):
        shutil.copy(page, source)
    for picture in (ROOT / "figures").glob("*.*"):
        copied(f"figures/{picture.name}", source)
    for file in [*SITE.glob("*.html"), *SITE.glob("*.js"), *SITE.glob("*.css"), SITE / "words.txt"]:
        copied(f"site/{file.name}", extra)
    for page in LIVE:
        for path in asked_for(SITE / page):
            copied(path, extra)
        chapter = LIVE[page][0]
        text = (SITE / page).read_text(encoding="utf-8")
        back = f'<body>\n<nav><a href="../notebooks/{chapter}.html">The chapter</a></nav>'
        (extra / "site" / page).write_text(text.replace("<body>", back), encoding="utf-8")
    mathjax = Path(importlib.util.find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    static = source / "_static" / "mathjax"
    shutil.copytree(mathjax / "output/chtml/fonts/woff-v2", static / "output/chtml/fonts/woff-v2")
    shutil.copy(mathjax / "tex-chtml.js", static)


def main() -> int:
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(BUILD, ignore_errors=True)
    source, extra, colab = (BUILD / name for name in ("source", "extra", "colab"))
    for folder in (source, extra, colab):
        folder.mkdir(parents=True)
    lay_out(source, extra, colab, repository())
    html = BUILD / "html"
    failed = sphinx(["-b", "html", "-W", "--keep-going", "-q", "-c", str(SITE), "-d", str(BUILD / "doctrees"),
                     str(source), str(html)])  # fmt: skip
    for kind in ("*.map", "*.po", "*.mo", "*macros.html"):  # of the theme, which no page reads
        for file in (html / "_static").rglob(kind):
            file.unlink()
    return failed


if __name__ == "__main__":
    sys.exit(main())
