"""The process in which a user's metric runs: `python -m … FILE FUNCTION ARRAYS OUT ALPHA SECONDS BYTES`."""

from __future__ import annotations

import importlib.util
import json
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..statistics.bootstrap import Sides, statistic_bounds

SEED = 0x1F2E3D
"""Of the resamples, which who judges draws again."""
Metric = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], float]


class TooSlow(Exception):
    """The calls take more than their time."""


def main(argv: list[str]) -> None:
    """Writes {"values", "problem", "error"} to OUT."""
    file, entry, arrays, out, alpha, seconds, memory = argv
    signal.alarm(2 * int(seconds))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    values: list[float | None] = []
    problem = error = ""
    try:
        call(_load(file, entry), arrays, float(alpha), float(seconds), values)
    except TooSlow as slow:
        problem = str(slow)
    except Exception as fault:  # noqa: BLE001 - the user's code may raise anything, and is told so
        error = f"{type(fault).__name__}: {fault}"
    with open(out, "w", encoding="utf-8") as target:
        json.dump({"values": values, "problem": problem, "error": error}, target)


def call(metric: Metric, arrays: str, alpha: float, seconds: float, values: list[float | None]) -> None:
    """Asks the metric for all rows, then for resamples; each reply is put into `values` (nan: None)."""
    with np.load(arrays) as found:
        outputs = {name[2:]: found[name] for name in found.files if name.startswith("o:")}
        labels = {name[2:]: found[name] for name in found.files if name.startswith("l:")}
    count = len(next(iter(outputs.values())))
    begin = time.monotonic()

    def statistic(rows: NDArray[np.intp]) -> float:
        if values and time.monotonic() - begin > seconds:
            raise TooSlow(f"{len(values)} calls took {seconds:g} s, and more are needed")
        given = metric({k: v[rows] for k, v in outputs.items()}, {k: v[rows] for k, v in labels.items()})
        value = float(given)
        values.append(value if math.isfinite(value) else None)
        return value

    statistic_bounds(statistic, count, Sides(alpha, alpha), np.random.default_rng(SEED))


def _load(file: str, entry: str) -> Metric:
    spec = importlib.util.spec_from_file_location("metric", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, entry)


if __name__ == "__main__":
    main(sys.argv[1:])
