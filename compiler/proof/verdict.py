"""One target beside what its evidence says, in words and numbers that a spec takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ...dsl.spec import (
    AccuracyTarget,
    ColdStartTarget,
    CostTarget,
    LatencyTarget,
    Target,
    ThroughputTarget,
)
from ..errors import Exit

Word = Literal["met", "missed", "not proved"]
DIGITS = 4
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_WHOLE = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))
"""Four digits of these are whole bytes, which a spec asks for."""
_SHARES = ("cosine", "top1", "top5", "auc", "f1", "precision", "recall")
"""Metrics that tend to 1: two of them are compared by what they lack."""


@dataclass(frozen=True)
class Verdict:
    """A target and its verdict. `target`: as a spec writes it; `value`, `low` and `high` in base units: the estimate and
    what `confidence` leaves possible (None: it cannot be said); `samples`: requests, rows or starts; `relaxed`: a target
    that this evidence would meet, "" where none is known."""

    target: str
    kind: str
    statistic: str
    op: str
    bound: float
    unit: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    verdict: Word
    samples: int
    note: str
    relaxed: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object of the fields."""
        return asdict(self)


def verdict_of(
    target: Target,
    word: Word,
    *,
    confidence: float,
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
    samples: int = 0,
    note: str = "",
) -> Verdict:
    """The target beside a verdict; infinities are None, since nothing can be said then."""
    low, high, value = (x if x is not None and math.isfinite(x) else None for x in (low, high, value))
    reached = high if target.op == "<=" else low
    relaxed = "" if reached is None else written(target, reached, safe=True)
    return Verdict(
        target=written(target, float(target.bound)),
        kind=target.kind,
        statistic=statistic_of(target),
        op=target.op,
        bound=float(target.bound),
        unit=_unit(target),
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        verdict=word,
        samples=samples,
        note=note,
        relaxed=relaxed,
    )


def _unit(target: Target) -> str:
    if isinstance(target, ThroughputTarget):
        return target.unit
    if isinstance(target, CostTarget):
        return f"USD per {_count(target.count)} {target.per}"
    return {"latency": "s", "ttft": "s", "itl": "s", "cold_start": "s", "memory": "B", "bundle_size": "B"}.get(
        target.kind, ""
    )


def _count(count: float) -> str:
    scale, word = next(((s, w) for s, w in ((1e6, "M"), (1e3, "k")) if count >= s), (1.0, ""))
    return f"{digits(count / scale)}{word}"


def statistic_of(target: Target) -> str:
    """What of a kind a target bounds: `p99`, `cosine`; "" where the kind says it all."""
    if isinstance(target, LatencyTarget):
        return target.statistic
    if isinstance(target, AccuracyTarget):
        return target.metric
    if isinstance(target, ColdStartTarget):
        return "cold" if target.cold else ""
    return ""


def name_of(target: Target) -> str:
    """The target as a spec writes it, without its bound: `latency p99`."""
    if isinstance(target, AccuracyTarget) and target.metric_path:
        return f'accuracy metric("{target.metric_path}:{target.metric_entry}")'
    return f"{target.kind} {statistic_of(target)}".rstrip()


def written(target: Target, bound: float, *, safe: bool = False) -> str:
    """The target with another bound, as a spec writes it; `safe`: rounded to the side on which it still holds."""
    at = ""
    if isinstance(target, LatencyTarget) and target.at_rate is not None:
        at = f" at {target.at_rate.value:g} {target.at_rate.unit}{', steady' if target.arrival == 'steady' else ''}"
    versus = f" vs {target.versus}" if isinstance(target, AccuracyTarget) and target.versus else ""
    up = None if not safe else target.op == "<="
    return f"{name_of(target)} {target.op} {show(target, bound, up)}{versus}{at}"


def show(target: Target, value: float, up: bool | None = None) -> str:
    """A value of the target's quantity, as a spec writes it; `up`: rounded up or down."""
    if isinstance(target, CostTarget):
        return f"{digits(value, up)} {_unit(target)}"
    unit = target.unit if isinstance(target, ThroughputTarget) else ""
    return _show(target.kind, statistic_of(target), unit, value, up)


