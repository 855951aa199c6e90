"""Random graphs over every op and dtype: model.so against the reference interpreter, with the passes and without."""

from __future__ import annotations

import pytest

from infc.compiler.ir.ops import known
from infc.compiler.ir.prims import TABLE
from tests.ir.generate import random_graph, random_inputs, sizes

from .support import assert_agrees, compile_graph

OPS = sorted(set(known()) - {"input", "weight", "constant", "map", "fused", "quantize"} | set(TABLE))


def check(seed: int, op: str | None = None) -> None:
    """Both bounds of every dimension and a case between, optimized on even seeds."""
    graph, _ = random_graph(seed, op)
    with compile_graph(graph, optimize=seed % 2 == 0) as model:
        for number, size in enumerate(sizes(graph)):
            assert_agrees(graph, model, random_inputs(graph, size, seed + number), f"seed {seed} op {op} sizes {size}:")


@pytest.mark.parametrize("seed", range(8))
def test_random_graph_agrees_with_the_interpreter(seed: int) -> None:
    check(seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_many_random_graphs_agree_with_the_interpreter(seed: int) -> None:
    check(seed)


@pytest.mark.full
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_op_agrees_with_the_interpreter(op: str, seed: int) -> None:
    check(seed, op)
