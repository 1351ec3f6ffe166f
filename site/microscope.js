// The page microscope.html: a VRNN reads a sentence, and a slider goes through its steps, as in the notebook's Microscope.

import { load } from "./models.js";
import { $, follow } from "./page.js";
import { seeded } from "./random.js";
import { respell } from "./text.js";
import { trace } from "./trace.js";

const DRAWS = 10; // of z, side by side
const LEAST = 13; // pixels of a column that can be read
const HEIGHT = 200; // pixels of the panel of z
// Matplotlib's PuOr, from −1 to 1.
const COLOURS = ["7f3b08", "b35806", "e08214", "fdb863", "fee0b6", "f7f7f7", "d8daeb", "b2abd2", "8073ac", "542788", "2d004b"]
    .map(hex => [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16)));

const visible = character => ({ "\n": "↵", " ": "␣" })[character] ?? character;

function colour(value) {
    const place = (Math.min(1, Math.max(-1, value)) + 1) * 5, i = Math.min(9, Math.floor(place));
    return COLOURS[i].map((from, part) => from + (COLOURS[i + 1][part] - from) * (place - i));
}

let read = {}; // the sentence that was read last: its text, codes and steps, the model's vocabulary, how far bars reach

function readAgain(model, text) {
    const random = seeded(0), noise = () => random.normals(model.latentSize);
    const codes = model.encode(text);
    const noises = codes.map(() => Array.from({ length: DRAWS }, () => ({ posterior: noise(), prior: noise() })));
    const steps = trace(model, codes, noises);
    const ends = ({ mean, deviation }) => mean.map((m, i) => Math.abs(m) + deviation[i]);
    const reach = Math.max(...steps.flatMap(({ prior, posterior }) => [...ends(prior), ...ends(posterior)]));
    read = { text, codes, steps, reach, vocabulary: model.emission.vocabulary };
}

async function start() {
    try {
        const model = await load($("model").value);
        const text = respell($("sentence").value, model.emission.vocabulary);
        if (text && text !== read.text) {
            const typed = read.text !== undefined;
            readAgain(model, text);
            $("character").max = text.length;
            if (typed) $("character").value = text.length; // at what was typed last
            document.querySelector("output").value = $("character").value;
        }
        show();
        if (!text) $("step").textContent = "Type a sentence.";
    } catch (error) {
        $("step").textContent = error.message;
    }
}

function show() {
    const { text, codes, steps } = read, t = $("character").valueAsNumber - 1, { surprise, kl } = steps[t];
    $("step").textContent =
        `Step ${t + 1} of ${text.length}: ${visible(text[t])} came, a surprise of ${surprise.toFixed(1)} bits`;
    $("kl").textContent = kl.toFixed(3);
    showState(t);
    showGaussians(steps[t]);
    showExpected(steps[t].expected, codes[t]);
}

/** h after each character up to t; of a long sentence the part around it. */
function showState(t) {
    const { text, steps } = read, columns = Math.min(text.length, Math.floor($("state").clientWidth / LEAST));
    const first = Math.max(0, Math.min(t - (columns >> 1), text.length - columns));
    const canvas = $("state").querySelector("canvas"), units = steps[0].hidden.length;
    [canvas.width, canvas.height] = [columns, units];
    const context = canvas.getContext("2d"), image = context.createImageData(columns, units);
    for (let column = 0; column <= t - first; column++)
        steps[first + column].hidden.forEach((value, unit) =>
            image.data.set([...colour(value), 255], 4 * (unit * columns + column)));
    context.putImageData(image, 0, 0);
    $("letters").replaceChildren(...[...text.slice(first, first + columns)].map((character, i) => {
        const letter = Object.assign(document.createElement("span"), { textContent: visible(character) });
        letter.className = first + i < t ? "" : first + i > t ? "later" : "posterior";
        return letter;
    }));
}

function showGaussians({ prior, posterior }) {
    const svg = $("gaussians"), width = svg.clientWidth - 24, size = prior.mean.length, each = width / size;
    const x = (i, shift) => 24 + (i + 0.5 + shift) * each, y = value => (HEIGHT / 2) * (1 - value / read.reach);
    const bars = ({ mean, deviation }, shift, name) => [...mean].map((m, i) => {
        const s = deviation[i], at = x(i, shift);
        return `<path class="${name}" d="M${at},${y(m - s)}V${y(m + s)}M${at - 1},${y(m)}h2"/>`;
    });
    const most = Math.floor(read.reach);
    const lines = Array.from({ length: 2 * most + 1 }, (_, i) => i - most).map(value =>
        `<path class="line" d="M24,${y(value)}h${width}"/><text x="16" y="${y(value) + 4}">${String(value).replace("-", "−")}</text>`);
    svg.innerHTML = [...lines, ...bars(prior, -0.18, "prior"), ...bars(posterior, 0.18, "posterior")].join("");
}

/** The eight likeliest characters; the one that came takes the last place if it is not among them. */
function showExpected(expected, code) {
    const codes = [...expected.keys()].sort((a, b) => expected[b] - expected[a]).slice(0, 8);
    if (!codes.includes(code)) codes[7] = code;
    $("expected").replaceChildren(...codes.map(each => {
        const row = document.createElement("tr");
        row.className = each === code ? "posterior" : "prior";
        row.innerHTML = `<th></th><td><div style="width: ${100 * expected[each]}%"></div></td><td>${expected[each].toFixed(3)}</td>`;
        row.firstChild.textContent = visible(read.vocabulary[each]);
        return row;
    }));
}

follow(start);
new ResizeObserver(() => read.text && show()).observe($("gaussians"));
