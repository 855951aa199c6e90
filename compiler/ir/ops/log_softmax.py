"""log_softmax: the logarithm of softmax, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Loop
from ..prims import prim
from ..types import TensorType
from .softmax import infer_softmax, shifted_exponentials


@dataclass(frozen=True)
class LogSoftmax(Op):
    """log_softmax(x): x - max - log(sum(exp(x - max))) on `axis`; float32."""

    axis: int
    mnemonic: ClassVar[str] = "log_softmax"

    def infer(self, *operands: TensorType) -> TensorType:
        return infer_softmax("log_softmax", self.axis, operands)

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        with np.errstate(all="ignore"):
            shifted = x - x.max(axis=self.axis, keepdims=True, initial=-np.inf)
            return shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        own, total = shifted_exponentials(self.axis, out)
        return Loop(out, prim("sub", own, prim("log", total)))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * 5
