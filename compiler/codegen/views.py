"""Views: values that are other values seen in another shape, or columns of them, and so need no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.dims import Dim
from ..ir.graph import Graph, Node
from ..ir.ops.attention import Attention
from ..ir.ops.leaf import Constant, Input, WeightRef
from ..ir.ops.linear import Linear
from ..ir.ops.quantize import Quantize
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..passes.placement import Place, Placement


@dataclass(frozen=True)
class View:
    """node is `source` seen in another shape, or columns of it: see `Ref` for `spacing` and `column`."""

    source: Node
    spacing: Dim = 0
    column: int = 0


def find_views(graph: Graph, placement: Placement) -> dict[Node, View]:
    """Nodes that need no memory: reshapes of what is stored in the same order, and slices that readers can stride over."""
    outputs = {node for _, node in graph.outputs}
    readers: dict[Node, list[tuple[Node, int]]] = {node: [] for node in graph.nodes()}
    for node in readers:
        for number, operand in enumerate(node.operands):
            readers[operand].append((node, number))
    found: dict[Node, View] = {}
    for node in graph.nodes():
        place = placement.place[node]
        if isinstance(node.op, Reshape):
            source = node.operands[0]
            base = found.get(source)
            stored = placement.place[base.source if base else source]
            if isinstance(source.op, Constant) or stored is Place.PREFIX and place is not Place.PREFIX:
                continue
            if stored is place or (place is Place.LOCAL and stored in (Place.TOKEN, Place.ROW)):
                if base is None:
                    found[node] = View(source)
                elif base.spacing == 0 or _splits_columns(source, node):
                    found[node] = View(base.source, base.spacing, base.column)
        elif isinstance(node.op, Slice) and place in (Place.TOKEN, Place.ROW, Place.LOCAL) and node not in outputs:
            source, start = node.operands[0], node.op.start
            base = found.get(source)
            columns = node.op.axis == node.type.rank - 1 and node.op.step == 1 and isinstance(start, int)
            same = placement.place[source] is place and not is_leaf(source) and (base is None or base.spacing == 0)
            if columns and same and node.type.rank == 3 and _all_stride(node, readers, outputs):
                assert isinstance(start, int)
                stored_node = base.source if base else source
                if placement.place[stored_node] is place:
                    found[node] = View(stored_node, source.type.shape[-1], start)
    return found


def _splits_columns(source: Node, node: Node) -> bool:
    """Whether the reshape node only splits source's last axis."""
    return node.type.shape[: source.type.rank - 1] == source.type.shape[:-1]


def _all_stride(node: Node, readers: Mapping[Node, list[tuple[Node, int]]], outputs: set[Node]) -> bool:
    """Whether every reader of node takes its operand with a row stride."""
    for reader, number in readers[node]:
        if isinstance(reader.op, Reshape):
            if reader in outputs or reader.type.rank != 4 or not _splits_columns(node, reader):
                return False
            if not all(isinstance(r.op, Attention) and n < 3 for r, n in readers[reader]):
                return False
        elif not (isinstance(reader.op, Linear | Quantize) and number == 0):
            return False
    return bool(readers[node])


def is_leaf(node: Node) -> bool:
    """Whether nothing computes node."""
    return isinstance(node.op, Input | WeightRef | Constant)
