"""fold: what depends on weights, constants and fixed shapes alone is computed at build time.

A folded scalar becomes a constant, a folded array a weight whose `load` computes it from the weights that it came from
(so a graph of large weights folds in no time, and nothing is held in memory before it is packed). Values that would take
more memory than what they are made of (a broadcast table, say) are left to the run, but for small ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Array, Graph, Node, Weight, rewrite, topological
from ..ir.ops.leaf import Constant, WeightRef, constant, weight_node
from ..ir.types import ITEM_BYTES, numpy_dtype
from .patterns import static_nodes

LEAVES = (Constant, WeightRef)
ONE_LINE = 16  # characters of a digest that make a name unique


@dataclass(frozen=True)
class Fold:
    """linear(x, permute(@w)) -> linear(x, @w.permute)"""

    max_bytes: int = 1 << 30
    """Results larger than this stay."""
    small_bytes: int = 1 << 16
    """Results up to this size are folded even where they are larger than what they are made of."""
    name: ClassVar[str] = "fold"

    def apply(self, graph: Graph) -> Graph:
        static = static_nodes(graph)
        needed = {o for node in graph.nodes() if node not in static for o in node.operands if o in static}
        needed |= {node for _, node in graph.outputs if node in static}
        weights = dict(graph.weights)
        images: dict[Node, Node] = {}
        for node in graph.nodes():
            if node in needed and not isinstance(node.op, LEAVES) and self._worth(node):
                images[node] = _fold(node, weights, graph.weights)
        originals = iter(graph.nodes())
        folded = rewrite(graph, lambda node: images.get(next(originals), node))
        return folded.replace(weights=weights)

    def _worth(self, node: Node) -> bool:
        size = node.type.bytes
        assert isinstance(size, int)
        sources = sum(_bytes(n) for n in topological([node]) if isinstance(n.op, WeightRef))
        return size <= min(self.max_bytes, max(self.small_bytes, sources))


def evaluate_static(node: Node, weights: Mapping[str, Weight]) -> Array:
    """The value of a static node. The result is contiguous and of the node's dtype."""
    values: dict[Node, Array] = {}
    for n in topological([node]):
        if isinstance(n.op, WeightRef):
            values[n] = weights[n.op.weight].load()
        else:
            values[n] = n.op.reference({}, *(values[o] for o in n.operands))
    return np.ascontiguousarray(values[node], dtype=numpy_dtype(node.type.dtype)).reshape(values[node].shape)


def _fold(node: Node, weights: dict[str, Weight], sources: Mapping[str, Weight]) -> Node:
    if node.type.rank == 0:
        return constant(evaluate_static(node, sources).item(), node.type.dtype, node.origin)
    name = _name(node)
    weights[name] = Weight(node.type, _once(lambda: evaluate_static(node, sources)))
    return weight_node(name, node.type, node.origin)


def _name(node: Node) -> str:
    """The first weight that node is made of, its op, and a digest of the whole computation: the same in every build."""
    number: dict[Node, int] = {}
    text: list[str] = []
    base = ""
    for n in topological([node]):
        number[n] = len(number)
        text.append(f"{n.op!r}({','.join(str(number[o]) for o in n.operands)})")
        if isinstance(n.op, WeightRef):
            base = base or f"{n.op.weight}."
    digest = hashlib.sha256("\n".join(text).encode()).hexdigest()
    return f"{base}{node.op.name}.{digest[:ONE_LINE]}"


def _once(compute: Callable[[], Array]) -> Callable[[], Array]:
    """compute, called at most once."""
    kept: list[Array] = []

    def load() -> Array:
        if not kept:
            kept.append(compute())
        return kept[0]

    return load


def _bytes(node: Node) -> int:
    size = node.type.elements * ITEM_BYTES[node.type.dtype]
    return size if isinstance(size, int) else 0
