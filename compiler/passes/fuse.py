"""fuse: epilogues into the kernels that bring them, projections of one input into one, attention into its whole.

    bias        add(linear(x, w), b) -> linear(x, w, b) for a fixed vector b; conv too
    activation  gelu(linear(x, w)) -> linear(x, w){activation=gelu}; conv too
    residual    add(linear(x, w), y) -> linear(x, w, y){residual}; conv too
    norm        layer_norm(add(x, y)) -> layer_norm(x, y){residual}
    qkv         attention of linear(x, wq), linear(x, wk), linear(x, wv) -> slices of linear(x, concat(wq, wk, wv))
    scales      mul(linear(x, w, b), s) -> linear(x, w*s, b*s) for a fixed s; conv too (so batch norms go into conv)
    attention   softmax(q kᵀ * scale + bias) v -> attention(q, k, v, bias); see fuse_attention.py

All keep every bit but `scales`, where a product of weights is rounded once more (1 part in 2^23), and `attention`, where
the additions of a product may be in another order. A value that several readers need is never computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.graph import Graph, Node, Op, Origin, make
from ..ir.ops.attention import Attention
from ..ir.ops.concat import Concat
from ..ir.ops.conv import Conv
from ..ir.ops.layer_norm import LayerNorm
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.ops.matmul import Matmul
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..ir.prims import ACTIVATIONS
from . import fuse_scales as scales
from .fuse_attention import recognize_attention
from .patterns import Facts, Rule, apply_rules, is_fn, is_static, like


@dataclass(frozen=True)
class Fuse:
    """See the module; each option turns one kind of fusion off."""

    attention: bool = True
    scales: bool = True
    epilogues: bool = True
    norm: bool = True
    qkv: bool = True
    name: ClassVar[str] = "fuse"

    def apply(self, graph: Graph) -> Graph:
        for wanted, rules in (
            (self.attention, ATTENTION),
            (self.scales, SCALES),
            (self.epilogues, EPILOGUES),
            (self.norm, NORM),
            (self.qkv, QKV),
        ):
            if wanted:
                graph = apply_rules(graph, rules)
        return graph


def fuse_bias(node: Node, facts: Facts) -> Node | None:
    """The sum that a linear or conv without a bias, activation or residual goes into, with a fixed vector."""
    if not is_fn(node, "add"):
        return None
    for product, vector in _both_ways(node):
        op = product.op
        if not isinstance(op, Linear | Conv) or op.bias or op.residual or op.activation or not facts.is_single(product):
            continue
        bias = scales.channel_vector(vector, product, scalars=False)
        if bias is not None and product.type == node.type:
            return like(product, replace(op, bias=True), *product.operands, bias)
    return None


def fuse_activation(node: Node, facts: Facts) -> Node | None:
    if not isinstance(node.op, Map) or node.op.fn not in ACTIVATIONS:
        return None
    product = node.operands[0]
    op = product.op
    if not isinstance(op, Linear | Conv) or op.activation is not None or not facts.is_single(product):
        return None
    if isinstance(op, Linear) and op.residual:  # linear adds its residual behind the activation, conv before
        return None
    return like(product, replace(op, activation=node.op.fn), *product.operands)


def fuse_residual(node: Node, facts: Facts) -> Node | None:
    if not is_fn(node, "add"):
        return None
    for product, other in _both_ways(node):
        op = product.op
        if not isinstance(op, Linear | Conv) or op.residual or not facts.is_single(product) or other is product:
            continue
        if isinstance(op, Conv) and op.activation is not None:
            continue
        if product.type == node.type == other.type:
            return like(product, replace(op, residual=True), *product.operands, other)
    return None


def fuse_norm_residual(node: Node, facts: Facts) -> Node | None:
    op = node.op
    assert isinstance(op, LayerNorm)
    total, *rest = node.operands
    if op.residual or not is_fn(total, "add") or not facts.is_single(total):
        return None
    x, y = total.operands
    if x.type != total.type or y.type != total.type:
        return None
    return like(node, replace(op, residual=True), x, *rest, y)


def fuse_qkv(node: Node, facts: Facts) -> Node | None:
    """Queries, keys and values (two of them, or all three) that are plain linears of one value become one linear."""
    assert isinstance(node.op, Attention)
    views = node.operands[:3]
    products = [v.operands[0] if isinstance(v.op, Reshape) else v for v in views]
    plain = [p for p in products if _is_plain_linear(p, facts)]
    for x in dict.fromkeys(p.operands[0] for p in plain):
        group = [p for p in dict.fromkeys(plain) if p.operands[0] is x and all(is_static(o) for o in p.operands[1:])]
        group = [p for p in group if p.op == group[0].op]
        if len(group) < 2 or any(facts.use_counts.get(v, 1) != 1 for v in views):
            continue
        parts = dict(zip(group, _one_linear(group), strict=True))
        images = [
            like(v, v.op, parts[p]) if p in parts and v is not p else parts.get(v, v)
            for v, p in zip(views, products, strict=True)
        ]
        return like(node, node.op, *images, *node.operands[3:])
    return None


def _is_plain_linear(node: Node, facts: Facts) -> bool:
    op = node.op
    return isinstance(op, Linear) and not op.residual and op.activation is None and facts.is_single(node)


def _one_linear(group: list[Node]) -> list[Node]:
    """One linear in place of several over the same x, cut into their results."""
    weight = like(group[0].operands[1], Concat(0), *(p.operands[1] for p in group))
    operands = [group[0].operands[0], weight]
    if isinstance(group[0].op, Linear) and group[0].op.bias:
        operands.append(like(group[0].operands[2], Concat(0), *(p.operands[2] for p in group)))
    product = make(group[0].op, *operands, origin=_joint_origin(group))
    axis, at = product.type.rank - 1, 0
    parts: list[Node] = []
    for p in group:
        width = p.type.shape[-1]
        assert isinstance(width, int)
        parts.append(like(p, Slice(axis, at, at + width), product))
        at += width
    return parts


def _joint_origin(group: list[Node]) -> Origin:
    """0.attention.query, 0.attention.key -> 0.attention.query+key."""
    first = group[0].origin
    stem, dot, _ = first.name.rpartition(".")
    tails = [p.origin.name.removeprefix(stem + dot) for p in group]
    return replace(first, name=stem + dot + "+".join(tails)) if all(tails) else first


def _both_ways(node: Node) -> tuple[tuple[Node, Node], tuple[Node, Node]]:
    a, b = node.operands
    return (a, b), (b, a)


ATTENTION: tuple[tuple[type[Op], Rule], ...] = (
    (Matmul, recognize_attention),  # matmul(softmax(mul(matmul(q, k){transpose_b}, s) + bias), v) -> attention(q, k, v)
)

SCALES: tuple[tuple[type[Op], Rule], ...] = (
    (Map, fuse_bias),  # add(linear(x, w), b) -> linear(x, w, b)
    (Map, scales.fold_scale),  # mul(linear(x, w, b), s) -> linear(x, w*s, b*s); div too
    (Map, scales.fold_shift),  # add(linear(x, w, b), s) -> linear(x, w, b+s); sub too
)

EPILOGUES: tuple[tuple[type[Op], Rule], ...] = (
    (Map, fuse_bias),  # add(linear(x, w), b) -> linear(x, w, b)
    (Map, fuse_activation),  # gelu(linear(x, w)) -> linear(x, w){activation=gelu}
    (Map, fuse_residual),  # add(linear(x, w), y) -> linear(x, w, y){residual}
)

NORM: tuple[tuple[type[Op], Rule], ...] = (
    (LayerNorm, fuse_norm_residual),  # layer_norm(add(x, y)) -> layer_norm(x, y){residual}
)

QKV: tuple[tuple[type[Op], Rule], ...] = (
    (
        Attention,
        fuse_qkv,
    ),  # attention(linear(x, a), linear(x, b), ...) -> attention(slice(linear(x, concat(a, b))), ...)
)
