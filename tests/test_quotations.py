"""What comes from elsewhere is quoted: words as tests/quotations.md has them, papers by their year and their number."""

import re

import pytest
from chapters import CHAPTERS, PAGES, PAPER, ROOT, prose, sections, table

#: In a list of references: the first author, and the year and number behind the title.
REFERENCE = re.compile(r"(?m)^- ([A-Z]\w+)[^*]*\*[^*]+\*, (\d{4})(?:,\s+arXiv (\d{4}\.\d{4,5}))?")


def misquoted(paragraph):
    """Words in quotation marks that a paragraph puts into the mouth of a source which never said them."""
    words = [" ".join(row[1].split()) for row in table("## Words") if row[0].lower() in paragraph.lower()]
    named = any(name.lower() in paragraph.lower() for name in {row[0] for row in table("## Words")})
    quotations = re.findall(r'"([^"]+)"', " ".join(paragraph.split()))
    return [
        quotation
        for quotation in quotations
        if named and len(quotation.split()) > 1 and not any(quotation.rstrip(".,") in said for said in words)
    ]


def cited(text):
    """First author and year of each citation."""
    return [list(paper) for paper in PAPER.findall(prose(text))]


def miscited(text):
    """Citations of papers that the table lacks, and numbers that belong to none of the papers cited around them."""
    papers, text = table("## Papers"), prose(text)
    found = [" ".join(paper) for paper in cited(text) if paper not in [row[:2] for row in papers]]
    for match in re.finditer(r"arXiv:?\s?(\d{4}\.\d{4,5})", text):
        before = cited(text[: match.start()])[-1:]
        rows = [row for row in papers if row[2] == match[1]]
        if not rows or (before and before[0] != rows[0][:2]):
            found.append(match[0])
    return found


def uncited(papers):
    """The papers that no sentence cites."""
    found = [paper for path in CHAPTERS + PAGES for s in sections(path) for p in s.paragraphs for paper in cited(p)]
    return [paper for paper in papers if paper[:2] not in found]


@pytest.mark.parametrize("path", CHAPTERS + PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_in_quotation_marks_were_said(path):
    for section in sections(path):
        for paragraph in section.paragraphs:
            assert misquoted(paragraph) == [], f"{section.heading}: {paragraph}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_papers_are_cited_by_their_year_and_number(path):
    for section in sections(path):
        for paragraph in section.paragraphs:
            assert miscited(paragraph) == [], f"{section.heading}: {paragraph}"


def test_the_references_are_those_of_the_table():
    found = REFERENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) >= 8
    assert [row for row in found if list(row) not in table("## Papers")] == []


def test_a_paper_of_the_table_is_cited():
    assert uncited(table("## Papers")) == []


def test_a_paper_that_nobody_cites_is_found():
    assert uncited([["He", "2019", "1901.05534"], ["He", "2018", ""]]) == [["He", "2018", ""]]


def test_a_misquotation_is_found():
    said = 'The article: "such symbols only show up in early generation results". It says that.'
    assert misquoted(said) == []
    assert misquoted(said.replace("only", "never")) == ["such symbols never show up in early generation results"]
    assert misquoted('"Nobody knows that," somebody says.') == []


def test_a_wrong_citation_is_found():
    assert miscited("It is due to Kingma and Welling 2014 (arXiv 1312.6114).") == []
    assert miscited("It is due to Kingma and Welling 2015 (arXiv 1312.6114).") == ["Kingma 2015", "arXiv 1312.6114"]
    assert miscited("It is due to Kingma and Welling 2014 (arXiv 1312.6115).") == ["arXiv 1312.6115"]
    assert miscited("It is due to Jang et al. 2017 (arXiv 1611.00712).") == ["arXiv 1611.00712"]
