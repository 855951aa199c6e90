"""Rules of canonicalize for views (reshape, permute, expand, slice, concat, pad) and products. See the table there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ..ir.dims import Dim, product
from ..ir.graph import Node
from ..ir.ops.argsort import Argsort
from ..ir.ops.attention import Attention
from ..ir.ops.cast import Cast
from ..ir.ops.concat import Concat
from ..ir.ops.expand import Expand
from ..ir.ops.gather import Gather
from ..ir.ops.index import Index
from ..ir.ops.iota import Iota
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.ops.matmul import Matmul
from ..ir.ops.pad import Pad
from ..ir.ops.permute import Permute
from ..ir.ops.reduce import Reduce
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..ir.ops.softmax import Softmax
from .patterns import Facts, broadcast_to, is_static, like, scalar_of, splat, try_like


def drop_identity(node: Node, _: Facts) -> Node | None:
    x = node.operands[0]
    return x if x.type == node.type else None


def drop_identity_permute(node: Node, _: Facts) -> Node | None:
    assert isinstance(node.op, Permute)
    return node.operands[0] if node.op.perm == tuple(range(len(node.op.perm))) else None


def drop_full_slice(node: Node, _: Facts) -> Node | None:
    op, x = node.op, node.operands[0]
    assert isinstance(op, Slice)
    return x if op.start == 0 and op.step == 1 and op.stop == x.type.shape[op.axis] else None


def drop_empty_pad(node: Node, _: Facts) -> Node | None:
    assert isinstance(node.op, Pad)
    return node.operands[0] if not any((*node.op.low, *node.op.high)) else None


def drop_single_concat(node: Node, _: Facts) -> Node | None:
    assert isinstance(node.op, Concat)
    axis = node.op.axis
    kept = [o for o in node.operands if o.type.shape[axis] != 0]
    if len(kept) == len(node.operands) and len(kept) > 1:
        return None
    if len(kept) > 1:
        return like(node, node.op, *kept)
    return kept[0] if kept else node.operands[0]


def merge_reshapes(node: Node, _: Facts) -> Node | None:
    inner = node.operands[0]
    if isinstance(inner.op, Reshape):
        return like(node, node.op, inner.operands[0])
    if isinstance(inner.op, Expand) and splat(inner) is not None:
        return like(node, Expand(node.type.shape), _leaf(inner))
    return None


def merge_permutes(node: Node, _: Facts) -> Node | None:
    inner = node.operands[0]
    assert isinstance(node.op, Permute)
    if not isinstance(inner.op, Permute):
        return None
    first = inner.op.perm
    return like(node, Permute(tuple(first[k] for k in node.op.perm)), inner.operands[0])


def permute_of_ones(node: Node, _: Facts) -> Node | None:
    x = node.operands[0]
    assert isinstance(node.op, Permute)
    moved = [k for k in node.op.perm if x.type.shape[k] != 1]
    return like(node, Reshape(node.type.shape), x) if moved == sorted(moved) else None


def merge_expands(node: Node, _: Facts) -> Node | None:
    inner = node.operands[0]
    return like(node, node.op, inner.operands[0]) if isinstance(inner.op, Expand) else None


def merge_slices(node: Node, _: Facts) -> Node | None:
    op, inner = node.op, node.operands[0]
    assert isinstance(op, Slice)
    if not isinstance(inner.op, Slice) or inner.op.axis != op.axis or inner.op.step != 1:
        return None
    start = inner.op.start
    return like(node, Slice(op.axis, start + op.start, start + op.stop, op.step), inner.operands[0])


def slice_of_concat(node: Node, _: Facts) -> Node | None:
    op, inner = node.op, node.operands[0]
    assert isinstance(op, Slice)
    if not isinstance(inner.op, Concat) or inner.op.axis != op.axis:
        return None
    at: Dim = 0
    for part in inner.operands:
        extent = part.type.shape[op.axis]
        start, stop = op.start - at, op.stop - at
        if isinstance(start, int) and start >= 0 and _fits(stop, extent):
            return like(node, Slice(op.axis, start, stop, op.step), part)
        at = at + extent
    return None


def slice_of_reshape(node: Node, _: Facts) -> Node | None:
    """Where the reshape does nothing but split the last axis, and the slice is of the outermost of its parts."""
    op, view = node.op, node.operands[0]
    assert isinstance(op, Slice)
    if not isinstance(view.op, Reshape) or op.step != 1:
        return None
    x = view.operands[0]
    last = x.type.rank - 1
    if op.axis != last or view.type.rank <= x.type.rank or view.type.shape[:last] != x.type.shape[:-1]:
        return None
    inner = product(view.type.shape[op.axis + 1 :])
    return like(node, Reshape(node.type.shape), like(node, Slice(last, op.start * inner, op.stop * inner), x))


def slice_of_permute(node: Node, _: Facts) -> Node | None:
    op, view = node.op, node.operands[0]
    assert isinstance(op, Slice)
    if not isinstance(view.op, Permute):
        return None
    return like(node, view.op, like(node, replace(op, axis=view.op.perm[op.axis]), view.operands[0]))


def drop_ones_of_permute(node: Node, _: Facts) -> Node | None:
    """Where the reshape takes out axes of extent 1 and nothing else."""
    view = node.operands[0]
    if not isinstance(view.op, Permute):
        return None
    x, perm = view.operands[0], view.op.perm
    kept = [axis for axis, dim in enumerate(view.type.shape) if dim != 1]
    if len(kept) == view.type.rank or tuple(view.type.shape[axis] for axis in kept) != node.type.shape:
        return None
    left = sorted(perm[axis] for axis in kept)
    bare = like(node, Reshape(tuple(x.type.shape[axis] for axis in left)), x)
    return like(node, Permute(tuple(left.index(perm[axis]) for axis in kept)), bare)


def merge_concats(node: Node, _: Facts) -> Node | None:
    parts: list[Node] = []
    for operand in node.operands:
        parts += operand.operands if operand.op == node.op else (operand,)
    return like(node, node.op, *parts) if len(parts) > len(node.operands) else None


def concat_of_slices(node: Node, _: Facts) -> Node | None:
    assert isinstance(node.op, Concat)
    axis = node.op.axis
    slices = [o.op for o in node.operands if isinstance(o.op, Slice) and o.op.axis == axis and o.op.step == 1]
    if len(slices) != len(node.operands) or len(slices) < 2:
        return None
    if any(o.operands[0] is not node.operands[0].operands[0] for o in node.operands):
        return None
    if any(a.stop != b.start for a, b in pairwise(slices)):
        return None
    return like(node, Slice(axis, slices[0].start, slices[-1].stop), node.operands[0].operands[0])


def sink_reshape(node: Node, _: Facts) -> Node | None:
    """Elementwise over one reshaped operand; the others are scalars."""
    big = [k for k, o in enumerate(node.operands) if o.type.rank > 0]
    if len(big) != 1 or not isinstance(node.operands[big[0]].op, Reshape):
        return None
    operands = list(node.operands)
    operands[big[0]] = operands[big[0]].operands[0]
    return like(node, Reshape(node.type.shape), like(node, node.op, *operands))


def sink_permute(node: Node, _: Facts) -> Node | None:
    """Elementwise over one permuted operand; the others are scalars."""
    big = [k for k, o in enumerate(node.operands) if o.type.rank > 0]
    if len(big) != 1:
        return None
    view = node.operands[big[0]]
    if not isinstance(view.op, Permute):
        return None
    operands = list(node.operands)
    operands[big[0]] = view.operands[0]
    return like(node, view.op, like(node, node.op, *operands))


def sink_two_permutes(node: Node, _: Facts) -> Node | None:
    """Elementwise over several operands that are permuted alike; the others are scalars."""
    big = [o for o in node.operands if o.type.rank > 0]
    if len(big) < 2 or not isinstance(big[0].op, Permute):
        return None
    if any(o.op != big[0].op or o.type.shape != node.type.shape for o in big):
        return None
    operands = [o.operands[0] if o.type.rank > 0 else o for o in node.operands]
    return like(node, big[0].op, like(node, node.op, *operands))


def sink_two_reshapes(node: Node, _: Facts) -> Node | None:
    """Elementwise over several operands that are reshaped alike; the others are scalars."""
    big = [o for o in node.operands if o.type.rank > 0]
    if len(big) < 2 or not all(isinstance(o.op, Reshape) and o.type.shape == node.type.shape for o in big):
        return None
    if any(o.operands[0].type.shape != big[0].operands[0].type.shape for o in big):
        return None
    operands = [o.operands[0] if o.type.rank > 0 else o for o in node.operands]
    return like(node, Reshape(node.type.shape), like(node, node.op, *operands))


def sink_matrix_reshapes(node: Node, _: Facts) -> Node | None:
    """Products of matrices, as many left as right, whose leading axes are merged or split alike."""
    if not all(isinstance(o.op, Reshape) for o in node.operands):
        return None
    inner = [o.operands[0] for o in node.operands]
    if any(
        i.type.rank < 3 or i.type.shape[-2:] != o.type.shape[-2:] for i, o in zip(inner, node.operands, strict=True)
    ):
        return None
    leading = [x.type.shape[:-2] for x in (*inner, *node.operands)]
    if leading[0] != leading[1] or leading[2] != leading[3]:
        return None
    return like(node, Reshape(node.type.shape), like(node, node.op, *inner))


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


def sink_ids_reshape(node: Node, _: Facts) -> Node | None:
    table, ids = node.operands
    if not isinstance(ids.op, Reshape):
        return None
    return like(node, Reshape(node.type.shape), like(node, node.op, table, ids.operands[0]))


def drop_leading_ones(node: Node, _: Facts) -> Node | None:
    """Maps broadcast by themselves: an operand needs no axes of extent 1 in front."""
    operands = [o.operands[0] if _adds_ones(o) else o for o in node.operands]
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return None
    return try_like(node, node.op, *operands)


def sink_expand(node: Node, _: Facts) -> Node | None:
    table, ids = node.operands
    if not isinstance(ids.op, Expand):
        return None
    inner = like(node, node.op, table, ids.operands[0])
    return like(node, Expand(node.type.shape), inner)


def sink_expand_cast(node: Node, _: Facts) -> Node | None:
    x = node.operands[0]
    assert isinstance(node.op, Cast)
    if not isinstance(x.op, Expand):
        return None
    return like(node, Expand(node.type.shape), like(node, node.op, x.operands[0]))


def drop_operand_expands(node: Node, _: Facts) -> Node | None:
    """Maps broadcast by themselves. Where every operand is expanded, the result is, and the expand sinks."""
    if not any(isinstance(o.op, Expand) for o in node.operands):
        return None
    operands = [o.operands[0] if isinstance(o.op, Expand) else o for o in node.operands]
    found = like(node, node.op, *operands)
    return broadcast_to(found, node)


def scalar_operands(node: Node, _: Facts) -> Node | None:
    operands = [(scalar_of(o) or o) if o.type.rank > 0 else o for o in node.operands]
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return None
    assert isinstance(node.op, Map)
    return try_like(node, node.op, *operands)


def matmul_of_repeat(node: Node, _: Facts) -> Node | None:
    """Right matrices that are repeated along leading axes, as they are or merged into one axis: a product broadcasts by itself."""
    x, y = node.operands
    repeat = y.operands[0] if isinstance(y.op, Reshape) and y.type.rank == x.type.rank == 3 else y
    if not isinstance(repeat.op, Expand) or x.type.shape[:-2] != y.type.shape[:-2]:
        return None
    once, shape = repeat.operands[0], repeat.type.shape
    sizes = (1,) * (len(shape) - once.type.rank) + once.type.shape
    cut = max((i + 1 for i, (a, b) in enumerate(zip(sizes, shape, strict=True)) if a != b), default=0)
    matrix = y.type.shape[-2:]
    start = next((i for i in range(cut, len(shape)) if product(shape[i:]) == product(matrix)), None)
    if start is None or any(size != 1 for size in sizes[:cut]):
        return None
    own = (*shape[cut:start], *matrix) if repeat is y else (product(shape[cut:start]), *matrix)
    right = like(node, Reshape(own), once)
    if repeat is y:
        return like(node, node.op, x, right)
    left = like(node, Reshape((product(shape[:cut]), own[0], *x.type.shape[-2:])), x)
    return like(node, Reshape(node.type.shape), like(node, node.op, left, right))


def matmul_of_permute(node: Node, _: Facts) -> Node | None:
    x, y = node.operands
    assert isinstance(node.op, Matmul)
    if node.op.transpose_b or not isinstance(y.op, Permute):
        return None
    rank = y.type.rank
    swap = (*range(rank - 2), rank - 1, rank - 2)
    rest = tuple(y.op.perm[k] for k in swap)
    inner = y.operands[0]
    if rest == tuple(range(rank)):
        return like(node, Matmul(transpose_b=True), x, inner)
    if rest[-1] != rank - 1:
        return None
    return like(node, Matmul(transpose_b=True), x, like(y, Permute(rest), inner))


def matmul_of_fixed(node: Node, _: Facts) -> Node | None:
    x, w = node.operands
    assert isinstance(node.op, Matmul)
    if w.type.rank != 2 or w.type.dtype != "float32" or not is_static(w) or is_static(x):
        return None
    return like(node, Linear(), x, w if node.op.transpose_b else like(w, Permute((1, 0)), w))


def full_bias(node: Node, _: Facts) -> Node | None:
    """A bias of four axes, with a number for every key: what kernels take."""
    assert isinstance(node.op, Attention)
    bias, keys = node.operands[-1], node.operands[1].type.shape[1]
    shape = (*[1] * (4 - bias.type.rank), *bias.type.shape[:-1], keys) if bias.type.rank else (1, 1, 1, keys)
    if not node.op.bias or bias.type.shape == shape:
        return None
    if bias.type.rank < 4:
        bias = like(bias, Reshape((*[1] * (4 - bias.type.rank), *bias.type.shape)), bias)
    if bias.type.shape != shape:
        bias = like(bias, Expand(shape), bias)
    return like(node, node.op, *node.operands[:-1], bias)


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


def _adds_ones(node: Node) -> bool:
    if not isinstance(node.op, Reshape):
        return False
    before, after = node.operands[0].type.shape, node.type.shape
    more = len(after) - len(before)
    return more > 0 and after == (*[1] * more, *before)


def _fits(stop: Dim, extent: Dim) -> bool:
    room = extent - stop
    return isinstance(room, int) and room >= 0


def _leaf(node: Node) -> Node:
    found = scalar_of(node)
    assert found is not None
    return found
