"""Tensors from nothing: full, zeros, ones, arange, linspace, triangles."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...ir.dims import Dim, DimExpr, floordiv
from ...ir.graph import Node
from .scope import Scope, Unsupported, Value, aten, dims_of, number, shape_of, static, tensor


def _filled(s: Scope, value: Value, shape: tuple[Dim, ...]) -> Node:
    return s.expand(s.node(value, s.dtype), shape)


@aten("full")
def full(s: Scope, sizes: Value, value: Value, *rest: Value) -> Node:
    return _filled(s, value, dims_of(sizes, "full"))


@aten("full_like")
def full_like(s: Scope, x: Value, value: Value, *rest: Value) -> Node:
    return _filled(s, value, shape_of(x))


@aten("new_full")
def new_full(s: Scope, x: Value, sizes: Value, value: Value, *rest: Value) -> Node:
    return _filled(s, value, dims_of(sizes, "new_full"))


def _constant(value: int, like: bool) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, *rest: Value) -> Node:
        return _filled(s, value, shape_of(x) if like else dims_of(x, "the tensor"))

    return apply


aten("zeros")(_constant(0, like=False))
aten("ones")(_constant(1, like=False))
aten("zeros_like")(_constant(0, like=True))
aten("ones_like")(_constant(1, like=True))


@aten("new_zeros")
def new_zeros(s: Scope, x: Value, sizes: Value, *rest: Value) -> Node:
    return _filled(s, 0, dims_of(sizes, "new_zeros"))


@aten("new_ones")
def new_ones(s: Scope, x: Value, sizes: Value, *rest: Value) -> Node:
    return _filled(s, 1, dims_of(sizes, "new_ones"))


@aten("fill.Scalar", "fill.Tensor")
def fill(s: Scope, x: Value, value: Value) -> Node:
    return _filled(s, value, shape_of(x))


@aten("arange.start_step")
def arange_start_step(s: Scope, start: Value, stop: Value, step: Value = 1, *rest: Value) -> Node:
    return _arange(s, start, stop, step)


@aten("arange.start")
def arange_start(s: Scope, start: Value, stop: Value, *rest: Value) -> Node:
    return _arange(s, start, stop, 1)


@aten("arange")
def arange(s: Scope, stop: Value, *rest: Value) -> Node:
    return _arange(s, 0, stop, 1)


def _arange(s: Scope, start: Value, stop: Value, step: Value) -> Node:
    width = number(step, "the step of arange")
    if isinstance(start, DimExpr) or isinstance(stop, DimExpr):
        if isinstance(start, float) or isinstance(stop, float) or not isinstance(step, int) or step == 0:
            raise Unsupported(f"arange({start}, {stop}, {step})", "count in integers and scale afterwards")
        (first,), (last,) = dims_of(start, "the start"), dims_of(stop, "the end")
        span = last - first if step > 0 else first - last
        count: Dim = floordiv(span + (abs(step) - 1), abs(step))
        if isinstance(first, DimExpr):
            line = s.op("iota", shape=(count,), axis=0, start=0, step=step, dtype="int64")
            return s.cast(s.map("add", line, s.size(first)), s.dtype)
        return _iota(s, count, first, step)
    low, high = number(start, "the start of arange"), number(stop, "the end of arange")
    return _iota(s, max(math.ceil((high - low) / width), 0), low, width)


def _iota(s: Scope, count: Dim, start: float, step: float) -> Node:
    if s.dtype == "bool":
        raise Unsupported("arange of bool")
    return s.op("iota", shape=(count,), axis=0, start=start, step=step, dtype=s.dtype)


@aten("linspace")
def linspace(s: Scope, start: Value, stop: Value, steps: Value, *rest: Value) -> Node:
    low, high, count = number(start, "the start"), number(stop, "the end"), static(steps, "the number of steps")
    step = (high - low) / (count - 1) if count > 1 else 0.0
    return _iota(s, count, low, step)


def _triangle(upper: bool) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, diagonal: Value = 0) -> Node:
        node, k = tensor(x), static(diagonal, "the diagonal")
        r = node.type.rank
        tail = node.type.shape[r - 2 :]
        row = s.op("iota", shape=tail, axis=0, start=k, step=1, dtype="int64")
        column = s.op("iota", shape=tail, axis=1, start=0, step=1, dtype="int64")
        keep = s.map("ge" if upper else "le", column, row)
        return s.map("where", keep, node, s.constant(0, node.type.dtype))

    return apply


aten("triu")(_triangle(upper=True))
aten("tril")(_triangle(upper=False))


@aten("one_hot")
def one_hot(s: Scope, x: Value, classes: Value) -> Node:
    node, n = s.cast(tensor(x), "int64"), static(classes, "the number of classes")
    if n < 0:
        raise Unsupported("one_hot without a number of classes", "write `F.one_hot(x, num_classes=N)`")
    line = s.op("iota", shape=(n,), axis=0, start=0, step=1, dtype="int64")
    return s.cast(s.map("eq", s.reshape(node, (*node.type.shape, 1)), line), s.dtype)


@aten("eye", "eye.m")
def eye(s: Scope, n: Value, *rest: Value) -> Node:
    rows = static(n, "the extent of eye")
    columns = rest[0] if rest and isinstance(rest[0], int) and s.results[0].shape[1] == rest[0] else rows
    shape = (rows, static(columns, "the extent of eye"))
    a, b = (s.op("iota", shape=shape, axis=k, start=0, step=1, dtype="int64") for k in (0, 1))
    return s.cast(s.map("eq", a, b), s.dtype)
