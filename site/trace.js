// What a VRNN makes of a text, character by character, as `trace` in probes.py.

import { joined, net, sampled } from "./nets.js";

const mean = lists => lists[0].map((_, i) => lists.reduce((sum, list) => sum + list[i], 0) / lists.length);

/** KL(q || p) in nats, of Gaussians { mean, deviation }. */
const kl = (q, p) => q.mean.reduce((sum, m, i) => {
    const s = p.deviation[i], ratio = q.deviation[i] / s;
    return sum + (ratio ** 2 + ((m - p.mean[i]) / s) ** 2 - 1) / 2 - Math.log(ratio);
}, 0);

function logSoftmax(logits) {
    const most = Math.max(...logits);
    const log = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
    return logits.map(logit => logit - most - log);
}

/**
 * Of each code: h after it, prior and posterior of z, by the first draw of z; the probabilities that were expected of it,
 * the KL and the surprise, which is loss 1 + loss 2, both in bits, by the mean of all draws.
 *
 * noises: of each code, of each draw, standard normal numbers for z from the posterior and for z from the prior.
 */
export function trace(model, codes, noises) {
    const states = noises[0].map(() => model.start());
    return codes.map((x, t) => {
        const draws = states.map((state, draw) => {
            const h = model.hidden(state), prior = model.prior(h), posterior = model.posterior(x, h);
            const noise = noises[t][draw], z = sampled(posterior, noise.posterior, 1);
            const logP = at => logSoftmax(net(model.emissionNet, joined(h, model.phiZ(at))));
            const nats = kl(posterior, prior);
            states[draw] = model.advance(x, z, state);
            const expected = logP(sampled(prior, noise.prior, 1)).map(Math.exp);
            return { prior, posterior, expected, costs: [nats, nats - logP(z)[x]].map(cost => cost / Math.LN2) };
        });
        const [bits, surprise] = mean(draws.map(draw => draw.costs));
        const { prior, posterior } = draws[0];
        return {
            hidden: model.hidden(states[0]), prior, posterior, expected: mean(draws.map(draw => draw.expected)),
            kl: bits, surprise,
        };
    });
}
