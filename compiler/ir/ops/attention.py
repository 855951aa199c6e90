"""attention: softmax(q · kᵀ · scale + bias) · v per head, a whole (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..reduced import reduce_to
from ..shapes import check_broadcasts_to, check_count, check_dtype, check_shape
from ..types import DType, TensorType


@dataclass(frozen=True)
class Attention(Op):
    """attention(q, k, v[, mask][, bias]): for each row b, query head h and position t the mean of v over the kept keys,
    weighted by softmax(q · k * scale + bias).

    q: float32 or bfloat16 [B, T, Hq, D]; k: [B, S, Hk, D]; v: [B, S, Hk, Dv], Hq a multiple of Hk (grouped heads: query
    head h reads key head h // (Hq / Hk)); all three of one dtype, the result float32 or, of bfloat16, `out`; mask: bool [B, S], false takes a key away from every query; bias: float32, broadcast
    to [B, Hq, T, S]; result [B, T, Hq, Dv].
    Key s is kept for query t where mask says so, and s <= t if `causal`, and t - left <= s <= t + right if
    `window` = (left, right). A query that keeps no key (or only keys whose score is minus infinity) gives zeros. Of
    bfloat16, targets may round the weights to bfloat16 before they multiply v.

    `empty` says what a row is whose mask is all false, where models hide keys by finite numbers: "mean", every score was
    replaced by the same number, so each key has the same weight; "low", `low` was added to every score, in float32 (which
    leaves of the scores what its spacing leaves).
    """

    scale: float
    causal: bool = False
    window: tuple[int, int] | None = None
    mask: bool = False
    bias: bool = False
    out: DType = "float32"
    empty: Literal["zeros", "mean", "low"] = "zeros"
    low: float = 0.0
    mnemonic: ClassVar[str] = "attention"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("attention", operands, 3 + self.mask + self.bias)
        q, k, v = operands[:3]
        for what, operand in zip("qkv", operands, strict=False):
            check_dtype("attention", what, operand, ("float32", "bfloat16") if what == "q" else (q.dtype,))
            if operand.rank != 4:
                raise OpError(f"attention: {what} must be [batch, tokens, heads, features], not {operand}")
        (b, t, heads, d), (_, s, key_heads, _), value_width = q.shape, k.shape, v.shape[3]
        if k.shape[0] != b or k.shape[3] != d or v.shape[:3] != k.shape[:3]:
            raise OpError(f"attention: q {q}, k {k} and v {v} do not fit")
        if not isinstance(heads, int) or not isinstance(key_heads, int) or key_heads < 1 or heads % key_heads:
            raise OpError(f"attention: {heads} query heads must be a multiple of {key_heads} key heads")
        if self.window is not None and min(self.window) < 0:
            raise OpError(f"attention: window {self.window} must not be negative")
        if self.mask:
            check_dtype("attention", "mask", operands[3], ("bool",))
            check_shape("attention", "mask", operands[3], (b, s))
        if self.bias:
            check_dtype("attention", "bias", operands[-1], ("float32",))
            check_broadcasts_to("attention", "bias", operands[-1], (b, heads, t, s))
        if self.empty not in ("zeros", "mean", "low") or (self.empty != "zeros" and not self.mask):
            raise OpError(f"attention: empty={self.empty} must be zeros, mean or low, the last two with a mask")
        if (self.low != 0) != (self.empty == "low") or not -math.inf < self.low <= 0:
            raise OpError(f"attention: low={self.low} must be a finite number below 0 with empty=low, and 0 without")
        if self.out != "float32" and self.out != q.dtype:
            raise OpError(f"attention of {q.dtype} has no result of {self.out!r}")
        return TensorType(self.out, (b, t, heads, value_width))

    def reference(self, env: Env, *operands: Array) -> Array:
        q, k, v = (o.transpose(0, 2, 1, 3) for o in operands[:3])  # [B, H, tokens, features]
        repeat = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, repeat, axis=1), np.repeat(v, repeat, axis=1)
        kept = self.kept(q.shape[2], k.shape[2])[None, None]
        scores: Array = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(self.scale)
        if self.bias:
            scores = scores + operands[-1]
        if self.mask:
            mask: Array = operands[3][:, None, None, :]
            none: Array = ~np.asarray(mask.any(axis=-1, keepdims=True))
            if self.empty == "mean":
                scores = np.where(none, scores.dtype.type(0), scores)
            elif self.empty == "low":
                with np.errstate(over="ignore"):
                    lowered = scores.astype(np.float32) + np.float32(self.low)
                scores = np.where(none, lowered.astype(scores.dtype), scores)
            kept = kept & (mask | (none if self.empty != "zeros" else False))
        masked = np.where(kept, scores, -np.inf)
        top = masked.max(axis=-1, keepdims=True, initial=-np.inf)
        weights = np.exp(masked - np.where(top == -np.inf, 0, top))
        total = weights.sum(axis=-1, keepdims=True)
        out = np.matmul(weights, v) / np.where(total == 0, 1, total)
        return reduce_to(self.out, np.ascontiguousarray(out.transpose(0, 2, 1, 3)).astype(q.dtype))

    def kept(self, queries: int, keys: int) -> Array:
        """Which keys each query may see by position alone: bool [queries, keys]."""
        t, s = np.arange(queries)[:, None], np.arange(keys)[None, :]
        kept: Array = s <= t if self.causal else np.ones((queries, keys), dtype=bool)
        if self.window is not None:
            kept = kept & (s >= t - self.window[0]) & (s <= t + self.window[1])
        return kept

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        q, k, v = operands[:3]
        return q.shape[0] * (q.shape[1] * k.shape[1]) * (q.shape[2] * (q.shape[3] + v.shape[3]) * 2)
