"""fused: a loop form of its own, made from several ops by `fuse_loops`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from ..dims import Dim
from ..evaluate import LoopError, check_loop, evaluate_loop
from ..graph import Array, Env, Op, OpError
from ..loop_text import parse_expr, print_expr
from ..loops import Expr, Loop, Prim, Reduce, children
from ..shapes import check_not_negative
from ..types import DType, TensorType


@dataclass(frozen=True)
class Fused(Op):
    """fused(x0, x1, ...): out[i0, i1, ...] = body over the operands; see loop_text.py for the text of a body."""

    dtype: DType
    shape: tuple[Dim, ...]
    body: str
    mnemonic: ClassVar[str] = "fused"

    @property
    def expr(self) -> Expr:
        """The body, parsed. Raises OpError."""
        return _parse(self.body)

    def infer(self, *operands: TensorType) -> TensorType:
        for dim in self.shape:
            check_not_negative("fused", "a dimension", dim)
        out = TensorType(self.dtype, self.shape)
        try:
            check_loop(Loop(out, self.expr), operands)
        except LoopError as error:
            raise OpError(f"fused: {error}") from None
        return out

    def reference(self, env: Env, *operands: Array) -> Array:
        return evaluate_loop(Loop(TensorType(self.dtype, self.shape), self.expr), env, operands)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        return Loop(out, self.expr)

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return out.elements * _work(self.expr)


def fused(out: TensorType, body: Expr) -> Fused:
    """The op with this body."""
    return Fused(out.dtype, out.shape, print_expr(body))


@lru_cache(maxsize=1024)
def _parse(body: str) -> Expr:
    try:
        return parse_expr(body)
    except ValueError as error:
        raise OpError(f"fused: {error}") from None


def _work(expr: Expr) -> Dim:
    """Float primitives for one element; those of a reduction once for each of its steps."""
    total: Dim = 1 if isinstance(expr, Prim) and expr.dtype == "float32" else 0
    for child in children(expr):
        total = total + _work(child)
    if isinstance(expr, Reduce):
        for _, extent in expr.axes:
            total = (total + 1) * extent
    return total
