"""The picture with which the README leads to the page that writes by itself: python tests/record_page.py."""

import functools
import http.server
import tempfile
import threading
from pathlib import Path

import browser
from chapters import ROOT
from playwright.sync_api import expect

PICTURE = ROOT / "figures" / "page.png"


def main() -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever).start()
    with tempfile.TemporaryDirectory() as home, browser.chromium(Path(home)) as (page, _):
        page.set_viewport_size({"width": 900, "height": 760})
        page.goto(f"http://127.0.0.1:{server.server_port}/site/generation.html")
        for _ in range(2):
            for box in page.locator("pre").all():
                expect(box).to_have_attribute("aria-busy", "false")
            page.get_by_role("slider", name="Temperature").press("ArrowRight")
        for box in page.locator("pre").all():
            expect(box).to_have_attribute("aria-busy", "false")
        top = page.locator("#live").bounding_box()
        page.screenshot(path=PICTURE, clip={"x": 0, "y": top["y"], "width": 900, "height": 430})
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
