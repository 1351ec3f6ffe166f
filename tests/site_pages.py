"""What the tests of the site's pages share: a server, a page of Chromium on it, and the pages' own random numbers.

The pages are served by a server of the tests' own, out of a folder of links to the tree. After each test the console
has stayed silent, nothing was asked of another host, and nothing was missing.
"""

import functools
import http.server
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import browser
import torch
from chapters import ROOT
from playwright.sync_api import Page, expect
from torch import Tensor

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: How near a uniform may come to where one code ends and the next begins.
NEAR = 1e-5
#: What the script makes of what was read, and of given noise and uniforms: steps, z, and the state after them.
STEPS = """async ([path, read, temperature, deviation, noises, uniforms]) => {
    const model = await (await import("/site/models.js")).load(path);
    let state = model.read(read, model.start(), noises, deviation);
    const steps = uniforms.map((each, t) => {
        const { x, z } = model.draw(state, temperature, deviation, noises[read.length + t], each);
        state = model.advance(x, z, state);
        return { x, z: [...(z ?? [])] };
    });
    return { x: steps.map(step => step.x), z: steps.map(step => step.z), hidden: [...model.hidden(state)] };
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Cache-Control", "no-store")  # one test's small model is not the next one's
        super().end_headers()

    def log_message(self, *_):
        pass


class Served(NamedTuple):
    page: Page
    errors: list[str]  # of its console
    folder: Path  # that is served
    address: str
    asked: list[str]  # the addresses of all that was asked for

    def check(self) -> None:
        """Fails for an error of the console, where what is missing is told, and for what was asked of another host."""
        found = self.errors + [url for url in self.asked if not url.startswith((self.address, "data:", "blob:"))]
        self.errors.clear()
        self.asked.clear()
        assert found == []


@contextmanager
def served(folders: Callable[[str], Path], script: str = "") -> Iterator[Served]:
    """A page, on a server. folders: makes an empty one of a name. script: is run in each page before its own."""
    browser.need_chromium()
    folder, asked = folders("served"), []
    for name in ("site", "vrnn_tutorial", "data", "figures"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "empty.html").write_text('<!doctype html><link rel="icon" href="data:,">')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with browser.chromium(folders("chromium")) as (page, errors):
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(script)
        yield Served(page, errors, folder, address, asked)
    server.shutdown()
    server.server_close()


def uniform_of(mulberry):
    """The pages' generator, of 32 bits: mulberry32 of that state, a list of one number."""
    mulberry[0] = (mulberry[0] + 0x6D2B79F5) % 2**32
    t = mulberry[0]
    t = (t ^ t >> 15) * (t | 1) % 2**32
    t ^= (t + (t ^ t >> 7) * (t | 61)) % 2**32
    return (t ^ t >> 14) / 2**32


def normals_of(mulberry, size):
    return [
        math.sqrt(-2 * math.log(1 - uniform_of(mulberry))) * math.cos(2 * math.pi * uniform_of(mulberry))
        for _ in range(size)
    ]


def nearness(logits: Tensor, temperature: float, uniform: float) -> float:
    """How far u is from the nearest bound between two codes; at temperature 0 by how much the first logit leads."""
    if len(logits) == 1:
        return math.inf
    if temperature == 0:
        first, second = logits.double().topk(2).values.tolist()
        return first - second
    return ((logits.double() / temperature).softmax(-1).cumsum(-1)[:-1] - uniform).abs().min().item()


def doubles(numbers) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def check_whole(page: Page, scheme: str, ready: Callable[[], object]) -> None:
    """That an opened page keeps to the width of a phone, and to the colours of a reader who likes that scheme."""
    wide = page.viewport_size
    page.set_viewport_size({"width": 320, "height": 640})
    page.emulate_media(color_scheme=scheme)
    ready()
    for _ in range(50):  # until all that is drawn has followed
        width, *colors = page.evaluate(
            """() => [document.documentElement.scrollWidth, ...["backgroundColor", "color"].map(
                name => Math.max(...getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)))]"""
        )
        told = colors == sorted(colors, reverse=scheme == "light") and abs(colors[0] - colors[1]) > 150
        if width == 320 and told:
            break
        page.wait_for_timeout(100)
    page.set_viewport_size(wide)
    page.emulate_media(color_scheme="no-override")
    assert width == 320 and told, (width, colors)


def check_picture_in_its_place(served: Served, name: str) -> None:
    """That a browser which cannot read the page's script gets a picture and a sentence."""
    page = served.page
    page.route("**/nets.js", lambda route: route.fulfill(content_type="text/javascript", body="such a new word"))
    page.goto(f"{served.address}site/{name}.html")
    picture = page.get_by_role("img")
    expect(picture).to_be_visible()
    page.wait_for_function("() => document.querySelector('img').naturalWidth === 800")
    expect(page.get_by_text("which your browser cannot run")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(0)
    page.unroute("**/nets.js")
    assert "SyntaxError" in served.errors.pop()
    page.reload()
    expect(page.locator("#live")).to_be_visible()
    expect(page.locator("#picture")).to_be_hidden()


def check_weights(served: Served, name: str) -> None:
    """That README tells what an opened page has asked for, itself and its models, and what its picture weighs."""
    asked = {url.removeprefix(served.address) for url in served.asked if not url.startswith("data:")}
    size = {path: (ROOT / path).stat().st_size for path in asked if not path.endswith(".png")}
    models = [size.pop(path) for path in list(size) if path.endswith(".safetensors")]
    page = (ROOT / "site" / f"{name}.html").read_text(encoding="utf-8")
    picture = (ROOT / "site" / re.search(r'<img src="([^"]+)"', page)[1]).resolve().stat().st_size
    told = re.search(rf"\| `site/{name}.html` \| (\d+) kB \| ([\d.]+) MB \| (\d+) kB \|", README)
    assert told, f"README has no row for {name}"
    assert told.groups() == (
        f"{sum(size.values()) / 1e3:.0f}", f"{sum(models) / 1e6:.1f}", f"{picture / 1e3:.0f}"
    )  # fmt: skip
    assert len(size) >= 5 and models
