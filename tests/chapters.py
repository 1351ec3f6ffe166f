"""A chapter as it is read: sections from heading to heading, and in each the paragraphs, code and what it printed."""

import ast
import dataclasses
import functools
import itertools
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
NOTEBOOKS = CHAPTERS + SOLUTIONS
PAGES = [ROOT / name for name in ("README.md", "data/README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
QUOTATIONS = ROOT / "tests" / "quotations.md"
#: JupyterLab, and HTML exported in its looks, know no alternative text of an output: hence words that all can read.
IN_WORDS = re.compile(r"<details><summary>The figure in words</summary>\n\n(.+)\n\n</details>", re.DOTALL)
#: A citation in the prose: first author and year.
PAPER = re.compile(r"\b([A-Z]\w+)(?:\set\sal\.|\sand\s[A-Z]\w+|\sand\sothers)?,?\s\(?(19\d\d|200[1-9]|20[12]\d)\b")
CODE = r"(?s:```.*?```)|`[^`]*`"
FORMULA = r"(?s:\$\$.*?\$\$)|\$[^$]*\$"
IN_NUMBERS = re.compile(r"(?<![\w.])([-−]?)(\d{1,3}(?:,\d{3})+|\d[\d_]*)((?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\w|\.\d)")


@dataclasses.dataclass
class Section:
    heading: str
    #: Paragraphs (strings) and code cells, in the order of the page.
    parts: list = dataclasses.field(default_factory=list)

    @property
    def paragraphs(self):
        return [part for part in self.parts if isinstance(part, str)]

    @property
    def code(self):
        return [part for part in self.parts if not isinstance(part, str)]


def sections(path):
    """Of a notebook or a page of Markdown; what comes before the first heading has the heading ""."""
    if path.suffix == ".ipynb":
        return divided(nbformat.read(path, as_version=4).cells)
    return divided([nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])


def divided(cells):
    found = [Section("")]
    for cell in cells:
        if IN_WORDS.fullmatch(cell.source):
            continue  # what is read off a picture is rounded by the eye
        if cell.cell_type == "code":
            found[-1].parts.append(cell)
            continue
        for paragraph in re.findall(r"```.*?```|(?:(?!\n\s*\n|```).)+", cell.source, flags=re.DOTALL):
            heading, below = re.fullmatch(r"\n*(#+ [^\n]*)?(.*)", paragraph, flags=re.DOTALL).groups()
            if heading:
                found.append(Section(heading))
            if below.strip():
                found[-1].parts.append(below.strip("\n"))
    return found if found[0].parts else found[1:]


def in_words(cells):
    """Each cell whose figure the cell below it tells in words, and these words."""
    for cell, below in itertools.pairwise(cells):
        if words := IN_WORDS.fullmatch(below.source):
            yield cell, words[1]


@functools.cache
def table(heading):
    """The rows of a table of quotations."""
    (section,) = [section for section in sections(QUOTATIONS) if section.heading == heading]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in section.paragraphs[-1].splitlines()[2:]]


def prose(markdown):
    """Without code, formulas and links' targets, whose names and numbers claim nothing."""
    for pattern, kept in ((CODE, " "), (FORMULA, " "), (r"\]\([^)]*\)", "] "), (r"(?m)^    .*$", " ")):
        markdown = re.sub(pattern, kept, markdown)
    return markdown


def printed(cell):
    """What a reader sees below a cell in words and figures; pictures and bars of progress are neither."""
    texts = []
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.output_type == "execute_result" and "image/png" not in output.data:
            texts.append(output.data.get("text/plain", ""))
    return "\n".join(texts)


def numbers(text):
    """Each number with its sign, whichever minus it is written with; the hyphen of a range is none."""
    return [
        (-1 if sign else 1) * float(whole.replace(",", "").replace("_", "") + rest)
        for sign, whole, rest in IN_NUMBERS.findall(text)
    ]


def literals(source):
    """The numbers that stand in code, also within its strings; neither widths of formats nor comments."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec:
            node.format_spec.values = []
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            node.operand.value *= -1  # the walk comes to it later
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += numbers(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            found.append(float(node.value))
    return found
