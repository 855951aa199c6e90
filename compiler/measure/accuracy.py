"""Accuracy targets: agreement of the bundle with the reference model, and quality against labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import AccuracyTarget, Model
from ...runtime import load
from ..errors import InfcError
from ..frontends import Imported
from ..ir.graph import Graph
from ..processes import run_child
from ..temporary import work_folder
from .rows import Rows, read_rows

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Pair = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Score:
    """A score and the rows it was taken over."""

    value: float
    rows: int


def mean(values: Array) -> float:
    """The mean of all values."""
    return float(values.mean())


def cosine(got: Array, want: Array) -> float:
    """Mean over rows of the cosine between a row's values; arrays [rows, ...]."""
    a, b = got.reshape(len(got), -1).astype(np.float64), want.reshape(len(want), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return mean(np.where(norms > 0, np.sum(a * b, axis=1) / np.maximum(norms, 1e-300), 1.0))


def top1(got: Array, want: Array) -> float:
    """Share of rows whose largest value stands in the same place."""
    return mean(got.reshape(len(got), -1).argmax(1) == want.reshape(len(want), -1).argmax(1))


def max_abs_error(got: Array, want: Array) -> float:
    """The largest absolute difference."""
    return float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))


def mse(got: Array, want: Array) -> float:
    """The mean squared difference."""
    return mean((got.astype(np.float64) - want.astype(np.float64)) ** 2)


def label_top1(got: Array, labels: Array) -> float:
    """Share of rows whose largest value stands at the label."""
    return mean(got.reshape(len(got), -1).argmax(1) == labels)


def label_auc(got: Array, labels: Array) -> float:
    """Area under the ROC curve of a score per row, ties counted half (Mann and Whitney 1947)."""
    scores = got.reshape(len(got), -1)[:, -1]
    positive, negative = scores[labels > 0.5], scores[labels <= 0.5]
    if not len(positive) or not len(negative):
        raise InfcError("auc needs labels of both classes in the evaluate data")
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float(np.mean((below + upto) / 2) / len(negative))


def label_f1(got: Array, labels: Array) -> float:
    """F1 of the positive class: a score above 0.5, or of two values the second the larger."""
    flat = got.reshape(len(got), -1)
    predicted = flat.argmax(1) == 1 if flat.shape[1] == 2 else flat[:, 0] > 0.5
    actual = labels > 0.5
    hits = float(np.sum(predicted & actual))
    return 2 * hits / max(float(np.sum(predicted) + np.sum(actual)), 1.0)


VS_REFERENCE: Mapping[str, Pair] = {"cosine": cosine, "top1": top1, "max_abs_error": max_abs_error, "mse": mse}
VS_LABELS: Mapping[str, Pair] = {"top1": label_top1, "accuracy": label_top1, "auc": label_auc, "f1": label_f1}


def measure_accuracy(
    model: Model, imported: Imported, bundle: Path, targets: Sequence[AccuracyTarget], threads: int
) -> dict[AccuracyTarget, Score]:
    """A score for each target over `data { evaluate }`. Raises InfcError (exit 2) where data or labels are missing."""
    if not targets:
        return {}
    data = model.data.evaluate
    if data is None:
        raise InfcError("an accuracy target needs `data { evaluate ... }`")
    rows = read_rows(data, model, imported)
    with load(bundle, threads=threads) as loaded:
        answers = [loaded.run(request) for request in rows.requests]
    names = [name for name, _ in imported.graph.outputs]
    by_token = per_token(imported.graph)
    got = {name: _stack([a[name] for a in answers], name in by_token) for name in names}
    want: dict[str, Array] | None = None
    found: dict[AccuracyTarget, Score] = {}
    for target in targets:
        if target.metric_path is not None:
            value = _custom(target, got, rows)
        elif target.versus == "labels":
            value = _against_labels(target, got[names[0]], rows, data.written)
        else:
            if want is None:
                references = [imported.reference(request) for request in rows.requests]
                want = {name: _stack([r[name] for r in references], name in by_token) for name in names}
            if target.metric not in VS_REFERENCE:
                raise InfcError(
                    f"accuracy {target.metric} vs float32 is not measured; there are {', '.join(VS_REFERENCE)}"
                )
            value = _agreement(target, got, want)
        found[target] = Score(value, len(rows.requests))
    return found


def check_metrics(targets: Sequence[object], graph: Graph) -> None:
    """Raises InfcError where a target compares rows by a metric that says nothing of them: one number has no direction, and is
    its own largest."""
    found = next((t for t in agreement_targets(targets) if t.metric in ("cosine", "top1")), None)
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
    return [t for t in found if t.versus == "float32" and t.metric in VS_REFERENCE]


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
    values = [VS_REFERENCE[target.metric](got[n], want[n]) for n in got]
    return max(values) if target.op == "<=" else min(values)


def _stack(rows: list[Array], by_token: bool) -> Array:
    """Rows [1, ...] as one array, or their tokens as rows; rows of different shapes one behind another, flat."""
    if by_token:
        return np.concatenate([r.reshape(-1, r.shape[-1]) for r in rows])
    if len({r.shape[1:] for r in rows}) == 1:
        return np.concatenate(rows)
    return np.concatenate([r.reshape(-1) for r in rows])[None]


def _against_labels(target: AccuracyTarget, got: Array, rows: Rows, written: str) -> float:
    if rows.labels is None:
        raise InfcError(f"accuracy {target.metric} vs labels needs labels in {written}", hint="npz: an array `label`")
    if target.metric not in VS_LABELS:
        raise InfcError(f"accuracy {target.metric} vs labels is not measured; there are {', '.join(VS_LABELS)}")
    return VS_LABELS[target.metric](got, rows.labels)


_RUNNER = """
import importlib.util, json, sys
import numpy as np
spec = importlib.util.spec_from_file_location("metric", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with np.load(sys.argv[3]) as f:
    arrays = {k: f[k] for k in f.files}
outputs = {k[2:]: v for k, v in arrays.items() if k.startswith("o:")}
labels = {k[2:]: v for k, v in arrays.items() if k.startswith("l:")}
print(json.dumps(float(getattr(module, sys.argv[2])(outputs, labels))))
"""


def _custom(target: AccuracyTarget, got: Mapping[str, Array], rows: Rows) -> float:
    """The user's fn(outputs, labels) -> float, in a process of its own."""
    arrays: dict[str, Any] = {f"o:{name}": value for name, value in got.items()}
    if rows.labels is not None:
        arrays["l:label"] = rows.labels
    with work_folder() as work:
        path = Path(work) / "metric.npz"
        np.savez(path, **arrays)
        command = [sys.executable, "-c", _RUNNER, str(target.metric_path), str(target.metric_entry), str(path)]
        done = run_child(command)
    name = f'metric("{target.metric_path}:{target.metric_entry}")'
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise InfcError(f"{name} failed: {lines[-1] if lines else 'it said nothing'}")
    try:
        return float(json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        raise InfcError(f"{name} did not return a number") from None
