"""Rules of canonicalize for views (reshape, permute, expand, slice, concat, pad) and products. See the table there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ..ir.dims import Dim, product
from ..ir.graph import Node
from ..ir.ops.attention import Attention
from ..ir.ops.cast import Cast
from ..ir.ops.concat import Concat
from ..ir.ops.expand import Expand
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.ops.matmul import Matmul
from ..ir.ops.pad import Pad
from ..ir.ops.permute import Permute
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
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


def merge_parts_of_permute(node: Node, _: Facts) -> Node | None:
    """A reshape that merges the last axes, which the permute left alone."""
    view = node.operands[0]
    if not isinstance(view.op, Permute):
        return None
    last, perm = node.type.rank - 1, view.op.perm
    kept = tuple(range(last, len(perm)))
    if last < 1 or len(perm) <= last + 1 or perm[last:] != kept or view.type.shape[:last] != node.type.shape[:last]:
        return None
    x = view.operands[0]
    merged = like(node, Reshape((*x.type.shape[:last], node.type.shape[-1])), x)
    return like(node, Permute((*perm[:last], last)), merged)


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
