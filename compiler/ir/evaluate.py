"""The loop form in NumPy: its definition, tested equal to every op's `reference`; and the check of its types.

Every axis is an array dimension (output axes first, reduction axes after them), so an expression costs only the axes
that it depends on. Operands of `where` are evaluated everywhere, but a Load outside its operand is an error only where
its guards hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dims import evaluate
from .graph import Array, Env
from .loops import Axis, Expr, Literal, Load, Loop, Prim, Reduce, Size, children
from .ops.reduce import KINDS, reduce_array
from .prims import apply, result_dtype
from .types import TensorType, numpy_dtype


def evaluate_loop(loop: Loop, env: Env, operands: Sequence[Array]) -> Array:
    """The output array of loop over operands; env gives each symbol. float64 operands stand for float32 ones and give
    float64. Raises IndexError for a Load that is out of bounds where its guards hold, LoopError for a malformed loop."""
    check_loop(loop, [_type_of(o) for o in operands])
    shape = [evaluate(d, env) for d in loop.out.shape]
    double = any(o.dtype == np.float64 for o in operands)
    context = _Context(
        env=env,
        operands=tuple(operands),
        extents=dict(enumerate(shape)),
        rank=1 + max((a for a in _axes(loop.body)), default=len(shape) - 1),
        real=np.dtype(np.float64 if double else np.float32),
    )
    context = replace(context, rank=max(context.rank, len(shape)))
    value = _value(loop.body, context, np.ones((1,) * context.rank, dtype=bool))
    full = np.broadcast_to(value, (*shape, *[1] * (context.rank - len(shape))))
    return np.array(full.reshape(shape), dtype=context.dtype(loop.body))


class LoopError(Exception):
    """A loop form whose parts do not fit; the message names the part."""


def check_loop(loop: Loop, operands: Sequence[TensorType | None]) -> None:
    """Dtypes fit, loads have as many int64 indices as their operand has axes, every axis is bound, the body's dtype is
    the output's. An operand given as None is not checked. Raises LoopError."""
    _check(loop.body, frozenset(range(loop.out.rank)), operands)
    if loop.body.dtype != loop.out.dtype:
        raise LoopError(f"the body is {loop.body.dtype}, the output {loop.out}")


@dataclass(frozen=True)
class _Context:
    env: Env
    operands: tuple[Array, ...]
    extents: Mapping[int, int]
    rank: int
    real: np.dtype[Any]

    def dtype(self, expr: Expr) -> np.dtype[Any]:
        return self.real if expr.dtype == "float32" else numpy_dtype(expr.dtype)


def _value(expr: Expr, context: _Context, active: Array) -> Array:
    """expr's value where active, of context.rank dimensions, each as long as its axis or 1."""
    ones = (1,) * context.rank
    match expr:
        case Axis(number):
            shape = [-1 if k == number else 1 for k in range(context.rank)]
            return np.arange(context.extents[number], dtype=np.int64).reshape(shape)
        case Size(dim):
            return np.full(ones, evaluate(dim, context.env), dtype=np.int64)
        case Literal(value):
            return np.full(ones, value, dtype=context.dtype(expr))
        case Load():
            return _load(expr, context, active)
        case Reduce(kind, axes, body):
            extents = {number: evaluate(extent, context.env) for number, extent in axes}
            inner = replace(context, extents={**context.extents, **extents})
            value = _value(body, inner, active)
            shape: list[int] = list(value.shape)
            for number, extent in extents.items():
                shape[number] = extent
            return np.asarray(reduce_array(kind, np.broadcast_to(value, shape), tuple(extents), keepdims=True))
        case Prim("where", (condition, yes, no)):
            holds = _value(condition, context, active)
            a = _value(yes, context, active & holds)
            return np.where(holds, a, _value(no, context, active & ~holds))
        case Prim(name, args):
            return apply(name, *(_value(a, context, active) for a in args), dtype=context.dtype(expr))


def _load(expr: Load, context: _Context, active: Array) -> Array:
    operand = context.operands[expr.operand]
    indices: list[Array] = []
    for k, index in enumerate(expr.index):
        value, extent = _value(index, context, active), operand.shape[k]
        outside = active & ((value < 0) | (value >= extent))
        if outside.any():
            bad = np.broadcast_to(value, outside.shape)[outside][0]
            raise IndexError(f"operand {expr.operand}: index {bad} of axis {k} is not in 0..{extent - 1} ({index})")
        indices.append(np.clip(value, 0, max(extent - 1, 0)))
    if not indices:
        return operand.reshape((1,) * context.rank)
    if operand.size == 0:
        return np.zeros(np.broadcast_shapes(*(i.shape for i in indices)), dtype=operand.dtype)
    return operand[tuple(indices)]


def _axes(expr: Expr) -> list[int]:
    own = [expr.number] if isinstance(expr, Axis) else [n for n, _ in expr.axes] if isinstance(expr, Reduce) else []
    return own + [number for child in children(expr) for number in _axes(child)]


def _type_of(array: Array) -> TensorType:
    name = "float32" if array.dtype == np.float64 else array.dtype.name
    if name not in ("float32", "int64", "int32", "bool"):
        raise LoopError(f"an operand is {name}; it must be float32, int64, int32 or bool")
    return TensorType(name, array.shape)


def _check(expr: Expr, bound: frozenset[int], operands: Sequence[TensorType | None]) -> None:
    match expr:
        case Axis(number):
            if number not in bound:
                raise LoopError(f"axis {number} is not bound here; bound are {sorted(bound)}")
        case Load(number, index):
            if not 0 <= number < len(operands):
                raise LoopError(f"operand {number} is read, but there are {len(operands)}")
            operand = operands[number]
            if operand is not None and (operand.rank != len(index) or operand.dtype != expr.dtype):
                raise LoopError(f"operand {number} {operand} is read as {expr.dtype} with {len(index)} indices")
            if any(i.dtype != "int64" for i in index):
                raise LoopError(f"operand {number} is indexed by {', '.join(i.dtype for i in index)}; it must be int64")
        case Prim("cast", args):
            if len(args) != 1:
                raise LoopError(f"cast has {len(args)} arguments")
        case Prim(name, args):
            expected = result_dtype(name, tuple(a.dtype for a in args))
            if expected != expr.dtype:
                raise LoopError(f"{name} gives {expected}, not {expr.dtype}")
        case Reduce(kind, axes, body):
            numbers = [n for n, _ in axes]
            if bound & set(numbers) or len(set(numbers)) != len(numbers):
                raise LoopError(f"reduction axes {numbers} are bound already; bound are {sorted(bound)}")
            if kind not in KINDS or kind == "mean" or body.dtype not in KINDS[kind] or expr.dtype != body.dtype:
                raise LoopError(f"a reduction {kind} of {body.dtype} gives no {expr.dtype}")
            bound = bound | set(numbers)
        case _:
            pass
    for child in children(expr):
        _check(child, bound, operands)