def quantity(verdict: Verdict, value: float, up: bool | None = None) -> str:
    """A value of the verdict's quantity, for people."""
    return _show(verdict.kind, verdict.statistic, verdict.unit, value, up)


def _show(kind: str, statistic: str, unit: str, value: float, up: bool | None) -> str:
    scales = _TIMES if kind in ("latency", "cold_start") else _SIZES if kind in ("memory", "bundle_size") else ()
    whole = next((f"{value // u:.0f} {w}" for u, w in _WHOLE if u <= value < 10_000 * u and value % u == 0), "")
    if scales is _SIZES and whole:
        return whole
    if scales:
        scale, word = next(((u, w) for u, w in scales if abs(value) >= u), scales[-1])
        return f"{digits(value / scale, up)} {word}"
    return f"{digits(value, up, tends_to_one=kind == 'accuracy' and statistic in _SHARES)} {unit}".rstrip()


def digits(value: float, up: bool | None = None, *, tends_to_one: bool = False) -> str:
    """value with DIGITS significant digits, of 1 - value where it tends to one; rounded to the nearest, up or down."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = abs(1 - value) if tends_to_one and 0.9 < value < 1 else abs(value)
    places = DIGITS - 1 - math.floor(math.log10(size)) if size > 0 else DIGITS
    places = min(places, 12 if tends_to_one else 300)
    scaled = value * 10.0**places
    near = round(scaled)
    if up is not None and abs(scaled - near) > 4e-15 * max(abs(scaled), 1):
        near = math.ceil(scaled) if up else math.floor(scaled)
    text = f"{near / 10.0**places:.{max(places, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if len(text) < 16 else f"{near / 10.0**places:.{DIGITS - 1}e}"


def interval(verdict: Verdict) -> str:
    """`3.2 ms (3..3.9 ms)`: the estimate and what is possible."""
    if verdict.value is None:
        return "no answer" if verdict.samples else "not measured"
    if verdict.low == verdict.high == verdict.value or (verdict.low is None and verdict.high is None):
        return quantity(verdict, verdict.value)
    low = "" if verdict.low is None else quantity(verdict, verdict.low, up=False)
    high = "" if verdict.high is None else quantity(verdict, verdict.high, up=True)
    return f"{quantity(verdict, verdict.value)} ({low}..{high})"


def factor(verdict: Verdict) -> float:
    """By how much a target is missed, 1 at its bound; shares that tend to 1 by what they lack."""
    value, bound = verdict.value, verdict.bound
    if value is None:
        return math.inf
    if verdict.kind == "accuracy" and verdict.statistic in _SHARES and verdict.op == ">=":
        value, bound = 1 - value, 1 - bound
        return value / bound if bound > 0 else math.inf
    if verdict.op == "<=":
        return value / bound if bound > 0 else math.inf
    return bound / value if value > 0 else math.inf


def binding(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The targets missed, first the one missed by the largest factor."""
    return sorted((v for v in verdicts if v.verdict == "missed"), key=factor, reverse=True)


def worst(words: Sequence[Word]) -> Word:
    """Of statements that must all hold: missed where one is, else not proved where one is."""
    return "missed" if "missed" in words else "not proved" if "not proved" in words else "met"


def overall(verdicts: Sequence[Verdict], allowed: frozenset[str] = frozenset()) -> Word:
    """What a build as a whole is: missed where one target is, not proved where one is whose kind is not `allowed`, else
    met (nothing promised is met)."""
    return worst([v.verdict for v in verdicts if v.verdict != "not proved" or v.kind not in allowed])


def exit_code(word: Word) -> Exit:
    """0 met, 3 missed, 4 not proved."""
    return {"met": Exit.OK, "missed": Exit.UNMET, "not proved": Exit.UNPROVED}[word]


def noted(verdict: Verdict, note: str) -> Verdict:
    """verdict with a further note."""
    return replace(verdict, note=f"{verdict.note}; {note}" if verdict.note else note)
