"""Elementwise aten ops: arithmetic with torch's promotion, comparisons, logic, activations, conversions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ir.dims import DimExpr
from ...ir.graph import Node
from ...ir.types import DType
from .scope import Scope, Unsupported, Value, aten, number, tensor, torch_dtype

_RANK: dict[DType, int] = {"bool": 0, "int32": 1, "int64": 2, "float32": 3}


def common(*values: Value) -> DType:
    """torch's result type: tensors with axes decide within a category, scalars only raise the category."""
    full: list[DType] = [v.type.dtype for v in values if isinstance(v, Node) and v.type.rank > 0]
    zero: list[DType] = [v.type.dtype for v in values if isinstance(v, Node) and v.type.rank == 0]
    plain: list[DType] = [_plain(v) for v in values if isinstance(v, (bool, int, float, DimExpr))]
    groups: list[DType] = [_highest(g) for g in (full, zero, plain) if g]
    best: DType = groups[0]
    for top in groups[1:]:
        best = top if _category(top) > _category(best) else best
    return best


def _highest(dtypes: list[DType]) -> DType:
    best = dtypes[0]
    for dtype in dtypes[1:]:
        best = dtype if _RANK[dtype] > _RANK[best] else best
    return best


def _plain(value: float | DimExpr) -> DType:
    return "bool" if isinstance(value, bool) else "float32" if isinstance(value, float) else "int64"


def _category(dtype: DType) -> int:
    return {"bool": 0, "int32": 1, "int64": 1, "float32": 2}[dtype]


def arithmetic(s: Scope, fn: str, a: Value, b: Value, dtype: DType | None = None) -> Node:
    """fn over a and b in dtype (default: the op's result dtype)."""
    kind = dtype or s.dtype
    return s.map(fn, s.node(a, kind), s.node(b, kind))


def scaled(s: Scope, value: Value, alpha: Value) -> Value:
    if alpha == 1 and not isinstance(alpha, DimExpr):
        return value
    return arithmetic(s, "mul", value, alpha)


@aten("add.Tensor", "add.Scalar")
def add(s: Scope, a: Value, b: Value, alpha: Value = 1) -> Node:
    if s.dtype == "bool":
        return arithmetic(s, "or", a, b)
    return arithmetic(s, "add", a, scaled(s, b, alpha))


@aten("sub.Tensor", "sub.Scalar")
def sub(s: Scope, a: Value, b: Value, alpha: Value = 1) -> Node:
    return arithmetic(s, "sub", a, scaled(s, b, alpha))


@aten("rsub.Scalar", "rsub.Tensor")
def rsub(s: Scope, a: Value, b: Value, alpha: Value = 1) -> Node:
    return arithmetic(s, "sub", b, scaled(s, a, alpha))


@aten("mul.Tensor", "mul.Scalar")
def mul(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "and" if s.dtype == "bool" else "mul", a, b)


@aten("div.Tensor", "div.Scalar")
def div(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "div", a, b)


@aten("div.Tensor_mode", "div.Scalar_mode")
def div_mode(s: Scope, a: Value, b: Value, mode: Value) -> Node:
    if mode is None:
        return arithmetic(s, "div", a, b)
    if mode == "floor":
        return arithmetic(s, "floordiv", a, b)
    if s.dtype == "float32":
        return s.map("trunc", arithmetic(s, "div", a, b))
    quotient = arithmetic(s, "floordiv", s.map("abs", s.node(a, s.dtype)), s.map("abs", s.node(b, s.dtype)))
    sign = arithmetic(s, "mul", s.map("sign", s.node(a, s.dtype)), s.map("sign", s.node(b, s.dtype)))
    return s.map("mul", quotient, sign)


@aten("floor_divide", "floor_divide.Scalar")
def floor_divide(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "floordiv", a, b)


@aten("remainder.Scalar", "remainder.Tensor", "remainder.Scalar_Tensor")
def remainder(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "mod", a, b)


