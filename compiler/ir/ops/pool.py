"""pool: the largest or the mean element of each window, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as grid
from typing import ClassVar

import numpy as np

from ..building import count_of, fresh, guarded, load, lowest, minus, plus, reduction, size, times
from ..dims import Dim, evaluate, product
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..prims import cast, f32, prim
from ..shapes import NUMBERS, check_count, check_dtype, window_extent
from ..types import TensorType
from .conv import check_window, window_index


@dataclass(frozen=True)
class Pool(Op):
    """pool(x): `kind` max or avg over windows of the one or two spatial axes of x [N, C, *spatial] (torch's rules).

    `padding` is (low, high) for each axis, smaller than the window: never the largest, and counted by avg only with
    `count_include_pad`. With `ceil_mode` windows may hang over the end (the overhang is never counted).
    """

    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    count_include_pad: bool = True
    ceil_mode: bool = False
    mnemonic: ClassVar[str] = "pool"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("pool", operands, 1)
        x = operands[0]
        if self.kind not in ("max", "avg"):
            raise OpError(f"pool: no kind is called {self.kind!r}; known: max, avg")
        check_dtype(f"pool {self.kind}", "x", x, NUMBERS if self.kind == "max" else ("float32",))
        if x.rank not in (3, 4) or len(self.kernel) != x.rank - 2:
            raise OpError(
                f"pool: x {x} must be [N, C, *spatial] with one or two spatial axes, as many as {self.kernel}"
            )
        check_window("pool", x.rank - 2, self.stride, self.padding, self.dilation)
        for k, d, pad in zip(self.kernel, self.dilation, self.padding, strict=True):
            if k < 1 or max(pad) > d * (k - 1):
                raise OpError(f"pool: padding {pad} must be smaller than the window of {d * (k - 1) + 1}, at least 1")
        if self.kind == "avg" and any(d != 1 for d in self.dilation):
            raise OpError(f"pool avg takes no dilation, not {self.dilation}")
        rows = zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        spatial = tuple(window_extent("pool", *row, ceil_mode=self.ceil_mode) for row in rows)
        return TensorType(x.dtype, (*x.shape[:2], *spatial))

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        rows = list(zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True))
        extents = [evaluate(window_extent("pool", *row, ceil_mode=self.ceil_mode), env) for row in rows]
        starts = [np.arange(e) * s - low for e, (_, _, s, (low, _), _) in zip(extents, rows, strict=True)]
        filler = (-np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min) if self.kind == "max" else 0
        total: Array = np.full((*x.shape[:2], *extents), filler, dtype=x.dtype)
        for taps in grid(*(range(k) for k in self.kernel)):
            part, inside = x, np.ones(extents, dtype=bool)
            for k, (tap, start, (n, _, _, _, d)) in enumerate(zip(taps, starts, rows, strict=True)):
                place = start + tap * d
                part = np.take(part, np.clip(place, 0, n - 1), axis=2 + k)
                inside &= along((place >= 0) & (place < n), k, len(rows))
            part = np.where(inside, part, x.dtype.type(filler))
            total = np.maximum(total, part) if self.kind == "max" else total + part
        if self.kind == "avg":
            for k, (start, (n, width, _, (_, high), _)) in enumerate(zip(starts, rows, strict=True)):
                end = np.minimum(start + width, n + high)
                count = end - start if self.count_include_pad else np.minimum(end, n) - np.maximum(start, 0)
                total = total / along(count.astype(x.dtype), k, len(rows))
        return total

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, at = operands[0], axes(out.rank)
        taps = fresh(out.rank, len(self.kernel))
        guard, places = window_index(
            at[2:], taps, x.shape[2:], self.stride, self.padding, self.dilation, self.kernel, self.ceil_mode
        )
        filler = lowest(x.dtype) if self.kind == "max" else f32(0.0)
        value = guarded(guard, load(0, x, (*at[:2], *places)), filler)
        body = reduction("max" if self.kind == "max" else "sum", out.rank, self.kernel, value)
        return Loop(out, body if self.kind == "max" else prim("div", body, self._count(x, at[2:])))

    def _count(self, x: TensorType, outer: tuple[Expr, ...]) -> Expr:
        """Elements that the mean of a window counts, as float32."""
        if not self.ceil_mode and (self.count_include_pad or not any(any(p) for p in self.padding)):
            return count_of(self.kernel)
        total: Expr | None = None
        for axis, extent, k, s, (low, high) in zip(
            outer, x.shape[2:], self.kernel, self.stride, self.padding, strict=True
        ):
            start = minus(times(axis, s), size(low))
            end = prim("min", plus(start, size(k)), size(extent + (high if self.count_include_pad else 0)))
            count = prim("sub", end, start if self.count_include_pad else prim("max", start, size(0)))
            total = count if total is None else prim("mul", total, count)
        assert total is not None
        return cast(total, "float32")

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * product(self.kernel)


def along(values: Array, axis: int, rank: int) -> Array:
    """A line of values laid along one of `rank` axes."""
    return values.reshape([-1 if k == axis else 1 for k in range(rank)])
