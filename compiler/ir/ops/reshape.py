"""reshape: the same elements in row-major order under another shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import load, reshape_index
from ..dims import Dim, evaluate, product
from ..graph import Array, Env, Op, OpError
from ..loops import Loop, axes
from ..shapes import check_count, check_not_negative, text
from ..types import TensorType


@dataclass(frozen=True)
class Reshape(Op):
    """reshape(x): x's elements as `shape`; the element counts are equal as expressions."""

    shape: tuple[Dim, ...]
    mnemonic: ClassVar[str] = "reshape"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("reshape", operands, 1)
        for dim in self.shape:
            check_not_negative("reshape", "a dimension", dim)
        x = operands[0]
        if x.elements != product(self.shape):
            raise OpError(
                f"reshape: {x} has {x.elements} elements, [{text(self.shape)}] has {product(self.shape)}; "
                "they must be equal"
            )
        return TensorType(x.dtype, self.shape)

    def reference(self, env: Env, *operands: Array) -> Array:
        return operands[0].reshape([evaluate(d, env) for d in self.shape])

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x = operands[0]
        return Loop(out, load(0, x, reshape_index(x.shape, out.shape, axes(out.rank))))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
