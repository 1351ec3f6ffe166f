// The page generation.html: what two models write for the same prime, temperature, prior's deviation and seed.

import { load } from "./models.js";
import { seeded } from "./random.js";

const LENGTH = 600; // characters of each text
const TURN = 7; // milliseconds of a frame in which a column writes: of the sixteen, two columns leave the page its own

const $ = name => document.getElementById(name);
const models = new Map(); // by address: each is fetched once

function model(address) {
    if (!models.has(address)) {
        const loading = load(address);
        loading.catch(() => models.delete(address)); // it is tried again
        models.set(address, loading);
    }
    return models.get(address);
}

/** Codes, without end, that follow on the prime's. */
function* write(model, codes, { temperature, deviation, seed }) {
    const random = seeded(seed), noise = () => random.normals(model.latentSize);
    let state = model.read(codes, model.start(), codes.map(noise), deviation);
    for (;;) {
        const { x, z } = model.draw(state, temperature, deviation, noise(), random.uniform());
        yield x;
        state = model.advance(x, z, state);
    }
}

const settings = () => ({
    temperature: $("temperature").valueAsNumber,
    deviation: $("deviation").valueAsNumber,
    seed: $("seed").valueAsNumber,
});

const frame = () => new Promise(requestAnimationFrame);

class Column {
    constructor(section) {
        [this.choice, this.prime, this.text, this.status] =
            ["select", "pre b", "pre span", "[role=status]"].map(part => section.querySelector(part));
        this.box = section.querySelector("pre");
        this.run = 0;
        this.choice.addEventListener("input", () => this.start());
    }

    /** Stops what is being written, and writes afresh with what the controls have now. */
    async start() {
        const run = ++this.run, stopped = () => run !== this.run;
        this.box.ariaBusy = "true";
        this.status.textContent = "Fetching the model …";
        this.prime.textContent = this.text.textContent = "";
        try {
            const chosen = await model(this.choice.value);
            if (stopped()) return;
            this.latentSize = chosen.latentSize;
            $("deviation").disabled = !columns.some(column => column.latentSize);
            const prime = $("prime").value.replaceAll("\\n", "\n");
            const codes = write(chosen, chosen.encode(prime), settings());
            this.prime.textContent = prime;
            this.status.textContent = "";
            for (let text = ""; text.length < LENGTH && !stopped(); await frame()) {
                const end = performance.now() + TURN;
                do text += chosen.decode([codes.next().value]);
                while (text.length < LENGTH && performance.now() < end);
                this.text.textContent = text;
            }
        } catch (error) {
            if (!stopped()) this.status.textContent = error.message;
        }
        if (!stopped()) this.box.ariaBusy = "false";
    }
}

const columns = [...document.querySelectorAll("section")].map(section => new Column(section));

function start() {
    for (const output of document.querySelectorAll("output")) output.value = $(output.htmlFor.value).value;
    columns.forEach(column => column.start());
}

$("controls").addEventListener("input", start);
$("controls").addEventListener("submit", event => event.preventDefault());
$("picture").hidden = true;
$("live").hidden = false;
start();
