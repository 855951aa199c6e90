"""masked_mean: the mean over kept positions, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, reduction
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop
from ..prims import cast, f32, prim
from ..shapes import check_count, check_dtype, check_shape
from ..types import TensorType


@dataclass(frozen=True)
class MaskedMean(Op):
    """masked_mean(x, mask): the mean of x[b, t, :] over positions t where mask[b, t]; zeros where none is kept.

    x: float32 [B, T, H]; mask: bool [B, T]; result [B, H]. Excluded positions are never read into the sum.
    """

    mnemonic: ClassVar[str] = "masked_mean"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("masked_mean", operands, 2)
        x, mask = operands
        check_dtype("masked_mean", "x", x, ("float32",))
        check_dtype("masked_mean", "mask", mask, ("bool",))
        if x.rank != 3:
            raise OpError(f"masked_mean: x must be [batch, tokens, features], not {x}")
        check_shape("masked_mean", "mask", mask, x.shape[:2])
        return TensorType("float32", (x.shape[0], x.shape[2]))

    def reference(self, env: Env, *operands: Array) -> Array:
        x, mask = operands
        total = np.where(mask[:, :, None], x, x.dtype.type(0)).sum(axis=1)
        return total / np.maximum(mask.sum(axis=1, keepdims=True), 1).astype(x.dtype)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, mask = operands
        row, feature, token = Axis(0), Axis(1), Axis(2)
        keep = load(1, mask, (row, token))
        kept = prim("where", keep, load(0, x, (row, token, feature)), f32(0.0))
        count = reduction("sum", 2, x.shape[1:2], cast(keep, "float32"))
        return Loop(out, prim("div", reduction("sum", 2, x.shape[1:2], kept), prim("max", count, f32(1.0))))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements * 2
