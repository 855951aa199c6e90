"""Sorting: sort, argsort, topk, kthvalue; the place of values among sorted ones. Of equal elements the one with the lower
index comes first."""

from __future__ import annotations

from ...ir.dims import Dim, DimExpr
from ...ir.graph import Node
from .scope import Scope, Unsupported, Value, aten, axis_of, tensor


def _order(s: Scope, node: Node, axis: int, descending: bool, count: Dim | None = None) -> Node:
    """Where the first `count` of the axis in order are; all, where it is None."""
    if node.type.rank == 0:
        return s.constant(0, "int64")
    keys = s.cast(node, "int32") if node.type.dtype == "bool" else node
    extent = node.type.shape[axis]
    return s.op("argsort", keys, axis=axis, count=extent if count is None else count, descending=descending)


def _picked(s: Scope, node: Node, order: Node, axis: int) -> Node:
    return s.op("gather", node, order, axis=axis) if node.type.rank else node


def _axis(node: Node, axis: Value) -> int:
    return axis_of(axis, node.type.rank) if node.type.rank else 0


@aten("sort")
def sort(s: Scope, x: Value, axis: Value = -1, descending: Value = False) -> tuple[Node, Node]:
    node = tensor(x)
    at = _axis(node, axis)
    order = _order(s, node, at, bool(descending))
    return _picked(s, node, order, at), order


@aten("sort.stable")
def sort_stable(
    s: Scope, x: Value, stable: Value = None, axis: Value = -1, descending: Value = False
) -> tuple[Node, Node]:
    return sort(s, x, axis, descending)


@aten("msort")
def msort(s: Scope, x: Value) -> Node:
    return sort(s, x, 0)[0]


@aten("argsort")
def argsort(s: Scope, x: Value, axis: Value = -1, descending: Value = False) -> Node:
    return sort(s, x, axis, descending)[1]


@aten("argsort.stable")
def argsort_stable(s: Scope, x: Value, stable: Value = True, axis: Value = -1, descending: Value = False) -> Node:
    return sort(s, x, axis, descending)[1]


@aten("topk")
def topk(
    s: Scope, x: Value, count: Value, axis: Value = -1, largest: Value = True, sorted_: Value = True
) -> tuple[Node, Node]:
    """In order also where `sorted` is false: any order would do."""
    node = tensor(x)
    at = _axis(node, axis)
    order = _order(s, node, at, bool(largest), _count(count))
    return _picked(s, node, order, at), order


@aten("kthvalue")
def kthvalue(s: Scope, x: Value, count: Value, axis: Value = -1, keepdims: Value = False) -> tuple[Node, Node]:
    node = tensor(x)
    at = _axis(node, axis)
    order = _order(s, node, at, False, _count(count))
    if node.type.rank == 0:
        return node, order
    last = s.slice(order, at, _count(count) - 1, _count(count))
    value = _picked(s, node, last, at)
    if keepdims:
        return value, last
    shape = (*node.type.shape[:at], *node.type.shape[at + 1 :])
    return s.reshape(value, shape), s.reshape(last, shape)


@aten("bucketize.Tensor")
def bucketize(s: Scope, x: Value, boundaries: Value, int32: Value = False, right: Value = False) -> Node:
    return _place(s, tensor(boundaries), tensor(x), bool(right))


@aten("bucketize.Scalar")
def bucketize_scalar(s: Scope, x: Value, boundaries: Value, int32: Value = False, right: Value = False) -> Node:
    bounds_ = tensor(boundaries)
    return _place(s, bounds_, s.node(x, bounds_.type.dtype), bool(right))


@aten("searchsorted.Tensor")
def searchsorted(
    s: Scope,
    boundaries: Value,
    x: Value,
    int32: Value = False,
    right: Value = False,
    side: Value = None,
    sorter: Value = None,
) -> Node:
    if sorter is not None:
        raise Unsupported("a sorter", "give the sequence in its order")
    return _place(s, tensor(boundaries), tensor(x), bool(right) or side == "right")


def _place(s: Scope, boundaries: Node, x: Node, right: bool) -> Node:
    """How many boundaries lie before each x: those that are not at or above it, or not above it. A NaN is behind all."""
    wide = "float32" if "float32" in (boundaries.type.dtype, x.type.dtype) else "int64"
    if boundaries.type.rank > 1:  # rows of their own: [..., 1, n] against [..., m, 1]
        boundaries = s.reshape(boundaries, (*boundaries.type.shape[:-1], 1, boundaries.type.shape[-1]))
    value = s.reshape(s.cast(x, wide), (*x.type.shape, 1))
    behind = s.map("not", s.map("gt" if right else "ge", s.cast(boundaries, wide), value))
    count = s.op("reduce", s.cast(behind, "int64"), kind="sum", axes=(behind.type.rank - 1,), keepdims=False)
    return s.cast(count, s.dtype)


def _count(value: Value) -> Dim:
    if isinstance(value, DimExpr) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Unsupported(f"how many elements are wanted must be known when the model is traced, not {value!r}")
