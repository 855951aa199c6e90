"""softmax: exponentials along an axis that sum to one, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import fresh, load, reduction
from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Axis, Expr, Literal, Loop, axes
from ..prims import prim
from ..shapes import check_axis, check_count, check_dtype
from ..types import TensorType

LEAST = float(np.finfo(np.float32).min)
"""The least finite float32."""


@dataclass(frozen=True)
class Softmax(Op):
    """softmax(x): exp(x - max) / sum(exp(x - max)) on `axis`; float32. A line of minus infinities, which is what a query
    that sees no key has, gives zeros (torch: NaN in `softmax`, zeros in `scaled_dot_product_attention`)."""

    axis: int
    mnemonic: ClassVar[str] = "softmax"

    def infer(self, *operands: TensorType) -> TensorType:
        return infer_softmax("softmax", self.axis, operands)

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        with np.errstate(all="ignore"):
            top = np.maximum(x.max(axis=self.axis, keepdims=True, initial=-np.inf), x.dtype.type(LEAST))
            e = np.exp(x - top)
            return e / np.maximum(e.sum(axis=self.axis, keepdims=True), x.dtype.type(1))

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        own, total = shifted_exponentials(self.axis, out, least=LEAST)
        # where any number is above minus infinity, the largest adds exp(0) to the sum
        return Loop(out, prim("div", prim("exp", own), prim("max", total, Literal(1.0, "float32"))))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 5


def infer_softmax(op: str, axis: int, operands: tuple[TensorType, ...]) -> TensorType:
    """The type of softmax and log_softmax."""
    check_count(op, operands, 1)
    check_dtype(op, "x", operands[0], ("float32",))
    check_axis(op, axis, operands[0])
    return operands[0]


def shifted_exponentials(axis: int, x: TensorType, least: float = -np.inf) -> tuple[Expr, Expr]:
    """x - max, and the sum of exp(x - max) along axis; max is `least` at least."""

    def at(inner: Axis) -> Expr:
        return load(0, x, [inner if k == axis else a for k, a in enumerate(axes(x.rank))])

    extent = (x.shape[axis],)
    over, top = fresh(x.rank, 2)
    largest = reduction("max", x.rank + 1, extent, at(top))
    if least > -np.inf:
        largest = prim("max", largest, Literal(least, "float32"))
    total = reduction("sum", x.rank, extent, prim("exp", prim("sub", at(over), largest)))
    return prim("sub", at(Axis(axis)), largest), total
