"""argmin: where the smallest element of an axis is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Loop
from ..types import TensorType
from .argmax import infer_position, position_loop


@dataclass(frozen=True)
class Argmin(Op):
    """argmin(x): int64 index of the first smallest element on `axis` (the first NaN where there is one)."""

    axis: int
    keepdims: bool = False
    mnemonic: ClassVar[str] = "argmin"

    def infer(self, *operands: TensorType) -> TensorType:
        return infer_position("argmin", self.axis, self.keepdims, operands)

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.argmin(operands[0], axis=self.axis, keepdims=self.keepdims)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return position_loop("min", self.axis, self.keepdims, out, operands[0])

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements
