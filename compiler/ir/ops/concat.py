"""concat: operands one after the other along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import load, minus, size
from ..dims import Dim, recombined
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..prims import prim
from ..shapes import check_axis
from ..types import TensorType


@dataclass(frozen=True)
class Concat(Op):
    """concat(x, ...): operands of one dtype, joined along `axis`; their other dimensions are equal."""

    axis: int
    mnemonic: ClassVar[str] = "concat"

    def infer(self, *operands: TensorType) -> TensorType:
        if not operands:
            raise OpError("concat takes at least one operand")
        first = operands[0]
        check_axis("concat", self.axis, first)
        total: Dim = 0
        for other in operands:
            same = other.rank == first.rank and all(
                a == b for k, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if k != self.axis
            )
            if not same or other.dtype != first.dtype:
                raise OpError(f"concat: {other} does not fit {first} (only axis {self.axis} may differ)")
            total = total + other.shape[self.axis]
        return TensorType(first.dtype, (*first.shape[: self.axis], recombined(total), *first.shape[self.axis + 1 :]))

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.concatenate(operands, axis=self.axis)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        at = axes(out.rank)
        ends: list[Dim] = []
        for o in operands:
            ends.append((ends[-1] if ends else 0) + o.shape[self.axis])

        def part(number: int) -> Expr:
            index: list[Expr] = list(at)
            index[self.axis] = minus(at[self.axis], size(ends[number - 1] if number else 0))
            return load(number, operands[number], index)

        body = part(len(operands) - 1)
        for number in range(len(operands) - 2, -1, -1):
            body = prim("where", prim("lt", at[self.axis], size(ends[number])), part(number), body)
        return Loop(out, body)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
