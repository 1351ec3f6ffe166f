// What an x is, for models.js: how the nets read it, and how it is drawn from a net's raw numbers, as in emissions/.

import { drawCode, joined, linear, net } from "./nets.js";

const ASCII = String.fromCharCode(...Array(128).keys());
const LARGEST_CORRELATION = 0.99;

const nameOf = emission => (emission.name ?? emission).toLowerCase();

export const knows = emission => nameOf(emission) in KINDS && (!emission.emission || knows(emission.emission));

/** The emission of a configuration; weights: what reads values, linear layers and nets of the checkpoint by their names. */
export function emissionOf(configuration, weights, emission = configuration.emission) {
    const options = typeof emission === "string" ? { characters: configuration.characters } : emission;
    return new KINDS[nameOf(emission)](options, configuration, weights);
}

/** Of a code, its row in a table of embeddings. */
const rows = (table, size) => code => table.subarray(code * size, (code + 1) * size);

/** x: one of V codes, or an array of k, each from a softmax of its own; drawn by a uniform, or by k of them. */
class Categorical {
    memorySize = 0;

    constructor({ characters, vocabulary }, { input_size, embedding_size }, { values }) {
        this.characters = characters;
        this.codes = input_size;
        this.vocabulary = [...(vocabulary ?? ASCII)];
        this.row = rows(values("phi_x.embedding.weight"), embedding_size);
    }

    embed(x) {
        return joined(...[x].flat().map(this.row));
    }

    draw(raw, temperature, uniforms) {
        if (this.characters === 1) return drawCode(raw, temperature, uniforms);
        return uniforms.map((u, i) => drawCode(this.logits(raw, i), temperature, u));
    }

    logits(raw, i) {
        return raw.subarray(i * this.codes, (i + 1) * this.codes);
    }

    remember(x, memory) {
        return memory;
    }
}

/** x: an array of k codes, each told those before it; context: what the emission's net read. */
class Chained extends Categorical {
    constructor(options, configuration, weights) {
        super(options, configuration, weights);
        this.told = rows(weights.values("emission_type.embedding.weight"), configuration.embedding_size);
        this.links = Array.from({ length: this.characters - 1 }, (_, i) => weights.layers(`emission_type.links.${i}`, 2));
    }

    draw(raw, temperature, uniforms, context) {
        return uniforms.reduce((x, u, i) => {
            const heard = i ? net(this.links[i - 1], joined(context, ...x.map(this.told))) : null;
            const logits = this.logits(raw, i).map((logit, code) => logit + (heard ? heard[code] : 0));
            return [...x, drawCode(logits, temperature, u)];
        }, []);
    }
}

/** x: [dx, dy, goes on, stroke ends, character ends]; drawn by uniforms for component and state, and two normals. */
class Pen {
    constructor({ components, joint, position }, configuration, { linear: layer }) {
        this.components = components;
        this.joint = joint;
        this.memorySize = position ? 2 : 0;
        this.embedding = layer("phi_x.embedding");
    }

    embed(x) {
        return linear(this.embedding, x);
    }

    draw(raw, temperature, { component, normals: [u, v], state }) {
        const K = this.components, k = drawCode(raw.subarray(0, K), temperature, component);
        const rho = LARGEST_CORRELATION * Math.tanh(raw[5 * K + k]);
        const noise = [u, rho * u + Math.sqrt(1 - rho * rho) * v];
        const offset = noise.map((each, i) => {
            const deviation = Math.sqrt(temperature) * Math.exp(bounded(raw[3 * K + 2 * k + i]));
            return raw[K + 2 * k + i] + deviation * each;
        });
        const at = 6 * K + (this.joint ? 3 * k : 0);
        const drawn = drawCode(raw.subarray(at, at + 3), temperature, state);
        return [...offset, ...[0, 1, 2].map(code => Number(code === drawn))];
    }

    /** The position after the step; where a character ends, the next one begins at the origin. */
    remember(x, memory) {
        return memory.map((before, i) => (before + x[i]) * (1 - x[4]));
    }
}

/** As `bounded` in vectors.py: -6 is neared smoothly, 10 is the most. */
function bounded(logStd) {
    const above = 4 * (logStd + 6);
    return Math.min(10, -6 + (above > 20 ? above : Math.log1p(Math.exp(above))) / 4);
}

/** Around an emission of standardised vectors. */
class Scaled {
    constructor({ shift, scale, emission }, configuration, weights) {
        const each = numbers => i => numbers[i] ?? numbers; // one for each entry, or one for all
        this.shift = each(shift);
        this.scale = each(scale);
        this.standard = emissionOf(configuration, weights, emission);
        this.memorySize = this.standard.memorySize;
    }

    standardised(x) {
        return x.map((each, i) => (each - this.shift(i)) / this.scale(i));
    }

    embed(x) {
        return this.standard.embed(this.standardised(x));
    }

    draw(raw, temperature, uniforms) {
        return this.standard.draw(raw, temperature, uniforms).map((y, i) => this.shift(i) + this.scale(i) * y);
    }

    remember(x, memory) {
        return this.standard.remember(this.standardised(x), memory);
    }
}

const KINDS = { categorical: Categorical, chained: Chained, pen: Pen, scaled: Scaled };
