"""cumsum: running sums along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, number, reduction
from ..graph import Array, Env, Op
from ..loops import Axis, Expr, Loop, axes
from ..prims import prim
from ..shapes import NUMBERS, check_axis, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Cumsum(Op):
    """cumsum(x): out[i] = x[0] + ... + x[i] on `axis`, in that order; the dtype stays."""

    axis: int
    mnemonic: ClassVar[str] = "cumsum"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("cumsum", operands, 1)
        check_dtype("cumsum", "x", operands[0], NUMBERS)
        check_axis("cumsum", self.axis, operands[0])
        return operands[0]

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.cumsum(operands[0], axis=self.axis, dtype=operands[0].dtype)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        inner = Axis(out.rank)
        index: list[Expr] = list(axes(out.rank))
        index[self.axis] = inner
        kept = prim("where", prim("le", inner, Axis(self.axis)), load(0, out, index), number(0, out.dtype))
        return Loop(out, reduction("sum", out.rank, (out.shape[self.axis],), kept))
