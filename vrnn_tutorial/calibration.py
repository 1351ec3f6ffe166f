"""Whether a forecast's futures are as they say: bands that hold what they promise, ranks, CRPS (chapter 9).

draws are N futures (N, S, B, D) of S steps of B sequences, as `forecast` gives them, x (S, B, D) what really came. Of
an entry that is missing in x, NaN, nothing is known, and the answer is NaN; means leave it out: `nanmean`.
"""

import torch
from torch import Tensor


def covered(draws: Tensor, x: Tensor, level: float) -> Tensor:
    """Whether x lies in the band that holds the middle `level` of the draws, as 0 or 1: (S, B, D).

    Raises ValueError for a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: between 0 and 1.")
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
    low, high = torch.quantile(draws, edges, 0)
    return ((low <= x) & (x <= high)).to(x).masked_fill(torch.isnan(x), torch.nan)


def pit(draws: Tensor, x: Tensor) -> Tensor:
    """The probability integral transform: the share of futures below what came, (S, B, D).

    If the forecasts are right these are uniform between 0 and 1: few near the ends tell of bands that are too wide, few
    in the middle of bands too narrow. Of N draws and x, which are alike then, x takes any of N + 1 ranks with the same
    chance; a rank is told by the middle of its share.
    """
    below = (draws < x).sum(0) + 0.5 * (draws == x).sum(0)
    return ((below + 0.5) / (len(draws) + 1)).to(x).masked_fill(torch.isnan(x), torch.nan)


def crps(draws: Tensor, x: Tensor) -> Tensor:
    """The continuous ranked probability score, in x's own unit, (S, B, D): the less, the better.

    E |X - x| - E |X - X'| / 2, of two independent futures (Gneiting and Raftery 2007, equation 21): of a single future
    it is the absolute error. Estimated without bias: each pair of draws counts that is not one and the same. Raises
    ValueError for fewer than two draws.
    """
    N = len(draws)
    if N < 2:
        raise ValueError(f"CRPS compares futures with one another, and there are {N}.")
    # Sorted, the i-th stands above i others and below N - 1 - i of them.
    weights = torch.arange(1 - N, N, 2, dtype=draws.dtype).view(-1, *[1] * x.dim())
    pairs = (draws.sort(0).values * weights).sum(0) / (N * (N - 1))
    return (draws - x).abs().mean(0) - pairs