@aten("fmod.Scalar", "fmod.Tensor")
def fmod(s: Scope, a: Value, b: Value) -> Node:
    x, y = s.node(a, s.dtype), s.node(b, s.dtype)
    whole = s.map("mod", s.map("abs", x), s.map("abs", y))
    negative = s.map("lt", x, s.constant(0, s.dtype))
    return s.map("where", negative, s.map("neg", whole), whole)


@aten("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def power(s: Scope, a: Value, b: Value) -> Node:
    if b == 2 and not isinstance(b, (Node, DimExpr)):
        x = s.node(a, s.dtype)
        return s.map("mul", x, x)
    if b == 0.5 and s.dtype == "float32":
        return s.map("sqrt", s.node(a, s.dtype))
    if b == -0.5 and s.dtype == "float32":
        return s.map("rsqrt", s.node(a, s.dtype))
    if b == -1 and s.dtype == "float32":
        return arithmetic(s, "div", 1.0, a)
    return arithmetic(s, "pow", a, b)


@aten("minimum", "min.other", "fmin")
def minimum(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "and" if s.dtype == "bool" else "min", a, b)


@aten("maximum", "max.other", "fmax")
def maximum(s: Scope, a: Value, b: Value) -> Node:
    return arithmetic(s, "or" if s.dtype == "bool" else "max", a, b)


@aten("clamp", "clip")
def clamp(s: Scope, x: Value, low: Value = None, high: Value = None) -> Node:
    node = s.node(x, s.dtype)
    node = node if low is None else s.map("max", node, s.node(low, s.dtype))
    return node if high is None else s.map("min", node, s.node(high, s.dtype))


@aten("clamp.Tensor", "clip.Tensor")
def clamp_tensor(s: Scope, x: Value, low: Value = None, high: Value = None) -> Node:
    return clamp(s, x, low, high)


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(s: Scope, x: Value, low: Value) -> Node:
    return clamp(s, x, low)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(s: Scope, x: Value, high: Value) -> Node:
    return clamp(s, x, None, high)


@aten("addcmul")
def addcmul(s: Scope, x: Value, a: Value, b: Value, value: Value = 1) -> Node:
    return arithmetic(s, "add", x, scaled(s, arithmetic(s, "mul", a, b), value))


@aten("addcdiv")
def addcdiv(s: Scope, x: Value, a: Value, b: Value, value: Value = 1) -> Node:
    return arithmetic(s, "add", x, scaled(s, arithmetic(s, "div", a, b), value))


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(s: Scope, a: Value, b: Value, weight: Value) -> Node:
    return arithmetic(s, "add", a, arithmetic(s, "mul", arithmetic(s, "sub", b, a), weight))


# ── comparisons and logic ────────────────────────────────────────────────────────────────────────────────────────────


def _comparison(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, a: Value, b: Value) -> Node:
        kind = common(a, b)
        if kind == "bool":
            if fn == "eq":
                return s.map("not", arithmetic(s, "xor", a, b, "bool"))
            if fn == "ne":
                return arithmetic(s, "xor", a, b, "bool")
            kind = "int32"
        return arithmetic(s, fn, a, b, kind)

    return apply


for _fn in ("eq", "ne", "lt", "le", "gt", "ge"):
    aten(f"{_fn}.Tensor", f"{_fn}.Scalar")(_comparison(_fn))


def truth(s: Scope, value: Value) -> Node:
    """value != 0 as bool."""
    node = tensor(value)
    if node.type.dtype == "bool":
        return node
    return s.map("ne", node, s.constant(0, node.type.dtype))


def _logical(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, *xs: Value) -> Node:
        return s.map(fn, *(truth(s, x) for x in xs))

    return apply


aten("logical_and")(_logical("and"))
aten("logical_or")(_logical("or"))
aten("logical_xor")(_logical("xor"))
aten("logical_not")(_logical("not"))


def _bitwise(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, a: Value, b: Value) -> Node:
        return arithmetic(s, fn if s.dtype == "bool" else f"bit{fn}", a, b)

    return apply


for _fn in ("and", "or", "xor"):
    aten(f"bitwise_{_fn}.Tensor", f"bitwise_{_fn}.Scalar", f"__{_fn}__.Tensor", f"__{_fn}__.Scalar")(_bitwise(_fn))


@aten("bitwise_not")
def bitwise_not(s: Scope, x: Value) -> Node:
    return s.map("not" if s.dtype == "bool" else "bitnot", tensor(x))


@aten("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def where(s: Scope, condition: Value, a: Value, b: Value) -> Node:
    return s.map("where", truth(s, condition), s.node(a, s.dtype), s.node(b, s.dtype))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(s: Scope, x: Value, mask: Value, value: Value) -> Node:
    return s.map("where", truth(s, mask), s.node(value, s.dtype), s.node(x, s.dtype))


@aten("isnan")
def isnan(s: Scope, x: Value) -> Node:
    node = tensor(x)
    return s.map("ne", node, node) if node.type.dtype == "float32" else _never(s, node)


@aten("isinf")
def isinf(s: Scope, x: Value) -> Node:
    node = tensor(x)
    if node.type.dtype != "float32":
        return _never(s, node)
    return s.map("eq", s.map("abs", node), s.constant(math.inf, "float32"))


@aten("isfinite")
def isfinite(s: Scope, x: Value) -> Node:
    node = tensor(x)
    if node.type.dtype != "float32":
        return s.map("not", _never(s, node))
    return s.map("lt", s.map("abs", node), s.constant(math.inf, "float32"))


def _never(s: Scope, node: Node) -> Node:
    return s.expand(s.constant(False, "bool"), node.type.shape)


# ── unary ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _float_unary(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value) -> Node:
        return s.map(fn, s.node(x, "float32"))

    return apply


for _fn in ("exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid"):
    aten(_fn)(_float_unary(_fn))


def _rounding(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value) -> Node:
        return s.map(fn, tensor(x)) if tensor(x).type.dtype == "float32" else tensor(x)

    return apply


for _fn in ("floor", "ceil", "round", "trunc"):
    aten(_fn)(_rounding(_fn))


def _unary(fn: str) -> Callable[..., Node]:
    def apply(s: Scope, x: Value) -> Node:
        return s.map(fn, tensor(x))

    return apply


for _fn in ("neg", "abs", "silu", "hardswish", "hardsigmoid"):
    aten(_fn)(_unary(_fn))


@aten("relu")
def relu(s: Scope, x: Value) -> Node:
    return s.map("relu", tensor(x)) if s.dtype == "float32" else clamp(s, x, 0)


@aten("sign", "sgn")
def sign(s: Scope, x: Value) -> Node:
    return tensor(x) if s.dtype == "bool" else s.map("sign", tensor(x))


@aten("gelu")
def gelu(s: Scope, x: Value, approximate: Value = "none") -> Node:
    return s.map("gelu_tanh" if approximate == "tanh" else "gelu", tensor(x))


@aten("square")
def square(s: Scope, x: Value) -> Node:
    return s.map("mul", tensor(x), tensor(x))


@aten("reciprocal")
def reciprocal(s: Scope, x: Value) -> Node:
    return arithmetic(s, "div", 1.0, x)


@aten("exp2")
def exp2(s: Scope, x: Value) -> Node:
    return s.map("exp", arithmetic(s, "mul", x, math.log(2.0)))


@aten("expm1")
def expm1(s: Scope, x: Value) -> Node:
    """exp(x) - 1; by tanh where |x| is small, as exp(x) - 1 = 2t / (1 - t) with t = tanh(x / 2)."""
    node = s.node(x, "float32")
    t = s.map("tanh", arithmetic(s, "mul", node, 0.5))
    near = s.map("div", arithmetic(s, "mul", t, 2.0), s.map("sub", s.constant(1.0, "float32"), t))
    far = arithmetic(s, "sub", s.map("exp", node), 1.0)
    small = arithmetic(s, "lt", s.map("abs", node), 0.5, "float32")
    return s.map("where", small, near, far)


@aten("log1p")
def log1p(s: Scope, x: Value) -> Node:
    """log(1 + x), exact for small x: with u = 1 + x it is log(u) * x / (u - 1) (Goldberg 1991, theorem 4)."""
    node = s.node(x, "float32")
    u = arithmetic(s, "add", node, 1.0)
    less = arithmetic(s, "sub", u, 1.0)
    zero = arithmetic(s, "eq", less, 0.0, "float32")
    safe = s.map("where", zero, s.constant(1.0, "float32"), less)
    scaled = s.map("div", s.map("mul", s.map("log", u), node), safe)
    unbounded = arithmetic(s, "eq", u, math.inf, "float32")
    return s.map("where", zero, node, s.map("where", unbounded, u, scaled))


@aten("log2")
def log2(s: Scope, x: Value) -> Node:
    return arithmetic(s, "mul", s.map("log", s.node(x, "float32")), 1.0 / math.log(2.0))


@aten("log10")
def log10(s: Scope, x: Value) -> Node:
    return arithmetic(s, "mul", s.map("log", s.node(x, "float32")), 1.0 / math.log(10.0))


@aten("tan")
def tan(s: Scope, x: Value) -> Node:
    node = s.node(x, "float32")
    return s.map("div", s.map("sin", node), s.map("cos", node))


@aten("sinh")
def sinh(s: Scope, x: Value) -> Node:
    e = expm1(s, x)
    return arithmetic(s, "mul", s.map("add", e, s.map("div", e, arithmetic(s, "add", e, 1.0))), 0.5)


@aten("cosh")
def cosh(s: Scope, x: Value) -> Node:
    e = s.map("exp", s.map("abs", s.node(x, "float32")))
    return arithmetic(s, "mul", s.map("add", e, arithmetic(s, "div", 1.0, e)), 0.5)


@aten("erfc")
def erfc(s: Scope, x: Value) -> Node:
    return arithmetic(s, "sub", 1.0, s.map("erf", s.node(x, "float32")))


@aten("logit")
def logit(s: Scope, x: Value, eps: Value = None) -> Node:
    node = s.node(x, "float32")
    if eps is not None:
        node = clamp(s, node, eps, 1.0 - number(eps, "eps"))
    return s.map("log", s.map("div", node, arithmetic(s, "sub", 1.0, node)))


# ── conversions and identities ───────────────────────────────────────────────────────────────────────────────────────


@aten("_to_copy", "to.dtype", "to.dtype_layout", "prims.convert_element_type", "to.other", "type_as")
def convert(s: Scope, x: Value, *rest: Value) -> Node:
    if s.results[0].refused:
        raise Unsupported(f"the dtype {s.results[0].refused} is not supported", "compute in float32")
    return s.cast(tensor(x), s.dtype)


@aten(
    "clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift_fresh", "to.device", "positive",
    "requires_grad_", "lift", "detach_", "prims.view_of",
)  # fmt: skip
def identity(s: Scope, x: Value, *rest: Value) -> Value:
    return x


@aten("dropout", "native_dropout", "feature_dropout", "alpha_dropout")
def dropout(s: Scope, x: Value, p: Value = 0.5, train: Value = False) -> Any:
    if train:
        raise Unsupported("dropout is active", "call `.eval()` on the module that the factory returns")
    return (x, None) if len(s.results) == 2 else x


@aten("view.dtype")
def view_dtype(s: Scope, x: Value, dtype: Value) -> Node:
    if torch_dtype(dtype) == tensor(x).type.dtype:
        return tensor(x)
    raise Unsupported("bits are reinterpreted as another dtype")
