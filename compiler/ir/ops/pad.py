"""pad: a constant around a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..building import both, guarded, in_range, load, minus, number, plus, size
from ..dims import Dim, evaluate
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..shapes import check_count, check_not_negative
from ..types import TensorType


@dataclass(frozen=True)
class Pad(Op):
    """pad(x): `low[k]` elements of `value` before and `high[k]` after axis k. Negative amounts are slices."""

    low: tuple[Dim, ...]
    high: tuple[Dim, ...]
    value: float | int | bool
    mnemonic: ClassVar[str] = "pad"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("pad", operands, 1)
        x = operands[0]
        if len(self.low) != x.rank or len(self.high) != x.rank:
            raise OpError(
                f"pad: low and high need {x.rank} amounts each for {x}, not {len(self.low)}, {len(self.high)}"
            )
        for amount in (*self.low, *self.high):
            check_not_negative("pad", "an amount", amount)
        if x.dtype != "float32" and self.value != int(self.value):
            raise OpError(f"pad: value {self.value} does not fit {x}")
        return TensorType(x.dtype, tuple(a + d + b for a, d, b in zip(self.low, x.shape, self.high, strict=True)))

    def reference(self, env: Env, *operands: Array) -> Array:
        amounts = [(evaluate(a, env), evaluate(b, env)) for a, b in zip(self.low, self.high, strict=True)]
        return np.pad(operands[0], amounts, constant_values=self.value) if amounts else operands[0]

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x = operands[0]
        guard: Expr | None = None
        index: list[Expr] = []
        for axis, low, high, dim in zip(axes(out.rank), self.low, self.high, x.shape, strict=True):
            start, end = size(low), plus(size(low), size(dim)) if low != 0 else size(dim)
            guard = both(guard, in_range(axis, None if low == 0 else start, None if high == 0 else end))
            index.append(minus(axis, start))
        return Loop(out, guarded(guard, load(0, x, index), number(self.value, x.dtype)))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
