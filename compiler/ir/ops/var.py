"""var: the variance along axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import count_of, load, mean_of, reduction
from ..dims import Dim
from ..graph import Array, Env, Op
from ..loops import Loop
from ..prims import f32, prim
from ..shapes import check_axes, check_count, check_dtype, reduced_shape
from ..types import TensorType
from .reduce import reduced_index


@dataclass(frozen=True)
class Var(Op):
    """var(x): sum((x - mean)²) / max(count - correction, 0) over `axes`; float32, in two passes."""

    axes: tuple[int, ...]
    correction: float | int = 1
    keepdims: bool = False
    mnemonic: ClassVar[str] = "var"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("var", operands, 1)
        x = operands[0]
        check_dtype("var", "x", x, ("float32",))
        check_axes("var", self.axes, x)
        return TensorType("float32", reduced_shape(x.shape, self.axes, self.keepdims))

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        count = int(np.prod([x.shape[k] for k in self.axes], dtype=np.int64))
        with np.errstate(all="ignore"):
            mean = np.divide(x.sum(axis=self.axes, keepdims=True), x.dtype.type(count))
            squares = np.square(x - mean).sum(axis=self.axes, keepdims=self.keepdims)
            return np.asarray(np.divide(squares, x.dtype.type(max(count - self.correction, 0))))

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, first = operands[0], out.rank
        at, extents = reduced_index(x, self.axes, self.keepdims, first)
        over, _ = reduced_index(x, self.axes, self.keepdims, first + len(extents))
        centred = prim("sub", load(0, x, at), mean_of(first + len(extents), extents, load(0, x, over)))
        squares = reduction("sum", first, extents, prim("mul", centred, centred))
        count = prim("sub", count_of(extents), f32(float(self.correction)))
        return Loop(out, prim("div", squares, prim("max", count, f32(0.0))))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements * 4
