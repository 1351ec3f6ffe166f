"""Checks of chapter 7's exercises; the notebook says what each answer must do."""

import math

import torch

from .checking import of_another_size, same, tensor


def check_7_1(mixture) -> str:
    """mixture(logits, mean, log_std, x): (..., K), twice (..., K, 2) and (..., 2) to the log density (...)."""
    generator = torch.Generator().manual_seed(0)
    logits, mean, log_std, x = (
        torch.randn(3, 2, *axes, generator=generator, dtype=torch.float64) for axes in ((4,), (4, 2), (4, 2), (2,))
    )
    each = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    shares = torch.distributions.Categorical(logits=logits)
    log_p = each.log_prob(x[..., None, :])
    wanted = torch.distributions.MixtureSameFamily(shares, each).log_prob(x)

    def found(answer, *arguments):
        shape = arguments[3].shape[:-1]
        given = (argument.clone() for argument in arguments)
        return tensor(answer(*given), shape, "the log density", "one number per point")

    got = found(mixture, logits, mean, log_std, x)
    assert not same(got, wanted.exp()), "this is the density: its logarithm is asked for."
    assert not same(got, (logits.softmax(-1) * log_p).sum(-1)), (
        "this is the mean of the log densities; a mixture's is the log of the mean of the densities."
    )
    assert not same(got, (logits + log_p).logsumexp(-1)), (
        "the logits are no log probabilities yet: what they leave out of one, a log softmax takes away."
    )
    assert not same(got, log_p.logsumexp(-1) - math.log(4)), "each Gaussian has a share of its own, by its logit."
    assert not same(got, wanted + math.log(2 * math.pi)), "two numbers have the constant log(2 pi) between them."
    assert not same(got, wanted + math.log(2 * math.pi) / 2), "each of the two numbers has half of log(2 pi)."
    assert same(got, wanted), f"the first point has {wanted[0, 0]:.4f}, not {got[0, 0].item():.4f}."
    away = torch.tensor([300.0, -400.0], dtype=torch.float64).expand(1, 2)
    one = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, 2).double(), torch.zeros(1, 1, 2).double()
    far = found(of_another_size(mixture), *one, away)
    assert bool(torch.isfinite(far).all()), "500 deviations away the density is too small for a number: stay in logs."
    assert same(far, torch.full((1,), -125000 - math.log(2 * math.pi)), 1e-4), (
        "with one Gaussian it is that one's log density."
    )
    return "Twenty of these, with a correlation each, are what draws the chapter's sharpest characters."


def check_7_2(code) -> str:
    """code(mean, std, x): three tensors of one shape, to minus the log probability of x's unit interval."""
    mean = torch.tensor([0.3, -2.0, 5.0, 0.0], dtype=torch.float64)
    std = torch.tensor([1.0, 0.5, 20.0, 0.05], dtype=torch.float64)
    x = torch.tensor([1.0, -2.0, -9.0, 0.0], dtype=torch.float64)

    def between(low, high):
        return (torch.erfc(low / math.sqrt(2)) - torch.erfc(high / math.sqrt(2))) / 2

    def found(answer, *arguments):
        given = (argument.clone() for argument in arguments)
        return tensor(answer(*given), arguments[0].shape, "the cost", "one number per whole number")

    p = between((x - 0.5 - mean) / std, (x + 0.5 - mean) / std)
    wanted = -p.log()
    density = -torch.distributions.Normal(mean, std).log_prob(x)
    got = found(code, mean, std, x)
    assert not same(got, density), (
        "this is the density at x, which may be higher than 1, a cost below nothing; take the interval's probability."
    )
    assert not same(got, p), "this is the probability: its cost is minus the logarithm."
    assert not same(got, -wanted), "the sign is turned: what is unlikely costs much."
    assert not same(got, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    wide = between((x - 1 - mean) / std, (x + 1 - mean) / std)
    assert not same(got, -wide.log()), "the interval is one unit wide in all, half of it to either side."
    right = -between((x - mean) / std, (x + 1 - mean) / std).log()
    assert not same(got, right), "x stands in the middle of its interval."
    unscaled = -between((x - mean).abs() - 0.5, (x - mean).abs() + 0.5).log()
    assert not same(got, unscaled), "the distribution function is that of a deviation of 1: divide by the deviation."
    assert same(got, wanted), f"the first number costs {wanted[0]:.4f} nats, not {got[0].item():.4f}."
    sides = torch.tensor([[-10.0], [10.0]], dtype=torch.float64)
    zero, one = torch.zeros_like(sides), torch.ones_like(sides)
    far = found(of_another_size(code), zero, one, sides)
    assert bool(torch.isfinite(far).all()) and same(far[0], far[1], 1e-3), (
        "ten deviations to the left cost as much as ten to the right, but a difference of numbers near 1 has lost its "
        "digits: use that a Gaussian is symmetric."
    )
    expected = -between(torch.tensor([9.5]).double(), torch.tensor([10.5]).double()).log()
    assert same(far[0], expected, 1e-3), (
        f"ten deviations away it should be {expected.item():.2f} nats, not {far[0].item():.2f}."
    )
    return "The mean of minus log p over the noise is never below it: so training cannot cheat."


def check_7_3(where) -> str:
    """where(steps): (T, B, 5) to the place before each step, (T, B, 2)."""
    generator = torch.Generator().manual_seed(0)
    T, B = 6, 3
    steps = torch.zeros(T, B, 5, dtype=torch.float64)
    steps[..., :2] = torch.randint(-9, 10, (T, B, 2), generator=generator).double()
    steps[..., 2] = 1.0
    for t, b, state in ((1, 0, 3), (2, 1, 4), (4, 1, 4), (3, 2, 3)):
        steps[t, b, 2:] = 0.0
        steps[t, b, state] = 1.0

    def expected(steps):
        place, places = torch.zeros_like(steps[0, :, :2]), []
        for step in steps:
            places.append(place)
            place = (place + step[:, :2]) * (1 - step[:, 4:])
        return torch.stack(places)

    def found(answer, steps):
        return tensor(answer(steps.clone()), (*steps.shape[:2], 2), "the place", "two numbers per step and pen")

    wanted, total = expected(steps), steps[..., :2].cumsum(0)
    got = found(where, steps)
    assert not same(got, total), "this is the place *after* each step, and no character's end takes it back to 0."
    assert not same(got, total - steps[..., :2]), "after a step that ends a character the pen is at 0, 0 again."
    after = torch.cat([wanted[1:], (wanted[-1] + steps[-1, :, :2])[None] * (1 - steps[-1, :, 4:])])
    assert not same(got, after), "this is the place after each step; asked is the one before it."
    strokes = steps.clone()
    strokes[..., 4] += strokes[..., 3]
    assert not same(got, expected(strokes)), "only a character's end takes the pen back, not that of a stroke."
    assert not got[0].any(), "before its first step each pen is at 0, 0."
    assert same(got, wanted), "a pen's place is the sum of its own offsets since its last character ended."
    twice = steps.repeat(2, 1, 1)[:7, :2]
    assert same(found(of_another_size(where), twice), expected(twice)), (
        "with other numbers of steps and pens it goes wrong."
    )
    return "Two numbers that an RNN could add up by itself; told them, it has its hands free."
