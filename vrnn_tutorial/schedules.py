"""Quantities that change with the update: a learning rate, a KL weight, free bits (chapters 4 and 6)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = float | Callable[[int], float]


def value_at(name: str, schedule: Schedule, updates: int) -> float:
    """What a schedule gives after so many updates. Raises ValueError unless it is a finite number, zero or more."""
    if callable(schedule):
        return non_negative(f"{name} after {updates} updates", schedule(updates))
    return non_negative(name, schedule)


def non_negative(name: str, value) -> float:
    """The value as a float. Raises ValueError unless it is a finite number, zero or more."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a finite number, zero or more, not {value}.")
    return number


@dataclass(frozen=True)
class Ramp:
    """A function of the update: from `start` to `stop` over the first `updates` updates, then `stop`.

    As KL weight it is the linear annealing of Bowman et al. 2015 (arXiv 1511.06349). Raises ValueError for values that
    are negative or not finite, and for less than one update.
    """

    start: float
    stop: float
    updates: int

    def __post_init__(self) -> None:
        non_negative("a ramp's start", self.start)
        non_negative("a ramp's stop", self.stop)
        if not self.updates >= 1:
            raise ValueError(f"a ramp takes one update or more, not {self.updates}.")

    def __call__(self, update: int) -> float:
        return self.start + (self.stop - self.start) * min(update / self.updates, 1.0)


@dataclass(frozen=True)
class Cosine:
    """A learning rate: linear rise to `peak` over `warmup` updates, then a half cosine down to 0 at `updates`.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts. Raises ValueError for a peak that is
    negative or not finite, less than one update, and a negative warmup.
    """

    peak: float
    updates: int
    warmup: int = 100

    def __post_init__(self) -> None:
        non_negative("a cosine's peak", self.peak)
        if not (self.updates >= 1 and self.warmup >= 0):
            raise ValueError(
                f"a cosine takes one update or more, and none or more to rise, not {self.updates} and {self.warmup}."
            )

    def __call__(self, update: int) -> float:
        if update < self.warmup:
            return self.peak * (update + 1) / self.warmup
        share = (update - self.warmup) / max(self.updates - self.warmup, 1)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
