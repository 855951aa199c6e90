"""A percentile of latencies, and its confidence bounds from the order statistics of several blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .interval import Interval
from .special import beta_cdf, normal_quantile, t_quantile

LEAST_BLOCKS = 8
"""With fewer blocks there are no bounds: their spread says too little."""
LEAST_LATE = 30
"""The spread is taken at latencies that at least so many requests exceed, where there are so many."""
LEVELS = (1, 2, 3, 4)
"""The spread is the largest of those at the latencies that 1, 2, ... times the share 1 - q of the requests exceed,"""
PARTS = (1, 2, 4)
"""and of those between blocks, and between their halves and quarters."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Percentile(Interval):
    """An interval of a percentile, in seconds.

    effective: how many independent requests would say as much, at the level of high. blocks: how many there were. spread:
    the variance between blocks of the number of late requests, as a multiple of that of independent ones, at least 1.
    failed: requests that are later than any bound.
    """

    effective: float
    blocks: int
    spread: float
    failed: int


def percentile(blocks: Sequence[Floats], q: float, alpha_low: float, alpha_high: float) -> Percentile:
    """The q-quantile of latencies in seconds, 0 < q < 1, and one-sided bounds of it; each is a latency that was seen.

    blocks: the latencies of each block (one start of the server, or one burst) in the order of sending; inf for a request
    that was refused, failed or timed out. Blocks are independent of each other, requests of a block need not be. Empty blocks are
    left out. The bounds do not depend on any target, so a changed target can be judged by them:

        high <= bound   exactly when so few requests are later than `bound` that a share of 1 - q is excluded at alpha_high
        low > bound     exactly when so many are that a share of 1 - q is excluded at alpha_low

    low is 0 and high is inf where too few requests, or fewer than LEAST_BLOCKS blocks, cannot say; high is inf also where
    so many failed. Without requests the value is nan.

    Method: Korn and Graubard (1998), Survey Methodology 24, 193-201: the binomial bounds of Clopper and Pearson (1934) for
    the share of late requests, of an effective number of requests, which is n (z/t)^2 / spread with the normal's and
    Student's quantiles at the same alpha (t with blocks - 1 degrees of freedom, for blocks of unequal length Kish's
    n^2 / sum(n_b^2) - 1). A bound on a share, at every latency, is a bound on the quantile: the order statistic.

    Three changes, found by simulation (tests/stats/test_level.py). The late ones of a queue come in few bunches, and blocks
    without a bunch make a spread that is too small; so it is the largest of those at several latencies, further down too,
    where bunches are many; and of those between parts of blocks, which are more. It is never below 1.
    """
    filled = [b for b in blocks if len(b)]
    sizes = [len(b) for b in filled]
    latencies = np.concatenate(filled) if filled else np.empty(0)
    n, count = len(latencies), len(filled)
    if n == 0:
        return Percentile(math.nan, 0.0, math.inf, 0, effective=0.0, blocks=0, spread=1.0, failed=0)
    ranked = np.sort(latencies)
    value = float(ranked[min(n, max(1, _ceil(q * n))) - 1])
    failed = n - int(np.searchsorted(ranked, math.inf))
    if count < LEAST_BLOCKS:
        return Percentile(value, 0.0, math.inf, n, effective=0.0, blocks=count, spread=1.0, failed=failed)
    spread = _spread(latencies, ranked, sizes, 1 - q)
    freedom = n**2 / sum(size**2 for size in sizes) - 1
    for_low, for_high = (
        n * (normal_quantile(1 - a) / t_quantile(1 - a, freedom)) ** 2 / spread for a in (alpha_low, alpha_high)
    )
    most = most_late(n, for_high, 1 - q, alpha_high)
    least = least_late(n, for_low, 1 - q, alpha_low)
    low = float(ranked[n - least]) if least <= n else 0.0
    high = float(ranked[n - 1 - most]) if most >= 0 else math.inf
    return Percentile(value, low, high, n, effective=for_high, blocks=count, spread=spread, failed=failed)


