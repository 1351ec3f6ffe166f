// A VRNN or a CharRNN out of a checkpoint of vrnn_tutorial: the same step as Python's, for one sequence.
//
//     const model = await load("../vrnn_tutorial/best.safetensors");
//     let state = model.read(model.encode("ROMEO:"), model.start(), noises);
//     const { x, z } = model.draw(state, 0.8, 1, noise, uniform);
//     state = model.advance(x, z, state);
//
// Names are those of cell.py and char_rnn.py.

import { emissionOf, knows } from "./emissions.js";
import { CELLS, elu, gaussian, joined, net, sampled } from "./nets.js";

const POWERS = Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 25)); // of a half's last bit
const READERS = { F16: half, F32: buffer => new Float32Array(buffer) };

const models = new Map(); // by address: each is fetched once

/** The model of a checkpoint's address. Throws an Error whose message is a sentence. */
export function load(address) {
    if (!models.has(address)) {
        const loading = fetched(address).then(modelOf);
        loading.catch(() => models.delete(address)); // it is tried again
        models.set(address, loading);
    }
    return models.get(address);
}

async function fetched(address) {
    try {
        const response = await fetch(address);
        if (!response.ok) throw new Error(`the server answers ${response.status}`);
        return await response.arrayBuffer();
    } catch (error) {
        throw new Error(`The model ${address} could not be fetched: ${error.message}.`);
    }
}

/** The model in a checkpoint's bytes, an ArrayBuffer. */
export function modelOf(file) {
    const { metadata, tensors } = safetensors(file);
    if (metadata?.format !== "vrnn_tutorial 1") throw new Error("This is no checkpoint of vrnn_tutorial.");
    const c = JSON.parse(metadata.configuration);
    const kind = { VRNN, CharRNN }[metadata.model];
    const known = {
        model: kind && (metadata.cell ?? "VRNNCell") === "VRNNCell",
        rnn: c.rnn in CELLS,
        emission: knows(c.emission),
        prior: (c.prior ?? "conditional") === "conditional",
        stochastic: c.stochastic ?? true,
    };
    const other = Object.keys(known).filter(part => !known[part]);
    if (other.length) throw new Error(`This page knows no model with such a ${other[0]}.`);
    return new kind(c, tensors);
}

/** Metadata and tensors of a safetensors file: eight bytes with its header's length, the header in JSON, the data. */
function safetensors(file) {
    try {
        const begin = 8 + Number(new DataView(file).getBigUint64(0, true));
        const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(file.slice(8, begin)));
        const tensors = {};
        for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
            const values = READERS[dtype](file.slice(begin + from, begin + to));
            if (values.length !== shape.reduce((size, axis) => size * axis, 1)) throw new Error("cut short");
            tensors[name] = { shape, values };
        }
        return { metadata, tensors };
    } catch {
        throw new Error("This is no safetensors file of single or half precision, or it is cut short.");
    }
}

/** Half precision, which few browsers read by themselves, as single. */
function half(buffer) {
    const bits = new Uint16Array(buffer), values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
        const exponent = (bits[i] >> 10) & 31, fraction = bits[i] & 1023; // save_checkpoint keeps infinities out
        const size = exponent ? (1024 + fraction) * POWERS[exponent] : fraction * POWERS[1];
        values[i] = bits[i] >> 15 ? -size : size;
    }
    return values;
}

class Model {
    latentSize = 0;

    /** prefix: of the weights' names. recurrent: of a layer, what stands before and behind the names of its weights. */
    constructor(configuration, tensors, prefix, recurrent) {
        const values = name => {
            if (!(`${prefix}${name}` in tensors)) throw new Error(`The checkpoint lacks ${name}.`);
            return tensors[`${prefix}${name}`].values;
        };
        const linear = name => ({ weight: values(`${name}.weight`), bias: values(`${name}.bias`) });
        const layers = (name, depth = configuration.depth) =>
            Array.from({ length: depth }, (_, i) => linear(`${name}.${2 * i}`));
        const of = (part, [before, after]) => ({
            weight: values(`${before}weight_${part}${after}`), bias: values(`${before}bias_${part}${after}`),
        });
        const cell = layer => ({ input: of("ih", recurrent(layer)), hidden: of("hh", recurrent(layer)) });
        this.hiddenSize = configuration.hidden_size;
        this.lstm = configuration.rnn === "lstm";
        this.step = CELLS[configuration.rnn];
        this.cells = Array.from({ length: configuration.num_layers }, (_, layer) => cell(layer));
        this.emission = emissionOf(configuration, { values, linear, layers });
        this.features = layers("phi_x.net.0");
        this.emissionNet = layers("emission_net");
        this.layers = layers;
    }

