// The page generation.html: what two models write for the same prime, temperature, prior's deviation and seed.

import { load } from "./models.js";
import { $, follow, frame } from "./page.js";
import { seeded } from "./random.js";
import { changes, entropy, respell, shareKnown } from "./text.js";

const LENGTH = 600; // characters of each text
const TURN = 7; // milliseconds of a frame in which a column writes: of the sixteen, two columns leave the page its own

/** The words of the training text; not waited for before the first character is written. */
const known = fetch("words.txt").then(async response => new Set(response.ok ? (await response.text()).split("\n") : []));

/** Codes, without end, that follow on the prime's, each with the entropy of the softmax that it was drawn from. */
function* write(model, codes, { temperature, deviation, seed }) {
    const random = seeded(seed), noise = () => random.normals(model.latentSize);
    let state = model.read(codes, model.start(), codes.map(noise), deviation);
    for (;;) {
        const { x, z, raw } = model.draw(state, temperature, deviation, noise(), random.uniform());
        yield { x, nats: entropy(raw, temperature) };
        state = model.advance(x, z, state);
    }
}

const settings = () => ({
    temperature: $("temperature").valueAsNumber,
    deviation: $("deviation").valueAsNumber,
    seed: $("seed").valueAsNumber,
});

function shown([run, changed]) {
    return changed ? Object.assign(document.createElement("mark"), { textContent: run }) : run;
}

const told = share => (Number.isNaN(share) ? "" : `known words ${(100 * share).toFixed(0)}% · `);

class Column {
    constructor(section) {
        [this.choice, this.box, this.prime, this.text, this.note, this.status] =
            ["select", "pre", "pre b", "pre span", ".note", "[role=status]"].map(part => section.querySelector(part));
        this.run = 0;
        this.written = this.before = ""; // what is written, and what stood at each place before
        this.choice.addEventListener("input", () => this.start());
    }

    /** Stops what is being written, and writes afresh with what the controls have now. */
    async start() {
        const run = ++this.run, stopped = () => run !== this.run;
        const before = (this.before = this.written + this.before.slice(this.written.length));
        this.written = "";
        this.box.ariaBusy = "true";
        this.status.textContent = "Fetching the model …";
        this.prime.textContent = this.text.textContent = this.note.textContent = "";
        try {
            const chosen = await load(this.choice.value);
            if (stopped()) return;
            this.latentSize = chosen.latentSize;
            $("deviation").disabled = !columns.some(column => column.latentSize);
            const prime = respell($("prime").value.replaceAll("\\n", "\n"), chosen.emission.vocabulary);
            const steps = write(chosen, chosen.encode(prime), settings());
            this.prime.textContent = prime;
            this.status.textContent = "";
            let nats = 0;
            for (; this.written.length < LENGTH && !stopped(); await frame()) {
                const end = performance.now() + TURN;
                do {
                    const step = steps.next().value;
                    this.written += chosen.decode([step.x]);
                    nats += step.nats;
                } while (this.written.length < LENGTH && performance.now() < end);
                this.text.replaceChildren(...changes(this.written, before).map(shown));
            }
            const share = shareKnown(this.written, await known);
            if (!stopped()) this.note.textContent = `${told(share)}entropy ${(nats / LENGTH).toFixed(2)} nats per character`;
        } catch (error) {
            if (!stopped()) this.status.textContent = error.message;
        }
        if (!stopped()) this.box.ariaBusy = "false";
    }
}

const columns = [...document.querySelectorAll("section")].map(section => new Column(section));

follow(() => columns.forEach(column => column.start()));
