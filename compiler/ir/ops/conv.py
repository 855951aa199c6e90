"""conv: cross-correlation over one or two spatial axes, a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as grid
from typing import ClassVar

import numpy as np

from ..building import both, divided, fresh, guarded, in_range, load, minus, plus, reduction, size, times
from ..dims import Dim, exact_div, product
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..prims import apply_activation, check_activation, f32, prim
from ..shapes import check_count, check_dtype, check_shape, window_extent
from ..types import TensorType


@dataclass(frozen=True)
class Conv(Op):
    """conv(x, weight[, bias][, residual]): act(x ⋆ weight + bias + residual).

    x: float32 [N, C, *spatial] of one or two spatial axes; weight: float32 [O, C/groups, *kernel] with a fixed kernel;
    bias: float32 [O]; residual: as the result. `padding` is (low, high) zeros for each spatial axis.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: bool = False
    residual: bool = False
    activation: str | None = None
    """One of prims.ACTIVATIONS; None: the identity."""
    mnemonic: ClassVar[str] = "conv"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("conv", operands, 2 + self.bias + self.residual)
        check_activation("conv", self.activation)
        x, weight = operands[:2]
        for operand in operands:
            check_dtype("conv", "an operand", operand, ("float32",))
        spatial = x.rank - 2
        if spatial not in (1, 2) or weight.rank != x.rank:
            raise OpError(f"conv: x {x} and weight {weight} must have one or two spatial axes: [N, C, *], [O, C/g, *]")
        check_window("conv", spatial, self.stride, self.padding, self.dilation)
        kernel = fixed_kernel("conv", weight)
        channels, filters = exact_div(x.shape[1], self.groups), exact_div(weight.shape[0], self.groups)
        if self.groups < 1 or channels != weight.shape[1] or filters is None:
            raise OpError(f"conv: x {x} and weight {weight} do not fit with {self.groups} groups")
        rows = zip(x.shape[2:], kernel, self.stride, self.padding, self.dilation, strict=True)
        out = TensorType("float32", (x.shape[0], weight.shape[0], *(window_extent("conv", *row) for row in rows)))
        if self.bias:
            check_shape("conv", "bias", operands[2], weight.shape[:1])
        if self.residual:
            check_shape("conv", "residual", operands[-1], out.shape)
        return out

    def reference(self, env: Env, *operands: Array) -> Array:
        x, weight = operands[:2]
        kernel = weight.shape[2:]
        padded = np.pad(x, [(0, 0), (0, 0), *self.padding])
        extents = [
            (n - d * (k - 1) - 1) // s + 1
            for n, k, s, d in zip(padded.shape[2:], kernel, self.stride, self.dilation, strict=True)
        ]
        n, g = x.shape[0], self.groups
        filters = weight.reshape(g, weight.shape[0] // g, weight.shape[1], *kernel)
        out = np.zeros((n, g, weight.shape[0] // g, math.prod(extents)), dtype=x.dtype)
        for tap in grid(*(range(k) for k in kernel)):
            at = tuple(
                slice(t * d, t * d + (e - 1) * s + 1, s)
                for t, d, e, s in zip(tap, self.dilation, extents, self.stride, strict=True)
            )
            part = padded[(slice(None), slice(None), *at)].reshape(n, g, weight.shape[1], math.prod(extents))
            out += np.matmul(filters[(..., *tap)], part)
        out = out.reshape(n, weight.shape[0], *extents)
        if self.bias:
            out = out + operands[2].reshape(-1, *[1] * len(kernel))
        if self.residual:
            out = out + operands[-1]
        return out if self.activation is None else apply_activation(self.activation, out)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, weight = operands[:2]
        at, kernel = axes(out.rank), fixed_kernel("conv", weight)
        extents: tuple[Dim, ...] = (weight.shape[1], *kernel)
        channel, *taps = fresh(out.rank, len(extents))
        filters = exact_div(weight.shape[0], self.groups)
        assert filters is not None
        group = divided(at[1], filters) if self.groups > 1 else None
        source = channel if group is None else plus(times(group, weight.shape[1]), channel)
        guard, places = window_index(at[2:], taps, x.shape[2:], self.stride, self.padding, self.dilation, kernel)
        value = guarded(guard, load(0, x, (at[0], source, *places)), f32(0.0))
        body: Expr = reduction("sum", out.rank, extents, prim("mul", value, load(1, weight, (at[1], channel, *taps))))
        if self.bias:
            body = prim("add", body, load(2, operands[2], (at[1],)))
        if self.residual:
            body = prim("add", body, load(len(operands) - 1, out, at))
        return Loop(out, body if self.activation is None else prim(self.activation, body))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * (product(operands[1].shape[1:]) * 2)


def fixed_kernel(op: str, weight: TensorType) -> tuple[int, ...]:
    """The spatial extents of a weight, as integers."""
    kernel = tuple(d for d in weight.shape[2:] if isinstance(d, int))
    if len(kernel) != weight.rank - 2 or 0 in kernel:
        raise OpError(f"{op}: the kernel of weight {weight} must have fixed extents of at least 1")
    return kernel


def check_window(
    op: str,
    spatial: int,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> None:
    """One stride, (low, high) padding and dilation for each spatial axis, all sensible."""
    if not len(stride) == len(padding) == len(dilation) == spatial:
        raise OpError(f"{op}: stride {stride}, padding {padding} and dilation {dilation} need {spatial} entries each")
    if min(*stride, *dilation, 1) < 1 or min(0, *(min(p) for p in padding)) < 0:
        raise OpError(f"{op}: stride {stride} and dilation {dilation} must be at least 1, padding {padding} at least 0")


def window_index(
    outer: tuple[Expr, ...],
    taps: Sequence[Expr],
    extents: tuple[Dim, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    kernel: tuple[int, ...],
    overhang: bool = False,
) -> tuple[Expr | None, list[Expr]]:
    """Where each tap of a window reads, and the guard that it lies inside (None where no padding can be hit).
    `overhang`: windows may reach beyond the high padding (ceil_mode)."""
    guard: Expr | None = None
    places: list[Expr] = []
    rows = zip(outer, taps, extents, stride, padding, dilation, kernel, strict=True)
    for axis, tap, extent, s, (low, high), d, k in rows:
        place = minus(plus(times(axis, s), times(tap, d) if k > 1 else size(0)), size(low))
        upper = size(extent) if high > 0 or overhang else None
        guard = both(guard, in_range(place, size(0) if low > 0 else None, upper))
        places.append(place)
    return guard, places
