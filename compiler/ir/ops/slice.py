"""slice: every step-th element of one axis, from start up to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..building import load, plus, size, times
from ..dims import Dim, evaluate, floordiv
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..shapes import check_axis, check_count, check_not_negative
from ..types import TensorType


@dataclass(frozen=True)
class Slice(Op):
    """slice(x): x[..., start:stop:step, ...] on `axis`; 0 <= start <= stop <= extent, step >= 1.

    The importer resolves negative and open ends; what symbols hide, the verifier bounds.
    """

    axis: int
    start: Dim
    stop: Dim
    step: int = 1
    mnemonic: ClassVar[str] = "slice"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("slice", operands, 1)
        x = operands[0]
        check_axis("slice", self.axis, x)
        check_not_negative("slice", "start", self.start)
        if self.step < 1:
            raise OpError(f"slice: step is {self.step}; it must be at least 1 (flip turns an axis round)")
        length, room = self.stop - self.start, x.shape[self.axis] - self.stop
        if (isinstance(length, int) and length < 0) or (isinstance(room, int) and room < 0):
            raise OpError(f"slice: {self.start}:{self.stop} is not within axis {self.axis} of {x}")
        extent = floordiv(length + (self.step - 1), self.step)
        return TensorType(x.dtype, (*x.shape[: self.axis], extent, *x.shape[self.axis + 1 :]))

    def reference(self, env: Env, *operands: Array) -> Array:
        index = slice(evaluate(self.start, env), evaluate(self.stop, env), self.step)
        return operands[0][(slice(None),) * self.axis + (index,)]

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        index: list[Expr] = list(axes(out.rank))
        index[self.axis] = plus(times(index[self.axis], self.step), size(self.start))
        return Loop(out, load(0, operands[0], index))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return 0
