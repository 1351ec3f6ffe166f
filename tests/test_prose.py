"""Prose that a reader can trust: its numbers are computed somewhere, its links lead somewhere, its words are spelt."""

import ast
import functools
import json
import re
from pathlib import Path

import nbformat
import pytest
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md"]
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*\.\d+(?![\w.]|,\d)|(?<![\w.])\d+(?:\.\d+)?(?=\s?%)")
#: A sentence that says where its number comes from: a paper, or the article that this tutorial follows.
SOURCE = re.compile(r"arXiv|et al\.|\(\d{4}\)|the article|the source|nanoGPT|published", re.IGNORECASE)


def prose(markdown):
    """Without code, formulas and link targets, whose numbers claim nothing."""
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]*\$", r"`[^`]*`", r"\]\([^)]*\)", r"(?m)^    .*$"):
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL)
    return markdown


def numbers(text):
    return [float(match.replace(",", "")) for match in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text) if match]


def leaves(value):
    """The numbers of a JSON document, but for the long lists of a training's history."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value if len(value) <= 100 for leaf in leaves(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


def metrics():
    paths = [
        *(ROOT / "data" / "checkpoints").glob("*/evaluation.json"),
        *(ROOT / "data" / "experiments").glob("*.json"),
    ]
    return [leaf for path in sorted(paths) for leaf in leaves(json.loads(path.read_text()))]


def unfounded(markdown, known):
    """The decimals and percentages of a text that neither stand among `known`, rounded alike, nor name a source."""
    missing = []
    for sentence in re.split(r"(?<=[.!?:;|])\s", prose(markdown)):
        for match in NUMBER.finditer(sentence):
            value = float(match[0].replace(",", ""))
            digits = len(match[0].partition(".")[2])
            percent = sentence[match.end() :].lstrip().startswith("%")
            candidates = [*known, *(100 * k for k in known)] if percent else known
            if not SOURCE.search(sentence) and not any(
                f"{abs(k):.{digits}f}" == f"{value:.{digits}f}" for k in candidates
            ):
                missing.append(f"{match[0]} in: {' '.join(sentence.split())}")
    return missing


def test_a_number_that_nothing_computes_is_found():
    assert unfounded("The loss is 1.72 nats.", [1.7214]) == []
    assert unfounded("The loss is 1.72 nats.", [1.7262]) != []
    assert unfounded("It copies 12.5% of the lines.", [0.125]) == []
    assert unfounded("It copies 12% of the lines.", [0.135]) != []
    assert unfounded("A GPT reaches 1.4697 (the published figure).", []) == []
    assert unfounded("$x = 0.5$ and `0.25` claim nothing.", []) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_computes_the_numbers_it_tells(path):
    cells = nbformat.read(path, as_version=4).cells
    outputs = json.dumps([cell.get("outputs", []) for cell in cells if cell.cell_type == "code"])
    outputs = re.sub(r'"image/png": "[^"]*"', "", outputs)
    sources = " ".join(cell.source for cell in cells if cell.cell_type == "code")
    known = numbers(outputs) + numbers(sources) + metrics()
    assert unfounded(markdown(path), known) == []


def markdown(path):
    if path.suffix == ".ipynb":
        return "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    return path.read_text(encoding="utf-8")


@functools.cache
def dictionary():
    """English, and our own list of names and terms."""
    words = SpellChecker()
    words.word_frequency.load_words((Path(__file__).parent / "words.txt").read_text().split())
    return words


def misspelt(text):
    words = {word.removesuffix("'s") for word in re.findall(r"[A-Za-z][a-z]+(?:'[a-z]+)?", text)}
    return sorted(dictionary().unknown(words))


def test_a_misspelt_word_is_found():
    assert misspelt("The Kullback-Leibler divergance of a `posteriour` and its prior's neighbours.") == [
        "divergance",
        "posteriour",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_spelt_as_in_a_dictionary(path):
    assert misspelt(prose(markdown(path))) == []


@pytest.mark.parametrize("path", sorted((ROOT / "vrnn_tutorial").rglob("*.py")), ids=lambda path: path.name)
def test_docstrings_are_spelt_as_in_a_dictionary(path):
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    assert misspelt(" ".join(re.sub(r"`[^`]*`|\w*[_.()=\d]\w*", " ", ast.get_docstring(n) or "") for n in nodes)) == []


def links(path):
    text = markdown(path)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|\$[^$]*\$", "", text, flags=re.DOTALL))
    return [target.partition("#")[0] for target in targets if not re.match(r"https?:|mailto:|#|attachment:", target)]


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert [target for target in links(path) if not (path.parent / target).exists()] == []
