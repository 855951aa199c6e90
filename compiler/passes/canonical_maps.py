"""Rules of canonicalize for elementwise ops and casts. See the table there."""

from __future__ import annotations

from math import isnan

import numpy as np

from ..ir.graph import Node
from ..ir.ops.cast import Cast
from ..ir.ops.expand import Expand
from ..ir.ops.iota import Iota
from ..ir.ops.leaf import Constant, constant
from ..ir.ops.map import Map
from ..ir.ops.permute import Permute
from ..ir.ops.reshape import Reshape
from ..ir.prims import apply
from ..ir.types import numpy_dtype
from .dependence import dependence
from .intervals import Facts as IntervalFacts
from .intervals import Interval, anything, evaluate_interval
from .patterns import Facts, Number, broadcast_to, is_fn, is_splat, like, splat

COMMUTATIVE = ("add", "mul", "eq", "ne", "and", "or")
"""Not min and max: which zero of min(-0.0, 0.0) comes back goes by the order."""

NEUTRAL: dict[str, Number] = {"mul": 1, "div": 1, "sub": 0, "and": True, "or": False, "pow": 1}
"""The right operand that changes nothing, in every bit."""

OPPOSITE = {"eq": "ne", "ne": "eq"}
OPPOSITE_OF_INTEGERS = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
"""Not of floats: not(x < nan) is true and x >= nan is false."""

TRUE_FOR_ONE = {("gt", 0), ("ge", 1), ("eq", 1)}
TRUE_FOR_ZERO = {("lt", 1), ("le", 0), ("eq", 0), ("ne", 1)}


COUNTING = (Map, Cast, Reshape, Permute, Expand)
COUNTING_DEPTH = 4
COUNTED = 2.0**40
"""No axis is longer than this."""


def constants_right(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, *COMMUTATIVE):
        return None
    a, b = node.operands
    return like(node, node.op, b, a) if splat(a) is not None and splat(b) is None else None


def drop_neutral(node: Node, _: Facts) -> Node | None:
    fn = _fn(node)
    if fn in NEUTRAL and is_splat(node.operands[1], NEUTRAL[fn]):
        return broadcast_to(node.operands[0], node)
    if fn == "add" and is_splat(node.operands[1], 0) and node.type.dtype != "float32":
        return broadcast_to(node.operands[0], node)
    return None


def absorb(node: Node, _: Facts) -> Node | None:
    fn = _fn(node)
    if fn not in ("and", "or") or splat(node.operands[1]) != (fn == "or"):
        return None
    return broadcast_to(constant(fn == "or", "bool", node.origin), node)


def drop_double(node: Node, _: Facts) -> Node | None:
    if is_fn(node, "neg", "not") and node.operands[0].op == node.op:
        return node.operands[0].operands[0]
    return None


def drop_same(node: Node, _: Facts) -> Node | None:
    if is_fn(node, "and", "or") and node.operands[0] is node.operands[1]:
        return node.operands[0]
    if is_fn(node, "where") and node.operands[1] is node.operands[2]:
        return broadcast_to(node.operands[1], node)
    return None


def constant_where(node: Node, _: Facts) -> Node | None:
    value = splat(node.operands[0]) if is_fn(node, "where") else None
    return None if value is None else broadcast_to(node.operands[1 if value else 2], node)


def where_not(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, "where") or not is_fn(node.operands[0], "not"):
        return None
    c, x, y = node.operands
    return like(node, node.op, c.operands[0], y, x)


def negate_comparison(node: Node, facts: Facts) -> Node | None:
    if not is_fn(node, "not"):
        return None
    x = node.operands[0]
    if x.operands and facts.is_zero_or_one(x.operands[0]):
        return None  # not(ne(mask, 0)) is how zero_one_mask writes it
    fn = _fn(x)
    opposite = OPPOSITE.get(fn)
    if opposite is None and fn in OPPOSITE_OF_INTEGERS and x.operands[0].type.dtype in ("int64", "int32"):
        opposite = OPPOSITE_OF_INTEGERS[fn]
    return None if opposite is None else like(node, Map(opposite), *x.operands)


