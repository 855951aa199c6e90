"""rms_norm: division by the root mean square of the last axis, a whole (Zhang & Sennrich 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, mean_of
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Expr, Loop, axes
from ..prims import f32, prim
from ..shapes import check_count, check_dtype, check_shape
from ..types import TensorType


@dataclass(frozen=True)
class RmsNorm(Op):
    """rms_norm(x[, weight]): x / sqrt(mean(x²) + eps) * weight over the last axis; x float32 [..., H], weight [H]."""

    eps: float = 1e-6
    weight: bool = True
    mnemonic: ClassVar[str] = "rms_norm"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("rms_norm", operands, 1 + self.weight)
        x = operands[0]
        check_dtype("rms_norm", "x", x, ("float32",))
        if x.rank < 1:
            raise OpError(f"rms_norm: x needs a last axis, {x} has none")
        if self.weight:
            check_dtype("rms_norm", "weight", operands[1], ("float32",))
            check_shape("rms_norm", "weight", operands[1], x.shape[-1:])
        return x

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        with np.errstate(all="ignore"):
            out = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self.eps)
        return out * operands[1] if self.weight else out

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        at, inner = axes(out.rank), Axis(out.rank)
        value = load(0, out, (*at[:-1], inner))
        square = mean_of(out.rank, out.shape[-1:], prim("mul", value, value))
        body: Expr = prim("mul", load(0, out, at), prim("rsqrt", prim("add", square, f32(self.eps))))
        if self.weight:
            body = prim("mul", body, load(1, operands[1], at[-1:]))
        return Loop(out, body)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 4
