"""embedding: rows of a table, a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import load
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Loop, axes
from ..prims import cast
from ..shapes import INTEGERS, check_count, check_dtype
from ..types import TensorType


@dataclass(frozen=True)
class Embedding(Op):
    """embedding(weight, ids): weight[ids]; weight [V, H], ids integers [...] in 0..V-1, result [..., H]."""

    mnemonic: ClassVar[str] = "embedding"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("embedding", operands, 2)
        weight, ids = operands
        if weight.rank != 2:
            raise OpError(f"embedding: weight must be [rows, features], not {weight}")
        check_dtype("embedding", "ids", ids, INTEGERS)
        return TensorType(weight.dtype, (*ids.shape, weight.shape[1]))

    def reference(self, env: Env, *operands: Array) -> Array:
        return operands[0][operands[1]]

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        weight, ids = operands
        at = axes(out.rank)
        return Loop(out, load(0, weight, (cast(load(1, ids, at[:-1]), "int64"), at[-1])))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
