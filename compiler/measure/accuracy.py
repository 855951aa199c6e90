"""How far answers agree with those of the reference, for decisions that are taken before a bundle is proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import AccuracyTarget
from ..errors import InfcError
from ..ir.graph import Graph
from ..statistics.metrics import cosine_rows, max_abs_error_rows, mse_rows, top_k_rows

Array = NDArray[Any]
Arrays = Mapping[str, Array]

AGREEMENT: Mapping[str, Callable[[Array, Array], Array]] = {
    "cosine": cosine_rows,
    "mse": mse_rows,
    "max_abs_error": max_abs_error_rows,
    "top1": partial(top_k_rows, k=1),
    "top5": partial(top_k_rows, k=5),
}
"""Metrics of each row of answers against those of the reference; of a set it is their mean, or their largest error."""


def check_metrics(targets: Sequence[object], graph: Graph) -> None:
    """Raises InfcError where a target compares rows by a metric that says nothing of them: one number has no direction, and is
    its own largest."""
    found = next((t for t in agreement_targets(targets) if t.metric in ("cosine", "top1", "top5")), None)
    by_token = per_token(graph)
    compared = (d for n, node in graph.outputs for d in node.type.shape[-1 if n in by_token else 1 :])
    if found is not None and all(d == 1 for d in compared):
        names = ", ".join(repr(name) for name, _ in graph.outputs)
        raise InfcError(
            f"accuracy {found.metric} vs float32 says nothing of output {names}, which has one number a row",
            hint="write `accuracy max_abs_error <= 1e-3 vs float32`",
        )


def agreement_targets(targets: Sequence[object]) -> list[AccuracyTarget]:
    """Those that compare outputs with the reference's."""
    found = [t for t in targets if isinstance(t, AccuracyTarget)]
    return [t for t in found if t.versus == "float32" and t.metric in AGREEMENT]


def per_token(graph: Graph) -> frozenset[str]:
    """The outputs that have values of each token, in the last dimension."""
    length = graph.length_dim
    return frozenset(n for n, node in graph.outputs if length and length in map(str, node.type.shape[:-1]))


def misses(
    targets: Sequence[AccuracyTarget], by_token: frozenset[str], got: Sequence[Arrays], want: Sequence[Arrays]
) -> str:
    """The first of the targets that outputs, row by row, miss against those of the reference, with its value;
    "" where they meet all. `by_token`: outputs that are compared token by token."""
    for target in targets:
        ours, theirs = ({n: _stack([r[n] for r in rows], n in by_token) for n in got[0]} for rows in (got, want))
        value = _agreement(target, ours, theirs)
        if value > target.bound if target.op == "<=" else value < target.bound:
            return f"accuracy {target.metric} {target.op} {target.bound:g}, with {value:.6g}"
    return ""


def _agreement(target: AccuracyTarget, got: Arrays, want: Arrays) -> float:
    """A metric vs float32: of several outputs the worst."""
    over = np.max if target.metric == "max_abs_error" else np.mean
    values = [float(over(AGREEMENT[target.metric](got[n], want[n]))) for n in got]
    return max(values) if target.op == "<=" else min(values)


def _stack(rows: list[Array], by_token: bool) -> Array:
    """Rows [1, ...] as one array, or their tokens as rows; rows of different shapes one behind another, flat."""
    if by_token:
        return np.concatenate([r.reshape(-1, r.shape[-1]) for r in rows])
    if len({r.shape[1:] for r in rows}) == 1:
        return np.concatenate(rows)
    return np.concatenate([r.reshape(-1) for r in rows])[None]