def most_late(n: int, effective: float, share: float, alpha: float) -> int:
    """The most late requests of n at which a share of late ones of `share` or more is excluded, were they as good as
    `effective` independent ones; -1 where not even none is few enough."""
    scale = effective / n

    def excluded(k: int) -> bool:
        return beta_cdf(k * scale + 1, effective - k * scale, share) >= 1 - alpha

    # the normal quantile of a binomial, with its first correction for skewness (Cornish and Fisher 1938)
    guess = (share * effective + _skewed(normal_quantile(alpha), effective, share) - 0.5) / scale
    return _first(lambda k: not excluded(k), guess, 0, min(n, _ceil(share * n) + 1)) - 1


def least_late(n: int, effective: float, share: float, alpha: float) -> int:
    """The least late requests of n at which a share of late ones of `share` or less is excluded, were they as good as
    `effective` independent ones; n + 1 where not even all are enough."""
    scale = effective / n

    def excluded(k: int) -> bool:
        return beta_cdf(k * scale, effective - k * scale + 1, share) <= alpha

    if not excluded(n):
        return n + 1
    guess = (share * effective + _skewed(normal_quantile(1 - alpha), effective, share) + 0.5) / scale
    return _first(excluded, guess, max(1, math.floor(share * n)), n)


def _skewed(z: float, effective: float, share: float) -> float:
    return z * math.sqrt(share * (1 - share) * effective) + (z * z - 1) * (1 - 2 * share) / 6


def _first(holds: Callable[[int], bool], guess: float, low: int, high: int) -> int:
    """The least k of low ... high for which `holds`, which does from some k on and at high; soon, where that is near guess."""
    below, above, step = low - 1, high, 1
    at, fell, rose = min(high - 1, max(low, math.floor(guess))), False, False
    while above - below > 1:
        if holds(at):
            above, fell = at, True
        else:
            below, rose = at, True
        if fell and rose:
            at = (below + above) // 2
        else:  # so far only on one side of it: go on, twice as far
            at, step = (max(below + 1, above - step) if fell else min(above - 1, below + step)), 2 * step
    return above


def _spread(latencies: Floats, ranked: Floats, sizes: Sequence[int], share: float) -> float:
    """The largest spread of those at all LEVELS, between blocks and between their PARTS. latencies: [n], block after block;
    ranked: the same, sorted; sizes: [blocks]."""
    n, finite = len(ranked), int(np.searchsorted(ranked, math.inf))
    finest = PARTS[-1] if min(sizes) >= PARTS[-1] else 1
    begins = np.cumsum([0, *sizes[:-1]])[:, None] + np.outer(sizes, np.arange(finest)) // finest
    lengths = np.diff(np.append(begins, n)).astype(np.float64)
    ranks = (min(n - LEAST_LATE, _ceil(n - times * share * n), finite) - 1 for times in LEVELS if times * share < 1)
    found = 1.0
    for level in sorted({float(ranked[max(0, rank)]) for rank in ranks}):
        late: Floats = np.add.reduceat(latencies > level, begins.ravel(), dtype=np.float64)
        for parts in (parts for parts in PARTS if parts <= finest):
            shape = (len(sizes) * parts, finest // parts)
            found = max(found, _overdispersion(late.reshape(shape).sum(axis=1), lengths.reshape(shape).sum(axis=1)))
    return found


def _overdispersion(late: Floats, sizes: Floats) -> float:
    """The variance of the sum of late requests [blocks] of blocks of `sizes`, as a multiple of the binomial one; 0 where all
    or none are late."""
    n, count = float(sizes.sum()), len(sizes)
    share = float(late.sum()) / n
    if not 0 < share < 1:
        return 0.0
    rest = late - share * sizes
    return count / (count - 1) * float(rest @ rest) / (n * share * (1 - share))


def _ceil(x: float) -> int:
    """The next whole number, but of x that rounding alone put above one, that one."""
    return math.ceil(x - 1e-9 * max(1.0, abs(x)))
