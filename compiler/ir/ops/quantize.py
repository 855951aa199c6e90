"""quantize: float32 in a reduced precision, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Array, Env, Op, OpError
from ..reduced import reduce_to
from ..shapes import check_count, check_dtype, check_shape
from ..types import REDUCED, Reduced, TensorType


@dataclass(frozen=True)
class Quantize(Op):
    """quantize(x[, smooth]): x * smooth on the grid of `dtype`, bfloat16 or q8 (see reduced.py).

    x: float32 or bfloat16 [..., K]; smooth: float32 [K], the factors of a scale migration (Xiao et al. 2023). The scale of
    q8 is found anew for each vector along the last axis.
    """

    dtype: Reduced
    smooth: bool = False
    mnemonic: ClassVar[str] = "quantize"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("quantize", operands, 1 + self.smooth)
        if self.dtype not in REDUCED:
            raise OpError(f"quantize: dtype is one of {', '.join(REDUCED)}, not {self.dtype!r}")
        x = operands[0]
        check_dtype("quantize", "x", x, ("float32", "bfloat16"))
        if x.rank < 1 or not isinstance(x.shape[-1], int):
            raise OpError(f"quantize: the last axis of x needs a fixed extent, {x} has none")
        if self.smooth:
            check_dtype("quantize", "smooth", operands[1], ("float32",))
            check_shape("quantize", "smooth", operands[1], x.shape[-1:])
        return TensorType(self.dtype, x.shape)

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0] * operands[1] if self.smooth else operands[0]
        return reduce_to(self.dtype, x)
