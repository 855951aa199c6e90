"""Interval arithmetic over loop forms: what is known of a value, as (low, high), bool as 0..1.

Floats of which nothing is known are taken to be finite and below HUGE in magnitude; a mask's -inf or -3.4e38 lies far
outside, so that adding a score to it still gives a number that no softmax can see.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..ir.loops import Axis, Expr, Literal, Load, Prim, Reduce, Size
from ..ir.types import DType, is_float

Interval = tuple[float, float]

HUGE = 1e30
"""Bound of the magnitude of floats of which nothing is known."""
ZERO: Interval = (0, 0)


def anything(dtype: DType) -> Interval:
    """The interval of a value of which nothing is known."""
    if dtype == "bool":
        return (0, 1)
    return (-HUGE, HUGE) if is_float(dtype) else (-(2.0**63), 2.0**63)


def meet(a: Interval, b: Interval) -> Interval:
    """What is known when both are (either alone where they contradict each other)."""
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else a


@dataclass(frozen=True)
class Facts:
    """What evaluation may ask: an element's interval, and the interval of a difference of two int64 expressions where
    their order is known."""

    load: Callable[[Load], Interval]
    compare: Callable[[Expr, Expr], Interval | None]
    """The interval of left - right, or None where nothing is known."""


def evaluate_interval(expr: Expr, facts: Facts) -> Interval:
    """An interval that holds expr."""
    if isinstance(expr, Literal):
        return (float(expr.value), float(expr.value))
    if isinstance(expr, Load):
        return facts.load(expr)
    if isinstance(expr, Axis):
        return (0, 2.0**63)
    if isinstance(expr, Size):
        return (1, 2.0**63)
    if isinstance(expr, Reduce):
        body = evaluate_interval(expr.body, facts)
        if expr.kind in ("max", "min", "any", "all") or (expr.kind == "sum" and body == ZERO):
            return body
        if expr.kind == "sum" and body[0] >= 0:
            return (0, math.inf)
        return anything(expr.dtype)
    if expr.name in _COMPARE:
        difference = facts.compare(expr.args[0], expr.args[1])
        if difference is not None:
            return _COMPARE[expr.name](difference, ZERO)
    low, high = _prim(expr, [evaluate_interval(a, facts) for a in expr.args])
    return (-math.inf, math.inf) if math.isnan(low) or math.isnan(high) else (low, high)


def _prim(expr: Prim, args: list[Interval]) -> Interval:
    if expr.name in UNARY:
        return UNARY[expr.name](args[0])
    if expr.name in BINARY:
        return BINARY[expr.name](args[0], args[1])
    if expr.name == "where":
        return _where(args[0], args[1], args[2])
    return _cast(args[0], expr.dtype) if expr.name == "cast" else anything(expr.dtype)


def _corners(fn: Callable[[float, float], float], a: Interval, b: Interval) -> Interval:
    values = [fn(x, y) for x in a for y in b]
    return (math.nan, math.nan) if any(math.isnan(v) for v in values) else (min(values), max(values))


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 and abs(y) <= 4e38 or y == 0 and abs(x) <= 4e38 else x * y


def _divide(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0 <= b[1]:
        return (-math.inf, math.inf)
    return _corners(lambda x, y: x / y if not (math.isinf(x) and math.isinf(y)) else math.nan, a, b)


def _truth(known_true: bool, known_false: bool) -> Interval:
    return (1, 1) if known_true else (0, 0) if known_false else (0, 1)


def _cast(a: Interval, dtype: DType) -> Interval:
    if dtype == "bool":
        return _truth(a[0] > 0 or a[1] < 0, a == ZERO)
    if dtype == "float32":
        return a
    return (math.trunc(a[0]), math.trunc(a[1])) if all(abs(v) < 2.0**62 for v in a) else anything(dtype)


def _where(c: Interval, a: Interval, b: Interval) -> Interval:
    if c[0] > 0:
        return a
    return b if c == ZERO else (min(a[0], b[0]), max(a[1], b[1]))


_COMPARE: dict[str, Callable[[Interval, Interval], Interval]] = {
    "eq": lambda a, b: _truth(a == b and a[0] == a[1], a[1] < b[0] or b[1] < a[0]),
    "ne": lambda a, b: _truth(a[1] < b[0] or b[1] < a[0], a == b and a[0] == a[1]),
    "lt": lambda a, b: _truth(a[1] < b[0], a[0] >= b[1]),
    "le": lambda a, b: _truth(a[1] <= b[0], a[0] > b[1]),
    "gt": lambda a, b: _truth(a[0] > b[1], a[1] <= b[0]),
    "ge": lambda a, b: _truth(a[0] >= b[1], a[1] < b[0]),
}

UNARY: dict[str, Callable[[Interval], Interval]] = {
    "neg": lambda a: (-a[1], -a[0]),
    "relu": lambda a: (max(a[0], 0), max(a[1], 0)),
    "not": lambda a: (1 - a[1], 1 - a[0]),
}

BINARY: dict[str, Callable[[Interval, Interval], Interval]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": lambda a, b: _corners(_times, a, b),
    "div": _divide,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "and": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "or": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    **_COMPARE,
}
