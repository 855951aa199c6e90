"""permute: axes in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import load
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Axis, Loop
from ..shapes import check_count
from ..types import TensorType


@dataclass(frozen=True)
class Permute(Op):
    """permute(x): axis k of the result is axis perm[k] of x."""

    perm: tuple[int, ...]
    mnemonic: ClassVar[str] = "permute"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("permute", operands, 1)
        x = operands[0]
        if sorted(self.perm) != list(range(x.rank)):
            raise OpError(f"permute: perm {self.perm} must hold each of 0..{x.rank - 1} once, for {x}")
        return TensorType(x.dtype, tuple(x.shape[k] for k in self.perm))

    def reference(self, env: Env, *operands: Array) -> Array:
        return operands[0].transpose(self.perm)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return Loop(out, load(0, operands[0], [Axis(self.perm.index(k)) for k in range(out.rank)]))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
