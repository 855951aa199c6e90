"""iota: evenly spaced numbers along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import number
from ..dims import Dim, evaluate
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop
from ..prims import cast, prim
from ..shapes import NUMBERS, check_axis, check_count, check_not_negative
from ..types import DType, TensorType, numpy_dtype


@dataclass(frozen=True)
class Iota(Op):
    """iota(): start + step * (index on `axis`), of `dtype` (a number), the same on all other axes."""

    shape: tuple[Dim, ...]
    axis: int
    start: float | int = 0
    step: float | int = 1
    dtype: DType = "int64"
    mnemonic: ClassVar[str] = "iota"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("iota", operands, 0)
        if self.dtype not in NUMBERS:
            raise OpError(f"iota: dtype must be {' or '.join(NUMBERS)}, not {self.dtype}")
        out = TensorType(self.dtype, self.shape)
        check_axis("iota", self.axis, out)
        for dim in self.shape:
            check_not_negative("iota", "a dimension", dim)
        if self.dtype != "float32" and (self.start != int(self.start) or self.step != int(self.step)):
            raise OpError(f"iota: start {self.start} and step {self.step} must be integers for {self.dtype}")
        return out

    def reference(self, env: Env, *operands: Array) -> Array:
        shape = [evaluate(d, env) for d in self.shape]
        dtype = numpy_dtype(self.dtype)
        line = np.arange(shape[self.axis]).astype(dtype) * dtype.type(self.step) + dtype.type(self.start)
        return np.broadcast_to(line.reshape([-1 if k == self.axis else 1 for k in range(len(shape))]), shape)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        value = cast(Axis(self.axis), self.dtype)
        if self.step != 1:
            value = prim("mul", value, number(self.step, self.dtype))
        return Loop(out, value if self.start == 0 else prim("add", value, number(self.start, self.dtype)))
