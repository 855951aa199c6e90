"""l2_normalize: vectors of length one, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, reduction
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop, axes
from ..prims import f32, prim
from ..shapes import check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class L2Normalize(Op):
    """l2_normalize(x): x / max(sqrt(sum(x²)), eps) over the last axis; x float32 [..., H]."""

    eps: float = 1e-12
    mnemonic: ClassVar[str] = "l2_normalize"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("l2_normalize", operands, 1)
        check_dtype("l2_normalize", "x", operands[0], ("float32",))
        if operands[0].rank < 1:
            raise OpError(f"l2_normalize: x needs a last axis, {operands[0]} has none")
        return operands[0]

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
        return x / np.maximum(norm, x.dtype.type(self.eps))

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        at, inner = axes(out.rank), Axis(out.rank)
        value = load(0, out, (*at[:-1], inner))
        norm = prim("sqrt", reduction("sum", out.rank, out.shape[-1:], prim("mul", value, value)))
        return Loop(out, prim("div", load(0, out, at), prim("max", norm, f32(self.eps))))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 3
