"""argmax: where the largest element of an axis is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, reduction, size
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop
from ..prims import prim
from ..shapes import NUMBERS, check_axis, check_count, check_dtype, reduced_shape
from ..types import TensorType
from .reduce import reduced_index


@dataclass(frozen=True)
class Argmax(Op):
    """argmax(x): int64 index of the first largest element on `axis` (the first NaN where there is one)."""

    axis: int
    keepdims: bool = False
    mnemonic: ClassVar[str] = "argmax"

    def infer(self, *operands: TensorType) -> TensorType:
        return infer_position("argmax", self.axis, self.keepdims, operands)

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.argmax(operands[0], axis=self.axis, keepdims=self.keepdims)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return position_loop("max", self.axis, self.keepdims, out, operands[0])

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements


def infer_position(op: str, axis: int, keepdims: bool, operands: tuple[TensorType, ...]) -> TensorType:
    """The type of argmax and argmin."""
    check_count(op, operands, 1)
    x = operands[0]
    check_dtype(op, "x", x, NUMBERS)
    check_axis(op, axis, x)
    if x.shape[axis] == 0:
        raise OpError(f"{op}: axis {axis} of {x} is empty")
    return TensorType("int64", reduced_shape(x.shape, (axis,), keepdims))


def position_loop(kind: str, axis: int, keepdims: bool, out: TensorType, x: TensorType) -> Loop:
    """The least index whose element equals the extreme one (or is NaN): min_j where(x[j] == extreme or nan, j, n)."""
    at, extents = reduced_index(x, (axis,), keepdims, out.rank)
    over, _ = reduced_index(x, (axis,), keepdims, out.rank + 1)
    value = load(0, x, at)
    hit = prim("eq", value, reduction(kind, out.rank + 1, extents, load(0, x, over)))
    if x.dtype == "float32":
        hit = prim("or", hit, prim("ne", value, value))
    place = prim("where", hit, Axis(out.rank), size(x.shape[axis]))
    return Loop(out, reduction("min", out.rank, extents, place))
