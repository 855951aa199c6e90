"""matmul: products of matrices, batched, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import broadcast_load, reduction
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop, axes
from ..prims import prim
from ..shapes import NUMBERS, broadcast_shapes, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Matmul(Op):
    """matmul(a, b): a [..., M, K] · b [..., K, N] -> [..., M, N], leading axes broadcast; numbers of one dtype.

    With `transpose_b`, b is [..., N, K].
    """

    transpose_b: bool = False
    mnemonic: ClassVar[str] = "matmul"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("matmul", operands, 2)
        a, b = operands
        check_dtype("matmul", "a", a, NUMBERS)
        if a.dtype != b.dtype:
            raise OpError(f"matmul: a {a} and b {b} must be of one dtype")
        if a.rank < 2 or b.rank < 2:
            raise OpError(f"matmul: a {a} and b {b} must be matrices or batches of them; reshape a vector first")
        k, n = b.shape[-2:] if not self.transpose_b else (b.shape[-1], b.shape[-2])
        if a.shape[-1] != k:
            raise OpError(f"matmul: the inner dimensions {a.shape[-1]} of a {a} and {k} of b {b} differ")
        return TensorType(a.dtype, (*broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2]), a.shape[-2], n))

    def reference(self, env: Env, *operands: Array) -> Array:
        a, b = operands
        return np.matmul(a, np.swapaxes(b, -1, -2) if self.transpose_b else b)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        a, b = operands
        at, inner = axes(out.rank), Axis(out.rank)
        batch, k = out.shape[:-2], a.shape[-1]
        left = broadcast_load(0, a, (*batch, *a.shape[-2:]), (*at[:-1], inner))
        last = (at[-1], inner) if self.transpose_b else (inner, at[-1])
        right = broadcast_load(1, b, (*batch, *b.shape[-2:]), (*at[:-2], *last))
        return Loop(out, reduction("sum", out.rank, (k,), prim("mul", left, right)))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * (operands[0].shape[-1] * 2)
