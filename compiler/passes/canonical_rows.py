"""Rules of canonicalize for ops that compute each row, or each place along the last axis, by itself."""

from __future__ import annotations

from dataclasses import replace

from ..ir.dims import product
from ..ir.graph import Node
from ..ir.ops.argsort import Argsort
from ..ir.ops.gather import Gather
from ..ir.ops.permute import Permute
from ..ir.ops.reduce import Reduce
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..ir.ops.softmax import Softmax
from .patterns import Facts, like


def sink_softmax_reshape(node: Node, _: Facts) -> Node | None:
    view, op = node.operands[0], node.op
    assert isinstance(op, Softmax)
    if not isinstance(view.op, Reshape) or op.axis != view.type.rank - 1:
        return None
    x = view.operands[0]
    if x.type.rank < 2 or x.type.shape[-1] != view.type.shape[-1]:
        return None
    return like(node, Reshape(node.type.shape), like(node, Softmax(x.type.rank - 1), x))


def _unmerged(node: Node) -> Node | None:
    """What a reshape that merges leading axes and leaves the last alone is of."""
    if not isinstance(node.op, Reshape):
        return None
    x = node.operands[0]
    return x if x.type.rank > node.type.rank and x.type.shape[-1] == node.type.shape[-1] else None


def sink_merged_rows(node: Node, _: Facts) -> Node | None:
    """A map of scalars and of reshapes that merge the same leading axes, whose last axes may be broadcast to each other."""
    inner = [operand if operand.type.rank == 0 else _unmerged(operand) for operand in node.operands]
    found = [x for x in inner if x is not None]
    leading = {x.type.shape[:-1] for x in found if x.type.rank}
    if len(found) < len(inner) or len(leading) != 1:
        return None
    return like(node, Reshape(node.type.shape), like(node, node.op, *found))


def sink_last_axis(node: Node, _: Facts) -> Node | None:
    """An order, a reduction or a slice along the last axis, of a reshape that merges leading axes."""
    view, op = node.operands[0], node.op
    x = _unmerged(view)
    if x is None or not isinstance(op, Argsort | Reduce | Slice):
        return None
    axes = op.axes if isinstance(op, Reduce) else (op.axis,)
    if axes != (view.type.rank - 1,):
        return None
    last = x.type.rank - 1
    moved = replace(op, axes=(last,)) if isinstance(op, Reduce) else replace(op, axis=last)
    return like(node, Reshape(node.type.shape), like(node, moved, x))


def sink_last_gather(node: Node, _: Facts) -> Node | None:
    """A gather along the last axis, of two reshapes that merge the same leading axes."""
    op = node.op
    assert isinstance(op, Gather)
    x, index = (_unmerged(operand) for operand in node.operands)
    if x is None or index is None or op.axis != node.type.rank - 1 or x.type.shape[:-1] != index.type.shape[:-1]:
        return None
    return like(node, Reshape(node.type.shape), like(node, replace(op, axis=x.type.rank - 1), x, index))


def sink_row_reshape(node: Node, _: Facts) -> Node | None:
    """An op over the last axis, of a reshape that leaves the last axis alone."""
    view, rest = node.operands[0], node.operands[1:]
    if not isinstance(view.op, Reshape) or getattr(node.op, "residual", False):
        return None
    x = view.operands[0]
    if x.type.rank < 2 or view.type.rank < 2 or x.type.shape[-1] != view.type.shape[-1]:
        return None
    if product(x.type.shape[:-1]) != product(view.type.shape[:-1]):
        return None
    return like(node, Reshape(node.type.shape), like(node, node.op, x, *rest))


def split_rows(node: Node, _: Facts) -> Node | None:
    """A linear of a reshape that merges axes into rows and others into columns: its rows stay apart."""
    view, rest = node.operands[0], node.operands[1:]
    if not isinstance(view.op, Reshape) or getattr(node.op, "residual", False):
        return None
    x, columns = view.operands[0], view.type.shape[-1]
    for cut in range(view.type.rank, x.type.rank - 1):
        if product(x.type.shape[cut:]) == columns:
            rows = like(node, Reshape((*x.type.shape[:cut], columns)), x)
            return like(node, Reshape(node.type.shape), like(node, node.op, rows, *rest))
    return None


def sink_row_permute(node: Node, _: Facts) -> Node | None:
    """An op over the last axis, of a permute that leaves the last axis alone."""
    view, rest = node.operands[0], node.operands[1:]
    if not isinstance(view.op, Permute) or getattr(node.op, "residual", False):
        return None
    last = view.type.rank - 1
    if view.op.perm[last] != last:
        return None
    return like(node, view.op, like(node, node.op, view.operands[0], *rest))
