"""Where a model's time goes, as its own profiler sees it: steps by op and provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step: its name, op and provider, the rows that a run computes, seconds."""

    name: str
    op: str
    provider: str
    rows: int
    seconds: float


def step_times(model: Model, inputs: Mapping[str, NDArray[Any]], runs: int = RUNS) -> list[StepTime]:
    """Runs the model `runs` times; the time of a step is the least of its times. In the order of the plan.

    Raises InferError where the inputs do not fit.
    """
    found: list[StepTime] = []
    model.profile()
    try:
        for _ in range(runs):
            model.run(inputs)
            now = [StepTime(s.name, s.op, s.provider, s.rows, s.seconds) for s in model.step_times()]
            found = [min(a, b, key=lambda s: s.seconds) for a, b in zip(found or now, now, strict=True)]
    finally:
        model.profile(on=False)
    return found


def profile(model: Model, inputs: Mapping[str, NDArray[Any]], runs: int = RUNS) -> list[Kind]:
    """The times of steps by op and provider, the slowest kind first. Raises InferError where the inputs do not fit."""
    return kinds_of(step_times(model, inputs, runs))


def kinds_of(steps: Sequence[StepTime]) -> list[Kind]:
    """Steps by op and provider, the slowest kind first."""
    total = sum(s.seconds for s in steps) or 1.0
    members: dict[tuple[str, str], list[StepTime]] = {}
    for step in steps:
        members.setdefault((step.op, step.provider), []).append(step)
    kinds = [
        Kind(*key, len(ms), sum(m.rows for m in ms), (s := sum(m.seconds for m in ms)), s / total)
        for key, ms in members.items()
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
