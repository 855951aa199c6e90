"""Every loop of random graphs, fused and not, printed as C and compared with its reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tail_harness as harness

from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.graph import Array, Graph, Node
from infc.compiler.ir.ops.leaf import Input, WeightRef
from infc.compiler.ir.types import numpy_dtype
from infc.compiler.passes.fuse_loops import FuseLoops
from infc.targets.cpu import tail
from infc.targets.cpu.isa import native
from tests.ir.generate import random_graph, random_inputs, sizes

TOLERANCE = 2e-5
"""As in test_tail_c.py; the graphs' values are near 1 and lie where implementations must agree."""


@dataclass(frozen=True)
class Drawn:
    """A node with a loop form, its kernel, and its graph's sizes with every node's value at each."""

    name: str
    node: Node
    symbols: tuple[str, ...]
    kernel: tail.LoopKernel
    runs: tuple[tuple[dict[str, int], dict[Node, Array]], ...]


def values_of(graph: Graph, weights: dict[str, Array], size: dict[str, int], seed: int) -> dict[Node, Array]:
    """Every node's value by its reference, in float32 as it is handed on."""
    inputs = random_inputs(graph, size, seed)
    found: dict[Node, Array] = {}
    for node in graph.nodes():
        if isinstance(node.op, Input):
            value = inputs[node.op.input]
        elif isinstance(node.op, WeightRef):
            value = weights[node.op.weight]
        else:
            with np.errstate(all="ignore"):
                value = node.op.reference(size, *(harness.widened(found[o]) for o in node.operands))
        found[node] = np.array(value, numpy_dtype(node.type.dtype), order="C")
    return found


def draw(seed: int) -> list[Drawn]:
    """The loops of random graph `seed`, before and after fusing."""
    graph, weights = random_graph(seed)
    symbols = tuple(sorted(graph.dims))
    drawn: list[Drawn] = []
    for name, version in (("", graph), ("fused ", FuseLoops().apply(graph))):
        runs = tuple((size, values_of(version, weights, size, seed)) for size in sizes(version))
        for number, node in enumerate(version.nodes()):
            types = tuple(o.type for o in node.operands)
            loop = node.op.loop(node.type, *types)
            if loop is None or (name and node.op.mnemonic != "fused"):
                continue
            operands = tuple(tail.OperandDesc(t) for t in types)
            kernel = tail.loop_c(loop, operands, tail.Mode.DENSE, symbols, native(), graph.dims)
            drawn.append(Drawn(f"{name}graph {seed} node {number} {node.op}", node, symbols, kernel, runs))
    return drawn


def check(seeds: range, folder: Path) -> int:
    """Compares all loops of the graphs; returns how many there were."""
    drawn = [d for seed in seeds for d in draw(seed)]
    library = harness.build([d.kernel for d in drawn], folder)
    for number, d in enumerate(drawn):
        for size, values in d.runs:
            operands = [values[o] for o in d.node.operands]
            out = np.full(harness.shape_of(d.node.type, size), 7, numpy_dtype(d.node.type.dtype))
            total = evaluate(d.kernel.outer, size)
            library.run(number, out, operands, [size[s] for s in d.symbols], total, (total // 2,))
            harness.check_close(f"{d.name} at {size}", out, values[d.node], TOLERANCE)
    return len(drawn)


def test_loops_of_random_graphs_match_their_references(tmp_path: Path) -> None:
    assert check(range(25), tmp_path) > 60


@pytest.mark.full
def test_loops_of_many_random_graphs_match_their_references(tmp_path: Path) -> None:
    for first in range(1000, 2000, 250):
        assert check(range(first, first + 250), tmp_path / str(first)) > 600
