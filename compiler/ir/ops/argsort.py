"""argsort: where the first elements of an axis in sorted order are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim, evaluate
from ..graph import Array, Env, Op, OpError
from ..shapes import NUMBERS, check_axis, check_count, check_dtype, check_not_negative
from ..types import TensorType


@dataclass(frozen=True)
class Argsort(Op):
    """argsort(x): int64 indices of the first `count` elements of `axis` in ascending or descending order.

    Of equal elements the one with the lower index comes first, also when descending; NaN counts as greater than every
    number (torch's order). `count` is no more than the axis's extent.
    """

    axis: int
    count: Dim
    descending: bool = False
    mnemonic: ClassVar[str] = "argsort"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("argsort", operands, 1)
        x = operands[0]
        check_dtype("argsort", "x", x, NUMBERS)
        check_axis("argsort", self.axis, x)
        check_not_negative("argsort", "count", self.count)
        room = x.shape[self.axis] - self.count
        if isinstance(room, int) and room < 0:
            raise OpError(f"argsort: {self.count} elements are more than axis {self.axis} of {x} has")
        return TensorType("int64", (*x.shape[: self.axis], self.count, *x.shape[self.axis + 1 :]))

    def reference(self, env: Env, *operands: Array) -> Array:
        x = np.moveaxis(operands[0], self.axis, -1)
        if not self.descending:
            order = np.argsort(x, axis=-1, kind="stable")
        elif x.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                order = np.lexsort((-x, ~np.isnan(x)), axis=-1)
        else:
            order = np.argsort(~x, axis=-1, kind="stable")
        return np.moveaxis(order[..., : evaluate(self.count, env)], -1, self.axis).astype(np.int64)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements
