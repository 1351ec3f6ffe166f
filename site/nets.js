// What the models of models.js consist of: linear layers and ELU, Gaussians, recurrent layers, the softmax's draws.
//
// Weights are single precision, as in the file; sums are double.

const TINY = 2 ** -126; // single precision's least normal number: a temperature below it is 0

/** W x + b, four rows at a time: a sum by itself would wait for itself. */
export function linear({ weight, bias }, x) {
    const y = new Float64Array(bias), columns = x.length, whole = y.length - (y.length % 4);
    let row = 0;
    for (; row < whole; row += 4) {
        let w0 = row * columns, w1 = w0 + columns, w2 = w1 + columns, w3 = w2 + columns;
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (let i = 0; i < columns; i++) {
            const value = x[i];
            s0 += weight[w0++] * value;
            s1 += weight[w1++] * value;
            s2 += weight[w2++] * value;
            s3 += weight[w3++] * value;
        }
        y[row] += s0;
        y[row + 1] += s1;
        y[row + 2] += s2;
        y[row + 3] += s3;
    }
    for (; row < y.length; row++) for (let i = 0; i < columns; i++) y[row] += weight[row * columns + i] * x[i];
    return y;
}

export const elu = values => values.map(v => (v > 0 ? v : Math.expm1(v)));
const sigmoid = v => 1 / (1 + Math.exp(-v));

export function joined(...parts) {
    const all = new Float64Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}

/** Linear layers with ELU between them. */
export const net = (layers, x) => layers.reduce((values, layer, i) => linear(layer, i ? elu(values) : values), x);

/** Mean and deviation, out of a net's raw numbers. */
export function gaussian(raw, least) {
    const size = raw.length / 2;
    const kept = raw.slice(size).map(logStd => Math.exp(Math.min(10, Math.max(least, logStd))));
    return { mean: raw.slice(0, size), deviation: kept };
}

export const sampled = ({ mean, deviation }, noise, by) => mean.map((m, i) => m + deviation[i] * by * noise[i]);

/** A layer's next state { h, c } (c: of an LSTM alone), with the gates in torch's order. */
export const CELLS = {
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
