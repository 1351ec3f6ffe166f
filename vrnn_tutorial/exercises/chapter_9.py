"""Checks of chapter 9's exercises; the notebook says what each answer must do."""

import math

import torch

from .checking import number, of_another_size, same, tensor


def check_9_1(least_squares) -> str:
    """least_squares(x, p): a series (T,) to the weights of a constant and of the p readings before, (1 + p,)."""
    generator = torch.Generator().manual_seed(0)

    def series(steps):
        rows = [torch.tensor(1.0), torch.tensor(2.0)]
        for noise in torch.randn(steps - 2, generator=generator):
            rows.append(3 + 0.6 * rows[-1] - 0.3 * rows[-2] + 0.5 * noise)
        return torch.stack(rows).double()

    def found(answer, x, p):
        return tensor(answer(x.clone(), p), (1 + p,), "the weights", "one for the constant and one for each lag")

    def expected(x, p, ahead=1):
        lags = [x[p - j : len(x) - j + 1 - ahead] for j in range(1, p + 1)]
        rows = torch.stack([torch.ones_like(lags[0]), *lags], 1)
        return torch.linalg.lstsq(rows, x[p + ahead - 1 :][:, None]).solution[:, 0]

    x = series(60)
    wanted = expected(x, 2)
    got = found(least_squares, x, 2)
    constant, near, far = wanted
    assert not same(got, torch.stack([constant, far, near])), "the reading just before comes first, the oldest last."
    assert not same(got, torch.stack([near, far, constant])), "the constant's weight comes first."
    assert not same(got, torch.stack([far, near, constant])), "the constant's weight comes first, the oldest's last."
    flat = torch.linalg.lstsq(torch.stack([x[1:-1], x[:-2]], 1), x[2:][:, None]).solution[:, 0]
    assert not same(got[1:], flat), "there is no constant among what you fitted: give it a column of ones."
    assert not same(got, expected(x, 2, 2)), "this says the reading after next; each is said by the one just before it."
    padded = torch.cat([x.new_zeros(2), x])
    assert not same(got, expected(padded, 2)), "the first p readings have too few before them: leave them out."
    assert same(got, wanted), f"of a series with p = 2 the weights are {_told(wanted)}, not {_told(got)}."
    more = series(40)
    assert same(found(of_another_size(least_squares), more, 3), expected(more, 3)), "it is right for p = 2 alone."
    return "That is order 2 of the chapter's baseline; with D readings at once it has D columns for each lag."


def _told(weights) -> str:
    return ", ".join(f"{weight:.3f}" for weight in weights.tolist())


def check_9_2(gaussian_crps) -> str:
    """gaussian_crps(mean, std, x): tensors of one shape, to CRPS, of that shape."""
    generator = torch.Generator().manual_seed(0)
    mean, std, x = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    std = 0.5 + std.abs()

    def found(answer, *inputs):
        return tensor(answer(*(part.clone() for part in inputs)), inputs[0].shape, "CRPS", "one number for each x")

    def expected(mean, std, x, scale=1.0, last=math.pi**-0.5, twice=2.0):
        w = (x - mean) / std
        density = torch.exp(-0.5 * w.square()) / math.sqrt(2 * math.pi)
        return std**scale * (w * (twice * torch.special.ndtr(w) - 1) + 2 * density - last)

    wanted = expected(mean, std, x)
    got = found(gaussian_crps, mean, std, x)

    def is_not(sentence, **changed):
        assert not same(got, expected(mean, std, x, **changed)), sentence

    is_not("multiply by the deviation: CRPS is in the unit of x.", scale=0.0)
    is_not("the last term is 1 over the root of pi, not of 2 pi.", last=1 / math.sqrt(2 * math.pi))
    is_not("the last term is missing: without it a forecast's own width is not taken off.", last=0.0)
    is_not("the distribution function counts twice.", twice=1.0)
    assert not same(got, -wanted), "the sign is turned: it is a loss, the less, the better."
    assert not same(got, expected(mean, std.square(), x)), "divide by the deviation, not by the variance."
    assert not same(got, expected(mean, std.sqrt(), x)), "std is the deviation already; no root is to be taken."
    nats = -torch.distributions.Normal(mean, std).log_prob(x)
    assert not same(got, nats), "these are nats; CRPS is a distance."
    assert same(got, wanted), f"of the first forecast it is {wanted[0, 0]:.4f}, not {got[0, 0]:.4f}."
    sure = torch.zeros(3).double(), torch.full((3,), 1e-6).double(), torch.tensor([-2.0, 0.5, 3.0]).double()
    told = found(of_another_size(gaussian_crps), *sure)
    assert same(told, sure[2].abs(), 1e-3), "of a forecast that is all but sure it is the absolute error."
    return "With next to no deviation it is the absolute error; a right forecast's costs least on average."


def check_9_3(held) -> str:
    """held(draws, x, level): N futures (N, S) and what came (S,), to the share of it in the bands."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(50, 40, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 3, 40).double()
    x = torch.linspace(-0.5, 3.5, 40, dtype=torch.float64)[torch.randperm(40, generator=generator)]
    x[[2, 17, 29]] = torch.nan

    def found(answer, draws, x, level):
        return number(answer(draws.clone(), x.clone(), level), "share")

    def inside(draws, x, low, high, axis=0):
        edges = torch.quantile(draws, torch.tensor([low, high], dtype=draws.dtype), axis)
        return ((edges[0] <= x) & (x <= edges[1])).double()

    level = 0.6
    low, high = (1 - level) / 2, (1 + level) / 2
    there = ~torch.isnan(x)
    wanted = inside(draws, x, low, high)[there].mean()
    got = found(held, draws, x, level)
    assert bool(torch.isfinite(got)), "it is NaN: leave out what is missing before you take the mean."
    assert not same(got, inside(draws, x, low, high).mean()), "what is missing counts as outside; leave it out."
    assert not same(got, 100 * wanted), "this is a percentage; asked is a share, from 0 to 1."
    assert not same(got, wanted * there.sum()), "this is how many; asked is their share."
    assert not same(got, 1 - wanted), "this is what lies outside."
    assert not same(got, inside(draws, x, 1 - level, level)[there].mean()), (
        "that band leaves out 1 - level at each end; of the middle, each end loses half of it."
    )
    assert not same(got, inside(draws, x, 0.0, level)[there].mean()), "that band begins at the lowest future."
    pooled = inside(draws.flatten(), x, low, high)[there].mean()
    assert not same(got, pooled), "each step has a band of its own; this is one for all of them."
    assert same(got, wanted), (
        f"of {there.sum()} readings {wanted * there.sum():.0f} lie in the 60% band: {wanted:.4f}, not {got:.4f}."
    )
    told = of_another_size(held)
    few = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]).double()
    assert same(found(told, few, torch.tensor([1.0, 0.9]).double(), 0.5), torch.tensor(0.5)), (
        "of futures 0 to 4 the 50% band goes from 1 to 3, and its ends belong to it."
    )
    return "Counted for each step ahead, over many starts, that is the chapter's line beside the promised one."
