// The page pen.html: forty characters that a model invents, and eight endings of one that the reader begins.

import { SIDE, isInside, readPath, toGrid, toSteps, toStrokes, writePath } from "./drawing.js";
import { load } from "./models.js";
import { $, follow, frame } from "./page.js";
import { seeded } from "./random.js";

const MOST = 100; // steps of a character, those begun among them
const TURN = 15; // milliseconds in which a sheet draws between two frames
const SEEDS = 1000; // characters of a seed, each of which has random numbers of its own

/** A character's steps, which go on from those begun, to its end or to MOST of them. */
function character(model, begun, temperature, deviation, random) {
    const noise = () => random.normals(model.latentSize), steps = [...begun];
    let state = model.read(begun, model.start(), begun.map(noise), deviation);
    while (steps.length < MOST && !steps.at(-1)?.[4]) {
        const of = { z: noise(), component: random.uniform(), normals: random.normals(2), state: random.uniform() };
        const { x, z } = model.draw(state, temperature, deviation, of.z, of);
        steps.push(x);
        state = model.advance(x, z, state);
    }
    return steps;
}

/** Places for characters, each an SVG of its own: dark what was given, in colour what the model draws. */
class Sheet {
    begun = [];
    run = 0;

    constructor(name, count) {
        [this.box, this.note] = [$(name), $(`${name}-note`)];
        this.box.innerHTML = `<svg viewBox="0 0 ${SIDE} ${SIDE}"><path/><path class="invented"/></svg>`.repeat(count);
        this.places = [...this.box.children];
    }

    /** Stops what is being drawn, and draws afresh with what the controls have now. */
    async start() {
        const run = ++this.run, stopped = () => run !== this.run;
        this.box.ariaBusy = "true";
        try {
            const model = await load($("model").value);
            if (stopped()) return;
            $("deviation").disabled = !model.latentSize;
            const note = await this.draw(model, stopped);
            if (!stopped()) this.note.textContent = note;
        } catch (error) {
            if (!stopped()) this.note.textContent = error.message;
        }
        if (!stopped()) this.box.ariaBusy = "false";
    }

    async draw(model, stopped) {
        const [temperature, deviation, seed] = ["temperature", "deviation", "seed"].map(name => $(name).valueAsNumber);
        const steps = toSteps(this.begun);
        let ended = 0, inside = 0, end = performance.now() + TURN;
        for (const [i, { children: [given, invented] }] of this.places.entries()) {
            const drawn = character(model, steps, temperature, deviation, seeded(SEEDS * seed + i));
            const strokes = toStrokes(drawn);
            given.setAttribute("d", writePath(strokes.slice(0, this.begun.length)));
            invented.setAttribute("d", writePath(strokes.slice(this.begun.length)));
            ended += drawn.at(-1)[4];
            inside += isInside(strokes);
            if (performance.now() < end) continue;
            await frame();
            if (stopped()) return;
            end = performance.now() + TURN;
        }
        return `${ended} of ${this.places.length} come to an end, ${inside} keep to their square.`;
    }
}

const endings = new Sheet("endings", 8), invented = new Sheet("invented", 40);
const sheet = $("sheet");
let strokes = []; // on the reader's sheet, in units of the grid

function put(given) {
    strokes = given;
    sheet.firstElementChild.setAttribute("d", writePath(strokes));
    endings.begun = toGrid(strokes);
    endings.start();
}

let pointer = null; // the one that draws

function at(event) {
    const { left, top, width, height } = sheet.getBoundingClientRect();
    const within = share => SIDE * Math.min(1, Math.max(0, share));
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
}

sheet.addEventListener("pointerdown", event => {
    if (event.button || pointer !== null) return;
    pointer = event.pointerId;
    sheet.setPointerCapture(pointer);
    put([...strokes, [at(event)]]);
});
sheet.addEventListener("pointermove", event => {
    if (event.pointerId !== pointer) return;
    // Those between two frames, too, where a browser tells them.
    const points = (event.getCoalescedEvents?.() ?? [event]).map(at);
    put([...strokes.slice(0, -1), [...strokes.at(-1), ...points]]);
});
for (const end of ["pointerup", "pointercancel"])
    sheet.addEventListener(end, event => {
        if (event.pointerId === pointer) pointer = null;
    });
$("begun").addEventListener("click", ({ target }) => target.matches("button") && put(readPath(target.value)));

put(readPath($("begun").querySelector("[value^=M]").value));
follow(() => [endings, invented].forEach(sheet => sheet.start()));
