// A VRNN or a CharRNN of characters, out of a checkpoint of vrnn_tutorial: the same step as Python's, for one sequence.
//
//     const model = await load("../vrnn_tutorial/best.safetensors");
//     let state = model.read(model.encode("ROMEO:"), model.start(), noises);
//     const { x, z } = model.draw(state, 0.8, 1, noise, uniform);
//     state = model.advance(x, z, state);
//
// Names are those of cell.py and char_rnn.py. Weights are single precision, as in the file; sums are double.

const TINY = 2 ** -126; // single precision's least normal number: a temperature below it is 0
const POWERS = Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 25)); // of a half's last bit
const READERS = { F16: half, F32: buffer => new Float32Array(buffer) };

/** The model of a checkpoint's address. Throws an Error whose message is a sentence. */
export async function load(address) {
    let file;
    try {
        const response = await fetch(address);
        if (!response.ok) throw new Error(`the server answers ${response.status}`);
        file = await response.arrayBuffer();
    } catch (error) {
        throw new Error(`The model ${address} could not be fetched: ${error.message}.`);
    }
    return modelOf(file);
}

/** The model in a checkpoint's bytes, an ArrayBuffer. */
export function modelOf(file) {
    const { metadata, tensors } = safetensors(file);
    if (metadata?.format !== "vrnn_tutorial 1") throw new Error("This is no checkpoint of vrnn_tutorial.");
    const c = JSON.parse(metadata.configuration);
    const emission = typeof c.emission === "string" ? { name: c.emission, characters: c.characters } : c.emission;
    const known = {
        model: ["VRNN", "CharRNN"].includes(metadata.model),
        cell: (metadata.cell ?? "VRNNCell") === "VRNNCell",
        rnn: ["gru", "lstm"].includes(c.rnn),
        emission: /^categorical$/i.test(emission.name),
        characters: emission.characters === 1,
        vocabulary: Boolean(emission.vocabulary ?? c.input_size === 128),
        prior: (c.prior ?? "conditional") === "conditional",
        stochastic: c.stochastic ?? true,
    };
    const other = Object.keys(known).filter(part => !known[part]);
    if (other.length) throw new Error(`This page knows no model with such a ${other[0]}.`);
    const vocabulary = emission.vocabulary ?? String.fromCharCode(...Array(128).keys());
    return new (metadata.model === "VRNN" ? VRNN : CharRNN)(c, [...vocabulary], tensors);
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

/** W x + b. Four sums side by side: one alone would wait for itself. */
function linear({ weight, bias }, x) {
    const y = new Float64Array(bias.length), columns = x.length, whole = columns - (columns % 4);
    for (let row = 0, w = 0; row < y.length; row++) {
        let s0 = bias[row], s1 = 0, s2 = 0, s3 = 0, i = 0;
        for (; i < whole; i += 4, w += 4) {
            s0 += weight[w] * x[i];
            s1 += weight[w + 1] * x[i + 1];
            s2 += weight[w + 2] * x[i + 2];
            s3 += weight[w + 3] * x[i + 3];
        }
        for (; i < columns; i++, w++) s0 += weight[w] * x[i];
        y[row] = s0 + s1 + (s2 + s3);
    }
    return y;
}

const elu = values => values.map(v => (v > 0 ? v : Math.expm1(v)));
const sigmoid = v => 1 / (1 + Math.exp(-v));

function joined(a, b) {
    const both = new Float64Array(a.length + b.length);
    both.set(a);
    both.set(b, a.length);
    return both;
}

/** Linear layers with ELU between them. */
const net = (layers, x) => layers.reduce((values, layer, i) => linear(layer, i ? elu(values) : values), x);

/** Mean and deviation, out of a net's raw numbers. */
function gaussian(raw, least) {
    const size = raw.length / 2;
    const kept = raw.slice(size).map(logStd => Math.exp(Math.min(10, Math.max(least, logStd))));
    return { mean: raw.slice(0, size), deviation: kept };
}

const sampled = ({ mean, deviation }, noise, by) => mean.map((m, i) => m + deviation[i] * by * noise[i]);

/** A layer's next state { h, c } (c: of an LSTM alone), with the gates in torch's order. */
const CELLS = {
    gru({ input, hidden }, x, { h }) {
        const a = linear(input, x), b = linear(hidden, h), H = h.length;
        return {
            h: h.map((before, i) => {
                const reset = sigmoid(a[i] + b[i]), keep = sigmoid(a[H + i] + b[H + i]);
                return (1 - keep) * Math.tanh(a[2 * H + i] + reset * b[2 * H + i]) + keep * before;
            }),
        };
    },
    lstm({ input, hidden }, x, state) {
        const a = linear(input, x), H = state.h.length;
        linear(hidden, state.h).forEach((b, i) => (a[i] += b));
        const c = state.c.map((before, i) => sigmoid(a[H + i]) * before + sigmoid(a[i]) * Math.tanh(a[2 * H + i]));
        return { h: c.map((v, i) => sigmoid(a[3 * H + i]) * Math.tanh(v)), c };
    },
};

/** The code that u draws from the softmax of logits / temperature: the first whose distribution function exceeds u. */
export function drawCode(logits, temperature, u) {
    const most = Math.max(...logits);
    if (temperature < TINY) return logits.indexOf(most);
    const weights = logits.map(logit => Math.exp((logit - most) / temperature));
    const total = weights.reduce((sum, weight) => sum + weight);
    let sum = 0;
    const code = weights.findIndex(weight => (sum += weight / total) > u);
    return code < 0 ? logits.length - 1 : code;
}

class Model {
    latentSize = 0;

    constructor(configuration, vocabulary, tensors, prefix, recurrent) {
        const values = name => {
            if (!(`${prefix}${name}` in tensors)) throw new Error(`The checkpoint lacks ${name}.`);
            return tensors[`${prefix}${name}`].values;
        };
        const layers = name =>
            Array.from({ length: configuration.depth }, (_, i) => ({
                weight: values(`${name}.${2 * i}.weight`), bias: values(`${name}.${2 * i}.bias`),
            }));
        const of = (part, [before, after]) => ({
            weight: values(`${before}weight_${part}${after}`), bias: values(`${before}bias_${part}${after}`),
        });
        const cell = layer => ({ input: of("ih", recurrent(layer)), hidden: of("hh", recurrent(layer)) });
        this.hiddenSize = configuration.hidden_size;
        this.vocabulary = vocabulary;
        this.lstm = configuration.rnn === "lstm";
        this.step = CELLS[configuration.rnn];
        this.cells = Array.from({ length: configuration.num_layers }, (_, layer) => cell(layer));
        this.embedding = { values: values("phi_x.embedding.weight"), size: configuration.embedding_size };
        this.features = layers("phi_x.net.0");
        this.emission = layers("emission_net");
        this.layers = layers;
    }

    /** The codes of a text. Throws an Error that names a character which the model does not know. */
    encode(text) {
        return [...text].map(character => {
            const code = this.vocabulary.indexOf(character);
            if (code < 0) throw new Error(`The model does not know the character “${character}”.`);
            return code;
        });
    }

    decode(codes) {
        return codes.map(code => this.vocabulary[code]).join("");
    }

    /** The state before the first character: of each layer its h, and an LSTM's c. */
    start() {
        const zeros = () => new Float64Array(this.hiddenSize);
        return this.cells.map(() => (this.lstm ? { h: zeros(), c: zeros() } : { h: zeros() }));
    }

    phiX(x) {
        const { values, size } = this.embedding;
        return elu(net(this.features, Float64Array.from(values.subarray(x * size, (x + 1) * size))));
    }

    /** The state after what the recurrence reads; each layer reads the h of the one below it. */
    recur(heard, state) {
        return state.map((before, layer) => {
            const after = this.step(this.cells[layer], heard, before);
            heard = after.h;
            return after;
        });
    }
}

class CharRNN extends Model {
    constructor(configuration, vocabulary, tensors) {
        super(configuration, vocabulary, tensors, "model.", layer => ["layers.", `_l${layer}`]);
    }

    draw(state, temperature, priorTemperature, noise, uniform) {
        const logits = net(this.emission, state.at(-1).h);
        return { x: drawCode(logits, temperature, uniform), z: null, logits };
    }

    advance(x, z, state) {
        return this.recur(this.phiX(x), state);
    }

    read(codes, state) {
        return codes.reduce((before, x) => this.advance(x, null, before), state);
    }
}

class VRNN extends Model {
    constructor(configuration, vocabulary, tensors) {
        super(configuration, vocabulary, tensors, "model.cell.", layer => [`rnn_cells.${layer}.`, ""]);
        this.latentSize = configuration.latent_size;
        this.ofZ = this.layers("phi_z.0");
        this.prior = this.layers("prior_net");
        this.posterior = this.layers("posterior_net");
    }

    phiZ(z) {
        return elu(net(this.ofZ, z));
    }

    /** The next character's code x, z and x's logits: prior, z by its noise (latentSize numbers), decoder, x by its uniform. */
    draw(state, temperature, priorTemperature, noise, uniform) {
        const h = state.at(-1).h;
        const z = sampled(gaussian(net(this.prior, h), -10), noise, priorTemperature);
        const logits = net(this.emission, joined(h, this.phiZ(z)));
        return { x: drawCode(logits, temperature, uniform), z, logits };
    }

    advance(x, z, state) {
        return this.recur(joined(this.phiX(x), this.phiZ(z)), state);
    }

    /** The state after these codes, with each z from the posterior, by its own noise. */
    read(codes, state, noises, priorTemperature) {
        return codes.reduce((before, x, t) => {
            const posterior = gaussian(net(this.posterior, joined(this.phiX(x), before.at(-1).h)), -80);
            return this.advance(x, sampled(posterior, noises[t], priorTemperature), before);
        }, state);
    }
}
