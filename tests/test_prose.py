"""Prose whose words are spelt, and whose links lead somewhere; test_numbers.py and test_quotations.py see the rest."""

import ast
import functools
import re
from pathlib import Path

import nbformat
import pytest
from chapters import CODE, FORMULA, NOTEBOOKS, PAGES, ROOT, prose
from spellchecker import SpellChecker

WORDS = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()


def markdown(path):
    if path.suffix == ".ipynb":
        return "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    return path.read_text(encoding="utf-8")


@functools.cache
def dictionary():
    """English, and our own list of names and terms."""
    words = SpellChecker()
    words.word_frequency.load_words(WORDS)
    return words


def misspelt(text):
    words = {word.removesuffix("'s") for word in re.findall(r"[A-Za-z][a-z]+(?:'[a-z]+)?", text)}
    return sorted(dictionary().unknown(words))


def test_our_own_words_are_words_each_once_and_in_order():
    assert sorted(set(WORDS)) == WORDS and [word for word in WORDS if not word.isalpha()] == []


def test_a_misspelt_word_is_found():
    assert misspelt("The Kullback-Leibler divergance of a `posteriour` and its prior's neighbours.") == [
        "divergance",
        "posteriour",
    ]


def test_prose_goes_on_below_what_is_none():
    page = "One.\n\n    two = 2\n\n```\nthree\n```\n`four` $5$\n\n$$6$$\n\n[Seven](eight.md)."
    assert prose(page).split() == ["One.", "[Seven]", "."]


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_spelt_as_in_a_dictionary(path):
    assert misspelt(prose(markdown(path))) == []


@pytest.mark.parametrize("path", sorted((ROOT / "vrnn_tutorial").rglob("*.py")), ids=lambda path: path.name)
def test_docstrings_are_spelt_as_in_a_dictionary(path):
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    assert misspelt(" ".join(re.sub(rf"{CODE}|\w*[_.()=\d]\w*", " ", ast.get_docstring(n) or "") for n in nodes)) == []


def links(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(f"{CODE}|{FORMULA}", " ", markdown(path)))
    return [target.partition("#")[0] for target in targets if not re.match(r"https?:|mailto:|#|attachment:", target)]


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert [target for target in links(path) if not (path.parent / target).exists()] == []
