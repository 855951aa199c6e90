"""Scattering by index along one axis: scatter, scatter_add, scatter_reduce, index_put and index_add.

What lands in a place is found by comparing each index with the places of the axis, so the work is the number of indices times
the number of places, as in a product with a one-hot matrix. Of several values for one place a plain scatter keeps the last, as
torch does on a CPU (it promises nothing). An index beyond the axis, which torch refuses as it runs, lands nowhere.
"""

from __future__ import annotations

from ...ir.dims import Dim
from ...ir.graph import Node
from .scope import Scope, Unsupported, Value, aten, axis_of, tensor

MOST_SOURCES = 64
"""Values of one line that are assigned one after the other."""
_REDUCTIONS = {
    "sum": ("sum", "add"), "add": ("sum", "add"), "amax": ("max", "max"), "amin": ("min", "min"), "mean": ("sum", "add"),
}  # fmt: skip
"""torch's names, what collects the values, and what joins them with what was there."""


def _checked(s: Scope, x: Value, axis: Value, index: Value) -> tuple[Node, int, Node]:
    node, places = tensor(x), tensor(index)
    if node.type.rank == 0 or places.type.rank != node.type.rank:
        raise Unsupported("scattering to a scalar", "use `torch.where`")
    at = axis_of(axis, node.type.rank)
    if any(a != b for n, (a, b) in enumerate(zip(node.type.shape, places.type.shape, strict=True)) if n != at):
        raise Unsupported("scattering to a part of a tensor", "give the index the tensor's extents on the other axes")
    return node, at, s.cast(places, "int64")


def _source(s: Scope, source: Value, index: Node, like: Node) -> Node:
    """The part of source that index reads, in the type of what it goes to."""
    part = tensor(source)
    for at, extent in enumerate(index.type.shape):
        part = s.slice(part, at, 0, extent)
    return s.cast(part, like.type.dtype)


def _hits(s: Scope, node: Node, at: int, index: Node) -> Node:
    """bool [..., indices, places, ...]: which index names which place."""
    before, after = index.type.shape[:at], index.type.shape[at + 1 :]
    wide = s.reshape(index, (*before, index.type.shape[at], 1, *after))
    return s.map("eq", wide, _line(s, node.type.shape[at], at + 1, node.type.rank + 1))


def _line(s: Scope, extent: Dim, at: int, rank: int) -> Node:
    """0, 1, … along one of `rank` axes."""
    shape = tuple(extent if n == at else 1 for n in range(rank))
    return s.op("iota", shape=shape, axis=at, start=0, step=1, dtype="int64")


def _is_hit(s: Scope, node: Node, at: int, index: Node) -> Node:
    """bool, in node's shape: whether any index names the place."""
    return s.op("reduce", _hits(s, node, at, index), kind="any", axes=(at,), keepdims=False)


def _collected(s: Scope, node: Node, at: int, index: Node, part: Node, kind: str) -> Node:
    """What `kind` makes of all that lands in each place; its neutral element where nothing does."""
    shape = part.type.shape
    wide = s.reshape(part, (*shape[: at + 1], 1, *shape[at + 1 :]))
    neutral = {"sum": 0, "max": float("-inf"), "min": float("inf")}[kind]
    if kind != "sum" and node.type.dtype != "float32":
        raise Unsupported(f"the {kind} of what is scattered, of {node.type.dtype}", "compute it in float32")
    landed = s.map("where", _hits(s, node, at, index), wide, s.constant(neutral, node.type.dtype))
    return s.op("reduce", landed, kind=kind, axes=(at,), keepdims=False)


@aten("scatter.value")
def scatter_value(s: Scope, x: Value, axis: Value, index: Value, value: Value) -> Node:
    node, at, places = _checked(s, x, axis, index)
    if not isinstance(value, int | float):
        raise Unsupported("scattering a value that is no number", "give a number")
    return s.map("where", _is_hit(s, node, at, places), s.constant(value, node.type.dtype), node)


@aten("scatter.src")
def scatter_source(s: Scope, x: Value, axis: Value, index: Value, source: Value) -> Node:
    node, at, places = _checked(s, x, axis, index)
    return _assigned(s, node, at, places, _source(s, source, places, node))


def _assigned(s: Scope, node: Node, at: int, places: Node, part: Node) -> Node:
    count = places.type.shape[at]
    if not isinstance(count, int) or count > MOST_SOURCES:
        raise Unsupported(
            f"scattering {count} values of a line",
            f"scatter up to {MOST_SOURCES}, or use `gather` with the inverse index",
        )
    line = _line(s, node.type.shape[at], at, node.type.rank)
    for number in range(count):
        hit = s.map("eq", s.slice(places, at, number, number + 1), line)
        node = s.map("where", hit, s.slice(part, at, number, number + 1), node)
    return node


@aten("scatter_add")
def scatter_add(s: Scope, x: Value, axis: Value, index: Value, source: Value) -> Node:
    return scatter_reduce(s, x, axis, index, source, "sum")


@aten("scatter_reduce.two")
def scatter_reduce(
    s: Scope, x: Value, axis: Value, index: Value, source: Value, reduce: Value, include_self: Value = True
) -> Node:
    node, at, places = _checked(s, x, axis, index)
    found = _REDUCTIONS.get(str(reduce))
    if found is None or (reduce == "mean" and node.type.dtype != "float32"):
        raise Unsupported(f"scatter_reduce by {reduce} of {node.type.dtype}", f"known are {', '.join(_REDUCTIONS)}")
    kind, join = found
    part = _source(s, source, places, node)
    collected = _collected(s, node, at, places, part, kind)
    result = s.map(join, node, collected) if include_self else collected
    if reduce == "mean":
        ones = s.expand(s.constant(1.0, "float32"), part.type.shape)
        count = _collected(s, node, at, places, ones, "sum")
        result = s.map("div", result, s.map("add", count, s.constant(1.0, "float32")) if include_self else count)
    return result if include_self else s.map("where", _is_hit(s, node, at, places), result, node)


def put_at(s: Scope, node: Node, at: int, index: Node, values: Node, *, accumulate: bool) -> Node:
    """node with values, which broadcast to that part, at the places of a one-dimensional index of one axis: in place of what was
    there, or added to it. Negative places count from the end."""
    count, extent = index.type.shape[0], node.type.shape[at]
    line = tuple(count if n == at else 1 for n in range(node.type.rank))
    index = s.reshape(s.cast(index, "int64"), line)
    if not isinstance(extent, int):
        raise Unsupported(f"assignment by index to an axis of {extent}", "use `torch.where` with a mask over positions")
    below = s.map("lt", index, s.constant(0, "int64"))
    index = s.map("where", below, s.map("add", index, s.constant(extent, "int64")), index)
    part = s.expand(s.cast(values, node.type.dtype), (*node.type.shape[:at], count, *node.type.shape[at + 1 :]))
    index = s.expand(index, part.type.shape)
    if accumulate:
        return s.map("add", node, _collected(s, node, at, index, part, "sum"))
    return _assigned(s, node, at, index, part)
