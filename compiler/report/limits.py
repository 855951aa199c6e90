"""Each step's time beside the least that this machine could take for it.

The least time of a step is the longest of three: its operations at the peak of its precision; the weights that it reads, from
the level of the memory that holds all of the model's; its other operands and its result, from the nearest level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.dims import evaluate, parse_dim
from ..target import Limits
from .profile import StepTime

PRECISIONS = {"q8": "int8", "bfloat16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Bound:
    """A step's least time in seconds, what it is bound by (`int8`, `weights from L3`, `values from L2`), and its operations."""

    seconds: float
    by: str
    ops: float


def bounds_of(
    steps: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], limits: Limits, caches: Mapping[str, int]
) -> list[Bound]:
    """A bound for each of a description's steps, for one request of these sizes."""
    level = level_of(sum(s["weight_bytes"] for s in steps), limits, caches)
    nearest = next(iter(limits.read))
    found: list[Bound] = []
    for step in steps:
        precision = PRECISIONS.get(step["precision"], "float32")
        precision = precision if precision in limits.ops else "float32"
        ops = float(evaluate(parse_dim(step["flops"]), sizes))
        candidates = (
            Bound(ops / limits.ops[precision], precision, ops),
            Bound(step["weight_bytes"] / limits.read[level], f"weights from {level}", ops),
            Bound(evaluate(parse_dim(step["bytes"]), sizes) / limits.read[nearest], f"values from {nearest}", ops),
        )
        found.append(max(candidates, key=lambda b: b.seconds))
    return found


def level_of(weights: int, limits: Limits, caches: Mapping[str, int]) -> str:
    """The nearest measured level that holds so many bytes."""
    return next((name for name in limits.read if caches.get(name, 0) >= weights), list(limits.read)[-1])


def kinds_at_limit(steps: Sequence[StepTime], bounds: Sequence[Bound]) -> dict[tuple[str, str], tuple[float, str]]:
    """By op and provider: the least time of its steps over the time that they took, and what bounds most of that least time."""
    members: dict[tuple[str, str], list[tuple[StepTime, Bound]]] = {}
    for step, bound in zip(steps, bounds, strict=True):
        members.setdefault((step.op, step.provider), []).append((step, bound))
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for kind, pairs in members.items():
        by: dict[str, float] = {}
        for _, bound in pairs:
            by[bound.by] = by.get(bound.by, 0.0) + bound.seconds
        taken = sum(step.seconds for step, _ in pairs)
        if taken:
            found[kind] = (sum(by.values()) / taken, max(by, key=lambda name: by[name]))
    return found


def share_of_products(steps: Sequence[StepTime], bounds: Sequence[Bound], limits: Limits, op: str = "linear") -> float:
    """Of the steps of an op that are bound by arithmetic: their least time over their time; 0 where there are none."""
    pairs = [(s.seconds, b.seconds) for s, b in zip(steps, bounds, strict=True) if s.op == op and b.by in limits.ops]
    spent = sum(seconds for seconds, _ in pairs)
    return sum(least for _, least in pairs) / spent if spent else 0.0
