"""Assignment to a part of a tensor, as torch.export writes it: the tensor with that part replaced."""

from __future__ import annotations

from ...ir.dims import Dim, bounds
from ...ir.graph import Node
from .scattering import put_at
from .scope import Scope, Unsupported, Unwritten, Value, aten, axis_of, broadcast, shape_of, static, tensor
from .shape import ends_of, place_of
from .unwritten import written


def _replaced(s: Scope, node: Node, at: int, first: Dim, last: Dim, part: Node) -> Node:
    """node with part, which broadcasts to it, in place of first:last of one axis."""
    shape = (*node.type.shape[:at], last - first, *node.type.shape[at + 1 :])
    extent = node.type.shape[at]
    pieces = [
        s.slice(node, at, 0, first),
        s.expand(s.cast(part, node.type.dtype), shape),
        s.slice(node, at, last, extent),
    ]
    kept = [piece for piece in pieces if bounds(piece.type.shape[at], s.dims)[1] > 0]
    return kept[0] if len(kept) == 1 else s.op("concat", *kept, axis=at) if kept else node


@aten("copy")
def copy(s: Scope, x: Value, source: Value, *rest: Value) -> Node:
    if isinstance(x, Unwritten):
        return s.expand(s.cast(tensor(source), x.dtype), x.shape)
    node = tensor(x)
    return s.expand(s.cast(tensor(source), node.type.dtype), node.type.shape)


@aten("slice_scatter")
def slice_scatter(
    s: Scope, x: Value, source: Value, axis: Value = 0, start: Value = None, stop: Value = None, step: Value = 1
) -> Node | Unwritten:
    shape = shape_of(x)
    at = axis_of(axis, len(shape))
    stride = static(step, "the slice's step")
    first, last = ends_of(s, shape[at], start, stop)
    if isinstance(x, Unwritten) and stride == 1:
        return written(s, x, at, first, last, source)
    node = tensor(x)
    if stride == 1:
        return _replaced(s, node, at, first, last, tensor(source))
    return _stepped(s, node, at, (first, last, stride), tensor(source))


MOST_STEPS = 256
"""Places of a slice with a step that are assigned one by one."""


def _stepped(s: Scope, node: Node, at: int, places: tuple[Dim, Dim, int], part: Node) -> Node:
    """node with part, which broadcasts to the slice, in every so many-th place of one axis."""
    first, last, stride = places
    if not isinstance(first, int) or not isinstance(last, int) or len(range(first, last, stride)) > MOST_STEPS:
        raise Unsupported("assignment to a slice with a step", "use `torch.where` with a mask over positions")
    listed = range(first, last, stride)
    if not listed:
        return node
    shape = (*node.type.shape[:at], len(listed), *node.type.shape[at + 1 :])
    part = s.expand(s.cast(part, node.type.dtype), shape)
    pieces: list[Node] = []
    done: Dim = 0
    for number, place in enumerate(listed):
        pieces += [s.slice(node, at, done, place), s.slice(part, at, number, number + 1)]
        done = place + 1
    pieces.append(s.slice(node, at, done, node.type.shape[at]))
    return s.op("concat", *(piece for piece in pieces if bounds(piece.type.shape[at], s.dims)[1] > 0), axis=at)


@aten("select_scatter")
def select_scatter(s: Scope, x: Value, source: Value, axis: Value, index: Value) -> Node | Unwritten:
    shape, part = shape_of(x), tensor(source)
    at = axis_of(axis, len(shape))
    place = place_of(s, shape, at, index)
    part = s.reshape(part, (*part.type.shape[:at], 1, *part.type.shape[at:]))
    if isinstance(x, Unwritten):
        return written(s, x, at, place, place + 1, part)
    node = tensor(x)
    return _replaced(s, node, at, place, place + 1, part)


@aten("index_put")
def index_put(s: Scope, x: Value, indices: Value, values: Value, accumulate: Value = False) -> Node:
    """x[mask] = value, of one value; x[:, index] = values, of an index of one dimension."""
    node, value = tensor(x), tensor(values)
    listed = [tensor(i) for i in indices if i is not None] if isinstance(indices, list) else [tensor(indices)]
    if len(listed) == 1 and listed[0].type.dtype != "bool" and listed[0].type.rank == 1 and isinstance(indices, list):
        at = next(n for n, i in enumerate(indices) if i is not None)
        return put_at(s, node, at, listed[0], value, accumulate=bool(accumulate))
    mask = listed[0] if listed else None
    whole = mask is not None and isinstance(indices, list) and indices[: len(listed)] == listed
    if mask is None or len(listed) > 1 or not whole or mask.type.dtype != "bool" or value.type.elements != 1:
        raise Unsupported("assignment by index", "assign one value by a mask, or use `torch.where` or `gather`")
    shape = (*mask.type.shape, *([1] * (node.type.rank - mask.type.rank)))
    broadcast(node.type, s.reshape(mask, shape).type)
    value = s.cast(s.reshape(value, ()), node.type.dtype)
    if accumulate:
        value = s.map("add", node, value)
    return s.map("where", s.reshape(mask, shape), value, node)
