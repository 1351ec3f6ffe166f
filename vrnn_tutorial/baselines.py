"""What a forecast has to be better than: least squares on the steps before (chapter 9)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from .emissions.vectors import LEAST_LOG_STD
from .gaussian import seeded
from .generation import Forecast


class _Stage(NamedTuple):
    """x - mean given the k steps before it: Gaussian around a linear function of them."""

    weights: Tensor  # (1 + k D, D): of the constant 1, and of the steps, the latest first
    covariance: Tensor  # (D, D)


class LinearAR:
    """A vector autoregression: x_t is Gaussian around a linear function of the `order` steps before it.

    Order 0 is the mean with the deviations around it; on a series' differences from a season ago it is the seasonal
    naive forecast, with what a season adds on average. Near a sequence's beginning, where fewer steps went before, the
    autoregression of as many as there are answers. `LinearAR.fit` makes one.
    """

    def __init__(self, mean: Tensor, stages: list[_Stage]):
        """mean: (D,). stages: one for each number of steps that may have gone before, 0 to the order."""
        self.mean, self.stages = mean, stages

    @property
    def order(self) -> int:
        return len(self.stages) - 1

    @classmethod
    def fit(cls, sequences: list[Tensor], order: int, *, full: bool = True) -> "LinearAR":
        """Least squares on sequences (T_i, D); steps with an entry that is missing, or missing before, are left out.

        full: whether the residuals' covariances are estimated, too, or their variances alone, as of an emission with
        independent entries. As there no deviation is less than exp(-6) of the entry's own. Raises ValueError for a
        negative order, and for one that leaves fewer steps than numbers to estimate.
        """
        if not 0 <= order < max(map(len, sequences)):
            raise ValueError(
                f"order={order}: of the longest sequence's {max(map(len, sequences))} steps none has so many."
            )
        rows = torch.cat(sequences).double()
        mean = rows.nanmean(0)
        variances = (rows - mean).square().nanmean(0)
        centred = [x.double() - mean for x in sequences]
        stages = []
        for k in range(order + 1):
            lags, targets = (torch.cat(parts) for parts in zip(*(_pairs(x, k) for x in centred if len(x) > k)))
            known = torch.cat([lags, targets], 1).isfinite().all(1)
            lags, targets = lags[known], targets[known]
            if len(targets) <= lags.shape[1]:
                raise ValueError(f"order={order}: {len(targets)} steps are too few for {lags.shape[1]} weights each.")
            weights = torch.linalg.lstsq(lags, targets).solution
            residuals = targets - lags @ weights
            covariance = residuals.T @ residuals / len(residuals)
            covariance = covariance if full else covariance.diag().diag()
            stages.append(_Stage(weights, covariance + (math.exp(2 * LEAST_LOG_STD) * variances).diag()))
        return cls(mean, stages)

    def residuals(self, x: Tensor) -> Tensor:
        """What of each step of x (T, D) did not follow from those before it, (T, D): NaN where an entry is missing."""
        centred = x.double() - self.mean
        found = torch.empty_like(centred)
        for k, stage in enumerate(self.stages[: len(x)]):  # each from step k on, until the next one knows more
            lags, targets = _pairs(centred, k)
            found[k:] = targets - lags.nan_to_num(0.0) @ stage.weights  # what is missing counts as the mean
        return found

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of each step of x (T, D) given those before it, in nats: (T,); of the entries that are there."""
        residuals, found = self.residuals(x), torch.zeros(len(x), dtype=torch.float64)
        there = residuals.isfinite()
        for present in there[there.any(1)].unique(dim=0):
            alike = (there == present).all(1)
            for k, stage in enumerate(self.stages):
                steps = alike & (torch.arange(len(x)).clamp(max=self.order) == k)
                if steps.any():
                    covariance = stage.covariance[present][:, present]
                    p = MultivariateNormal(torch.zeros_like(covariance[0]), covariance)
                    found[steps] = p.log_prob(residuals[steps][:, present])
        return found

    def loss(self, sequences: list[Tensor]) -> float:
        """Minus log p of sequences (T_i, D), nats per step; as in `evaluate`, a step that is missing costs nothing."""
        return -torch.cat([self.log_prob(x) for x in sequences]).mean().item()

    def forecast(
        self,
        pasts: list[Tensor],
        steps: int,
        *,
        draws: int = 100,
        temperature: float = 1.0,
        quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
        seed: int | None = None,
    ) -> Forecast:
        """Many futures of several sequences, and bands, as `generation.forecast` gives them of a model.

        Args:
            pasts: B sequences (T_i, D) of any lengths.
            steps: S, how far to look.
            draws: N, futures of each.
            temperature: multiplies the variances, as a Gaussian emission's.
            quantiles: Q numbers from 0 to 1.
            seed: the same one gives the same futures.
        """
        generator, spread = seeded(seed), math.sqrt(temperature)
        futures = torch.stack([self._futures(past, steps, draws, spread, generator) for past in pasts], 2)
        bands = torch.quantile(futures, torch.tensor(quantiles, dtype=futures.dtype), 0)
        return Forecast(futures.to(pasts[0].dtype), bands.to(pasts[0].dtype))

    def _futures(self, past: Tensor, steps: int, draws: int, spread: float, generator: torch.Generator) -> Tensor:
        """(N, S, D) of one sequence, with `spread` times the deviations."""
        rows = list((past.double() - self.mean).nan_to_num(0.0).expand(draws, -1, -1).unbind(1))
        for _ in range(steps):
            k = min(len(rows), self.order)
            weights, covariance = self.stages[k]
            noise = torch.randn(draws, len(covariance), generator=generator, dtype=torch.float64)
            step = spread * noise @ torch.linalg.cholesky(covariance).T
            rows.append(step + torch.cat([step.new_ones(draws, 1), *rows[::-1][:k]], 1) @ weights)
        return torch.stack(rows[len(past) :], 1) + self.mean


def _pairs(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """For each step of x (T, D) before which there are k: 1 and these, the latest first, (T - k, 1 + k D); and it."""
    return torch.cat([x.new_ones(len(x) - k, 1), *(x[k - j : len(x) - j] for j in range(1, k + 1))], 1), x[k:]
