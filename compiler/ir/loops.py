"""The loop form: how one output element of an op is computed, as an expression over scalar primitives.

    Loop   := out[i0, ..., in-1] = Expr                for every index of the output's shape
    Expr   := Axis(k)                                  the index ik (int64); axes of reductions have numbers >= n
            | Size(dim)                                a dimension as a value (int64)
            | Literal(value)
            | Load(operand, (Expr, ...))               an element of an operand; indices are int64 and in bounds
            | Prim(name, (Expr, ...))                  a scalar primitive of `prims.py`
            | Reduce(kind, ((axis, extent), ...), Expr)   sum | prod | max | min | any | all, axes in order, sequentially

From this form the TVM tensor expression, C, and (later) Triton and StableHLO are printed. Operands of `where` are
evaluated lazily: a Load under a guard that is false is never executed, so that guards can keep indices in bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .dims import Dim
from .types import DType, TensorType


@dataclass(frozen=True)
class Axis:
    """Index number `number`: 0..rank-1 the output's, above that a reduction's. dtype int64."""

    number: int
    dtype: DType = "int64"


@dataclass(frozen=True)
class Size:
    """A dimension's value. dtype int64."""

    dim: Dim
    dtype: DType = "int64"


@dataclass(frozen=True)
class Literal:
    """A constant of the given dtype."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True)
class Load:
    """Element `index` of operand number `operand`; dtype is the operand's."""

    operand: int
    index: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True)
class Prim:
    """A scalar primitive (see prims.py) applied to arguments; dtype is the result's."""

    name: str
    args: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True)
class Reduce:
    """`kind` over body for all values of axes (number, extent), first axis outermost, in order. Empty: the identity."""

    kind: str
    axes: tuple[tuple[int, Dim], ...]
    body: Expr
    dtype: DType


Expr = Axis | Size | Literal | Load | Prim | Reduce


@dataclass(frozen=True)
class Loop:
    """`out[axes] = body` for every index of out.shape."""

    out: TensorType
    body: Expr


def axes(count: int) -> tuple[Axis, ...]:
    """Axis(0), ..., Axis(count - 1)."""
    return tuple(Axis(k) for k in range(count))


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct sub-expressions."""
    if isinstance(expr, Load):
        return expr.index
    if isinstance(expr, Prim):
        return expr.args
    if isinstance(expr, Reduce):
        return (expr.body,)
    return ()


def map_children(expr: Expr, fn: Callable[[Expr], Expr]) -> Expr:
    """expr with fn applied to each direct sub-expression."""
    if isinstance(expr, Load):
        return Load(expr.operand, tuple(fn(e) for e in expr.index), expr.dtype)
    if isinstance(expr, Prim):
        return Prim(expr.name, tuple(fn(e) for e in expr.args), expr.dtype)
    if isinstance(expr, Reduce):
        return Reduce(expr.kind, expr.axes, fn(expr.body), expr.dtype)
    return expr


def substitute_axes(expr: Expr, values: Mapping[int, Expr]) -> Expr:
    """expr with output axes replaced by expressions (reduction axes keep their numbers)."""
    if isinstance(expr, Axis):
        return values.get(expr.number, expr)
    return map_children(expr, lambda e: substitute_axes(e, values))


def loads(expr: Expr) -> tuple[Load, ...]:
    """Every Load in expr, in order, nested ones too."""
    found: tuple[Load, ...] = (expr,) if isinstance(expr, Load) else ()
    for child in children(expr):
        found += loads(child)
    return found
