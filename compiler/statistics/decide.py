"""From an interval and a bound to a verdict."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["met", "missed", "not proved"]


def decide(low: float, high: float, bound: float, op: Literal["<=", ">="]) -> Verdict:
    """The verdict on `value op bound`, given the value's one-sided confidence bounds low and high.

    "met": all of [low, high] is within the bound, and the bound itself is; "missed": all of it is beyond; else, and with
    nan anywhere, "not proved". Each of the two is wrong at most as often as the level of the one bound that it rests on.
    """
    if op == "<=":
        return "met" if high <= bound else "missed" if low > bound else "not proved"
    return "met" if low >= bound else "missed" if high < bound else "not proved"
