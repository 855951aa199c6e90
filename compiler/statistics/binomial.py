"""A share: k hits of n independent rows."""

from __future__ import annotations

from .interval import Interval
from .special import beta_quantile


def share(hits: float, rows: float, alpha_low: float, alpha_high: float) -> Interval:
    """The share hits / rows with its exact one-sided bounds; 0 <= hits <= rows, real numbers allowed (an effective size).

    Clopper and Pearson (1934). Without rows: nan, between 0 and 1.
    """
    if not 0 <= hits <= rows:
        raise ValueError(f"{hits} hits of {rows} rows is not a share")
    value = hits / rows if rows > 0 else float("nan")
    return Interval(value, lower_share(hits, rows, alpha_low), upper_share(hits, rows, alpha_high), int(rows))


def lower_share(hits: float, rows: float, alpha: float) -> float:
    """The share at which `hits` or more of `rows` come out with probability alpha; 0 where there are no hits."""
    return beta_quantile(hits, rows - hits + 1, alpha) if hits > 0 else 0.0


def upper_share(hits: float, rows: float, alpha: float) -> float:
    """The share at which `hits` or fewer of `rows` come out with probability alpha; 1 where all are hits."""
    return beta_quantile(hits + 1, rows - hits, 1 - alpha) if hits < rows else 1.0


def rows_to_decide(seen: float, bound: float, alpha: float) -> int | None:
    """The least number of rows which, with the share `seen` in them, puts a one-sided bound on the seen share's side of
    `bound`; None where no number does (they are equal, or the bound is 0 or 1 and on the other side)."""
    if seen == bound:
        return None
    low, high = 0, 1
    while not _decided(seen, high, bound, alpha):
        low, high = high, 2 * high
        if high > 1 << 40:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _decided(seen, middle, bound, alpha) else (middle, high)
    return high


def _decided(seen: float, rows: int, bound: float, alpha: float) -> bool:
    if seen > bound:
        return lower_share(seen * rows, rows, alpha) >= bound
    return upper_share(seen * rows, rows, alpha) < bound
