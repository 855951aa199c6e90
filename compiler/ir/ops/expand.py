"""expand: broadcasting to a shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import broadcast_load
from ..dims import Dim, evaluate
from ..graph import Array, Env, Op
from ..loops import Loop
from ..shapes import check_broadcasts_to, check_count, check_not_negative
from ..types import TensorType


@dataclass(frozen=True)
class Expand(Op):
    """expand(x): x broadcast to `shape` by NumPy's rule; axes may be added in front."""

    shape: tuple[Dim, ...]
    mnemonic: ClassVar[str] = "expand"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("expand", operands, 1)
        for dim in self.shape:
            check_not_negative("expand", "a dimension", dim)
        check_broadcasts_to("expand", "x", operands[0], self.shape)
        return TensorType(operands[0].dtype, self.shape)

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.broadcast_to(operands[0], [evaluate(d, env) for d in self.shape])

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return Loop(out, broadcast_load(0, operands[0], out.shape))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