def merge_bounds(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, "min", "max") or node.operands[0].op != node.op:
        return None
    inner, outer = splat(node.operands[0].operands[1]), splat(node.operands[1])
    if inner is None or outer is None or inner == outer == 0 or isnan(inner) or isnan(outer):
        return None
    bound = max(inner, outer) if is_fn(node, "max") else min(inner, outer)
    x = node.operands[0].operands[0]
    return broadcast_to(like(node, node.op, x, constant(bound, node.type.dtype, node.origin)), node)


def drop_identity_cast(node: Node, _: Facts) -> Node | None:
    return node.operands[0] if node.operands[0].type == node.type else None


def merge_casts(node: Node, _: Facts) -> Node | None:
    inner = node.operands[0]
    if not isinstance(inner.op, Cast):
        return None
    source, between, target = inner.operands[0].type.dtype, inner.type.dtype, node.type.dtype
    exact = source == "bool" or (source, between) == ("int32", "int64")
    to_bool = target == "bool" and source in ("int32", "int64") and between == "float32"  # no integer becomes 0.0 but 0
    return like(node, node.op, inner.operands[0]) if exact or to_bool else None


def constant_cast(node: Node, _: Facts) -> Node | None:
    x = node.operands[0]
    if not isinstance(x.op, Constant):
        return None
    value = apply("cast", np.asarray(x.op.value, numpy_dtype(x.op.dtype)), dtype=node.type.dtype)
    return constant(value.item(), node.type.dtype, node.origin)


def cast_to_bool(node: Node, _: Facts) -> Node | None:
    x = node.operands[0]
    if node.type.dtype != "bool" or x.type.dtype not in ("int64", "int32"):
        return None
    return like(node, Map("ne"), x, constant(0, x.type.dtype))


def compare_cast_bool(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, "eq", "ne"):
        return None
    x, value = node.operands[0], splat(node.operands[1])
    if value not in (0, 1) or not isinstance(x.op, Cast) or x.operands[0].type.dtype != "bool":
        return None
    mask = x.operands[0]
    found = mask if (value == 1) == is_fn(node, "eq") else like(node, Map("not"), mask)
    return broadcast_to(found, node)


def compare_cast_int(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, "eq", "ne") or splat(node.operands[1]) != 0:
        return None
    x = node.operands[0]
    if not isinstance(x.op, Cast) or x.operands[0].type.dtype not in ("int64", "int32") or x.type.dtype == "int32":
        return None
    inner = x.operands[0]
    return broadcast_to(like(node, node.op, inner, constant(0, inner.type.dtype)), node)


def zero_one_mask(node: Node, facts: Facts) -> Node | None:
    fn = _fn(node)
    if len(node.operands) != 2 or not facts.is_zero_or_one(node.operands[0]):
        return None
    mask, value = node.operands[0], splat(node.operands[1])
    if (fn, value) not in TRUE_FOR_ONE | TRUE_FOR_ZERO or node.operands[1].type.rank > 0:
        return None
    kept = like(node, Map("ne"), mask, constant(0, mask.type.dtype))
    return kept if (fn, value) in TRUE_FOR_ONE else like(node, Map("not"), kept)


def decided_comparison(node: Node, _: Facts) -> Node | None:
    if not is_fn(node, "lt", "le", "gt", "ge", "eq", "ne") or node.operands[0].type.dtype == "float32":
        return None
    low, high = _range(node, COUNTING_DEPTH)
    return broadcast_to(constant(low > 0, "bool", node.origin), node) if low == high else None


def _range(node: Node, depth: int) -> Interval:
    """An interval that holds every element of node, looking a few nodes back."""
    if isinstance(node.op, Constant):
        return (float(node.op.value), float(node.op.value))
    if isinstance(node.op, Iota):
        low = float(node.op.start)
        return (low, COUNTED if node.op.step > 0 else low) if node.op.step >= 0 else (-COUNTED, low)
    loop = None if depth == 0 or not isinstance(node.op, COUNTING) else dependence(node)
    if loop is None:
        return anything(node.type.dtype)
    ranges = [_range(o, depth - 1) for o in node.operands]
    return evaluate_interval(loop.body, IntervalFacts(lambda load: ranges[load.operand], lambda a, b: None))


def _fn(node: Node) -> str:
    return node.op.fn if isinstance(node.op, Map) else ""
