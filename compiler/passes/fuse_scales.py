"""Rules of fuse that move a fixed factor or summand of a linear or conv into its weights.

    mul(conv(x, w, b), s) -> conv(x, w * s, b * s)        s fixed, one number a channel (or one in all)
    add(conv(x, w, b), t) -> conv(x, w, b + t)

So a batch norm behind a conv costs nothing. The weights are rounded once more: a relative difference of 2^-23 a weight.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Node
from ..ir.ops.conv import Conv
from ..ir.ops.expand import Expand
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.ops.reshape import Reshape
from .patterns import Facts, is_fn, is_static, like


def fold_scale(node: Node, facts: Facts) -> Node | None:
    if not is_fn(node, "mul", "div"):
        return None
    pairs = [(node.operands[0], node.operands[1])]
    if is_fn(node, "mul"):
        pairs.append((node.operands[1], node.operands[0]))
    for product, factor in pairs:
        vector = _foldable(product, factor, node, facts)
        if vector is None:
            continue
        x, weight, *bias = product.operands
        column = like(weight, Reshape((vector.type.shape[0], *[1] * (weight.type.rank - 1))), vector)
        scaled = [like(w, node.op, w, v) for w, v in zip((weight, *bias), (column, vector), strict=False)]
        return like(product, product.op, x, *scaled)
    return None


def fold_shift(node: Node, facts: Facts) -> Node | None:
    if not is_fn(node, "add", "sub"):
        return None
    pairs = [(node.operands[0], node.operands[1])]
    if is_fn(node, "add"):
        pairs.append((node.operands[1], node.operands[0]))
    for product, summand in pairs:
        vector = _foldable(product, summand, node, facts)
        if vector is None:
            continue
        x, weight, *bias = product.operands
        assert isinstance(product.op, Linear | Conv)
        if bias:
            shifted = like(bias[0], node.op, bias[0], vector)
        else:
            shifted = like(vector, Map("neg"), vector) if is_fn(node, "sub") else vector
        return like(product, replace(product.op, bias=True), x, weight, shifted)
    return None


def channel_vector(value: Node, product: Node, *, scalars: bool = True) -> Node | None:
    """value as a vector [channels] where it is fixed and broadcasts over product as one number a channel; else None."""
    if not is_static(value) or value.type.dtype != "float32":
        return None
    channels = product.operands[1].type.shape[0]
    axis = 1 if isinstance(product.op, Conv) else product.type.rank - 1
    behind = product.type.rank - 1 - axis
    own = value.type.shape
    if all(dim == 1 for dim in own):
        if not scalars and own != (channels,):
            return None
        return like(value, Expand((channels,)), like(value, Reshape(()), value) if own else value)
    where = len(own) - 1 - behind
    if where < 0 or own[where] != channels or any(dim != 1 for k, dim in enumerate(own) if k != where):
        return None
    return value if len(own) == 1 else like(value, Reshape((channels,)), value)


def _foldable(product: Node, other: Node, node: Node, facts: Facts) -> Node | None:
    op = product.op
    if not isinstance(op, Linear | Conv) or op.residual or op.activation is not None or not facts.is_single(product):
        return None
    if product.type != node.type or not all(is_static(o) for o in product.operands[1:]):
        return None
    return channel_vector(other, product)
