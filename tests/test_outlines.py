"""No heading, paragraph, formula, table or figure of a chapter comes or goes unseen; terms and names come in order."""

import re

import pytest
from chapters import CHAPTERS, ROOT, divided, printed, sections
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from outlines import FOLDER, outline

#: Terms that later sections lean on: each is set off, *so*, in the section in which it first comes up, or heads it.
TERMS = [
    *("deterministic", "stochastic", "logits", "prior", "emission", "approximate posterior", "true posterior"),
    *("posterior collapse", "pathwise", "recurrent", "recurrence", "filtering", "smoother", "surprise", "embedding"),
    *("aggregate posterior", "prime", "active", "particle filter", "free bits", "annealing", "word dropout"),
]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_outline(path):
    recorded = (FOLDER / f"{path.stem}.txt").read_text(encoding="utf-8").splitlines()
    found = outline(sections(path)).splitlines()
    assert found == recorded, "make records writes what changed, to be read in the difference"


def test_every_outline_is_that_of_a_chapter():
    assert {path.stem for path in FOLDER.iterdir()} == {path.stem for path in CHAPTERS}


def unexplained(chapters, terms):
    """Terms with the section that uses them first without setting them off; titles may promise what is to come."""
    found = []
    texts = [(s.heading, " ".join(" ".join(s.paragraphs).split())) for chapter in chapters for s in chapter[1:]]
    for term in terms:
        users = [(heading, text) for heading, text in texts if re.search(rf"\b{term}\b", f"{heading} {text}", re.I)]
        heading, text = users[0] if users else ("nowhere", "")
        if not re.search(rf"\b{term}", heading, re.I) and not re.search(rf"\*[^*]*\b{term}\b[^*]*\*", text, re.I):
            found.append(f"{term}: {heading}")
    return found


def test_a_term_is_explained_where_it_first_comes_up():
    assert unexplained([sections(path) for path in CHAPTERS], TERMS) == []


def words(text):
    return set(re.findall(r"[A-Za-z_]\w+", text))


def unknown(chapter, module):
    """Names that the prose has in backticks, and that nothing defines; or what defines them stands further down."""
    found = []
    code = [words("\n".join(cell.source + printed(cell) for cell in section.code)) for section in chapter]
    for i, section in enumerate(chapter):
        known = module.union(*(code[: i + 1] if i else code))  # a title may name what the chapter will make
        for name in re.findall(r"(?<!`)`([\w.]+(?:\([^`)]*\))?)`(?!`)", "\n".join(section.paragraphs)):
            if re.search(r"[A-Z_.(]", name) and not words(name) <= known:  # else it may be a word of a text
                found.append(f"{section.heading}: {name}")
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_names_in_a_chapters_prose_are_there(path):
    module = words("\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "vrnn_tutorial").rglob("*.py")))
    assert unknown(sections(path), module) == []


CHAPTER = [
    new_markdown_cell("# 1. One\n\nWe build `one_step`."),
    new_markdown_cell("## Two\n\nA *latent* is this. It is that.\n\n$$a = b .$$"),
    new_code_cell("def one_step(x): ...", id="a", outputs=[new_output("stream", text="1")]),
    new_markdown_cell("So `one_step(x)` it is.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n## Three\n\nNo latent here."),
]


def test_an_outline_tells_each_part():
    assert outline(divided(CHAPTER)).splitlines() == [
        "# 1. One",
        "  text       1 We build `one_step`.",
        "",
        "## Two",
        "  text       2 A *latent* is this. It is that.",
        "  formula      $$a = b .$$",
        "  code         a one_step() -> 1 text",
        "  text       1 So `one_step(x)` it is.",
        "  table      1 a | b",
        "",
        "## Three",
        "  text       1 No latent here.",
    ]


def test_a_term_that_comes_too_early_is_found():
    chapter = divided(CHAPTER)
    assert unexplained([chapter], ["latent"]) == []
    assert unexplained([[chapter[0], chapter[2], chapter[1]]], ["latent"]) == ["latent: ## Three"]
    assert unexplained([[chapter[0], chapter[2]]], ["latent"]) == ["latent: ## Three"]


def test_a_name_that_nothing_defines_is_found():
    chapter = divided(CHAPTER)
    assert unknown(chapter, set()) == []
    assert unknown([chapter[0], chapter[2]], set()) == ["# 1. One: one_step"]
    assert unknown([chapter[0], chapter[2], chapter[1]], {"one_step"}) == []
    early = divided([CHAPTER[0], new_markdown_cell("## Early\n\n`one_step` comes."), *CHAPTER[1:]])
    assert unknown(early, set()) == ["## Early: one_step"]
