"""The few special functions that intervals need. SciPy has them, and the base install does not have SciPy."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300


def beta_cdf(a: float, b: float, x: float) -> float:
    """P(X <= x) of a Beta(a, b), the regularized incomplete beta function I_x(a, b); a, b > 0.

    By its continued fraction (DLMF 8.17.22), evaluated by Lentz's method as Thompson and Barnett (1986) changed it, on the
    side of the mean where it converges in O(sqrt(max(a, b))) steps.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b))
    if x < (a + 1) / (a + b + 2):
        return min(front * _fraction(a, b, x) / a, 1.0)
    return max(1 - front * _fraction(b, a, 1 - x) / b, 0.0)


def beta_quantile(a: float, b: float, p: float) -> float:
    """The x with beta_cdf(a, b, x) = p, for 0 <= p <= 1: Newton's steps inside a bracket that bisection halves."""
    if p <= 0 or p >= 1:
        return 0.0 if p <= 0 else 1.0
    low, high, x = 0.0, 1.0, a / (a + b)
    log_beta = _log_beta(a, b)
    for _ in range(200):
        error = beta_cdf(a, b, x) - p
        low, high = (low, x) if error > 0 else (x, high)
        slope = math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta)
        step = x - error / slope if slope > _TINY else low
        after = step if low < step < high else (low + high) / 2
        if abs(after - x) <= 1e-15 * x or not low < after < high:
            return after
        x = after
    return x


@lru_cache(maxsize=1024)
def t_quantile(p: float, freedom: float) -> float:
    """The p-quantile of Student's t with `freedom` > 0 degrees of freedom, 0 < p < 1, from that of Beta(1/2, freedom/2)."""
    if p == 0.5:
        return 0.0
    tail = min(p, 1 - p)
    if tail < 0.25:  # of x and 1 - x the one that is found without cancellation
        x = beta_quantile(freedom / 2, 0.5, 2 * tail)
        squared = freedom * (1 - x) / x
    else:
        y = beta_quantile(0.5, freedom / 2, 1 - 2 * tail)
        squared = freedom * y / (1 - y)
    return math.copysign(math.sqrt(squared), p - 0.5)


def normal_quantile(p: float) -> float:
    """The p-quantile of the standard normal distribution; -inf and inf at 0 and 1 and beyond."""
    if p <= 0 or p >= 1:
        return -math.inf if p <= 0 else math.inf
    return _NORMAL.inv_cdf(p)


def normal_cdf(x: float) -> float:
    """P(X <= x) of a standard normal X."""
    return _NORMAL.cdf(x)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + term / c
            c = c if abs(c) > _TINY else _TINY
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value
