"""The page of the site in a headless Chromium: its script's models against PyTorch's, and what a reader moves and sees.

It is served by a server of its own, out of a folder of links to the tree. After each test the console has stayed silent,
nothing was asked of another host, and nothing was missing.
"""

import functools
import http.server
import itertools
import math
import threading
from pathlib import Path

import browser
import pytest
import safetensors.torch
import torch
from browser import crowding
from chapters import ROOT
from helpers import char_rnn, vrnn
from playwright.sync_api import expect

from vrnn_tutorial import VRNN, load_checkpoint
from vrnn_tutorial.checkpoint import save_checkpoint
from vrnn_tutorial.emissions import Categorical
from vrnn_tutorial.files import BEST
from vrnn_tutorial.text import encode

CHECKPOINTS = ROOT / "data" / "checkpoints"
SAME_COUNT = CHECKPOINTS / "charrnn-same-count" / "best.safetensors"
LARGE = {"left": CHECKPOINTS / "text" / "vrnn.safetensors", "right": CHECKPOINTS / "text" / "charrnn.safetensors"}
VOCABULARY = "\n abcdefé😀"
PRIME = "bad\nfé😀"
#: Temperature and the prior's.
SETTINGS = list(itertools.product([0.0, 0.7, 1.0], [0.0, 1.0]))
#: How near a uniform may come to where one code ends and the next begins.
NEAR = 1e-5
#: What the script makes of given codes, noise and uniforms, by its own steps: codes and z, and the state after them.
WRITE = """async ([path, codes, temperature, deviation, noises, uniforms]) => {
    const model = await (await import("/site/models.js")).load(path);
    let state = model.read(codes, model.start(), noises, deviation);
    const steps = uniforms.map((uniform, t) => {
        const { x, z } = model.draw(state, temperature, deviation, noises[codes.length + t], uniform);
        state = model.advance(x, z, state);
        return { x, z: z && [...z] };
    });
    return {
        text: model.decode(steps.map(step => step.x)),
        z: steps.map(step => step.z),
        state: state.map(layer => Object.values(layer).map(values => [...values])),
    };
}"""
#: When the first column has its first text, and when all of it, in milliseconds since the page was asked for.
WATCH = """addEventListener("DOMContentLoaded", () => {
    const text = document.querySelector("pre span");
    window.seen = {};
    new MutationObserver(() => {
        const length = text.textContent.length;
        if (length) window.seen.first ??= [performance.now(), length];
        if (length === 600) window.seen.all ??= performance.now();
    }).observe(text, {childList: true, characterData: true, subtree: true});
});"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A page of Chromium, its console's errors, the folder that is served, its address, and all that was asked for."""
    browser.need_chromium()
    folder, asked = tmp_path_factory.mktemp("served"), []
    for name in ("site", "vrnn_tutorial", "data", "figures"):
        (folder / name).symlink_to(ROOT / name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as (page, errors):
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(WATCH)
        yield page, errors, folder, address, asked
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def all_is_found_and_nothing_foreign(served):
    _, errors, _, address, asked = served
    yield
    assert errors == []  # what is missing is told there, too
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


@pytest.fixture
def page(served):
    """The page, opened."""
    served[0].goto(f"{served[3]}site/generation.html")
    return served[0]


def uniform_of(mulberry):
    """The page's generator, of 32 bits: mulberry32 of that state, a list of one number."""
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


def nearness(logits, temperature, uniform):
    """How far u is from the nearest bound between two codes; at temperature 0 by how much the first logit leads."""
    if temperature == 0:
        first, second = logits.double().topk(2).values.tolist()
        return first - second
    return ((logits.double() / temperature).softmax(-1).cumsum(-1)[:-1] - uniform).abs().min().item()


def written(model, prime, temperature, deviation, length, normals, uniform):
    """What Python's own `draw` writes: text, z of each step, the last state, noises, uniforms, and nearness of each.

    normals, uniform: functions by which noise of a size and a uniform are drawn, in the page's order.
    """
    vocabulary, like = model.emission_type.vocabulary, next(model.parameters())

    def noise():
        noises.append(normals(model.latent_size))
        return torch.tensor([noises[-1]], dtype=like.dtype)

    noises, uniforms, codes, z, near = [], [], [], [], []
    with torch.no_grad():
        state = model.zero_state(like.new_empty(1, 0))
        for x in encode(prime, vocabulary):
            of_z = [deviation * noise()[None]] if isinstance(model, VRNN) else []
            state = model(x.view(1, 1), state, *of_z).state
        for _ in range(length):
            of_z = noise()
            logits = model.draw(state, temperature, deviation, noise=of_z).emission.logits[0]
            uniforms.append(uniform(logits))
            near.append(nearness(logits, temperature, uniforms[-1]))
            u = torch.tensor(uniforms[-1:], dtype=like.dtype)
            drawn = model.draw(state, temperature, deviation, noise=of_z, uniforms=u)
            codes.append(drawn.x.item())
            z.append(None if drawn.z is None else drawn.z[0].tolist())
            state = model.advance(drawn.x, drawn.z, state)
    return "".join(vocabulary[code] for code in codes), z, state, noises, uniforms, near


def given_to_the_script(page, path, prime, temperature, deviation, model, length=60):
    """What the script writes, and what Python does, for the same noise and uniforms, none of them near a bound."""
    generator = torch.Generator().manual_seed(0)

    def normals(size):
        return torch.randn(size, generator=generator).tolist()

    def uniform(logits):
        draws = (torch.rand((), generator=generator).item() for _ in itertools.count())
        return next(u for u in draws if temperature == 0 or nearness(logits, temperature, u) > NEAR)

    text, z, state, noises, uniforms, near = written(model, prime, temperature, deviation, length, normals, uniform)
    assert min(near) > NEAR
    codes = encode(prime, model.emission_type.vocabulary).tolist()
    return page.evaluate(WRITE, [path, codes, temperature, deviation, noises, uniforms]), text, z, state


def layers_of(state, model):
    """A state as the script has it: of each layer its h, and an LSTM's c."""
    if isinstance(model, VRNN):
        layers = state if model.cell.num_layers > 1 else (state,)
        return [[part[0].tolist() for part in (layer if isinstance(layer, tuple) else (layer,))] for layer in layers]
    parts = state if isinstance(state, tuple) else (state,)
    return [[part[layer, 0].tolist() for part in parts] for layer in range(model.num_layers)]


@pytest.mark.parametrize("size", [(1, 1), (3, 2)], ids=["one layer", "three layers, depth 2"])
@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("make", [vrnn, char_rnn])
def test_for_given_noise_and_uniforms_the_text_is_pythons(page, served, make, rnn, size):
    emission = Categorical(vocabulary=VOCABULARY)
    options = {"rnn": rnn, "num_layers": size[0], "depth": size[1], "emission": emission}
    model = make(input_size=len(VOCABULARY), **options).float()
    save_checkpoint(served[2] / "small.safetensors", model)
    for temperature, deviation in SETTINGS:
        how = page, "/small.safetensors", PRIME, temperature, deviation
        found, text, *_ = given_to_the_script(*how, model)
        assert found["text"] == text, how
        # In double precision, as the script's sums are, the numbers behind the text agree.
        double = load_checkpoint(served[2] / "small.safetensors").double()
        found, text, z, state = given_to_the_script(*how, double)
        assert found["text"] == text
        for numbers, expected in zip([*found["z"], found["state"]], [*z, layers_of(state, double)], strict=True):
            assert numbers == pytest.approx(expected, abs=1e-9) if isinstance(expected, list) else numbers is expected


@pytest.mark.parametrize("path", [BEST, SAME_COUNT], ids=["VRNN", "CharRNN"])
def test_so_is_that_of_the_committed_models(page, path):
    for temperature, deviation in SETTINGS:
        how = f"/{path.relative_to(ROOT)}", "ROMEO:\n", temperature, deviation
        found, text, *_ = given_to_the_script(page, *how, load_checkpoint(path))
        assert found["text"] == text, how
