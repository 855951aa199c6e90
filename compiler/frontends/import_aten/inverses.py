"""Inverses of the trigonometric functions, as polynomials of what they are smooth in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ir.graph import Node
from .elementwise import arithmetic
from .scope import Scope, Value, aten

# Abramowitz and Stegun, Handbook of Mathematical Functions: 4.4.46 and 4.4.49, both within 2e-8. Highest power first.
_ACOS = (
    -0.0012624911,
    0.0066700901,
    -0.0170881256,
    0.0308918810,
    -0.0501743046,
    0.0889789874,
    -0.2145988016,
    1.5707963050,
)
_ATAN = (
    0.0028662257, -0.0161657367, 0.0429096138, -0.0752896400, 0.1065626393, -0.1420889944, 0.1999355085, -0.3333314528, 1.0,
)  # fmt: skip


def _polynomial(s: Scope, x: Node, factors: Sequence[float]) -> Node:
    total: Node = s.constant(factors[0], "float32")
    for factor in factors[1:]:
        total = arithmetic(s, "add", s.map("mul", total, x), factor)
    return total


@aten("acos")
def acos(s: Scope, x: Value) -> Node:
    """sqrt(1 - |x|) times a polynomial of |x|; pi less that below 0."""
    node = s.node(x, "float32")
    size = s.map("abs", node)
    root = s.map("sqrt", arithmetic(s, "sub", 1.0, size))
    above = s.map("mul", root, _polynomial(s, size, _ACOS))
    return s.map("where", arithmetic(s, "lt", node, 0.0), arithmetic(s, "sub", math.pi, above), above)


@aten("atan")
def atan(s: Scope, x: Value) -> Node:
    """x times a polynomial of its square within -1..1; half pi less that of 1/x outside."""
    node = s.node(x, "float32")
    size = s.map("abs", node)
    far = arithmetic(s, "gt", size, 1.0)
    near = s.map("where", far, arithmetic(s, "div", 1.0, size), size)
    angle = s.map("mul", near, _polynomial(s, s.map("mul", near, near), _ATAN))
    angle = s.map("where", far, arithmetic(s, "sub", math.pi / 2, angle), angle)
    return s.map("where", arithmetic(s, "lt", node, 0.0), s.map("neg", angle), angle)


@aten("asin")
def asin(s: Scope, x: Value) -> Node:
    node = s.node(x, "float32")
    rest = s.map("mul", arithmetic(s, "sub", 1.0, node), arithmetic(s, "add", node, 1.0))
    return atan(s, s.map("div", node, s.map("sqrt", rest)))
