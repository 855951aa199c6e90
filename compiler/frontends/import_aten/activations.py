"""Activations that are composed of primitives (those that are primitives themselves are in elementwise.py)."""

from __future__ import annotations

from typing import Any

from ...ir.graph import Node
from .elementwise import arithmetic, clamp, expm1, log1p, scaled
from .scope import Scope, Value, aten, number, tensor


def _float(s: Scope, value: Value) -> Node:
    return s.node(value, "float32")


@aten("leaky_relu")
def leaky_relu(s: Scope, x: Value, slope: Value = 0.01) -> Node:
    node = tensor(x)
    return s.map("where", arithmetic(s, "gt", node, 0.0), node, arithmetic(s, "mul", node, slope))


@aten("prelu", "_prelu_kernel")
def prelu(s: Scope, x: Value, weight: Value) -> Node:
    node, w = tensor(x), tensor(weight)
    if w.type.rank == 1 and node.type.rank > 2:
        w = s.reshape(w, (w.type.shape[0], *([1] * (node.type.rank - 2))))
    return s.map("where", arithmetic(s, "gt", node, 0.0), node, s.map("mul", node, w))


@aten("elu")
def elu(s: Scope, x: Value, alpha: Value = 1.0, scale: Value = 1.0, input_scale: Value = 1.0) -> Node:
    node = tensor(x)
    low = s.map("min", node, s.constant(0.0, "float32"))
    below = arithmetic(s, "mul", expm1(s, scaled(s, low, input_scale)), number(alpha, "alpha") * number(scale, "scale"))
    return s.map("where", arithmetic(s, "gt", node, 0.0), _float(s, scaled(s, node, scale)), below)


@aten("selu")
def selu(s: Scope, x: Value) -> Node:
    return elu(s, x, 1.6732632423543772, 1.0507009873554805)


@aten("celu")
def celu(s: Scope, x: Value, alpha: Value = 1.0) -> Node:
    a = number(alpha, "alpha")
    return elu(s, x, a, 1.0, 1.0 / a)


@aten("softplus")
def softplus(s: Scope, x: Value, beta: Value = 1.0, threshold: Value = 20.0) -> Node:
    """log(1 + exp(beta x)) / beta = max(x, 0) + log1p(exp(-beta |x|)) / beta; x itself beyond threshold."""
    node, b = tensor(x), number(beta, "beta")
    tail = log1p(s, s.map("exp", arithmetic(s, "mul", s.map("abs", node), -b)))
    value = s.map("add", s.map("max", node, s.constant(0.0, "float32")), _float(s, scaled(s, tail, 1.0 / b)))
    return s.map("where", arithmetic(s, "gt", _float(s, scaled(s, node, b)), threshold, "float32"), node, value)


@aten("log_sigmoid", "log_sigmoid_forward")
def log_sigmoid(s: Scope, x: Value) -> Any:
    value = s.map("neg", softplus(s, s.map("neg", tensor(x)), 1.0, 1e9))
    return (value, None) if len(s.results) == 2 else value


@aten("mish")
def mish(s: Scope, x: Value) -> Node:
    return s.map("mul", tensor(x), s.map("tanh", softplus(s, x)))


@aten("hardtanh")
def hardtanh(s: Scope, x: Value, low: Value = -1.0, high: Value = 1.0) -> Node:
    return clamp(s, x, low, high)


@aten("relu6")
def relu6(s: Scope, x: Value) -> Node:
    return clamp(s, x, 0, 6)


@aten("threshold")
def threshold(s: Scope, x: Value, limit: Value, value: Value) -> Node:
    node = tensor(x)
    return s.map("where", arithmetic(s, "gt", node, limit), node, s.node(value, s.dtype))


@aten("glu")
def glu(s: Scope, x: Value, axis: Value = -1) -> Node:
    node = tensor(x)
    at = (axis if isinstance(axis, int) else -1) % node.type.rank
    half = node.type.shape[at] // 2
    left, right = s.slice(node, at, 0, half), s.slice(node, at, half, node.type.shape[at])
    return s.map("mul", left, s.map("sigmoid", right))
