"""Compiles graphs and compares model.so with the reference interpreter."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infc.compiler.codegen.plan import Plan
from infc.compiler.codegen.plan_graph import plan_graph
from infc.compiler.decisions import decide, layers_text
from infc.compiler.errors import InfcError
from infc.compiler.ir.graph import Array, Graph
from infc.compiler.ir.interpret import run as interpret
from infc.compiler.passes.pipeline import default_passes, run_passes
from infc.compiler.passes.quantize import Quantize
from infc.compiler.passes.ragged import analyse
from infc.compiler.target import find_target
from infc.dsl.spec import Precision, Search
from infc.runtime import InferError, Model

TARGET = find_target("cpu")
NATIVE = TARGET.resolve(None)


def compile_plan(plan: Plan, folder: Path, variant: str = NATIVE, threads: int = 1) -> Model:
    """model.so of plan, loaded."""
    built = TARGET.compile(TARGET.render(plan, variant), variant, folder, 1)
    return Model(built.library, built.weights, threads)


def plan_of(graph: Graph, *, optimize: bool = True) -> Plan:
    """graph's plan, after the default passes unless told otherwise."""
    final = run_passes(graph, default_passes()) if optimize else graph
    return plan_graph(final, analyse(final))


def reduced(graph: Graph, precision: str) -> Graph | None:
    """graph with every layer in a precision that has a kernel for it here; None where this machine has none."""
    try:
        decisions = decide(graph, Search(precisions=(Precision(kind=precision),)), partial(TARGET.refuses, NATIVE))
    except InfcError:
        return None
    return run_passes(graph, (Quantize(layers_text(decisions)),)) if decisions else graph


def compile_graph(graph: Graph, *, optimize: bool = True, threads: int = 1) -> Model:
    """graph compiled for this machine and loaded."""
    with tempfile.TemporaryDirectory(prefix="infc-test-") as folder:
        return compile_plan(plan_of(graph, optimize=optimize), Path(folder), threads=threads)


def assert_agrees(graph: Graph, model: Model, inputs: Mapping[str, Array], what: str = "") -> None:
    """One request of model against the interpreter in double precision.

    Tolerance: integers and bools are equal; a float may differ by 2e-5 of the largest value of its output (some hundred
    roundings of float32, whose unit is 6e-8), where both are finite; infinities and NaN stand in the same places.
    """
    want = interpret(graph, dict(inputs), double=True)
    got = model.run(inputs)
    for name in want:
        compare(got[name], want[name], f"{what} output {name}")


def compare(got: Array, want: Array, what: str, tolerance: float = 2e-5) -> None:
    """See `assert_agrees`; `tolerance` is of the largest value."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if got.dtype != np.float32:
        assert np.array_equal(got, want), f"{what}: {np.argwhere(got != want)[:3]} differ"
        return
    finite = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), finite), f"{what}: finite in other places"
    if finite.any():
        scale = max(1.0, float(np.abs(want[finite]).max()))
        worst = float(np.abs(got[finite] - want[finite]).max())
        assert worst <= tolerance * scale, f"{what}: off by {worst:.3g} of {scale:.3g}"


def failed(result: dict[str, Any] | InferError) -> InferError:
    """The error of a request that must have failed."""
    assert isinstance(result, InferError)
    return result
