"""Every op on generated graphs: its NumPy reference against torch, its loop form against the reference, its text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.evaluate import evaluate_loop
from infc.compiler.ir.graph import Array, Graph, Node, Op
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops import known
from infc.compiler.ir.ops.leaf import Input, WeightRef
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.prims import TABLE
from infc.compiler.ir.printer import number_nodes, parse_graph, print_graph
from infc.compiler.ir.verify import verify

from .generate import cases, random_graph, random_inputs, sizes, targets
from .recipes import RECIPES
from .torch_ops import MAPS, OPS, torch_apply

PRIMITIVES = [name for name in TABLE if name != "cast"]
TARGETS = targets()
SEEDS = 4

# float64 against float64: rounding alone, some hundreds of additions at most, on values up to about 30
DOUBLE = (1e-9, 1e-9)
# float32 against float64 over up to eight ops: 2^-24 each, amplified by norms with eps 1e-5 on values of about 1
SINGLE = (1e-4, 3e-5)


def check(result: Array, expected: Array, tolerance: tuple[float, float], what: str) -> None:
    relative, absolute = tolerance
    assert result.shape == expected.shape, what
    np.testing.assert_allclose(result, expected, rtol=relative, atol=absolute, err_msg=what)


def applications(graph: Graph, seed: int) -> Iterator[tuple[Node, dict[str, int], list[Array], Array]]:
    """Every node of graph that is computed, with symbols, operands and result in float64, at every size."""
    nodes = graph.nodes()
    for size in sizes(graph):
        values = run(graph, random_inputs(graph, size, seed), double=True, keep=nodes)
        names = number_nodes(graph)  # nodes of one printed name (a weight, a constant) have one value
        for node in nodes:
            if not isinstance(node.op, (Input, WeightRef)):
                yield node, size, [values[names[o]] for o in node.operands], values[names[node]]


def the_op(name: str, op: Op) -> bool:
    return op.name == name or op.mnemonic == name


@pytest.mark.parametrize("name", [n for n in TARGETS if n not in ("input", "weight", "map", "fused")])
def test_reference_equals_torch(name: str) -> None:
    compared = 0
    for seed in range(SEEDS):
        graph, _ = random_graph(seed, name)
        for node, size, operands, result in applications(graph, seed):
            if the_op(name, node.op):
                expected = torch_apply(node.op, size, operands)
                check(result, expected, DOUBLE, f"{name} seed {seed} {node}")
                compared += 1
    assert compared >= SEEDS


@pytest.mark.parametrize(
    "name",
    [n for n in TARGETS if n not in ("input", "weight", "constant", "linear", "attention", "argsort", "recurrence")],
)
def test_loop_form_equals_reference(name: str) -> None:
    compared = 0
    for seed in range(SEEDS):
        graph, _ = random_graph(seed + 100, name)
        for node, size, operands, result in applications(graph, seed):
            if the_op(name, node.op):
                loop = node.op.loop(node.type, *(o.type for o in node.operands))
                assert loop is not None
                assert loop.out == node.type
                check(evaluate_loop(loop, size, operands), result, DOUBLE, f"{name} seed {seed} {node}")
                compared += 1
    assert compared >= SEEDS


def test_torch_and_recipes_cover_every_op_and_primitive() -> None:
    assert set(RECIPES) == set(known()) - {"quantize"}
    assert set(MAPS) == set(PRIMITIVES)
    assert set(OPS) == set(known()) - {"map", "input", "weight", "fused", "quantize"}


@pytest.mark.parametrize("name", [*TARGETS, *[None] * 3])
def test_generated_graphs_are_valid_print_and_agree_in_single_precision(name: str | None) -> None:
    for seed in range(SEEDS):
        graph, _ = random_graph(seed + 200, name)
        again, _ = random_graph(seed + 200, name)
        text = print_graph(graph)
        assert print_graph(again) == text
        assert print_graph(verify(parse_graph(text, graph.weights))) == text
        verify(graph)
        assert name is None or any(the_op(name, node.op) for node in graph.nodes())
        for size in sizes(graph):
            inputs = random_inputs(graph, size, seed)
            single, double = run(graph, inputs), run(graph, inputs, double=True)
            for output, node in graph.outputs:
                assert single[output].shape == tuple(evaluate(d, size) for d in node.type.shape)
                assert np.isfinite(double[output]).all()
                check(single[output], double[output], SINGLE, f"{name} seed {seed} {output}")


def test_no_rows_give_no_rows() -> None:
    for seed, name in cases(len(TARGETS)):
        graph, _ = random_graph(seed, name, mixes=False)
        empty = graph.replace(dims={**graph.dims, "batch": (0, 5)})
        size = {symbol: 0 if symbol == "batch" else high for symbol, (_, high) in graph.dims.items()}
        for loops in (False, True):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing, in a result without the batch
                outputs = run(empty, random_inputs(empty, size, seed), loops=loops)
            assert all(array.shape[0] == 0 for array in outputs.values()), (seed, name)


def test_every_output_has_the_batch_in_front() -> None:
    for seed in range(60):
        graph, _ = random_graph(seed)
        assert all(str(node.type.shape[0]) == "batch" for _, node in graph.outputs)


def test_generated_graphs_cover_every_dtype_and_broadcasts() -> None:
    dtypes: set[tuple[str, str]] = set()
    broadcasts = 0
    for name in RECIPES:
        for seed in range(12):
            graph, _ = random_graph(seed, name)
            for node in graph.nodes():
                dtypes.add((node.op.mnemonic, node.type.dtype))
                if isinstance(node.op, Map):
                    broadcasts += len({o.type.shape for o in node.operands}) > 1
    movement = (
        "reshape",
        "permute",
        "expand",
        "slice",
        "concat",
        "pad",
        "flip",
        "gather",
        "take",
        "embedding",
        "index",
    )
    for mnemonic in (*movement, "cast", "map"):
        assert {d for m, d in dtypes if m == mnemonic} == {"float32", "int64", "int32", "bool"}, mnemonic
    assert broadcasts > 100


def test_cases_go_round_every_target() -> None:
    chosen = cases(500)
    assert len(set(chosen)) == 500
    assert {op for _, op in chosen} == set(TARGETS)
