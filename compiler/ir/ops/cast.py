"""cast: elements as another dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import building
from ..graph import Array, Env, Op, OpError
from ..loops import Loop, axes
from ..prims import apply, cast
from ..shapes import check_count
from ..types import DTYPES, DType, TensorType


@dataclass(frozen=True)
class Cast(Op):
    """cast(x): x as `dtype`; to an integer rounds toward zero, to bool is x != 0."""

    dtype: DType
    mnemonic: ClassVar[str] = "cast"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("cast", operands, 1)
        if self.dtype not in DTYPES:
            raise OpError(f"cast: no dtype is called {self.dtype!r}; known: {', '.join(DTYPES)}")
        return TensorType(self.dtype, operands[0].shape)

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        if self.dtype == "float32" and x.dtype.kind == "f":
            return x  # float32, or float64 in double precision
        return apply("cast", x, dtype=self.dtype)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return Loop(out, cast(building.load(0, operands[0], axes(out.rank)), self.dtype))
