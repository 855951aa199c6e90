"""softmax: exponentials along an axis that sum to one, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import fresh, load, reduction
from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Axis, Expr, Loop, axes
from ..prims import prim
from ..shapes import check_axis, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Softmax(Op):
    """softmax(x): exp(x - max) / sum(exp(x - max)) on `axis`; float32. A line of minus infinities gives NaN."""

    axis: int
    mnemonic: ClassVar[str] = "softmax"

    def infer(self, *operands: TensorType) -> TensorType:
        return infer_softmax("softmax", self.axis, operands)

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        with np.errstate(all="ignore"):
            e = np.exp(x - x.max(axis=self.axis, keepdims=True, initial=-np.inf))
            return e / e.sum(axis=self.axis, keepdims=True)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        own, total = shifted_exponentials(self.axis, out)
        return Loop(out, prim("div", prim("exp", own), total))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 5


def infer_softmax(op: str, axis: int, operands: tuple[TensorType, ...]) -> TensorType:
    """The type of softmax and log_softmax."""
    check_count(op, operands, 1)
    check_dtype(op, "x", operands[0], ("float32",))
    check_axis(op, axis, operands[0])
    return operands[0]


def shifted_exponentials(axis: int, x: TensorType) -> tuple[Expr, Expr]:
    """x - max, and the sum of exp(x - max) along axis."""

    def at(inner: Axis) -> Expr:
        return load(0, x, [inner if k == axis else a for k, a in enumerate(axes(x.rank))])

    extent = (x.shape[axis],)
    over, top = fresh(x.rank, 2)
    largest = reduction("max", x.rank + 1, extent, at(top))
    total = reduction("sum", x.rank, extent, prim("exp", prim("sub", at(over), largest)))
    return prim("sub", at(Axis(axis)), largest), total
