"""The site as it was built, in files and in a headless Chromium: what `make test-site` runs, weekly.

It has all chapters, leads nowhere in vain, asks no other host for anything, and can be read on a phone.
"""

import functools
import http.server
import re
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import browser
import nbformat
import pytest
from chapters import CHAPTERS, ROOT, SOLUTIONS
from playwright.sync_api import expect

HTML = ROOT / "site" / "_build" / "html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
#: Of a tag's attributes, those whose target a browser fetches unasked.
FETCHED = {
    ("img", "src"), ("img", "srcset"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"),
    ("source", "srcset"), ("video", "src"), ("audio", "src"), ("object", "data"), ("embed", "src"),
}  # fmt: skip


class Parsed(HTMLParser):
    """A page's links and what it fetches, its anchors and its pictures' alternative texts."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.fetched, self.anchors, self.alts = [], [], set(), []
        self.feed((HTML / page).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.targets += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        self.fetched += [attributes[name] for of, name in FETCHED if of == tag and attributes.get(name)]
        if tag == "option":
            self.targets.append(attributes.get("value", ""))  # a model
        if tag == "img":
            self.alts.append(attributes.get("alt"))


parsed = functools.cache(Parsed)


def page_of(notebook):
    return notebook.relative_to(ROOT).with_suffix(".html").as_posix()


@pytest.fixture(scope="module", autouse=True)
def built():
    assert (HTML / "index.html").exists(), "there is no site yet: make site builds it"


def test_every_chapter_and_solution_has_its_page_and_each_chapter_leads_to_the_next():
    chapters = [page_of(path) for path in CHAPTERS]
    assert {*chapters, *map(page_of, SOLUTIONS)} <= set(PAGES)
    for before, after in zip(["index.html", *chapters], chapters):
        relations = re.findall(r'<link rel="next" title="[^"]*" href="([^"]*)"', (HTML / before).read_text())
        assert [(HTML / before).parent.joinpath(there).resolve() for there in relations] == [HTML / after], before


@pytest.mark.parametrize("page", PAGES)
def test_no_other_host_is_asked_for_anything(page):
    assert [target for target in parsed(page).fetched if re.match(r"\w+:|//", target) and target[:5] != "data:"] == []


def test_nor_by_a_style_sheet():
    for path in HTML.rglob("*.css"):
        targets = re.findall(r"""(?:url\(|@import)\s*['"]?([^'")\s]*)""", path.read_text(encoding="utf-8"))
        assert [target for target in targets if re.match(r"https?:|//", target)] == [], path.name


def leads_nowhere(page, target):
    """Whether a link within the site has no file, or no anchor in it."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return False
    there = (HTML / page).parent.joinpath(unquote(parts.path)).resolve() if parts.path else HTML / page
    there = there / "index.html" if there.is_dir() else there
    if not there.is_relative_to(HTML) or not there.exists():
        return True
    anchored = parts.fragment and there.suffix == ".html"
    return bool(anchored) and unquote(parts.fragment) not in parsed(there.relative_to(HTML).as_posix()).anchors


@pytest.mark.parametrize("page", PAGES)
def test_no_link_leads_nowhere(page):
    assert [target for target in parsed(page).targets if leads_nowhere(page, target)] == []


def test_a_link_that_leads_nowhere_is_found():
    page = page_of(CHAPTERS[0])
    assert not leads_nowhere(page, "../index.html") and not leads_nowhere(page, "#")
    assert all(
        leads_nowhere(page, there) for there in ("../none.html", "#none", "../index.html#none", "../../../README")
    )


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=page_of)
def test_each_stored_picture_is_there_with_its_words_and_no_bar_or_widget_by_its_name(path):
    cells = nbformat.read(path, as_version=4).cells
    pictures = [
        " ".join(cell.metadata.alt.split())
        for cell in cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    page = page_of(path)
    assert [" ".join(alt.split()) for alt in parsed(page).alts if alt] == pictures
    assert None not in parsed(page).alts
    text = (HTML / page).read_text(encoding="utf-8")
    assert re.findall(r"\d+%\||Box\(children|Slider\(value|Error: widget", text) == []


def test_the_reference_has_the_contracts():
    cell = re.sub(r"<[^>]+>", "", (HTML / "api/vrnn_tutorial/cell/index.html").read_text(encoding="utf-8"))
    assert "(B, H): h_t, the top layer" in cell, "what a comment says of a field"
    assert "p(z_t | h_{t-1})" in cell, "an indented block of a docstring, as it stands"
    rnn = re.sub(r"<[^>]+>", "", (HTML / "api/vrnn_tutorial/char_rnn/index.html").read_text(encoding="utf-8"))
    assert re.search(r"weight_dropout\s* – as in VRNNCell", rnn) and re.search(r"Raises.*ValueError", rnn, re.DOTALL)


def test_the_licences_are_told_on_every_page():
    for page in PAGES:
        if not page.startswith("site/"):
            assert "CC BY-SA 3.0" in (HTML / page).read_text(encoding="utf-8"), page


def test_its_weight():
    size = sum(path.stat().st_size for path in HTML.rglob("*") if path.is_file())
    models = sum(path.stat().st_size for path in HTML.rglob("*.safetensors"))
    print(f"{size / 1e6:.1f} MB, of it models {models / 1e6:.1f} MB")
    assert size < 60e6


# ---------------------------------------------------------------------------------------------------------------------
# In a browser


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    browser.need_chromium()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=HTML))
    threading.Thread(target=server.serve_forever).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as (page, errors):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        yield page, errors, address, asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(served):
    """A page of Chromium, after whose test nothing was missing, nothing was told by the console, and no host asked."""
    page, errors, address, asked = served
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    yield page
    found = errors + [url for url in asked if not url.startswith((address, "data:"))]
    errors.clear()
    asked.clear()
    assert found == []


def opened(page, address, path):
    """The page, its formulas set and its pictures there."""
    page.goto(f"{address}{path}")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(
        """() => Promise.all([...document.images].map(picture => {
            picture.loading = "eager";
            return picture.decode().catch(() => 0);
        }))"""
    )


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_on_a_phone_whole_and_without_a_word_from_the_console(served, page, path):
    page.set_viewport_size({"width": 360, "height": 740})
    opened(page, served[2], path)
    found = page.evaluate(
        """() => [
            document.documentElement.scrollWidth,
            [...document.images].filter(picture => picture.checkVisibility() && !picture.naturalWidth)
                .map(picture => picture.src),
            [...document.querySelectorAll("mjx-merror")].map(error => error.textContent),
        ]"""
    )
    assert found == [360, [], []]


@pytest.mark.parametrize("path", [page_of(path) for path in CHAPTERS])
def test_the_formulas_are_set_in_fonts_of_the_sites_own(served, page, path):
    opened(page, served[2], path)
    formulas = page.locator(".math")
    assert formulas.count() == page.locator("mjx-container").count() > 0
    assert any("/mathjax/" in url and url.endswith(".woff") for url in served[3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_are_the_readers(served, page, scheme):
    page.emulate_media(color_scheme=scheme)
    opened(page, served[2], page_of(CHAPTERS[0]))
    paper, ink = page.evaluate(
        """() => ["backgroundColor", "color"].map(
            name => Math.max(...getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)))"""
    )
    assert (paper > ink) == (scheme == "light") and abs(paper - ink) > 150


def test_the_search_finds_a_chapter(served, page):
    page.goto(f"{served[2]}search.html?q=collapsed+posterior")
    expect(page.locator("#search-results li a").first).to_be_visible()
    assert page.locator("#search-results li a", has_text="1. The VAE").count() > 0


def test_solutions_stay_folded_away_in_the_contents(served, page):
    opened(page, served[2], page_of(CHAPTERS[0]))
    contents = page.locator("#pst-primary-sidebar")
    expect(contents.get_by_role("link", name="Solutions", exact=True)).to_be_visible()
    expect(contents.get_by_role("link", name="Solutions to chapter 5")).to_be_hidden()


def test_from_chapter_5_one_comes_to_the_page_that_moves(served, page):
    opened(page, served[2], "notebooks/05_generation.html")
    page.get_by_role("link", name="Two models write").click()
    texts = page.locator("pre")
    for box in texts.all():
        expect(box).to_have_attribute("aria-busy", "false")
    before = texts.all_inner_texts()
    page.get_by_role("slider", name="Temperature").press("ArrowRight")
    for box, text in zip(texts.all(), before):
        expect(box).not_to_have_text(text)
        expect(box).to_have_attribute("aria-busy", "false")
    for name in "Left", "Right":
        models = page.get_by_role("combobox", name=name)
        for i in range(models.locator("option").count()):
            models.select_option(index=i)
            box = page.get_by_role("region", name=name).locator("pre")
            expect(box).to_have_attribute("aria-busy", "false")
            assert len(box.inner_text()) > 600
    page.get_by_role("link", name="The chapter").click()
    expect(page).to_have_url(re.compile("05_generation"))


@pytest.mark.parametrize(
    ("chapter", "name", "shown", "told"),
    [
        ("03_vrnn_cell", "Under the microscope", "#step", "^Step 33 of 36: u came"),
        ("07_the_pen", "Characters that do not exist", "#invented-note", "of 40 come to an end"),
        ("08_bach", "Four voices", "#note", "^32 quarters"),
    ],
)
def test_from_other_chapters_one_comes_to_theirs_and_back(served, page, chapter, name, shown, told):
    opened(page, served[2], f"notebooks/{chapter}.html")
    page.get_by_role("link", name=re.compile(rf": {name}\.$")).click()
    expect(page.locator(shown)).to_have_text(re.compile(told))
    page.get_by_role("link", name="The chapter").click()
    expect(page).to_have_url(re.compile(chapter))
