"""Chapter 3's exercises: what their checks say of the solutions, of untouched stubs and of plausible mistakes."""

import math

import pytest
import torch
from answers import Answers, confirmed, refused

from vrnn_tutorial.emissions import GaussianDistribution as Gaussian
from vrnn_tutorial.gaussian import DiagonalGaussian

pytestmark = pytest.mark.usefixtures("precision")


class TestAnswers(Answers):
    notebook = "03_vrnn_cell.ipynb"

    def test_the_colleagues_step_as_it_stands_is_wrong(self):
        colleague = self.defined(".", "def trains_like_a_dream")["trains_like_a_dream"]
        refused("3.3", colleague, "z is drawn from the prior, and the decoder reads the new h")


def log_std_as(power):
    """The formula of 3.1 with exp(power * log_std) for the variance."""

    def bits(q, p):
        ratio = power / 2 * (q.log_std - p.log_std)
        shift = (q.mean - p.mean) / (power / 2 * p.log_std).exp()
        return (0.5 * ((2 * ratio).exp() - 1 + shift**2) - ratio).sum(-1) / math.log(2)

    return bits


def nats(q, p):
    return log_std_as(2)(q, p) * math.log(2)


def log_ratio_term_by_term(q, p):
    """The sum over the dimensions in a loop, in bits from the start."""
    bits = torch.zeros(len(q.mean))
    for d in range(q.mean.shape[1]):
        ratio = q.log_std[:, d] - p.log_std[:, d]
        squares = (2 * q.log_std[:, d]).exp() + (q.mean[:, d] - p.mean[:, d]) ** 2
        bits += (squares / (2 * (2 * p.log_std[:, d]).exp()) - 0.5 - ratio) / math.log(2)
    return bits


def standard(p):
    return p._replace(mean=torch.zeros_like(p.mean), log_std=torch.zeros_like(p.log_std))


def inverse_cdf(cell, state, generator):
    """Another right way to draw both, which uses the generator otherwise."""
    prior = cell.prior(state)
    uniform = torch.rand(prior.mean.shape, generator=generator)
    z = prior.mean + prior.log_std.exp() * torch.special.ndtri(uniform)
    steps = cell.emission(z, state).logits.softmax(-1).cumsum(-1)
    x = (torch.rand(len(z), 1, generator=generator) > steps[:, :-1]).sum(-1)
    return x, z, cell.rnn(x, z, state)


def generation(wrong):
    """A step of generation, with one thing done in another way."""

    def step(cell, state, generator):
        prior, own = cell.prior(state), torch.Generator().manual_seed(7)
        z = prior.sample(generator=None if wrong == "no generator" else generator)
        if wrong == "mean":
            z = prior.mean
        elif wrong == "z of the first stream":
            z = cell.prior(state[:1].expand_as(state)).sample(generator=generator)
        elif wrong == "shifted":
            z = prior.rsample(0.15 + torch.randn(prior.mean.shape, generator=generator))
        elif wrong == "cool z":
            z = prior.sample(0.9, generator)
        elif wrong == "one noise":
            z = prior.rsample(torch.randn(len(state), 1, generator=generator).expand_as(prior.mean))
        elif wrong == "own generator for z":
            z = prior.sample(generator=own)
        elif wrong == "squared":
            z = prior.mean + (2 * prior.log_std).exp() * torch.randn(z.shape, generator=generator)
        elif wrong == "new h for z":
            z = cell.prior(cell.rnn(torch.zeros(len(z), dtype=torch.int64), z, state)).sample(generator=generator)
        other = prior.sample(generator=generator)
        seen = cell.rnn(torch.zeros(len(z), dtype=torch.int64), z, state) if wrong == "new h for x" else state
        near = 0.8 * z + 0.2 * prior.mean
        turned = torch.cat([z[:, :3], 2 * prior.mean[:, 3:] - z[:, 3:]], 1)
        read = {"other z": other, "mean for x": prior.mean, "nearly z": near, "last turned": turned}.get(wrong, z)
        emission = cell.emission(read, seen)
        temperature = {"argmax": 0.0, "cool x": 0.9, "warm x": 1.1}.get(wrong, 1.0)
        of_x = {"own generator for x": own, "no generator for x": None}.get(wrong, generator)
        x = emission.sample(temperature, of_x)
        after = cell.rnn(x, other if wrong == "z twice" else z, state)
        return {
            "no z": (x, after),
            "probabilities": (emission.logits.softmax(-1), z, after),
            "reals for x": (x.to(z.dtype), z, after),
            "codes from 1": (x + 1, z, after),
            "codes from -1": (x - 1, z, after),
            "z anew": (x, prior.sample(), after),
            "old state": (x, z, state),
            "one z": (x, z[:1], after),
            "z's distribution": (x, prior, after),
            "flat state": (x, z, after[0]),
            "six streams": (x[:6], z[:6], after[:6]),
            "no tuple": torch.cat([x[:, None], z, after], 1),
        }.get(wrong, (x, z, after))

    return step


