"""The process in which two bundles are timed beside each other: `python -m … TASK`, a JSON file, which holds `Task`.

It is one of its own since what a bundle holds is code: one that ends its process ends no build. It prints one JSON object,
{"rounds": [{"new": {op: seconds, "": seconds of all}, "old": …}], "steps": {"new": {op: steps}, "old": …}}, or
{"error": {"side", "kind", "code", "message"}}.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import InferError, Model, load
from ..report.profile import example_inputs

WHOLE = ""
"""The name under which the time of all steps stands."""
ORDERS = (("old", "new", "new", "old"), ("new", "old", "old", "new"))
"""Of the blocks of a round, in turn: what drifts meets both alike."""
Inputs = Mapping[str, NDArray[Any]]
Times = dict[str, float]


@dataclass(frozen=True)
class Task:
    """What is timed, and for how long: `inputs` is an npz file of arrays i:NAME ("": made from a seed, of `sizes`); `copies`: rounds that share
    copies of the files, 0 for none; at most `seconds` for all rounds, each of four blocks of `block_s` behind a pause."""

    new: str
    old: str
    inputs: str
    sizes: dict[str, int]
    threads: int
    work: str
    rounds: int
    copies: int
    block_s: float
    pause_s: float
    seconds: float

    def write(self, path: Path) -> None:
        """As a file for `main`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Failed(Exception):
    """A bundle refused: `side`, and why."""

    def __init__(self, side: str, error: InferError) -> None:
        super().__init__(error.message)
        self.side, self.error = side, error


def main(argv: list[str]) -> None:
    """Prints what was measured."""
    task = Task(**json.loads(Path(argv[0]).read_text(encoding="utf-8")))
    try:
        found = measure(task)
    except Failed as failed:
        error = failed.error
        said = {"side": failed.side, "kind": error.kind, "code": error.code, "message": error.message}
        found = {"error": said}
    print(json.dumps(found))


def measure(task: Task) -> dict[str, Any]:
    """Rounds of blocks. Each round opens both models anew, of fresh copies of their files: where a file came to lie in memory
    can make a model faster or slower for as long as it is open, and that must not be told as a difference of the two."""
    end = time.monotonic() + task.seconds
    places = {"new": Path(task.new), "old": Path(task.old)}
    rounds: list[dict[str, Times]] = []
    steps: dict[str, dict[str, int]] = {}
    for number in range(task.rounds):
        if time.monotonic() > end:
            break
        if task.copies and number % task.copies == 0:
            order = ("new", "old") if number // task.copies % 2 else ("old", "new")
            places = {side: _copy(Path(getattr(task, side)), Path(task.work) / f"{side}-{number}") for side in order}
        with ExitStack() as stack:
            models = {side: stack.enter_context(_open(side, places[side], task.threads)) for side in places}
            inputs = _inputs(task, models["new"])
            for side, model in models.items():
                _run(side, model, inputs)
            steps = steps or {side: _steps_of(model) for side, model in models.items()}
            rounds.append(_round(models, inputs, ORDERS[number % 2], task))
        if task.copies and (number + 1) % task.copies == 0:
            for place in places.values():
                shutil.rmtree(place, ignore_errors=True)
    return {"rounds": rounds, "steps": steps}


def _round(models: Mapping[str, Model], inputs: Inputs, order: tuple[str, ...], task: Task) -> dict[str, Times]:
    """The time of each op, and of all: sums over steps of the least time over a side's two blocks. A step is short, so that
    others rarely come between all of its runs."""
    found: dict[str, list[float]] = {}
    for side in order:
        time.sleep(task.pause_s)
        now = block(models[side], inputs, task.block_s)
        found[side] = [min(a, b) for a, b in zip(found.get(side, now), now, strict=True)]
    return {side: _by_op(models[side], found[side]) for side in found}


def block(model: Model, inputs: Inputs, seconds: float) -> list[float]:
    """Runs for so long, at least twice: the least time of each step; of a model that tells no steps, of a run."""
    found: list[float] = []
    model.profile()
    begin, runs = time.perf_counter(), 0
    while runs < 2 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        model.run(inputs)
        took = time.perf_counter() - start
        runs += 1
        now = [step.seconds for step in model.step_times()] or [took]
        found = [min(a, b) for a, b in zip(found or now, now, strict=True)]
    return found


def _by_op(model: Model, seconds: list[float]) -> Times:
    found: Times = {WHOLE: sum(seconds)}
    for step, value in zip(model.description["steps"], seconds, strict=False):
        found[step["op"]] = found.get(step["op"], 0.0) + value
    return found


def _steps_of(model: Model) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in model.description["steps"]:
        counts[step["op"]] = counts.get(step["op"], 0) + 1
    return counts


def _inputs(task: Task, model: Model) -> Inputs:
    if not task.inputs:
        known = {name for info in model.inputs for name in info.bounds}
        return example_inputs(model, {name: size for name, size in task.sizes.items() if name in known})
    with np.load(task.inputs) as arrays:
        return {name.removeprefix("i:"): arrays[name] for name in arrays.files}


def _copy(bundle: Path, place: Path) -> Path:
    """What the loader reads of a bundle."""
    shutil.copytree(bundle / "models", place / "models")
    for name in ("manifest.json", "manifest.sha256"):
        shutil.copy(bundle / name, place / name)
    return place


def _open(side: str, place: Path, threads: int) -> Model:
    try:
        return load(place, threads=threads)
    except InferError as error:
        raise Failed(side, error) from None


def _run(side: str, model: Model, inputs: Inputs) -> None:
    """The first run, which says whether the model takes the inputs."""
    try:
        model.run(inputs)
    except InferError as error:
        raise Failed(side, error) from None


if __name__ == "__main__":
    main(sys.argv[1:])
