"""What every estimate of this room returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value and its two one-sided confidence bounds, each at a level of its own, in the unit of the samples.

    low: not above the true value except with probability alpha_low; -inf (0 for times and shares) where it cannot be given.
    high: not below it except with probability alpha_high; inf (1 for shares) where it cannot be given.
    samples: the requests, rows or blocks that it was taken over.
    """

    value: float
    low: float
    high: float
    samples: int
