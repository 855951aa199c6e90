"""Specs written by tests, compiled or built, and the comparison with the source framework."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.compiler.bundle.golden import random_inputs
from infc.compiler.driver import Compiled, Request, check_spec, choose_machine, compile_model
from infc.runtime import InferError, Model
from tests.server.serving import environment

Array = NDArray[Any]
Arrays = dict[str, Array]

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
"""Times max(1, the largest reference value): both sides add float32 in orders of their own."""


@dataclass(frozen=True)
class Built:
    """A compiled model, loaded with one thread and with two."""

    compiled: Compiled
    one: Model
    two: Model

    @property
    def given(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return tuple(info.name for info in self.one.inputs)


@contextmanager
def compiled(spec: Path, work: Path) -> Generator[Built]:
    """The only model of spec, without a bundle around it."""
    request = Request(spec, jobs=1)
    checked = check_spec(request)
    work.mkdir(parents=True, exist_ok=True)
    made = compile_model(request, checked, checked.models[0], choose_machine(checked), work)
    try:
        with Model(made.library, made.weights, 1) as one, Model(made.library, made.weights, 2) as two:
            yield Built(made, one, two)
    finally:
        made.imported.close()


def answered(result: Mapping[str, Array] | InferError) -> Mapping[str, Array]:
    """Outputs of a request that must not have failed."""
    assert not isinstance(result, InferError), result
    return result


def kept_of(model: Model, output: str, inputs: Mapping[str, Array]) -> Array | None:
    """The mask, where there is one and the output has a value for each position."""
    (shape,) = [info.shape for info in model.outputs if info.name == output]
    return inputs.get("attention_mask") if shape[:2] == ("batch", "tokens") else None


def agree(got: Array, want: Array, what: str, kept: Array | None = None, tolerance: float = TOLERANCE) -> None:
    """Compares where `kept` [batch, tokens] keeps (None: everywhere); integers and bools must be equal."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, and torch gives {want.shape}"
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, and torch gives {want.dtype}"
    if kept is not None:
        got, want = got[kept == 1], want[kept == 1]
    if want.dtype != np.float32:
        assert np.array_equal(got, want), what
        return
    assert np.isfinite(got).all(), f"{what}: not finite"
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    worst = float(np.abs(got - want).max(initial=0.0))
    assert worst <= tolerance * scale, f"{what}: off by {worst:.3g} of {scale:.3g}"


def compare_with_torch(built: Built, *, edit: Callable[[dict[str, Array]], None] = lambda _: None) -> None:
    """Both bounds of every dimension and a size between; with several rows two of them are padded."""
    graph = built.compiled.imported.graph
    for part in (0.0, 0.5, 1.0):
        sizes = {name: low + int(part * (high - low)) for name, (low, high) in graph.dims.items()}
        inputs = random_inputs(graph, sizes, seed=1)
        if "attention_mask" in inputs and sizes["batch"] > 1:
            inputs["attention_mask"][0, max(1, sizes["tokens"] // 2) :] = 0
            inputs["attention_mask"][1, 1:] = 0
        edit(inputs)
        got, want = built.two.run(inputs), built.compiled.imported.reference(inputs)
        assert list(got) == list(want)
        for name, value in want.items():
            agree(got[name], value, f"{name} at {sizes}", kept_of(built.two, name, inputs))


def infc(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with this run's cache; it must never show a traceback."""
    cache = {"INFC__CACHE_DIR": os.environ["INFC__CACHE_DIR"]} if "INFC__CACHE_DIR" in os.environ else {}
    command = [sys.executable, "-m", "infc", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment(cache | env), timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str], exit_code: int, *said: str) -> str:
    """stderr of a command that must have ended with exit_code and have said all of that."""
    assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
    for text in said:
        assert text in done.stderr, f"{text!r} is not in: {done.stderr}"
    return done.stderr


def write_spec(folder: Path, *lines: str, name: str = "m") -> Path:
    """A spec of one model, its statements in lines."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.infer"
    path.write_text("infer 1\nmodel " + name + " {\n" + "".join(f"  {line}\n" for line in lines) + "}\n")
    return path
