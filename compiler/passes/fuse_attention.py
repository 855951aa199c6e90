"""Recognizes attention that arrives as matmul, scale, bias, mask, softmax, matmul.

    matmul(softmax(s), v) with  s := matmul(q, k){transpose_b}
                                   | mul(s, c) | div(s, c)              a constant: the scale
                                   | add(s, bias)                       float, broadcasts over [B, H, T, S]
                                   | add(s, hide(m)) | where(m, s, c)   a key mask m [B, 1, 1, S], hidden where false

over [B, H, T, D]. `hide(m)` is mul(sub(1, cast(m)), c) with c <= -1e9: a kept key gets an exact zero added, a hidden one a
weight of exactly zero, as long as some key is kept and scores stay below 1e8. Where none is, attention's `empty` says what
the chain would have given; minus infinity for every key makes NaN of it, and zeros of ours. Anything else leaves the chain
as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..ir.graph import Node
from ..ir.ops.attention import Attention
from ..ir.ops.cast import Cast
from ..ir.ops.expand import Expand
from ..ir.ops.leaf import constant
from ..ir.ops.map import Map
from ..ir.ops.matmul import Matmul
from ..ir.ops.permute import Permute
from ..ir.ops.reshape import Reshape
from ..ir.ops.softmax import LEAST, Softmax
from .patterns import Facts, is_fn, is_splat, like, splat

HEADS_INSIDE = (0, 2, 1, 3)
"""[B, H, T, D] <-> [B, T, H, D]."""
HIDES = -1e9
DROWNS = -1e30
"""A number at or below takes every trace of a score that it is added to in float32."""


@dataclass(frozen=True)
class _Mask:
    """A key mask; the hidden keys' scores are `fill`, or have it added."""

    keys: Node
    fill: float
    added: bool


@dataclass
class _Scores:
    """What was found on the way down from the softmax."""

    scale: float = 1.0
    biases: list[Node] = field(default_factory=list[Node])
    masks: list[_Mask] = field(default_factory=list["_Mask"])
    product: Node | None = None


def recognize_attention(node: Node, facts: Facts) -> Node | None:
    """attention in place of the last matmul of a chain, or None."""
    weights, values = node.operands
    assert isinstance(node.op, Matmul)
    if node.op.transpose_b or not isinstance(weights.op, Softmax) or weights.op.axis != 3 or values.type.rank != 4:
        return None
    if not facts.is_single(weights):
        return None
    found = _scores(weights.operands[0], facts)
    if found is None or found.product is None:
        return None
    q, q_scale = _unscaled(found.product.operands[0])
    k, k_scale = _unscaled(found.product.operands[1])
    shape = weights.type.shape
    if values.type.shape[:2] != shape[:2] or k.type.shape[:2] != shape[:2] or q.type.shape[:2] != shape[:2]:
        return None
    if not isinstance(shape[1], int):
        return None
    empty = _empty(found.masks)
    if empty is None:
        return None
    mask = _and([_key_mask(m.keys, node) for m in found.masks])
    bias = _sum(found.biases)
    scale = found.scale * q_scale * k_scale
    op = Attention(scale, mask=mask is not None, bias=bias is not None, empty=empty[0], low=empty[1])
    swapped = [like(x, Permute(HEADS_INSIDE), x) for x in (q, k, values)]
    whole = like(node, op, *swapped, *(o for o in (mask, bias) if o is not None))
    return like(node, Permute(HEADS_INSIDE), whole)


def _scores(node: Node, facts: Facts) -> _Scores | None:
    """Walks down from the softmax's operand to the product of queries and keys."""
    found, shape = _Scores(), node.type.shape
    while True:
        if not facts.is_single(node) or node.type.shape != shape:
            return None
        if isinstance(node.op, Matmul):
            found.product = node
            return found if node.op.transpose_b else None
        step = _scale_step(node, found) or _where_step(node, found, shape) or _add_step(node, found, shape)
        if step is None:
            return None
        node = step


def _empty(masks: list[_Mask]) -> tuple[Literal["zeros", "mean", "low"], float] | None:
    """Attention's `empty` and `low` for keys hidden so; None where it has no word for it: two masks, one of them finite,
    hide some keys deeper than others."""
    finite = [m for m in masks if m.fill != -math.inf]
    if not finite:
        return "zeros", 0.0
    if len(masks) > 1:
        return None
    return ("low", max(finite[0].fill, LEAST)) if finite[0].added else ("mean", 0.0)


def _scale_step(node: Node, found: _Scores) -> Node | None:
    value = splat(node.operands[1]) if is_fn(node, "mul", "div") else None
    if value is None or value <= 0:
        return None
    found.scale *= float(value) if is_fn(node, "mul") else 1 / float(value)
    return node.operands[0]


