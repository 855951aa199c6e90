"""Rules of canonicalize for elements that are picked by counting: index tensors that are 0, 1, 2, ... along an axis."""

from __future__ import annotations

from ..ir.dims import Dim, product
from ..ir.graph import Node
from ..ir.ops.expand import Expand
from ..ir.ops.gather import Gather
from ..ir.ops.index import Index
from ..ir.ops.iota import Iota
from ..ir.ops.reshape import Reshape
from .patterns import Facts, broadcast_to, like


def index_by_counting(node: Node, _: Facts) -> Node | None:
    """x indexed along each axis by 0, 1, ... up to that axis' extent, the index tensors along axes of their own."""
    op, (x, *indices) = node.op, node.operands
    assert isinstance(op, Index)
    rank = max(i.type.rank for i in indices)
    places: list[int] = []
    for axis, index in zip(op.axes, indices, strict=True):
        at = _counts(index, x.type.shape[axis])
        if at is None:
            return None
        places.append(rank - index.type.rank + at)
    if places != sorted(set(places)):
        return None
    spread: list[Dim] = [1] * rank
    for axis, place in zip(op.axes, places, strict=True):
        spread[place] = x.type.shape[axis]
    shape = (*x.type.shape[: op.axes[0]], *spread, *x.type.shape[op.axes[-1] + 1 :])
    return broadcast_to(like(node, Reshape(shape), x), node)


def pick_of_each(node: Node, _: Facts) -> Node | None:
    """x indexed by 0, 1, ... along leading axes, and by a tensor along the one behind them: of each, what the tensor says."""
    op, (x, *counted, picked) = node.op, node.operands
    assert isinstance(op, Index)
    rank = max(i.type.rank for i in (*counted, picked))
    places = [_counts(i, x.type.shape[axis]) for axis, i in zip(op.axes, counted, strict=False)]
    if not counted or any(
        at is None or rank - i.type.rank + at != k for k, (at, i) in enumerate(zip(places, counted, strict=True))
    ):
        return None
    first, axis = op.axes[0], op.axes[-1]
    shape = node.type.shape
    each, ends = shape[first:axis], first + rank
    if each != x.type.shape[first:axis]:
        return None
    # The tensor's own axes become one, beside those of x.
    count = product(shape[axis:ends])
    spread = (
        picked
        if picked.type.rank == rank
        else like(node, Reshape((*[1] * (rank - picked.type.rank), *picked.type.shape)), picked)
    )
    spread = spread if spread.type.shape == shape[first:ends] else like(node, Expand(shape[first:ends]), spread)
    behind = x.type.shape[axis + 1 :]
    index = like(node, Reshape((*[1] * first, *each, count, *[1] * len(behind))), spread)
    whole = (*x.type.shape[:axis], count, *behind)
    index = index if index.type.shape == whole else like(node, Expand(whole), index)
    return like(node, Reshape(shape), like(node, Gather(axis), x, index))


def _counts(index: Node, extent: Dim) -> int | None:
    """The axis along which index is 0, 1, ..., extent - 1, all its others being of extent 1; None for another index."""
    view, shape = index, index.type.shape
    if isinstance(view.op, Reshape):
        view = view.operands[0]
    if not isinstance(view.op, Iota) or (view.op.start, view.op.step) != (0, 1):
        return None
    if view.type.shape[view.op.axis] != extent or any(
        d != 1 for k, d in enumerate(view.type.shape) if k != view.op.axis
    ):
        return None
    if extent == 1:
        return len(shape) - 1 if shape else None
    return shape.index(extent)
