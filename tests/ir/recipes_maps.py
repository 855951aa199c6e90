"""How a random graph draws each primitive: one recipe for those of a kind."""

from __future__ import annotations

import math

import numpy as np

from infc.compiler.ir.graph import Node
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.prims import TABLE
from infc.compiler.ir.prims import apply as apply_primitive
from infc.compiler.ir.shapes import INTEGERS, NUMBERS
from infc.compiler.ir.types import DTYPES, DType

from .draft import Draft, Info, constant_of

EXACT_UNARY = ("floor", "ceil", "round", "trunc", "sign")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
DOMAINS: dict[str, tuple[float, float]] = {"log": (0.25, 4), "sqrt": (0.25, 4), "rsqrt": (0.25, 4)}


def primitive(draft: Draft, name: str) -> Node:
    """map of a primitive over operands that broadcast."""
    if name == "where":
        return where(draft)
    row = TABLE[name]
    if row.arity == 1:
        return unary(draft, name)
    dtypes: tuple[DType, ...] = DTYPES if name in ("eq", "ne") else NUMBERS
    if name in ("and", "or", "xor"):
        dtypes = ("bool",)
    elif name in ("bitand", "bitor", "bitxor"):
        dtypes = INTEGERS
    elif name in ("div", "pow"):
        dtypes = ("float32",)
    dtype = draft.rng.choice(dtypes)
    exact = name in COMPARISONS or name in ("floordiv", "mod")
    low, high = (0.25, 4) if name == "pow" else (-32, 32)
    a = draft.value(dtype, rank=(0, 4), low=low, high=high, exact=exact)
    shape = draft.narrowed(a.type.shape)
    if name in ("div", "floordiv", "mod"):
        b = draft.value(dtype, shape, low=0.25 if dtype == "float32" else 1, high=9, exact=exact)
    elif name == "pow":
        fixed = draft.chance(0.5)
        b = constant_of(draft, draft.rng.choice((2.0, 3.0, 0.5, -0.5, -1.0)), "float32") if fixed else None
        b = draft.value("float32", shape, low=-2, high=2) if b is None else b
    else:
        b = draft.value(dtype, shape, low=-32, high=32, exact=exact)
        if name not in ("sub", "lt", "le", "gt", "ge") and draft.chance(0.5):
            a, b = b, a
    return draft.add(Map(name), a, b, info=binary_info(name, draft.infos[a], draft.infos[b]))


def binary_info(name: str, a: Info, b: Info) -> Info:
    """The interval and grid of a primitive of two operands."""
    step = min(a.step, b.step)
    corners = [(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    if name in ("min", "max"):
        return Info(min(a.low, b.low), max(a.high, b.high), step)
    if name == "add":
        return Info(a.low + b.low, a.high + b.high, step)
    if name == "sub":
        return Info(a.low - b.high, a.high - b.low, step)
    if name == "mul":
        return Info(min(x * y for x, y in corners), max(x * y for x, y in corners), a.step * b.step)
    if name in ("div", "floordiv"):
        values = [x / y for x, y in corners]
        return Info(math.floor(min(values)), math.ceil(max(values)), 1 if name == "floordiv" else 0)
    if name == "mod":
        return Info(0, b.high, step)
    if name == "pow":
        values = [x**y for x, y in corners]
        return Info(min(values), max(values), 0)
    if name in ("bitand", "bitor", "bitxor"):
        largest = 2.0 ** math.ceil(math.log2(max(a.largest, b.largest) + 2))
        return Info(-largest, largest, 1)
    return Info(0, 1, 1)


def unary(draft: Draft, name: str) -> Node:
    """A primitive of one operand."""
    if name == "not":
        return draft.add(Map(name), draft.value("bool", rank=(0, 4)))
    if name == "bitnot":
        x = draft.value(draft.rng.choice(INTEGERS), rank=(0, 4), low=-500, high=500)
        return draft.add(Map(name), x, info=Info(-draft.infos[x].high - 1, -draft.infos[x].low - 1, 1))
    dtype = draft.rng.choice(NUMBERS) if name in ("neg", "abs", "sign") else "float32"
    low, high = DOMAINS.get(name, (-500, 500) if dtype != "float32" else (-8, 8))
    x = draft.value(dtype, rank=(0, 4), low=low, high=high, exact=name in EXACT_UNARY)
    i = draft.infos[x]
    if name == "neg":
        info = Info(-i.high, -i.low, i.step)
    elif name == "abs":
        info = Info(0, i.largest, i.step)
    elif name in EXACT_UNARY:
        info = Info(math.floor(i.low), math.ceil(i.high), 1) if name != "sign" else Info(-1, 1, 1)
    elif name == "relu":
        info = Info(0, max(i.high, 0), i.step)
    elif name in ("sin", "cos", "tanh", "erf", "sigmoid", "hardsigmoid"):
        info = Info(-1, 1, 0)
    elif name in ("exp", "log", "sqrt", "rsqrt"):
        ends = sorted(float(apply_primitive(name, np.asarray(v))) for v in (i.low, i.high))
        info = Info(ends[0], ends[1], 0)
    else:  # gelu, silu, hardswish and their like stay between -0.5 and x
        info = Info(-0.5, max(i.high, 0), 0)
    return draft.add(Map(name), x, info=info)


def where(draft: Draft) -> Node:
    dtype = draft.rng.choice(DTYPES)
    a = draft.value(dtype, rank=(0, 4))
    condition = draft.value("bool", draft.narrowed(a.type.shape))
    b = draft.value(dtype, draft.narrowed(a.type.shape))
    i, j = draft.infos[a], draft.infos[b]
    return draft.add(
        Map("where"), condition, a, b, info=Info(min(i.low, j.low), max(i.high, j.high), min(i.step, j.step))
    )
