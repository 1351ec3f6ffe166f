// The page voices.html: a piece of four voices to look at, and to listen to.

import { schedule } from "../vrnn_tutorial/widgets/player.js";
import { load } from "./models.js";
import { nameOf, notesOf } from "./music.js";
import { $, follow } from "./page.js";
import { seeded } from "./random.js";

const QUARTERS = 32;
const TEMPO = 80; // quarters a minute
const HEIGHT = 220, LEFT = 28; // pixels of the roll, and where its quarters begin

/** A piece out of a model: of each quarter the codes of the four voices. */
function compose(model, temperature, deviation, seed) {
    const random = seeded(seed);
    let state = model.start();
    return Array.from({ length: QUARTERS }, () => {
        const noise = random.normals(model.latentSize), uniforms = Array.from({ length: 4 }, random.uniform);
        const { x, z } = model.draw(state, temperature, deviation, noise, uniforms);
        state = model.advance(x, z, state);
        return x;
    });
}

let notes = [];

/** The lowest pitch and the highest; of a piece that is all rests, middle C. */
function range() {
    const pitches = notes.length ? notes.map(([pitch]) => pitch) : [60];
    return [Math.min(...pitches), Math.max(...pitches)];
}

async function start() {
    try {
        const model = await load($("model").value);
        const [temperature, deviation, seed] = ["temperature", "deviation", "seed"].map(name => $(name).valueAsNumber);
        $("deviation").disabled = !model.latentSize;
        notes = notesOf(compose(model, temperature, deviation, seed));
        const [low, high] = range().map(nameOf);
        $("note").textContent = `${QUARTERS} quarters, ${notes.length} notes, from ${low} to ${high}.`;
        show();
        if (context) play(); // who listens goes on with the new piece
    } catch (error) {
        $("note").textContent = error.message;
    }
}

function show() {
    const low = range()[0] - 2, high = range()[1] + 2;
    const width = $("roll").clientWidth - LEFT, semitone = HEIGHT / (high - low);
    const x = t => LEFT + (t * width) / QUARTERS, y = pitch => (high - pitch) * semitone;
    const lines = [...Array(high - low).keys()].map(i => low + i).filter(pitch => pitch % 12 === 0).map(pitch =>
        `<path d="M${LEFT},${y(pitch)}h${width}"/><text x="${LEFT - 6}" y="${y(pitch) + 4}">${nameOf(pitch)}</text>`);
    const bars = notes.map(([pitch, t, length, voice]) => // a note that is struck again begins behind a gap
        `<rect class="voice${voice}" x="${x(t)}" y="${y(pitch) - semitone / 2}" width="${x(t + length - 0.08) - x(t)}" height="${semitone}"/>`);
    $("roll").innerHTML = [...lines, ...bars, `<path id="head" d="M0,0v${HEIGHT}" visibility="hidden"/>`].join("");
}

let context = null, begin = 0; // while it sounds

function stop() {
    context?.close();
    context = null;
    $("play").textContent = "Play";
    $("head")?.setAttribute("visibility", "hidden");
}

function play() {
    stop();
    context = new AudioContext();
    begin = context.currentTime + 0.1;
    schedule(context, notes, TEMPO, begin);
    $("play").textContent = "Stop";
    goAlong(context);
}

/** Moves a line along the roll with what is heard. */
function goAlong(heard) {
    if (context !== heard) return;
    const share = ((context.currentTime - begin) * TEMPO) / 60 / QUARTERS;
    if (share > 1) return stop();
    const x = LEFT + Math.max(0, share) * ($("roll").clientWidth - LEFT);
    $("head").setAttribute("transform", `translate(${x})`);
    $("head").setAttribute("visibility", "visible");
    requestAnimationFrame(() => goAlong(heard));
}

const sounds = "AudioContext" in window;
$("play").hidden = !sounds;
$("silent").hidden = sounds;
$("play").addEventListener("click", () => (context ? stop() : play()));
new ResizeObserver(() => notes.length && show()).observe($("roll"));
follow(start);
