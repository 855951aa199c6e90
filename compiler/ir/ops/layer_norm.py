"""layer_norm: normalization over the last axis, a whole (Ba, Kiros, Hinton 2016)."""

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
class LayerNorm(Op):
    """layer_norm(x[, weight][, bias][, residual]): with h = x + residual, (h - mean) / sqrt(var + eps) * weight + bias.

    x, residual: float32 [..., H]; weight, bias: float32 [H]. Mean and (biased) variance over the last axis.
    """

    eps: float = 1e-5
    weight: bool = True
    bias: bool = True
    residual: bool = False
    mnemonic: ClassVar[str] = "layer_norm"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("layer_norm", operands, 1 + self.weight + self.bias + self.residual)
        x = operands[0]
        if x.rank < 1:
            raise OpError(f"layer_norm: x needs a last axis, {x} has none")
        for what, operand in zip(self._names(), operands, strict=True):
            check_dtype("layer_norm", what, operand, ("float32",))
            check_shape("layer_norm", what, operand, x.shape if what in ("x", "residual") else x.shape[-1:])
        return x

    def _names(self) -> list[str]:
        given = (("weight", self.weight), ("bias", self.bias), ("residual", self.residual))
        return ["x", *(name for name, present in given if present)]

    def reference(self, env: Env, *operands: Array) -> Array:
        named = dict(zip(self._names(), operands, strict=True))
        h = named["x"] + named["residual"] if self.residual else named["x"]
        with np.errstate(all="ignore"):
            centred = h - h.mean(axis=-1, keepdims=True)
            out = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self.eps)
        out = out * named["weight"] if self.weight else out
        return out + named["bias"] if self.bias else out

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        names, at = self._names(), axes(out.rank)

        def h(last: Axis) -> Expr:
            index = (*at[:-1], last)
            x = load(0, out, index)
            return prim("add", x, load(len(names) - 1, out, index)) if self.residual else x

        extent, r = out.shape[-1:], out.rank
        # the mean has reduction axis r + 1 everywhere, so that equal sums are equal expressions
        mean = mean_of(r + 1, extent, h(Axis(r + 1)))
        centred = prim("sub", h(Axis(r)), mean)
        variance = mean_of(r, extent, prim("mul", centred, centred))
        body: Expr = prim("mul", prim("sub", h(at[-1]), mean), prim("rsqrt", prim("add", variance, f32(self.eps))))
        if self.weight:
            body = prim("mul", body, load(names.index("weight"), operands[names.index("weight")], at[-1:]))
        if self.bias:
            body = prim("add", body, load(names.index("bias"), operands[names.index("bias")], at[-1:]))
        return Loop(out, body)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 8