    /** The codes of a text. Throws an Error that names a character which the model does not know. */
    encode(text) {
        return [...text].map(character => {
            const code = this.emission.vocabulary.indexOf(character);
            if (code < 0) throw new Error(`The model does not know the character “${character}”.`);
            return code;
        });
    }

    decode(codes) {
        return codes.map(code => this.emission.vocabulary[code]).join("");
    }

    /** The state before the first step: of each layer its h, and an LSTM's c; and what the emission keeps of the past. */
    start() {
        const zeros = () => new Float64Array(this.hiddenSize);
        return {
            layers: this.cells.map(() => (this.lstm ? { h: zeros(), c: zeros() } : { h: zeros() })),
            memory: new Float64Array(this.emission.memorySize),
        };
    }

    /** What the nets read of a state: the top layer's h, and the memory behind it. */
    hidden({ layers, memory }) {
        return joined(layers.at(-1).h, memory);
    }

    phiX(x) {
        return elu(net(this.features, this.emission.embed(x)));
    }

    /** The state after x and what the recurrence reads; each layer reads the h of the one below it. */
    recur(x, heard, { layers, memory }) {
        const after = layers.map((before, layer) => {
            const next = this.step(this.cells[layer], heard, before);
            heard = next.h;
            return next;
        });
        return { layers: after, memory: this.emission.remember(x, memory) };
    }
}

class CharRNN extends Model {
    constructor(configuration, tensors) {
        super(configuration, tensors, "model.", layer => ["layers.", `_l${layer}`]);
    }

    draw(state, temperature, priorTemperature, noise, uniforms) {
        const context = this.hidden(state), raw = net(this.emissionNet, context);
        return { x: this.emission.draw(raw, temperature, uniforms, context), z: null, raw };
    }

    advance(x, z, state) {
        return this.recur(x, this.phiX(x), state);
    }

    read(xs, state) {
        return xs.reduce((before, x) => this.advance(x, null, before), state);
    }
}

class VRNN extends Model {
    constructor(configuration, tensors) {
        super(configuration, tensors, "model.cell.", layer => [`rnn_cells.${layer}.`, ""]);
        this.latentSize = configuration.latent_size;
        this.ofZ = this.layers("phi_z.0");
        this.priorNet = this.layers("prior_net");
        this.posteriorNet = this.layers("posterior_net");
    }

    phiZ(z) {
        return elu(net(this.ofZ, z));
    }

    prior(h) {
        return gaussian(net(this.priorNet, h), -10);
    }

    posterior(x, h) {
        return gaussian(net(this.posteriorNet, joined(this.phiX(x), h)), -80);
    }

    /** The next x, its z, and the emission's raw numbers: prior, z by its noise (latentSize numbers), decoder, x by its uniforms. */
    draw(state, temperature, priorTemperature, noise, uniforms) {
        const h = this.hidden(state);
        const z = sampled(this.prior(h), noise, priorTemperature);
        const context = joined(h, this.phiZ(z)), raw = net(this.emissionNet, context);
        return { x: this.emission.draw(raw, temperature, uniforms, context), z, raw };
    }

    advance(x, z, state) {
        return this.recur(x, joined(this.phiX(x), this.phiZ(z)), state);
    }

    /** The state after these x, with each z from the posterior, by its own noise. */
    read(xs, state, noises, priorTemperature) {
        return xs.reduce((before, x, t) => {
            const z = sampled(this.posterior(x, this.hidden(before)), noises[t], priorTemperature);
            return this.advance(x, z, before);
        }, state);
    }
}
