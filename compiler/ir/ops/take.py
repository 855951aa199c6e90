"""take: whole slices picked along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load
from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Loop, axes
from ..prims import cast
from ..shapes import INTEGERS, check_axis, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Take(Op):
    """take(x, index): numpy.take on `axis`; shape x.shape[:axis] + index.shape + x.shape[axis + 1:].

    Indices are in 0..extent-1 (the importer wraps negative ones).
    """

    axis: int
    mnemonic: ClassVar[str] = "take"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("take", operands, 2)
        x, index = operands
        check_axis("take", self.axis, x)
        check_dtype("take", "index", index, INTEGERS)
        return TensorType(x.dtype, (*x.shape[: self.axis], *index.shape, *x.shape[self.axis + 1 :]))

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.take(operands[0], operands[1], axis=self.axis)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, index = operands
        at, end = axes(out.rank), self.axis + index.rank
        picked = cast(load(1, index, at[self.axis : end]), "int64")
        return Loop(out, load(0, x, (*at[: self.axis], picked, *at[end:])))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