def seeded_inside(cell, state, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return generation(None)(cell, state, None)


def seen_by_the_neighbour(cell, state, generator):
    """Each x is drawn with the past of the stream beside it."""
    z = cell.prior(state).sample(generator=generator)
    x = cell.emission(z, state.roll(1, 0)).sample(generator=generator)
    return x, z, cell.rnn(x, z, state)


def training(wrong):
    """A step of training, with one thing done in another way."""

    def step(cell, x, state, noise):
        prior, posterior = cell.prior(state), cell.posterior(x, state)
        z = (prior if wrong in ("z", "z and h") else posterior).rsample(noise)
        after = cell.rnn(x, z, state)
        seen = after if wrong in ("h", "z and h") else state
        loss_1, loss_2 = -cell.emission(z, seen).log_prob(x), posterior.kl(prior)
        if wrong == "bits":
            return loss_1 / math.log(2), loss_2, after
        if wrong == "KL in bits":
            return loss_1, loss_2 / math.log(2), after
        if wrong == "KL":
            return loss_1, prior.kl(posterior), after
        if wrong == "ELBO":
            return loss_1 + loss_2, after
        if wrong == "sums":
            return loss_1.sum(), loss_2.sum(), after
        if wrong == "loss 2 summed":
            return loss_1, loss_2.sum(), after
        if wrong == "floats":
            return loss_1.sum().item(), loss_2.sum().item(), after
        if wrong == "seven":
            return loss_1, torch.stack([loss_2[i % len(x)] for i in range(7)]), after
        if wrong == "one state":
            return loss_1, loss_2, after.mean(0)
        if wrong == "loss alone":
            return loss_1 + loss_2
        return loss_1, loss_2, cell.rnn(x, prior.rsample(noise), state) if wrong == "state" else after

    return step


@pytest.mark.parametrize(
    "number, other",
    [
        ("3.1", log_std_as(2)),
        ("3.1", log_ratio_term_by_term),
        ("3.2", inverse_cdf),
        ("3.2", generation(None)),
        ("3.3", training(None)),
    ],
)
def test_another_way_to_the_same_is_right(number, other):
    confirmed(number, other)


MISTAKES = [
    ("3.1", lambda q, p: log_std_as(2)(p, q), "this is KL(prior || posterior): exchange them"),
    ("3.1", lambda q, p: log_std_as(2)(q, standard(p)), "the KL from a standard normal, as in the VAE"),
    ("3.1", nats, "these are nats"),
    ("3.1", lambda q, p: log_std_as(2)(q, p) / q.mean.shape[-1], "this is the mean over the dimensions of z"),
    ("3.1", log_std_as(1), "not of the variance"),
    ("3.1", lambda q, p: log_std_as(2)(q, p).mean(), "it should be one number for each sequence, (3,)"),
    ("3.1", lambda q, p: log_std_as(2)(q, p).tolist(), "it should be a tensor, but it is of type list"),
    ("3.1", lambda q, p: log_std_as(2)(q, p).expand(3, -1)[0, :3], "(5,), but its shape is (3,)"),
    ("3.1", lambda q, p: nats(q, p) / math.log(2) + (q.mean.shape[1] - 4) / 2, "the first sequence pays"),
    ("3.1", lambda q, p: q.kl(p) / math.log(2), "write it out, from .mean and .log_std"),
    ("3.1", lambda q, p: DiagonalGaussian.kl(q, p) / math.log(2), "write it out, from .mean and .log_std"),
    ("3.1", lambda q, p: DiagonalGaussian(*q).kl(p) / math.log(2), "write it out, from .mean and .log_std"),
    ("3.1", lambda q, p: Gaussian(*q).kl(p) / math.log(2), "write it out, from .mean and .log_std"),
    ("3.1", lambda q, p: nats(q, p) * math.log(2), "the first sequence pays"),
    ("3.2", generation("no z"), "three things, x, z and the new state, not 2"),
    ("3.2", generation("probabilities"), "x should be one code for each stream, (6,), but its shape is (6, 3)"),
    ("3.2", generation("no tuple"), "x, z and the new state, not one Tensor"),
    ("3.2", generation("reals for x"), "x should hold codes, int64"),
    ("3.2", generation("codes from 1"), "x should hold codes, int64 from 0 to V - 1"),
    ("3.2", generation("codes from -1"), "x should hold codes, int64 from 0 to V - 1"),
    ("3.2", generation("z's distribution"), "z should be a tensor, but it is of type DiagonalGaussian"),
    ("3.2", generation("one z"), "z should be one row for each stream, (6, 4), but its shape is (1, 4)"),
    ("3.2", generation("six streams"), "x should be one code for each stream, (20000,), but its shape is (6,)"),
    ("3.2", generation("no generator"), "pass the generator to both draws"),
    ("3.2", generation("no generator for x"), "pass the generator to both draws"),
    ("3.2", generation("z anew"), "pass the generator to both draws"),
    ("3.2", generation("mean"), "do not take the prior's mean"),
    ("3.2", generation("shifted"), "z does not have the prior's mean and deviation"),
    ("3.2", generation("squared"), "z does not have the prior's mean and deviation"),
    ("3.2", generation("new h for z"), "z does not have the prior's mean and deviation"),
    ("3.2", generation("cool z"), "z does not have the prior's mean and deviation"),
    ("3.2", generation("one noise"), "the entries of z move together"),
    ("3.2", generation("own generator for z"), "another seed draws the same again"),
    ("3.2", generation("own generator for x"), "another seed draws the same again"),
    ("3.2", seeded_inside, "another seed draws the same again"),
    ("3.2", generation("cool x"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("warm x"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("last turned"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("nearly z"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", seen_by_the_neighbour, "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("argmax"), "x is the likeliest code each time"),
    ("3.2", generation("new h for x"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("other z"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("mean for x"), "x is not drawn from the emission of this z and the old state"),
    ("3.2", generation("z of the first stream"), "z does not have the prior's mean and deviation"),
    ("3.2", generation("flat state"), "the state should be one row for each stream, (6, 5), but its shape is (5,)"),
    ("3.2", generation("old state"), "the RNN net's turn is missing"),
    ("3.2", generation("z twice"), "from this very x, this z and the old state"),
    ("3.3", training("h"), "the decoder reads the new h, which holds x_t"),
    ("3.3", training("z"), "loss 1: z is drawn from the prior: in training"),
    ("3.3", training("z and h"), "z is drawn from the prior, and the decoder reads the new h"),
    ("3.3", training("bits"), "loss 1 of the first x is"),
    ("3.3", training("KL"), "this is KL(prior || posterior), which the ELBO does not hold"),
    ("3.3", training("KL in bits"), "loss 2 of the first x is"),
    ("3.3", training("state"), "the new state comes from x, z and the old state"),
    ("3.3", training("ELBO"), "three things, loss 1, loss 2 and the new state, not 2"),
    ("3.3", training("loss alone"), "loss 1, loss 2 and the new state, not one Tensor"),
    ("3.3", training("sums"), "loss 1 should be one number for each sequence, (7,), but its shape is ()"),
    ("3.3", training("loss 2 summed"), "loss 2 should be one number for each sequence, (7,), but its shape is ()"),
    ("3.3", training("floats"), "loss 1 should be a tensor, but it is of type float"),
    ("3.3", training("seven"), "loss 2 should be one number for each sequence, (2,), but its shape is (7,)"),
    ("3.3", training("one state"), "the new state should be one row for each sequence, (7, 5), but its shape is (5,)"),
]


@pytest.mark.parametrize("number, mistake, sentence", MISTAKES)
def test_a_mistake_is_named(number, mistake, sentence):
    refused(number, mistake, sentence)
