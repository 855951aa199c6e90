"""Scalar primitives: the vocabulary of loop forms and of `map`.

    Primitive := name, arity, dtype rule, NumPy function, expansion into simpler primitives or None

One table says everything about a primitive. Definitions where languages differ:

* int floordiv and mod round down (Python); by zero they give 0. Integer arithmetic wraps around.
* float floordiv(a, b) is floor(a / b); float mod(a, b) takes the sign of b.
* min and max of floats give NaN where either argument is NaN; `sign` of NaN is 0; `round` takes halves to even.
* a cast to an integer rounds toward zero (outside the integer's range: undefined); a cast to bool is `x != 0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .graph import Array, OpError
from .loops import Expr, Literal, Prim, map_children
from .types import DTYPES, DType, numpy_dtype

Rule = Callable[[str, tuple[DType, ...]], DType]
Expansion = Callable[..., Expr | None]


@dataclass(frozen=True)
class Primitive:
    """A row of the table. `expand` takes the arguments as expressions and gives an equal expression over simpler
    primitives, or None where there is none for these arguments (some depend on dtype or on a literal argument)."""

    name: str
    arity: int
    rule: Rule
    numpy: Callable[..., Any]
    expand: Expansion | None = None


def primitive(name: str) -> Primitive:
    """The row called name. Raises OpError that lists the known names."""
    row = TABLE.get(name)
    if row is None:
        raise OpError(f"no primitive is called {name!r}; known: {', '.join(TABLE)}")
    return row


def result_dtype(name: str, dtypes: tuple[DType, ...]) -> DType:
    """The dtype of primitive `name` over arguments of the given dtypes (`cast` carries its own). Raises OpError."""
    row = primitive(name)
    if len(dtypes) != row.arity:
        raise OpError(f"{name} takes {row.arity} operands, not {len(dtypes)}")
    return row.rule(name, dtypes)


def apply(name: str, *arrays: Array, dtype: DType | np.dtype[Any] | None = None) -> Array:
    """Primitive `name` over NumPy arrays, broadcasting. `cast` needs dtype. float64 stays float64."""
    with np.errstate(all="ignore"):
        if name == "cast":
            if dtype is None:
                raise ValueError("cast needs a dtype")
            return arrays[0].astype(numpy_dtype(dtype) if isinstance(dtype, str) else dtype)
        return np.asarray(primitive(name).numpy(*arrays))


def apply_activation(name: str, array: Array) -> Array:
    """Activation `name` (one of ACTIVATIONS) over a float array, elementwise; keeps dtype and shape."""
    check_activation("activation", name)
    return apply(name, array)


def check_activation(op: str, name: str | None) -> None:
    """Raises OpError unless name is None or one of ACTIVATIONS."""
    if name is not None and name not in ACTIVATIONS:
        raise OpError(f"{op}: no activation is called {name!r}; known: {', '.join(ACTIVATIONS)}")


def expand(prim: Prim) -> Expr | None:
    """prim over simpler primitives, one step, or None."""
    expansion = primitive(prim.name).expand
    return None if expansion is None else expansion(*prim.args)


def expand_to(expr: Expr, native: Collection[str]) -> Expr:
    """expr with every primitive outside `native` expanded until none is left. Raises OpError naming one that cannot."""
    if isinstance(expr, Prim) and expr.name not in native:
        simpler = expand(expr)
        if simpler is None:
            raise OpError(f"primitive {expr.name} on {expr.dtype} has no expansion and the target does not bring it")
        return expand_to(simpler, native)
    return map_children(expr, lambda e: expand_to(e, native))


# Expressions over primitives, for expansions and loop forms.


def prim(name: str, *args: Expr) -> Prim:
    """Prim(name, args) with its dtype worked out. Raises OpError."""
    return Prim(name, args, result_dtype(name, tuple(a.dtype for a in args)))


def cast(expr: Expr, dtype: DType) -> Expr:
    """expr as dtype; expr itself where it has it."""
    return expr if expr.dtype == dtype else Prim("cast", (expr,), dtype)


def f32(value: float) -> Literal:
    """A float32 literal."""
    return Literal(value, "float32")


# Dtype rules.


def _same(allowed: tuple[DType, ...]) -> Rule:
    def rule(name: str, dtypes: tuple[DType, ...]) -> DType:
        if any(d not in allowed for d in dtypes):
            raise OpError(f"{name} takes {' or '.join(allowed)}, not {', '.join(dtypes)}")
        if len(set(dtypes)) > 1:
            raise OpError(f"{name} takes operands of one dtype, not {', '.join(dtypes)}; cast them first")
        return dtypes[0]

    return rule


def _compare(allowed: tuple[DType, ...]) -> Rule:
    same = _same(allowed)

    def rule(name: str, dtypes: tuple[DType, ...]) -> DType:
        same(name, dtypes)
        return "bool"

    return rule


def _where_rule(name: str, dtypes: tuple[DType, ...]) -> DType:
    if dtypes[0] != "bool":
        raise OpError(f"where takes a bool condition, not {dtypes[0]}")
    return _same(DTYPES)(name, dtypes[1:])


def _cast_rule(name: str, dtypes: tuple[DType, ...]) -> DType:
    raise OpError(f"{name} carries its own dtype; use the op `cast`")


_FLOAT = _same(("float32",))
_NUMBER = _same(("float32", "int64", "int32"))
_INT = _same(("int64", "int32"))
_BOOL = _same(("bool",))
_ORDER = _compare(("float32", "int64", "int32"))
_EQUAL = _compare(DTYPES)


# NumPy functions that NumPy does not bring.


def _sign(x: Array) -> Array:
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


@cache
def _erf_table() -> Array:
    """Taylor coefficients of erf around k/16, k = 0..96: [14, 97]. With y = erf', y' = -2xy gives their recurrence."""
    table = np.zeros((97, 14))
    for k in range(97):
        x = k / 16
        slope = [2 / math.sqrt(math.pi) * math.exp(-x * x)]
        for n in range(12):
            slope.append((-2 * x * slope[n] - 2 * (slope[n - 1] if n else 0.0)) / (n + 1))
        table[k] = [math.erf(x), *(s / (n + 1) for n, s in enumerate(slope))]
    return np.ascontiguousarray(table.T)


def erf(x: Array) -> Array:
    """The error function to within an ulp or two of x's dtype, which the result has."""
    flat = np.ravel(x)
    out = np.empty(flat.shape, dtype=x.dtype)
    for at in range(0, flat.size, 1 << 14):  # blocks that stay in the cache
        out[at : at + (1 << 14)] = _erf_block(flat[at : at + (1 << 14)])
    return out.reshape(x.shape)


