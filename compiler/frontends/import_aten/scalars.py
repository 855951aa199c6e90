"""Constants, lists and arithmetic on sizes: none of these makes a node."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ir.dims import Dim, DimExpr, bounds, exact_div, floordiv, mod
from ...ir.graph import Node
from ...ir.ops.leaf import Constant
from .scope import Scope, Unsupported, Value, aten, axis_of, shape_of, static, tensor


@aten("constant.int")
def constant_int(s: Scope) -> Value:
    return int(s.attribute.value)


@aten("constant.float")
def constant_float(s: Scope) -> Value:
    return float(s.attribute.value)


@aten("constant.bool")
def constant_bool(s: Scope) -> Value:
    return bool(s.attribute.value)


@aten("constant.none")
def constant_none(s: Scope) -> Value:
    return None


@aten("constant.str", "constant.device")
def constant_str(s: Scope) -> Value:
    return str(s.attribute.value)


@aten("prim.ListConstruct", "prim.TupleConstruct")
def list_construct(s: Scope, *items: Value) -> Value:
    return list(items)


@aten("prim.ListUnpack", "prim.TupleUnpack")
def list_unpack(s: Scope, items: list[Value]) -> tuple[Value, ...]:
    return tuple(items)


@aten("size.int", "sym_size.int")
def size_int(s: Scope, x: Value, axis: Value) -> Value:
    shape = shape_of(x)
    return shape[axis_of(axis, len(shape))]


@aten("size", "sym_size")
def size(s: Scope, x: Value) -> Value:
    return list(shape_of(x))


@aten("numel", "sym_numel")
def numel(s: Scope, x: Value) -> Value:
    return tensor(x).type.elements


def _integers(fn: Callable[[Any, Any], Dim]) -> Callable[..., Value]:
    def apply(s: Scope, a: Value, b: Value) -> Value:
        if not isinstance(a, (int, DimExpr)) or not isinstance(b, (int, DimExpr)):
            raise Unsupported(f"integer arithmetic on {a!r} and {b!r}")
        return fn(a, b)

    return apply


def _floordiv(a: Dim, b: Dim) -> Dim:
    if isinstance(b, int):
        if b <= 0:
            raise Unsupported(f"a size is divided by {b}")
        return floordiv(a, b)
    exact = exact_div(a, b)
    if exact is None:
        raise Unsupported(f"the size {a} is divided by the symbolic size {b}", "divide by a constant")
    return exact


def _mod(a: Dim, b: Dim) -> Dim:
    if not isinstance(b, int) or b <= 0:
        raise Unsupported(f"the size {a} modulo {b}", "use a positive constant")
    return mod(a, b)


def _pow(a: Dim, b: Dim) -> Dim:
    total: Dim = 1
    for _ in range(static(b, "the exponent")):
        total = total * a
    return total


aten("add.int")(_integers(lambda a, b: a + b))
aten("sub.int")(_integers(lambda a, b: a - b))
aten("mul.int")(_integers(lambda a, b: a * b))
aten("floordiv.int")(_integers(_floordiv))
aten("remainder.int")(_integers(_mod))
aten("pow.int_int")(_integers(_pow))


@aten("fmod.int")
def fmod_int(s: Scope, a: Value, b: Value) -> Value:
    if not isinstance(a, (int, DimExpr)) or not isinstance(b, int) or b <= 0 or bounds(a, s.dims)[0] < 0:
        raise Unsupported(f"fmod of the sizes {a} and {b}", "use % with a positive constant")
    return mod(a, b)


@aten("neg.int")
def neg_int(s: Scope, a: Dim) -> Value:
    return a * -1


def _choose(s: Scope, a: Dim, b: Dim, larger: bool) -> Dim:
    """max or min of two sizes, where their bounds decide it. Raises Unsupported."""
    low, high = bounds(a - b, s.dims)
    if low >= 0:
        return a if larger else b
    if high <= 0:
        return b if larger else a
    raise Unsupported(f"which of the sizes {a} and {b} is larger depends on the input")


@aten("prim.max.int", "sym_max", "prim.max")
def max_int(s: Scope, a: Dim, b: Dim) -> Value:
    return _choose(s, a, b, larger=True)


@aten("prim.min.int", "sym_min", "prim.min")
def min_int(s: Scope, a: Dim, b: Dim) -> Value:
    return _choose(s, a, b, larger=False)


def _compare(decide: Callable[[int, int], bool | None], sign: str) -> Callable[..., Value]:
    def apply(s: Scope, a: Any, b: Any) -> Value:
        if isinstance(a, float) or isinstance(b, float):
            if isinstance(a, DimExpr) or isinstance(b, DimExpr):
                raise Unsupported(f"a comparison of {a} and {b}")
            low = high = float(a) - float(b)
            result = decide(low, high)  # pyright: ignore[reportArgumentType]
        else:
            low, high = bounds(a - b, s.dims)
            result = decide(low, high)
        if result is None:
            raise Unsupported(f"whether {a} {sign} {b} depends on the input's size")
        return result

    return apply


aten("gt.int", "gt.float_int", "gt.float")(_compare(lambda lo, hi: True if lo > 0 else False if hi <= 0 else None, ">"))
aten("ge.int", "ge.float_int", "ge.float")(
    _compare(lambda lo, hi: True if lo >= 0 else False if hi < 0 else None, ">=")
)
aten("lt.int", "lt.float_int", "lt.float")(_compare(lambda lo, hi: True if hi < 0 else False if lo >= 0 else None, "<"))
aten("le.int", "le.float_int", "le.float")(
    _compare(lambda lo, hi: True if hi <= 0 else False if lo > 0 else None, "<=")
)
aten("eq.int", "eq.float")(_compare(lambda lo, hi: True if lo == hi == 0 else None if lo <= 0 <= hi else False, "=="))
aten("ne.int", "ne.float_int", "ne.float")(
    _compare(lambda lo, hi: False if lo == hi == 0 else None if lo <= 0 <= hi else True, "!=")
)


@aten("Int.bool", "Int.Scalar", "Int.float")
def to_int(s: Scope, a: Value) -> Value:
    if isinstance(a, DimExpr):
        return a
    if isinstance(a, (bool, int, float)):
        return int(a)
    raise Unsupported(f"{a!r} as an integer")


@aten("Float.bool", "Float.Scalar", "Float.int")
def to_float(s: Scope, a: Value) -> Value:
    if isinstance(a, (bool, int, float)):
        return float(a)
    if isinstance(a, DimExpr):
        return a
    raise Unsupported(f"{a!r} as a float")


@aten("Bool.int", "Bool.float")
def to_bool(s: Scope, a: Value) -> Value:
    if isinstance(a, DimExpr):
        return True
    return bool(a)


@aten("__not__")
def not_(s: Scope, a: Value) -> Value:
    return not a


@aten("sqrt.int")
def sqrt_int(s: Scope, a: Value) -> Value:
    return math.sqrt(static(a, "the operand of sqrt"))


@aten("prim.NumToTensor.Scalar", "scalar_tensor")
def scalar_tensor(s: Scope, value: Value, *rest: Value) -> Node:
    return s.node(value, s.dtype)


@aten("item", "_local_scalar_dense", "Int.Tensor", "Float.Tensor", "Bool.Tensor")
def item(s: Scope, x: Value) -> Value:
    node = tensor(x)
    if isinstance(node.op, Constant):
        return node.op.value
    raise Unsupported("the model reads a tensor's value as a number while it runs", "use `torch.where` with a mask")
