"""flip: axes turned round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, minus, size
from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Expr, Loop, axes
from ..shapes import check_axes, check_count
from ..types import TensorType


@dataclass(frozen=True)
class Flip(Op):
    """flip(x): x with the order of elements reversed on each of `axes`."""

    axes: tuple[int, ...]
    mnemonic: ClassVar[str] = "flip"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("flip", operands, 1)
        check_axes("flip", self.axes, operands[0])
        return operands[0]

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.flip(operands[0], self.axes)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        index: list[Expr] = list(axes(out.rank))
        for k in self.axes:
            index[k] = minus(size(out.shape[k] - 1), index[k])
        return Loop(out, load(0, operands[0], index))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
