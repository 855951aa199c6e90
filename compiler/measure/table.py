"""Targets against measured values: judged, printed, and turned into an exit code."""

from __future__ import annotations

from collections.abc import Sequence

from ...dsl.spec import (
    AccuracyTarget,
    BundleSizeTarget,
    ColdStartTarget,
    CostTarget,
    LatencyTarget,
    MemoryTarget,
    Target,
    ThroughputTarget,
)
from ..errors import Exit
from .accuracy import Score
from .result import Measured

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def name_of(target: Target) -> str:
    """The target as a spec writes it, without its bound: `latency p99`."""
    if isinstance(target, LatencyTarget):
        return f"{target.kind} {target.statistic}"
    if isinstance(target, AccuracyTarget):
        metric = f'metric("{target.metric_path}:{target.metric_entry}")' if target.metric_path else target.metric
        return f"accuracy {metric}"
    return target.kind


def show(target: Target, value: float) -> str:
    """A value of the target's quantity, for people."""
    if isinstance(target, LatencyTarget | ColdStartTarget):
        unit, word = next(((u, w) for u, w in _TIMES if abs(value) >= u), _TIMES[-1])
        return f"{value / unit:.4g} {word}"
    if isinstance(target, MemoryTarget | BundleSizeTarget):
        unit, word = next(((u, w) for u, w in _SIZES if abs(value) >= u), (1, "B"))
        return f"{value / unit:.4g} {word}"
    if isinstance(target, ThroughputTarget):
        return f"{value:.4g} {target.unit}"
    if isinstance(target, CostTarget):
        return f"{value:.4g} USD per {target.count:g} {target.per}"
    return f"{value:.6g}"


def _tail(target: Target) -> str:
    versus = getattr(target, "versus", None)
    return f" vs {versus}" if versus else ""


def judge(target: Target, value: float | Score, note: str) -> Measured:
    """The target beside its measured value."""
    number = value.value if isinstance(value, Score) else value
    bound = float(target.bound)
    met = number <= bound if target.op == "<=" else number >= bound
    text = f"{name_of(target)} {target.op} {show(target, bound)}{_tail(target)}"
    relaxed = f"{name_of(target)} {target.op} {show(target, number)}"
    return Measured(text, bound, number, show(target, number), met, note, relaxed)


def unmeasured(target: Target, why: str) -> Measured:
    """The target without a value."""
    text = f"{name_of(target)} {target.op} {show(target, float(target.bound))}{_tail(target)}"
    return Measured(text, float(target.bound), None, "not measured", None, why)


def exit_code_of(measured: Sequence[Measured], promised: bool) -> Exit:
    """0 where nothing was promised, 3 where a target is missed, else 4: measured values are no proof."""
    if any(m.met is False for m in measured):
        return Exit.UNMET
    return Exit.UNPROVED if promised else Exit.OK


def table(measured: Sequence[Measured]) -> list[tuple[str, str, str, str]]:
    """Rows for people: target, measured, whether it is met, note."""
    word = {True: "met", False: "MISSED", None: "unmeasured"}
    return [(m.target, m.shown, word[m.met], m.note) for m in measured]
