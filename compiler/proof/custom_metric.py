"""`accuracy metric("m.py:fn")`: the user's function, in one process of its own with bounds on its time and memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import AccuracyTarget
from ..errors import InfcError
from ..processes import run_child
from ..temporary import work_folder

Array = NDArray[Any]
SECONDS = 120
"""Of all calls together."""
MEMORY_BYTES = 8 << 30


@dataclass(frozen=True)
class Replies:
    """What the function gave: first of all rows, then of the resamples, in order; `problem`: why there are not all, or ""."""

    values: tuple[float, ...]
    problem: str = ""


def ask_metric(
    target: AccuracyTarget, got: Sequence[Mapping[str, Array]], labels: Array | None, alpha: float
) -> Replies:
    """fn(outputs, labels) of all rows, and of as many resamples as a bound at level `alpha` takes.

    Outputs by name are arrays [rows, ...] (of rows of different shapes, object arrays of one a row), labels {"label": [rows]}.
    Raises InfcError (exit 2) where the function fails on all rows, or takes more than its bounds.
    """
    name = f'metric("{target.metric_path}:{target.metric_entry}")'
    with work_folder() as work:
        arrays: dict[str, Any] = {f"o:{key}": _stacked([answer[key] for answer in got], name, key) for key in got[0]}
        if labels is not None:
            arrays["l:label"] = labels
        np.savez(work / "metric.npz", **arrays)
        out = work / "replies.json"
        command = [
            sys.executable, "-m", f"{__package__}.metric_child", str(target.metric_path), str(target.metric_entry),
            str(work / "metric.npz"), str(out), f"{alpha:.17g}", str(SECONDS), str(MEMORY_BYTES),
        ]  # fmt: skip
        done = run_child(command)
        if done.returncode != 0 or not out.exists():
            lines = done.stderr.strip().splitlines()
            said = f"it took more than {2 * SECONDS} s" if done.returncode in (-14, -24) else lines[-1] if lines else ""
            raise InfcError(f"{name} failed: {said or f'it ended with {done.returncode}'}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if found["error"]:
        raise InfcError(f"{name} failed: {found['error']}")
    return Replies(tuple(float("nan") if v is None else float(v) for v in found["values"]), str(found["problem"]))


def _stacked(parts: Sequence[Array], name: str, key: str) -> Array:
    if len({part.shape[1:] for part in parts}) != 1 or any(len(part) != 1 for part in parts):
        raise InfcError(f"{name}: rows of output {key!r} have different shapes, and it takes arrays [rows, ...]")
    return np.concatenate(list(parts))
