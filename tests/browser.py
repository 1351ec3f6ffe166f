"""A JupyterLab of its own, a headless Chromium, and a notebook as its reader's hands and eyes find it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chapters import ROOT
from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: No sandbox: root has none. The rest keeps the browser from asking the network for anything of its own.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are there to be looked at, too
    "docmanager-extension/plugin": {"autosave": False},
}
SECONDS = 1000  # in Playwright's milliseconds
PATIENCE = 180 * SECONDS  # for what takes a second on an idle machine


def need_chromium() -> None:
    """Skips the test where there is none, which continuous integration does not let pass."""
    if CHROMIUM is None:
        no_browser = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        no_browser("Chromium is not installed; on Debian, apt-get install chromium brings it.")


@contextmanager
def jupyterlab(root: Path, home: Path) -> Iterator[str]:
    """JupyterLab on the folder `root`, all that it keeps in `home`; the address of its page, with its token."""
    for name, content in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
              "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
              "IPYTHONDIR": "ipython"}  # fmt: skip
    token = secrets.token_hex()
    environment = os.environ | {name: str(home / folder) for name, folder in places.items()}
    # One thread, as the small models like it best: on a busy machine, torch's own would wait for one another.
    environment |= {"JUPYTER_TOKEN": token, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               "--ServerApp.port=0", f"--ServerApp.root_dir={root}", "--LabApp.extension_manager=readonly",
               "--LabApp.news_url=None"]  # fmt: skip
    log = home / "lab.log"
    with open(log, "w") as file:
        lab = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield f"{_address(lab, home / 'runtime', log)}lab/workspaces/test/{{}}?token={token}&reset"
    finally:
        lab.send_signal(signal.SIGTERM)  # it ends its kernels, too
        try:
            lab.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(lab.pid, signal.SIGKILL)
            lab.wait()


def _address(lab: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Where it listens, which it writes into a file of its own as soon as it does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and lab.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())["url"]
            except ValueError:  # half written
                break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextmanager
def chromium(home: Path) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the errors that its console will have shown."""
    errors = []

    def note(message):
        if message.type == "error":
            errors.append(f"{message.text} {message.location}")

    how = {"executable_path": CHROMIUM, "headless": True, "args": FLAGS, "viewport": {"width": 1280, "height": 900}}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(str(home / "profile"), **how)
        page = browser.pages[0]
        page.on("pageerror", lambda error: errors.append(f"{error.name}: {error.message}"))
        page.on("console", note)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield page, errors
        browser.close()


@contextmanager
def desk() -> Iterator[tuple[Page, list[str], str]]:
    """The browser's page, the errors that its console shows, and the address of a JupyterLab on copies."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in ("notebooks", "figures"):
            shutil.copytree(ROOT / name, home / "root" / name)
        with jupyterlab(home / "root", home) as address, chromium(home) as (page, errors):
            yield page, errors, address


def crowding() -> float:
    """How many times its processor time a piece of work takes at this moment: 1 where a core is free for it."""
    begun, work = time.perf_counter(), time.process_time()
    while time.process_time() - work < 0.05:
        pass
    return (time.perf_counter() - begun) / 0.05


class Notebook:
    """A notebook in JupyterLab, opened and not run."""

    def __init__(self, page: Page, address: str, path: str):
        self.page = page
        page.goto(address.format(f"tree/{path}"))
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.panel.wait_for()
        # The notebook's own sign says idle once before there is a session; running then would ask for a kernel.
        page.locator("#jp-main-statusbar").get_by_text(re.compile(r"Python 3.*\| Idle")).wait_for()

    def menu(self, name: str, item: str) -> None:
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_text(item, exact=True).click()

    def prompts(self) -> list[str]:
        return [prompt.strip(" :") for prompt in self.panel.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()]

    def run_all(self, seconds: float) -> None:
        """Clears all outputs, so that none is taken for a new one, runs all cells, and waits for the last of them."""
        self.menu("Edit", "Clear Outputs of All Cells")
        self.page.wait_for_function(f"() => {PROMPTS}.every(text => !/[0-9*]/.test(text))")
        self.menu("Run", "Run All Cells")
        done = f"() => {PROMPTS}.some(text => /[0-9]/.test(text)) && {PROMPTS}.every(text => !text.includes('*'))"
        self.page.wait_for_function(done, timeout=seconds * SECONDS)

    def cell(self, source: str) -> Locator:
        """The code cell that holds these words."""
        return self.panel.locator(".jp-CodeCell").filter(has=self.page.locator(".cm-content").filter(has_text=source))

    def run(self, cell: Locator, until: str = r"\[\d+\]") -> None:
        """Runs the cell, and waits for its prompt to change and to match: to a number, once it is done."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        expect(prompt).not_to_have_text(before)
        expect(prompt).to_have_text(re.compile(until))

    def control(self, label: str) -> Locator:
        """The widget of that label."""
        return self.panel.locator(".widget-inline-hbox").filter(
            has=self.page.locator(".widget-label").get_by_text(label, exact=True)
        )

    def readout(self, label: str) -> float:
        """The number beside a slider, which is set with a typographic minus."""
        return float(self.control(label).locator(".widget-readout").inner_text().replace("\N{MINUS SIGN}", "-"))

    def press(self, label: str, *keys: str) -> None:
        handle = self.control(label).locator(".noUi-handle")
        handle.focus()
        for key in keys:
            handle.press(key)

    def drag(self, label: str, share: float) -> None:
        """Takes the slider's handle with the mouse and drops it at that share of its way."""
        self.control(label).scroll_into_view_if_needed()
        handle, way = (self.control(label).locator(part).bounding_box() for part in (".noUi-handle", ".noUi-target"))
        mouse = self.page.mouse
        mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        mouse.down()
        mouse.move(way["x"] + share * way["width"], handle["y"] + handle["height"] / 2, steps=10)
        mouse.up()

    def stroke(self, field: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draws a line with the mouse, between two points in shares of the field's width and height."""
        field.scroll_into_view_if_needed()
        box, mouse = field.bounding_box(), self.page.mouse
        (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
        mouse.move(x0, y0)
        mouse.down()
        mouse.move(x1, y1, steps=8)
        mouse.up()

    def until(self, condition: Callable[[], bool], hope: str) -> None:
        """Waits for the condition to come true; fails with that hope if it does not."""
        deadline = time.monotonic() + PATIENCE / SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {hope}"
            self.page.wait_for_timeout(20)

    def seconds_to_answer(self, label: str, key: str, shown: Locator) -> float:
        """Seconds, by the browser's clock, from the key that moves a slider to the next change in what is shown."""
        handle = self.control(label).locator(".noUi-handle")
        handle.focus()
        shown.evaluate(ANSWER)
        handle.press(key)
        return self.page.wait_for_function("() => window.answer").json_value() / SECONDS


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.innerText)"
#: The change counts when the browser comes to paint it.
ANSWER = """element => {
    window.answer = 0;
    let pressed;
    addEventListener("keydown", () => { pressed = performance.now(); }, {capture: true, once: true});
    new MutationObserver((_, observer) => {
        observer.disconnect();
        requestAnimationFrame(() => { window.answer = performance.now() - pressed; });
    }).observe(element, {attributes: true, childList: true, characterData: true, subtree: true});
}"""
