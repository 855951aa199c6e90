"""Where a model's time goes, as its own profiler sees it: steps by op and provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import Model

RUNS = 30


@dataclass(frozen=True, slots=True)
class Kind:
    """Steps of one op by one provider: how many, the rows that one run computes in all of them, seconds, share of all."""

    op: str
    provider: str
    steps: int
    rows: int
    seconds: float
    share: float


def profile(model: Model, inputs: Mapping[str, NDArray[Any]], runs: int = RUNS) -> list[Kind]:
    """Runs the model `runs` times; the time of a step is the least of its times. The slowest kind first.

    Raises InferError where the inputs do not fit.
    """
    least: dict[int, float] = {}
    rows: dict[int, int] = {}
    names: dict[int, tuple[str, str]] = {}
    model.profile()
    try:
        for _ in range(runs):
            model.run(inputs)
            for number, step in enumerate(model.step_times()):
                least[number] = min(step.seconds, least.get(number, step.seconds))
                rows[number], names[number] = step.rows, (step.op, step.provider)
    finally:
        model.profile(on=False)
    total = sum(least.values()) or 1.0
    members: dict[tuple[str, str], list[int]] = {}
    for number, key in names.items():
        members.setdefault(key, []).append(number)
    kinds = [
        Kind(*key, len(ns), sum(rows[n] for n in ns), (s := sum(least[n] for n in ns)), s / total)
        for key, ns in members.items()
    ]
    return sorted(kinds, key=lambda k: -k.seconds)


def example_inputs(model: Model, sizes: Mapping[str, int], seed: int = 0) -> dict[str, NDArray[Any]]:
    """An array for each input without a default: random within what `describe` allows, floats from a normal distribution.

    `sizes` gives dimensions their extents; one that is not there takes its upper bound. Raises ValueError for a size
    out of bounds.
    """
    rng = np.random.default_rng(seed)
    limits: dict[str, dict[str, Any]] = {item["name"]: item for item in model.description["inputs"]}
    arrays: dict[str, NDArray[Any]] = {}
    for info in model.inputs:
        if info.default is not None:
            continue
        for name, (low, high) in info.bounds.items():
            if name in sizes and not low <= sizes[name] <= high:
                raise ValueError(f"{name} is {sizes[name]}, and must be from {low} to {high}")
        shape = [d if isinstance(d, int) else sizes.get(d, info.bounds[d][1]) for d in info.shape]
        low, high = limits[info.name].get("min"), limits[info.name].get("max")
        if info.dtype == "float32":
            array = rng.normal(size=shape).astype(np.float32)
            arrays[info.name] = array if low is None and high is None else np.clip(array, low, high)
        elif info.dtype == "bool":
            arrays[info.name] = rng.random(shape) < 0.5
        else:
            arrays[info.name] = rng.integers(low or 0, (1000 if high is None else high) + 1, shape).astype(info.dtype)
    return arrays
