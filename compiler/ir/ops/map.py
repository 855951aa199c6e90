"""map: a scalar primitive over operands, elementwise with broadcasting. Prints as the primitive's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import broadcast_load
from ..graph import Array, Env, Op
from ..loops import Loop
from ..prims import apply, prim, result_dtype
from ..shapes import broadcast_shapes
from ..types import TensorType


@dataclass(frozen=True)
class Map(Op):
    """map(operands...): primitive `fn` elementwise over operands that broadcast (NumPy's rule) to one shape."""

    fn: str
    mnemonic: ClassVar[str] = "map"

    @property
    def name(self) -> str:
        return self.fn

    def infer(self, *operands: TensorType) -> TensorType:
        dtype = result_dtype(self.fn, tuple(o.dtype for o in operands))
        return TensorType(dtype, broadcast_shapes(self.fn, *(o.shape for o in operands)))

    def reference(self, env: Env, *operands: Array) -> Array:
        return apply(self.fn, *operands)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return Loop(out, prim(self.fn, *(broadcast_load(k, o, out.shape) for k, o in enumerate(operands))))
