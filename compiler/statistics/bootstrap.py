"""Confidence bounds by resampling rows: of a mean of scores, or of any statistic of a set of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .extremes import requests_to_exclude, share_excluded
from .interval import Interval
from .special import normal_cdf, normal_quantile

LEAST_ROWS = 30
"""With fewer rows there are no bounds: too little of the scores' distribution was seen to resample it."""
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
EQUAL = 1e-12
"""Jackknife values, or scores, this close relative to the largest do not differ: it is rounding."""
_GROUPS = 200
_CELLS = 1 << 22


@dataclass(frozen=True)
class Sides:
    """One-sided levels, and the least and the most that a row's score (or the statistic) can be; None where it has no end."""

    alpha_low: float
    alpha_high: float
    least: float | None = None
    most: float | None = None


def mean_bounds(scores: Floats, sides: Sides, rng: np.random.Generator) -> Interval:
    """The mean of scores [rows] with BCa bounds (Efron 1987; Efron and Tibshirani 1993, chapter 14).

    Scores that do not differ have the exact bounds for their number instead (see Sides): of rows unseen, the share that so
    many exclude (extremes.share_excluded) could have the worst score there is. A bound that lies beyond the resamples, fewer
    than LEAST_ROWS rows, or a score that is not finite: no bound, -inf or inf.
    """
    n = len(scores)
    value = float(np.mean(scores)) if n else math.nan
    if n < LEAST_ROWS or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf, n)
    influence = (scores - value) / (n - 1)
    if float(np.ptp(scores)) <= EQUAL * float(np.max(np.abs(scores))):
        return _equal(value, n, n, 1, sides)
    count = _resamples(sides)
    means = np.empty(count)
    step = max(1, _CELLS // n)
    for at in range(0, count, step):
        size = min(step, count - at)
        means[at : at + size] = scores[rng.integers(0, n, (size, n))].mean(axis=1)
    return _bca(value, means, influence, n, sides)


def statistic_bounds(
    statistic: Callable[[Rows], float],
    rows: int,
    sides: Sides,
    rng: np.random.Generator,
    strata: NDArray[np.intp] | None = None,
) -> Interval:
    """Any statistic of rows, given their indices [rows] (with repeats), with BCa bounds, or none, as in mean_bounds.

    strata: each row's class; a resample has as many rows of each class as there are. A resample in which the statistic is
    undefined (nan, or ValueError) counts against both bounds: as -inf for low and as inf for high. Where it is undefined for
    all rows or without some, there are no bounds.

    Where the jackknife's values do not differ, each class could have the share of other rows that the rarest class excludes
    at alpha / classes, and each class's share may cost the statistic as much as if its value were the worst there is: an
    upper limit of the loss of auc, f1, precision and recall, where all rows are right.
    """
    value = _defined(statistic, np.arange(rows))
    groups = [np.arange(rows)] if strata is None else [np.flatnonzero(strata == s) for s in np.unique(strata)]
    fewest = min((len(g) for g in groups), default=0)
    if rows < LEAST_ROWS or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf, rows)
    jackknife = _jackknife(statistic, groups, rng)
    if not np.all(np.isfinite(jackknife)):
        return Interval(value, -math.inf, math.inf, rows)
    if float(np.ptp(jackknife)) <= EQUAL * max(abs(value), float(np.max(np.abs(jackknife)))):
        return _equal(value, rows, fewest, len(groups), sides)
    found = np.empty(_resamples(sides))
    for at in range(len(found)):
        picked = [g[rng.integers(0, len(g), len(g))] for g in groups]
        found[at] = _defined(statistic, np.concatenate(picked))
    return _bca(value, found, float(np.mean(jackknife)) - jackknife, rows, sides)


def rows_to_decide(found: Interval, bound: float) -> int | None:
    """How many rows would put the value's bound on its side of `bound`, were more rows like those seen: a bound's distance
    shrinks as 1/sqrt(rows). At least LEAST_ROWS; None where no number would, or none can be told."""
    if found.samples < LEAST_ROWS:
        return LEAST_ROWS
    margin = abs(found.value - bound)
    reach = found.value - found.low if found.value > bound else found.high - found.value
    if not (math.isfinite(reach) and margin > 0):
        return None
    return max(LEAST_ROWS, math.ceil(found.samples * (reach / margin) ** 2))


def equal_rows_to_decide(value: float, bound: float, end: float, alpha: float) -> int | None:
    """How many rows, all of score `value`, would decide `bound` when others could have the score `end` (see Sides), in one
    class; None where no number would."""
    if not (min(value, end) < bound < max(value, end)):
        return LEAST_ROWS if (value - bound) * (end - bound) >= 0 and value != bound else None
    return max(LEAST_ROWS, requests_to_exclude((bound - value) / (end - value), 1 - alpha))


def _equal(value: float, rows: int, fewest: int, strata: int, sides: Sides) -> Interval:
    """The exact bounds for rows that do not differ: the share of other rows that `fewest` exclude, each at its worst."""

    def mixed(end: float | None, alpha: float, none: float) -> float:
        other = min(1.0, strata * share_excluded(fewest, 1 - alpha / strata))
        return none if end is None else (1 - other) * value + other * end

    return Interval(
        value, mixed(sides.least, sides.alpha_low, -math.inf), mixed(sides.most, sides.alpha_high, math.inf), rows
    )


def _bca(value: float, found: Floats, influence: Floats, rows: int, sides: Sides) -> Interval:
    """influence: the jackknife's mean less each of its values, up to one factor."""
    skew = float(np.sum(influence**3)) / (6 * float(np.sum(influence**2)) ** 1.5)
    low = np.sort(np.where(np.isnan(found), -np.inf, found))
    high = np.sort(np.where(np.isnan(found), np.inf, found))
    return Interval(value, _end(value, low, skew, sides.alpha_low), _end(value, high, skew, 1 - sides.alpha_high), rows)


def _end(value: float, ranked: Floats, skew: float, level: float) -> float:
    """The resamples' quantile at the level that is corrected for bias and acceleration; an infinity beyond the resamples."""
    count = len(ranked)
    below = (np.searchsorted(ranked, value, "left") + np.searchsorted(ranked, value, "right")) / 2
    bias = normal_quantile(float(below) / count)
    shifted = bias + normal_quantile(level)
    scale = 1 - skew * shifted
    if not math.isfinite(shifted) or scale <= 0:
        return -math.inf if level < 0.5 else math.inf
    rank = normal_cdf(bias + shifted / scale) * (count + 1)
    at = math.floor(rank) if level < 0.5 else math.ceil(rank)
    if not 1 <= at <= count:
        return -math.inf if level < 0.5 else math.inf
    return float(ranked[at - 1])


def _jackknife(statistic: Callable[[Rows], float], groups: list[Rows], rng: np.random.Generator) -> Floats:
    """The statistic without each row; of many rows, without each of _GROUPS groups that are drawn evenly from the classes."""
    order = np.concatenate([rng.permutation(g) for g in groups])
    count = min(len(order), _GROUPS)
    part = np.arange(len(order)) % count
    return np.array([_defined(statistic, np.sort(order[part != i])) for i in range(count)])


def _resamples(sides: Sides) -> int:
    return max(4000, math.ceil(40 / min(sides.alpha_low, sides.alpha_high)))


def _defined(statistic: Callable[[Rows], float], rows: Rows) -> float:
    try:
        return float(statistic(rows))
    except ValueError:
        return math.nan
