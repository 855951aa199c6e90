"""index: elements picked along several adjacent axes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import broadcast_load, load
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Loop, axes
from ..prims import cast
from ..shapes import INTEGERS, broadcast_shapes, check_axes, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Index(Op):
    """index(x, i, j, ...): NumPy's x[..., i, j, ...] with an index tensor for each of `axes`, which are adjacent.

    The index tensors broadcast to one shape B; result x.shape[:axes[0]] + B + x.shape[axes[-1] + 1:]. Indices are in
    range (the importer wraps negative ones).
    """

    axes: tuple[int, ...]
    mnemonic: ClassVar[str] = "index"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("index", operands, 1 + len(self.axes))
        x, *indices = operands
        check_axes("index", self.axes, x)
        if not self.axes or self.axes != tuple(range(self.axes[0], self.axes[0] + len(self.axes))):
            raise OpError(f"index: axes {self.axes} must be adjacent and ascending, such as (1, 2)")
        for index in indices:
            check_dtype("index", "an index", index, INTEGERS)
        shape = broadcast_shapes("index", *(i.shape for i in indices))
        return TensorType(x.dtype, (*x.shape[: self.axes[0]], *shape, *x.shape[self.axes[-1] + 1 :]))

    def reference(self, env: Env, *operands: Array) -> Array:
        return operands[0][(slice(None),) * self.axes[0] + operands[1:]]

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x, *indices = operands
        first, at = self.axes[0], axes(out.rank)
        end = first + max(i.rank for i in indices)
        inner, shape = at[first:end], out.shape[first:end]
        picked = [cast(broadcast_load(1 + k, i, shape, inner), "int64") for k, i in enumerate(indices)]
        return Loop(out, load(0, x, (*at[:first], *picked, *at[end:])))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
