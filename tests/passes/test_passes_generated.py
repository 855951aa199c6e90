"""Random graphs over every op: passes keep results, and what the ragged analysis proves holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from pass_models import Array, has

from infc.compiler.ir.graph import Graph
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.leaf import Input
from infc.compiler.ir.verify import verify
from infc.compiler.passes.pipeline import Step, default_passes, parse_passes, run_passes
from infc.compiler.passes.ragged import analyse, explain
from tests.ir.generate import random_graph, random_inputs, sizes

SAMPLE = 60
ALL = 1500


def check_passes(seed: int) -> None:
    """Every pass of the default list keeps every output, but for rounding in fuse's scales and attention."""
    graph, _ = random_graph(seed)
    size = sizes(graph)[-1]
    inputs = random_inputs(graph, size, seed)

    def callback(step: Step) -> None:
        verify(step.after)
        loops = step.pass_.name == "fuse_loops"  # it merges loop forms, whose sums NumPy may take in another order
        want, got = (run(graph, inputs, loops=loops) for graph in (step.before, step.after))
        for name, value in want.items():
            close = step.pass_.name == "fuse" and value.dtype.kind == "f"
            what = f"seed {seed}: {step.pass_.name} changes {name}"
            if close:
                scale = max(1.0, float(np.abs(np.nan_to_num(value, posinf=0, neginf=0)).max(initial=0)))
                np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5 * scale, err_msg=what)
            else:
                np.testing.assert_array_equal(got[name], value, err_msg=what)

    run_passes(graph, default_passes(), callback)


def rows_of(graph: Graph, inputs: Mapping[str, Array], row: int) -> dict[str, Array]:
    return {n.op.input: inputs[n.op.input][row : row + 1] for n in graph.inputs if isinstance(n.op, Input)}


def check_rows(seed: int, passes: str) -> bool:
    """Where the analysis proves rows independent, a row alone gives what it gives among others. True where it does."""
    graph, _ = random_graph(seed)
    graph = run_passes(graph, parse_passes(passes))
    placement = analyse(graph)
    if not placement.batchable:
        return False
    rows = min(3, graph.dims["batch"][1])
    size = {**sizes(graph)[-1], "batch": rows}
    inputs = random_inputs(graph, size, seed)
    together = run(graph, inputs, double=True)
    for row in range(rows):
        alone = run(graph, rows_of(graph, inputs, row), double=True)
        for name, value in alone.items():
            per_row = value.shape[0]
            got = together[name][row * per_row : (row + 1) * per_row]
            np.testing.assert_allclose(got, value, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}: {name}")
    return True


def check_prefixes(seed: int) -> None:
    """What is placed as a prefix does not depend on the length: its elements for a short run are the long run's."""
    graph, _ = random_graph(seed)
    length = graph.length_dim
    placement = analyse(graph)
    nodes = [n for n in graph.nodes() if placement.batchable and placement.place[n].value == "prefix"]
    if length is None or not nodes:
        return
    low, high = graph.dims[length]
    env = {"batch": 1}
    found: list[list[Array]] = []
    for tokens in (low, high):
        outputs = tuple((str(k), n) for k, n in enumerate(nodes))
        inputs = random_inputs(graph, env | {length: tokens}, seed)
        values = run(graph.replace(outputs=(*outputs, *graph.outputs)), inputs)
        found.append([values[str(k)] for k in range(len(nodes))])
    for n, short, long in zip(nodes, *found, strict=True):
        part = long[tuple(slice(0, extent) for extent in short.shape)]
        np.testing.assert_array_equal(part, short, err_msg=f"seed {seed}: {explain(placement, graph)}{n.type}")
        assert any(has(d, length) for d in n.type.shape) or short.shape == long.shape


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_passes_keep_results(seed: int) -> None:
    check_passes(seed)


@pytest.mark.full
def test_passes_keep_results_of_many_graphs() -> None:
    for seed in range(SAMPLE, ALL):
        check_passes(seed)


@pytest.mark.parametrize("passes", ["", "canonicalize,fuse,fuse_loops"])
def test_proved_rows_are_independent(passes: str) -> None:
    proved = [check_rows(seed, passes) for seed in range(SAMPLE)]
    assert sum(proved) >= SAMPLE // 4, "the generator gives too few graphs with independent rows to say anything"


@pytest.mark.full
def test_proved_rows_of_many_graphs_are_independent() -> None:
    assert sum(check_rows(seed, "") for seed in range(SAMPLE, ALL)) > 0


def test_prefixes_do_not_depend_on_the_length() -> None:
    for seed in range(SAMPLE):
        check_prefixes(seed)