def _erf_block(x: Array) -> Array:
    table = _erf_table()
    absolute = np.minimum(np.abs(x.astype(np.float64)), 6.0)  # erf(6) is 1 - 2e-17
    nearest = np.rint(np.nan_to_num(absolute) * 16).astype(np.int64)
    delta = absolute - nearest / 16
    degree = 6 if x.dtype == np.float32 else 13  # |delta| <= 1/32: the next term is below 1e-10, 1e-20
    total = table[degree][nearest]
    for n in range(degree - 1, -1, -1):
        total = total * delta + table[n][nearest]
    return np.copysign(total, x)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _hardsigmoid(x: Array) -> Array:
    return np.clip(x + 3, 0, 6) / 6


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _hardswish(x: Array) -> Array:
    return x * _hardsigmoid(x)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _floordiv(a: Array, b: Array) -> Array:
    return np.floor(a / b) if a.dtype.kind == "f" else np.floor_divide(a, b)


# Expansions.


def _expand_floordiv(a: Expr, b: Expr) -> Expr | None:  # floor(a / b), floats only
    return prim("floor", prim("div", a, b)) if a.dtype == "float32" else None


def _expand_mod(a: Expr, b: Expr) -> Expr | None:  # a - floor(a / b) * b, floats only
    if a.dtype != "float32":
        return None
    return prim("sub", a, prim("mul", prim("floor", prim("div", a, b)), b))


def _expand_pow(a: Expr, b: Expr) -> Expr | None:  # literal exponents -4..4 and ±1/2
    if not isinstance(b, Literal):
        return None
    if abs(b.value) == 0.5:
        return prim("sqrt" if b.value > 0 else "rsqrt", a)
    if b.value != int(b.value) or abs(b.value) > 4:
        return None
    total: Expr = f32(1.0) if b.value == 0 else a
    for _ in range(abs(int(b.value)) - 1):
        total = prim("mul", total, a)
    return prim("div", f32(1.0), total) if b.value < 0 else total


def _expand_sign(x: Expr) -> Expr:  # where(x > 0, 1, where(x < 0, -1, 0))
    def number(value: int) -> Literal:
        return Literal(float(value) if x.dtype == "float32" else value, x.dtype)

    negative = prim("where", prim("lt", x, number(0)), number(-1), number(0))
    return prim("where", prim("gt", x, number(0)), number(1), negative)


def _expand_rsqrt(x: Expr) -> Expr:
    return prim("div", f32(1.0), prim("sqrt", x))


def _expand_ceil(x: Expr) -> Expr:
    return prim("neg", prim("floor", prim("neg", x)))


def _expand_xor(a: Expr, b: Expr) -> Expr:
    return prim("ne", a, b)


def _expand_relu(x: Expr) -> Expr:
    return prim("max", x, f32(0.0))


def _expand_trunc(x: Expr) -> Expr:
    return prim("where", prim("lt", x, f32(0.0)), prim("ceil", x), prim("floor", x))


def _expand_gelu(x: Expr) -> Expr:  # 0.5 x (1 + erf(x / √2)); Hendrycks & Gimpel 2016
    inner = prim("erf", prim("mul", x, f32(math.sqrt(0.5))))
    return prim("mul", prim("mul", f32(0.5), x), prim("add", f32(1.0), inner))


