"""gather: elements picked along one axis, an index for each result element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..prims import cast
from ..shapes import INTEGERS, check_axis, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Gather(Op):
    """gather(x, index): out[i, j, k] = x[index[i, j, k], j, k] for axis 0, and so on (torch.gather).

    x, index of one rank; off the axis index is no longer than x. Indices are in 0..extent-1 (the importer wraps
    negative ones).
    """

    axis: int
    mnemonic: ClassVar[str] = "gather"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("gather", operands, 2)
        x, index = operands
        check_axis("gather", self.axis, x)
        check_dtype("gather", "index", index, INTEGERS)
        if x.rank != index.rank:
            raise OpError(f"gather: index {index} must have the rank of x {x}")
        for k, (have, want) in enumerate(zip(x.shape, index.shape, strict=True)):
            fits = want in (have, 1) or (isinstance(have, int) and isinstance(want, int) and want <= have)
            if k != self.axis and not fits:
                raise OpError(f"gather: dimension {k} of index {index} is not within that of x {x}")
        return TensorType(x.dtype, index.shape)

    def reference(self, env: Env, *operands: Array) -> Array:
        x, index = operands
        cut = tuple(slice(None) if k == self.axis else slice(n) for k, n in enumerate(index.shape))
        return np.take_along_axis(x[cut], index, axis=self.axis)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, index = operands
        at: list[Expr] = list(axes(out.rank))
        at[self.axis] = cast(load(1, index, axes(out.rank)), "int64")
        return Loop(out, load(0, x, at))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
