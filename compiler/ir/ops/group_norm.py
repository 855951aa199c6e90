"""group_norm: normalization over groups of channels, a whole (Wu & He 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import divided, fresh, load, mean_of, plus, times
from ..dims import Dim, exact_div
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Expr, Loop, axes
from ..prims import f32, prim
from ..shapes import check_count, check_dtype, check_shape
from ..types import TensorType


@dataclass(frozen=True)
class GroupNorm(Op):
    """group_norm(x[, weight][, bias]): (x - mean) / sqrt(var + eps) * weight + bias, mean and (biased) variance over
    each of `groups` runs of channels and all spatial axes. x: float32 [N, C, *spatial]; weight, bias: float32 [C]."""

    groups: int
    eps: float = 1e-5
    weight: bool = True
    bias: bool = True
    mnemonic: ClassVar[str] = "group_norm"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("group_norm", operands, 1 + self.weight + self.bias)
        x = operands[0]
        check_dtype("group_norm", "x", x, ("float32",))
        if x.rank < 2:
            raise OpError(f"group_norm: x must be [N, C, ...], not {x}")
        if self.groups < 1 or exact_div(x.shape[1], self.groups) is None:
            raise OpError(f"group_norm: {x.shape[1]} channels of {x} do not divide into {self.groups} groups")
        for operand in operands[1:]:
            check_dtype("group_norm", "weight or bias", operand, ("float32",))
            check_shape("group_norm", "weight or bias", operand, x.shape[1:2])
        return x

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        grouped = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        over = tuple(range(2, grouped.ndim))
        with np.errstate(all="ignore"):
            centred = grouped - grouped.mean(axis=over, keepdims=True)
            scale = np.sqrt(np.square(centred).mean(axis=over, keepdims=True) + self.eps)
            out = (centred / scale).reshape(x.shape)
        per_channel = (-1, *[1] * (x.ndim - 2))
        out = out * operands[1].reshape(per_channel) if self.weight else out
        return out + operands[-1].reshape(per_channel) if self.bias else out

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        at, r = axes(out.rank), out.rank
        width = exact_div(out.shape[1], self.groups)
        assert width is not None
        extents = (width, *out.shape[2:])

        def inside(first: int) -> Expr:
            inner = fresh(first, len(extents))
            channel = plus(times(divided(at[1], width), width), inner[0])
            return load(0, out, (at[0], channel, *inner[1:]))

        mean = mean_of(r + len(extents), extents, inside(r + len(extents)))
        centred = prim("sub", inside(r), mean)
        variance = mean_of(r, extents, prim("mul", centred, centred))
        body: Expr = prim(
            "mul", prim("sub", load(0, out, at), mean), prim("rsqrt", prim("add", variance, f32(self.eps)))
        )
        if self.weight:
            body = prim("mul", body, load(1, operands[1], (Axis(1),)))
        if self.bias:
            body = prim("add", body, load(1 + self.weight, operands[-1], (Axis(1),)))
        return Loop(out, body)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 8