def _where_step(node: Node, found: _Scores, shape: tuple[object, ...]) -> Node | None:
    if not is_fn(node, "where"):
        return None
    mask, a, b = node.operands
    if a.type.shape == shape and _is_key_mask(mask, shape) and (fill := _hides(b)) is not None:
        found.masks.append(_Mask(mask, fill, added=False))
        return a
    if b.type.shape == shape and _is_key_mask(mask, shape) and (fill := _hides(a)) is not None:
        found.masks.append(_Mask(like(mask, Map("not"), mask), fill, added=False))
        return b
    return None


def _add_step(node: Node, found: _Scores, shape: tuple[object, ...]) -> Node | None:
    if not is_fn(node, "add"):
        return None
    for scores, term in ((node.operands[0], node.operands[1]), (node.operands[1], node.operands[0])):
        if scores.type.shape != shape or not _leads_to_product(scores):
            continue
        mask = _hidden_by(term, shape)
        if mask is not None and (mask.fill <= DROWNS or (found.scale == 1.0 and not found.biases)):
            found.masks.append(mask)
        elif found.scale != 1.0:
            return None  # a scale behind the sum would scale the bias too
        else:
            found.biases.append(term)
        return scores
    return None


def _leads_to_product(node: Node) -> bool:
    while isinstance(node.op, Map) and node.op.fn in ("add", "mul", "div", "where"):
        inner = [o for o in node.operands if o.type.shape == node.type.shape]
        if len(inner) != 1:
            return any(_leads_to_product(o) for o in inner)
        node = inner[0]
    return isinstance(node.op, Matmul) and node.op.transpose_b


def _hidden_by(term: Node, shape: tuple[object, ...]) -> _Mask | None:
    """The bool mask m of a term that is 0 where m and very low elsewhere; None for any other term."""
    reshape = None
    if isinstance(term.op, Reshape):
        reshape, term = term.op, term.operands[0]
    mask: Node | None = None
    fill: float | None = None
    if is_fn(term, "mul") and (fill := _hides(term.operands[1])) not in (None, -math.inf):  # 0 * inf is no 0
        factor = term.operands[0]
        if is_fn(factor, "sub") and is_splat(factor.operands[0], 1) and isinstance(factor.operands[1].op, Cast):
            mask = factor.operands[1].operands[0]
        elif isinstance(factor.op, Cast) and factor.operands[0].type.dtype == "bool":
            mask = like(factor.operands[0], Map("not"), factor.operands[0])
    elif is_fn(term, "where") and is_splat(term.operands[1], 0):
        mask, fill = term.operands[0], _hides(term.operands[2])
    elif is_fn(term, "where") and is_splat(term.operands[2], 0):
        mask, fill = like(term, Map("not"), term.operands[0]), _hides(term.operands[1])
    mask = _as_bool(mask) if mask is not None else None
    if mask is None or fill is None:
        return None
    if reshape is not None:
        mask = like(mask, reshape, mask)
    return _Mask(mask, fill, added=True) if _is_key_mask(mask, shape) else None


def _as_bool(mask: Node) -> Node | None:
    """mask as bool where it is one, or an integer input that is 0 or 1 (1 - m is then 0 or 1)."""
    if mask.type.dtype == "bool":
        return mask
    return None if mask.type.dtype == "float32" else like(mask, Map("ne"), mask, constant(0, mask.type.dtype))


def _is_key_mask(mask: Node, shape: tuple[object, ...]) -> bool:
    """[B, 1, 1, S], or expanded from it."""
    if isinstance(mask.op, Expand):
        mask = mask.operands[0]
    own = mask.type.shape
    return len(own) == 4 and own[0] == shape[0] and own[1] == 1 and own[2] == 1 and own[3] == shape[3]


def _key_mask(mask: Node, node: Node) -> Node:
    if isinstance(mask.op, Expand):
        mask = mask.operands[0]
    return like(node, Reshape((mask.type.shape[0], mask.type.shape[3])), mask)


def _hides(node: Node) -> float | None:
    """The constant that node is, where it is low enough to hide a key."""
    value = splat(node)
    return float(value) if value is not None and node.type.dtype == "float32" and value <= HIDES else None


def _unscaled(node: Node) -> tuple[Node, float]:
    """(x, c) for x * c with a constant c, seen through a permute or reshape; (node, 1) otherwise."""
    if is_fn(node, "mul", "div") and splat(node.operands[1]) not in (None, 0):
        value = splat(node.operands[1])
        assert value is not None
        return node.operands[0], float(value) if is_fn(node, "mul") else 1 / float(value)
    if isinstance(node.op, Permute | Reshape):
        inner, scale = _unscaled(node.operands[0])
        return (like(node, node.op, inner), scale) if scale != 1.0 else (node, 1.0)
    return node, 1.0


def _and(masks: list[Node]) -> Node | None:
    total: Node | None = None
    for mask in masks:
        total = mask if total is None else like(mask, Map("and"), total, mask)
    return total


def _sum(biases: list[Node]) -> Node | None:
    total: Node | None = None
    for bias in biases:
        total = bias if total is None else like(bias, Map("add"), total, bias)
    return total
