"""Attention: torch's scaled_dot_product_attention, and the whole that Hugging Face models are traced with."""

from __future__ import annotations

import math

from ...ir.dims import Dim
from ...ir.graph import Node
from .scope import KeyMask, Scope, Unsupported, Value, aten, number, static, tensor

HEADS_LAST = (0, 2, 1, 3)
"""[B, H, T, D] to [B, T, H, D], and back."""


def attention_node(
    s: Scope, q: Node, k: Node, v: Node, *, scale: float, mask: KeyMask, bias: Node | None = None
) -> Node:
    """attention over q, k, v [B, H, T, D]; result [B, H, T, D]."""
    extra = [n for n in (mask.node, bias) if n is not None]
    batch = q.type.shape[0]
    k, v = (s.expand(n, (batch, *n.type.shape[1:])) for n in (k, v))
    heads_last = [s.permute(n, HEADS_LAST) for n in (q, k, v)]
    out = s.op(
        "attention", *heads_last, *extra, scale=scale, causal=mask.causal, window=mask.window,
        mask=mask.node is not None, bias=bias is not None,
    )  # fmt: skip
    return s.permute(out, HEADS_LAST)


@aten("scaled_dot_product_attention")
def sdpa(
    s: Scope, q: Value, k: Value, v: Value, mask: Value = None, dropout: Value = 0.0, causal: Value = False,
    scale: Value = None, grouped: Value = False,
) -> Node:  # fmt: skip
    if dropout:
        raise Unsupported("attention with dropout", "call `.eval()`, and pass dropout_p=0.0 when not training")
    x, y, z = tensor(q), tensor(k), tensor(v)
    lead = x.type.shape[:-2]
    heads, rows = _split(lead)
    shape4 = (rows, heads)
    x, y, z = (s.reshape(n, (*_lead4(n, shape4), *n.type.shape[-2:])) for n in (x, y, z))
    width = static(x.type.shape[3], "the width of a head")
    factor = 1.0 / math.sqrt(width) if scale is None else number(scale, "the scale")
    key_mask, bias = _masks(s, None if mask is None else tensor(mask), x, y, len(lead))
    if causal:
        key_mask = KeyMask(key_mask.node, causal=True)
    out = attention_node(s, x, y, z, scale=factor, mask=key_mask, bias=bias)
    return s.reshape(out, (*lead, *out.type.shape[2:]))


def _split(lead: tuple[Dim, ...]) -> tuple[Dim, Dim]:
    """(heads, rows) of the axes before [T, D]."""
    if len(lead) == 2:
        return lead[1], lead[0]
    if len(lead) == 1:
        return 1, lead[0]
    if not lead:
        return 1, 1
    raise Unsupported(f"attention over tensors of rank {len(lead) + 2}", "reshape to [batch, heads, tokens, features]")


def _lead4(node: Node, shape: tuple[Dim, Dim]) -> tuple[Dim, Dim]:
    rank = node.type.rank
    if rank == 4:
        return node.type.shape[0], node.type.shape[1]
    return (node.type.shape[0], 1) if rank == 3 else (1, shape[1])


def _masks(s: Scope, mask: Node | None, q: Node, k: Node, lead: int) -> tuple[KeyMask, Node | None]:
    """A mask argument as (which keys, what is added to the scores), for q [B, H, T, D] and k [B, H, S, D]."""
    if mask is None:
        return KeyMask(None), None
    rank = mask.type.rank
    if rank > 4 or (lead < 2 and rank > lead + 2):
        raise Unsupported(f"an attention mask {mask.type}")
    if lead == 1 and rank == 3:
        mask = s.reshape(mask, (mask.type.shape[0], 1, *mask.type.shape[1:]))
    elif rank < 4:
        mask = s.reshape(mask, (*([1] * (4 - rank)), *mask.type.shape))
    if mask.type.dtype != "bool":
        return KeyMask(None), mask
    keys = _per_key(mask)
    if keys is not None:
        flat = s.reshape(keys, (keys.type.shape[0], keys.type.shape[3]))
        return KeyMask(s.expand(flat, (q.type.shape[0], k.type.shape[2]))), None
    bias = s.map("where", mask, s.constant(0.0, "float32"), s.constant(-math.inf, "float32"))
    return KeyMask(None), bias


def _per_key(mask: Node) -> Node | None:
    """The [B, 1, 1, S] that mask [B, H or 1, T, S] repeats, or None where it says more than which keys count."""
    while mask.op.mnemonic == "expand" and mask.operands[0].type.rank == 4:
        mask = mask.operands[0]
    return mask if mask.type.shape[1] == 1 and mask.type.shape[2] == 1 else None


@aten("infc.key_mask")
def key_mask(s: Scope, mask: Value, left: Value, right: Value, causal: Value) -> KeyMask:
    """Which keys count: a mask [B, S] (None: all), and a distance to each side (-1: any). What was made already stays as it
    is, as in transformers."""
    if isinstance(mask, KeyMask):
        return mask
    window = (static(left, "left"), static(right, "right"))
    return KeyMask(None if mask is None else tensor(mask), bool(causal), None if window == (-1, -1) else window)


@aten("infc.attention")
def attention(s: Scope, q: Value, k: Value, v: Value, mask: Value, scale: Value, causal: Value) -> Node:
    """q, k, v [B, H, T, D], mask from infc.key_mask or None; result [B, T, H, D]."""
    found = mask if isinstance(mask, KeyMask) else KeyMask(None)
    if isinstance(mask, Node):
        raise Unsupported("the attention mask was changed between its making and its use")
    if causal:
        found = KeyMask(found.node, True, found.window)
    out = attention_node(s, tensor(q), tensor(k), tensor(v), scale=number(scale, "the scale"), mask=found)
    return s.permute(out, HEADS_LAST)
