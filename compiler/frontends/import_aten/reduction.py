"""Reductions and scans: sum, mean, extremes, variance, norms, softmax, cumsum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ir.graph import Node
from .elementwise import arithmetic, truth
from .scope import Scope, Unsupported, Value, aten, axes_of, axis_of, number, tensor


def reduce(s: Scope, node: Node, kind: str, axes: tuple[int, ...], keepdims: bool) -> Node:
    """A reduction; node itself over no axes."""
    return s.op("reduce", node, kind=kind, axes=axes, keepdims=keepdims) if axes else node


def _typed(s: Scope, x: Value) -> Node:
    return s.cast(tensor(x), s.dtype)


@aten("sum", "sum.dim_IntList")
def sum_(s: Scope, x: Value, axes: Value = None, keepdims: Value = False, *rest: Value) -> Node:
    node = _typed(s, x)
    if not isinstance(axes, list):
        axes, keepdims = None, False
    return reduce(s, node, "sum", axes_of(axes, node.type.rank), bool(keepdims))


@aten("mean", "mean.dim")
def mean(s: Scope, x: Value, axes: Value = None, keepdims: Value = False, *rest: Value) -> Node:
    node = _typed(s, x)
    if not isinstance(axes, list):
        axes, keepdims = None, False
    return reduce(s, node, "mean", axes_of(axes, node.type.rank), bool(keepdims))


@aten("prod", "prod.dim_int")
def prod(s: Scope, x: Value, axis: Value = None, keepdims: Value = False, *rest: Value) -> Node:
    node = _typed(s, x)
    whole = len(s.results[0].shape) == 0
    axes = tuple(range(node.type.rank)) if whole else axes_of(axis, node.type.rank)
    return reduce(s, node, "prod", axes, bool(keepdims) and not whole)


def _extreme(kind: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, axes: Value = None, keepdims: Value = False) -> Node:
        node = tensor(x)
        if node.type.dtype == "bool":
            kind_ = "any" if kind == "max" else "all"
            return reduce(s, node, kind_, axes_of(axes, node.type.rank), bool(keepdims))
        return reduce(s, node, kind, axes_of(axes, node.type.rank), bool(keepdims))

    return apply


aten("amax", "max")(_extreme("max"))
aten("amin", "min")(_extreme("min"))


def _extreme_with_index(kind: str) -> Callable[..., tuple[Node, Node]]:
    def apply(s: Scope, x: Value, axis: Value, keepdims: Value = False) -> tuple[Node, Node]:
        node = tensor(x)
        at = axis_of(axis, node.type.rank)
        value = reduce(s, node, kind, (at,), bool(keepdims))
        return value, s.op(f"arg{kind}", node, axis=at, keepdims=bool(keepdims))

    return apply


aten("max.dim")(_extreme_with_index("max"))
aten("min.dim")(_extreme_with_index("min"))


def _arg(kind: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, axis: Value = None, keepdims: Value = False) -> Node:
        node = tensor(x)
        if axis is None:
            node, axis = s.reshape(node, (node.type.elements,)), 0
        return s.op(kind, node, axis=axis_of(axis, node.type.rank), keepdims=bool(keepdims))

    return apply


aten("argmax")(_arg("argmax"))
aten("argmin")(_arg("argmin"))


def _truth_of(kind: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, axes: Value = None, keepdims: Value = False) -> Node:
        node = truth(s, x)
        return reduce(s, node, kind, axes_of(axes, node.type.rank), bool(keepdims))

    return apply


aten("any", "any.dim", "any.dims")(_truth_of("any"))
aten("all", "all.dim", "all.dims")(_truth_of("all"))


def _variance(s: Scope, x: Value, axes: Value, correction: Value, keepdims: Value) -> Node:
    node = tensor(x)
    amount = 1 if correction is None else number(correction, "the correction")
    return s.op("var", node, axes=axes_of(axes, node.type.rank), correction=amount, keepdims=bool(keepdims))


@aten("var.correction")
def var(s: Scope, x: Value, axes: Value = None, correction: Value = None, keepdims: Value = False) -> Node:
    return _variance(s, x, axes, correction, keepdims)


@aten("std.correction")
def std(s: Scope, x: Value, axes: Value = None, correction: Value = None, keepdims: Value = False) -> Node:
    return s.map("sqrt", _variance(s, x, axes, correction, keepdims))


@aten("var.dim")
def var_dim(s: Scope, x: Value, axes: Value, unbiased: Value = True, keepdims: Value = False) -> Node:
    return _variance(s, x, axes, int(bool(unbiased)), keepdims)


@aten("std.dim")
def std_dim(s: Scope, x: Value, axes: Value, unbiased: Value = True, keepdims: Value = False) -> Node:
    return s.map("sqrt", _variance(s, x, axes, int(bool(unbiased)), keepdims))


@aten("var")
def var_all(s: Scope, x: Value, unbiased: Value = True) -> Node:
    return _variance(s, x, None, int(bool(unbiased)), False)


@aten("std")
def std_all(s: Scope, x: Value, unbiased: Value = True) -> Node:
    return s.map("sqrt", _variance(s, x, None, int(bool(unbiased)), False))


@aten("var_mean.correction")
def var_mean(
    s: Scope, x: Value, axes: Value = None, correction: Value = None, keepdims: Value = False
) -> tuple[Node, Node]:
    node = tensor(x)
    centre = reduce(s, node, "mean", axes_of(axes, node.type.rank), bool(keepdims))
    return _variance(s, x, axes, correction, keepdims), centre


@aten("std_mean.correction")
def std_mean(
    s: Scope, x: Value, axes: Value = None, correction: Value = None, keepdims: Value = False
) -> tuple[Node, Node]:
    variance, centre = var_mean(s, x, axes, correction, keepdims)
    return s.map("sqrt", variance), centre


@aten("var_mean", "var_mean.dim")
def var_mean_dim(s: Scope, x: Value, axes: Value = None, unbiased: Value = True, keepdims: Value = False) -> Any:
    if not isinstance(axes, list):
        axes, unbiased = None, axes if isinstance(axes, bool) else unbiased
    return var_mean(s, x, axes, int(bool(unbiased)), keepdims)


@aten("std_mean", "std_mean.dim")
def std_mean_dim(s: Scope, x: Value, axes: Value = None, unbiased: Value = True, keepdims: Value = False) -> Any:
    variance, centre = var_mean_dim(s, x, axes, unbiased, keepdims)
    return s.map("sqrt", variance), centre


@aten("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar")
def vector_norm(
    s: Scope, x: Value, order: Value = 2, axes: Value = None, keepdims: Value = False, *rest: Value
) -> Node:
    node = s.cast(tensor(x), "float32")
    at, keep = axes_of(axes, node.type.rank), bool(keepdims)
    p = 2.0 if order is None else float(number(order, "the order of the norm"))
    if p == 2:
        return s.map("sqrt", reduce(s, s.map("mul", node, node), "sum", at, keep))
    size = s.map("abs", node)
    if math.isinf(p):
        return reduce(s, size, "max" if p > 0 else "min", at, keep)
    if p == 1:
        return reduce(s, size, "sum", at, keep)
    if p == 0:
        return reduce(s, s.cast(truth(s, node), "float32"), "sum", at, keep)
    total = reduce(s, arithmetic(s, "pow", size, p), "sum", at, keep)
    return arithmetic(s, "pow", total, 1.0 / p)


@aten("logsumexp")
def logsumexp(s: Scope, x: Value, axes: Value, keepdims: Value = False) -> Node:
    """max + log(sum(exp(x - max))), with a max of 0 where it is infinite."""
    node = tensor(x)
    at = axes_of(axes, node.type.rank)
    top = reduce(s, node, "max", at, True)
    finite = arithmetic(s, "lt", s.map("abs", top), math.inf, "float32")
    top = s.map("where", finite, top, s.constant(0.0, "float32"))
    total = reduce(s, s.map("exp", s.map("sub", node, top)), "sum", at, True)
    value = s.map("add", s.map("log", total), top)
    if keepdims:
        return value
    return s.reshape(value, tuple(d for i, d in enumerate(node.type.shape) if i not in at))


@aten("cumsum")
def cumsum(s: Scope, x: Value, axis: Value, *rest: Value) -> Node:
    node = _typed(s, x)
    return node if node.type.rank == 0 else s.op("cumsum", node, axis=axis_of(axis, node.type.rank))


def _softmax(mnemonic: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value, axis: Value, *rest: Value) -> Node:
        node = s.cast(tensor(x), "float32")
        if node.type.rank == 0:
            raise Unsupported("softmax of a scalar")
        return s.op(mnemonic, node, axis=axis_of(axis, node.type.rank))

    return apply


aten("softmax.int", "_softmax", "_safe_softmax")(_softmax("softmax"))
aten("log_softmax.int", "_log_softmax")(_softmax("log_softmax"))


@aten("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(s: Scope, x: Value, axes: Value = None) -> Node:
    node = s.cast(truth(s, x), "int64")
    return reduce(s, node, "sum", axes_of(axes, node.type.rank), False)


@aten("norm.dim")
def norm(s: Scope, *values: Any) -> Node:
    return vector_norm(s, *values)
