"""Two of a kind beside each other: ratios of pairs, and differences of scores on the same rows.

Every pair is measured under conditions of its own, which both of it share; pairs are independent of each other. Levels are
one-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .interval import Interval
from .special import beta_cdf, t_quantile

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
LEAST_ROWS = 30
"""With fewer rows a mean of differences says nothing."""
GROUPS = 200
"""Most groups of rows that are left out in turn."""
LEAST_PROBABILITY = 1e-6
"""A class that a model rules out counts as this likely in sums over rows, so that one row cannot decide alone."""
RULED_OUT = 1e-300
"""And this likely in margins, where it cannot."""
WIDTH = 0.4
"""How wide the border is in `border_test`: of 0.1, 0.2 and 0.4 the one that finds most planted losses."""


def ratios(new: Sequence[float], old: Sequence[float]) -> Floats:
    """new / old of each pair, [pairs], of figures that are not negative; 1 where both are 0, or both infinite."""
    a, b = np.asarray(new, np.float64), np.asarray(old, np.float64)
    equal = a == b
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 1.0, a / b)


def ratio(new: Sequence[float], old: Sequence[float], alpha: float) -> Interval:
    """The median ratio of pairs, with its bounds at level alpha each: order statistics of the ratios.

    The sign test turned round (Thompson 1936; Conover, Practical Nonparametric Statistics, 3.4): the number of ratios below
    the true median is binomial(pairs, 1/2), whatever the noise is like, so the rank-th smallest ratio is above the median with
    probability alpha at most. It takes no heed of how far away the farthest ratios are, so that a pair that something else
    disturbed costs no more than any other. Where pairs of equal things are drawn in an order that favours neither, their true
    median is 1. Too few pairs for alpha: 0 and inf. Without pairs the value is nan.
    """
    found = np.sort(ratios(new, old))
    n = len(found)
    if not n:
        return Interval(math.nan, 0.0, math.inf, 0)
    at = rank(n, alpha)
    value = float(found[(n - 1) // 2] + found[n // 2]) / 2
    return Interval(value, float(found[at - 1]) if at else 0.0, float(found[n - at]) if at else math.inf, n)


def rank(pairs: int, alpha: float) -> int:
    """The largest r for which fewer than r of `pairs` fair coins show heads with probability alpha at most; 0: there is none."""
    below, r, term = 0.0, 0, 0.5**pairs
    while below + term <= alpha and r < pairs:
        below += term
        term *= (pairs - r) / (r + 1)
        r += 1
    return r


def pairs_for(alpha: float, spare: int = 0) -> int:
    """The fewest pairs that put a bound at level alpha, and do so with `spare` of them beyond it."""
    pairs = spare + 1
    while rank(pairs, alpha) <= spare:
        pairs += 1
    return pairs


def can_exceed(seen: Floats, planned: int, limit: float, alpha: float) -> bool:
    """Whether the lower bound of `planned` ratios can still come out above `limit`, given those seen so far.

    A test that is ended where it cannot reject any more (curtailed: Alling 1963) rejects exactly when the whole one does.
    """
    return int(np.count_nonzero(~(seen > limit))) < max(1, rank(planned, alpha))


def sign_test(lost: int, gained: int) -> float:
    """The probability of `lost` or more of lost + gained rows, were losing as likely as gaining: McNemar's test (1947) in
    its exact form. 1 where no row changed."""
    return beta_cdf(lost, gained + 1, 0.5) if lost else 1.0


def mean_test(differences: Floats) -> float:
    """The probability of so large a mean difference [rows], were its true value 0 or less: Student's paired t. 1 where there
    are fewer than LEAST_ROWS, or one is not finite."""
    n = len(differences)
    if n < LEAST_ROWS or not np.all(np.isfinite(differences)):
        return 1.0
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 0.0 if mean > 0 else 1.0
    return t_tail(mean / spread * math.sqrt(n), n - 1)


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t."""
    half = beta_cdf(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return half if t > 0 else 1 - half


def left_out(rows: int, seed: int = 0) -> list[Rows]:
    """The rows [kept] without each of up to GROUPS groups, drawn evenly."""
    order = np.random.default_rng(seed).permutation(rows)
    count = min(rows, GROUPS)
    part = np.arange(rows) % count
    return [np.sort(order[part != i]) for i in range(count)]


def left_out_test(value: float, without: Sequence[float]) -> float:
    """The probability of so large a `value`, were its true value 0 or less, given the value without each group of rows: the
    jackknife's error (Tukey 1958; Efron and Tibshirani 1993, chapter 11) and Student's t. 1 where it is undefined, or there
    are fewer than LEAST_ROWS groups."""
    found = np.asarray(without, np.float64)
    count = len(found)
    if count < LEAST_ROWS or not (math.isfinite(value) and np.all(np.isfinite(found))):
        return 1.0
    error = math.sqrt((count - 1) / count * float(np.sum((found - found.mean()) ** 2)))
    if error == 0:
        return 0.0 if value > 0 else 1.0
    return t_tail(value / error, count - 1)


def differences_without(
    new: Callable[[Rows], float], old: Callable[[Rows], float], rows: int, sign: float
) -> tuple[float, list[float]]:
    """sign * (new - old) of a statistic of rows: of all, and without each group of `left_out`; nan where it is undefined."""

    def at(kept: Rows) -> float:
        try:
            return sign * (float(new(kept)) - float(old(kept)))
        except ValueError:
            return math.nan

    return at(np.arange(rows)), [at(kept) for kept in left_out(rows)]


def half_width(differences: Floats, alpha: float) -> float:
    """How far the true mean difference may lie from that seen, on one side at level alpha; inf where too few rows say it."""
    n = len(differences)
    if n < LEAST_ROWS or not np.all(np.isfinite(differences)):
        return math.inf
    return float(differences.std(ddof=1)) / math.sqrt(n) * t_quantile(1 - alpha, n - 1)


def log_probabilities(scores: Floats, least: float = LEAST_PROBABILITY) -> Floats:
    """The logarithm of each class's probability (`least` at least), [rows, classes], of a classifier's scores [rows, columns].

    Rows that are all probabilities (not negative, of sum 1 within 1 %) stay; other rows of several scores are logits. One
    column is that of class 1: a probability where all lie in 0 ... 1, else a logit.
    """
    floor = math.log(least)
    if scores.shape[1] == 1:
        one = scores[:, 0]
        if one.size and one.min() >= 0 and one.max() <= 1:
            both = np.log(np.maximum(np.stack([1 - one, one], axis=1), least))
        else:
            both = -np.logaddexp(0.0, np.stack([one, -one], axis=1))
        return np.maximum(both, floor)
    if scores.min(initial=0.0) >= 0 and bool(np.all(np.abs(scores.sum(axis=1) - 1) <= 0.01)):
        return np.log(np.maximum(scores, least))
    shifted: Floats = scores - scores.max(axis=1, keepdims=True)
    sums: Floats = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.maximum(shifted - sums, floor)


def margins(scores: Floats, classes: Rows, k: int) -> Floats:
    """By how much the log-probability of each row's class exceeds the k-th best of the others, [rows]; inf where there are no
    k others."""
    found = log_probabilities(scores, RULED_OUT)
    rows, columns = found.shape
    if columns <= k:
        return np.zeros(rows) + math.inf
    own: Floats = found[np.arange(rows), classes]
    found[np.arange(rows), classes] = -np.inf
    kth: Floats = np.sort(found, axis=1)[:, columns - k]
    return own - kth


def border_test(new: Floats, old: Floats) -> float:
    """The probability of seeing what was seen of margins [rows], were the new ones no nearer to being misses: of a smooth
    stand-in for the share of misses, log(1 + exp(-m / (WIDTH * mean |m|))), to which every row near the border adds, and not
    only the few that crossed it. What only makes a model surer, or less sure, of everything does not change it; that the
    mean |m| is of the same rows is what the jackknife is for."""
    value, without = differences_without(lambda kept: _near(new[kept]), lambda kept: _near(old[kept]), len(new), 1.0)
    return left_out_test(value, without)


def _near(margin: Floats) -> float:
    width = WIDTH * float(np.mean(np.abs(margin)))
    return float(np.mean(np.logaddexp(0.0, -margin / width))) if 0 < width < math.inf else 0.0