def _expand_gelu_tanh(x: Expr) -> Expr:  # 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))
    cube = prim("mul", prim("mul", x, x), x)
    inner = prim("mul", f32(math.sqrt(2 / math.pi)), prim("add", x, prim("mul", f32(0.044715), cube)))
    return prim("mul", prim("mul", f32(0.5), x), prim("add", f32(1.0), prim("tanh", inner)))


def _one_plus_exp_minus(x: Expr) -> Expr:
    return prim("add", f32(1.0), prim("exp", prim("neg", x)))


def _expand_sigmoid(x: Expr) -> Expr:  # 1 / (1 + exp(-x))
    return prim("div", f32(1.0), _one_plus_exp_minus(x))


def _expand_silu(x: Expr) -> Expr:  # x / (1 + exp(-x))
    return prim("div", x, _one_plus_exp_minus(x))


def _expand_hardswish(x: Expr) -> Expr:
    return prim("mul", x, _expand_hardsigmoid(x))


def _expand_hardsigmoid(x: Expr) -> Expr:  # min(max(x + 3, 0), 6) / 6
    clipped = prim("min", prim("max", prim("add", x, f32(3.0)), f32(0.0)), f32(6.0))
    return prim("div", clipped, f32(6.0))


ROWS: tuple[Primitive, ...] = (
    Primitive("add", 2, _NUMBER, np.add),
    Primitive("sub", 2, _NUMBER, np.subtract),
    Primitive("mul", 2, _NUMBER, np.multiply),
    Primitive("div", 2, _FLOAT, np.divide),
    Primitive("floordiv", 2, _NUMBER, _floordiv, _expand_floordiv),
    Primitive("mod", 2, _NUMBER, np.mod, _expand_mod),
    Primitive("pow", 2, _FLOAT, np.power, _expand_pow),
    Primitive("min", 2, _NUMBER, np.minimum),
    Primitive("max", 2, _NUMBER, np.maximum),
    Primitive("neg", 1, _NUMBER, np.negative),
    Primitive("abs", 1, _NUMBER, np.abs),
    Primitive("sign", 1, _NUMBER, _sign, _expand_sign),
    Primitive("exp", 1, _FLOAT, np.exp),
    Primitive("log", 1, _FLOAT, np.log),
    Primitive("sqrt", 1, _FLOAT, np.sqrt),
    Primitive("rsqrt", 1, _FLOAT, _rsqrt, _expand_rsqrt),
    Primitive("sin", 1, _FLOAT, np.sin),
    Primitive("cos", 1, _FLOAT, np.cos),
    Primitive("tanh", 1, _FLOAT, np.tanh),
    Primitive("erf", 1, _FLOAT, erf),
    Primitive("floor", 1, _FLOAT, np.floor),
    Primitive("ceil", 1, _FLOAT, np.ceil, _expand_ceil),
    Primitive("round", 1, _FLOAT, np.rint),
    Primitive("trunc", 1, _FLOAT, np.trunc, _expand_trunc),
    Primitive("eq", 2, _EQUAL, np.equal),
    Primitive("ne", 2, _EQUAL, np.not_equal),
    Primitive("lt", 2, _ORDER, np.less),
    Primitive("le", 2, _ORDER, np.less_equal),
    Primitive("gt", 2, _ORDER, np.greater),
    Primitive("ge", 2, _ORDER, np.greater_equal),
    Primitive("and", 2, _BOOL, np.logical_and),
    Primitive("or", 2, _BOOL, np.logical_or),
    Primitive("xor", 2, _BOOL, np.logical_xor, _expand_xor),
    Primitive("not", 1, _BOOL, np.logical_not),
    Primitive("bitand", 2, _INT, np.bitwise_and),
    Primitive("bitor", 2, _INT, np.bitwise_or),
    Primitive("bitxor", 2, _INT, np.bitwise_xor),
    Primitive("bitnot", 1, _INT, np.bitwise_not),
    Primitive("where", 3, _where_rule, np.where),
    Primitive("cast", 1, _cast_rule, np.asarray),
    Primitive("relu", 1, _FLOAT, _relu, _expand_relu),
    Primitive("gelu", 1, _FLOAT, _gelu, _expand_gelu),
    Primitive("gelu_tanh", 1, _FLOAT, _gelu_tanh, _expand_gelu_tanh),
    Primitive("silu", 1, _FLOAT, _silu, _expand_silu),
    Primitive("sigmoid", 1, _FLOAT, _sigmoid, _expand_sigmoid),
    Primitive("hardswish", 1, _FLOAT, _hardswish, _expand_hardswish),
    Primitive("hardsigmoid", 1, _FLOAT, _hardsigmoid, _expand_hardsigmoid),
)

TABLE: Mapping[str, Primitive] = {row.name: row for row in ROWS}
ACTIVATIONS: tuple[str, ...] = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "hardswish", "hardsigmoid", "tanh")
