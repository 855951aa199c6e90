"""reduce: one value from all elements along axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..building import fresh, load, mean_of, reduction
from ..dims import Dim
from ..graph import Array, Env, Op, OpError
from ..loops import Expr, Loop, axes
from ..shapes import NUMBERS, check_axes, check_count, check_dtype, reduced_shape
from ..types import DType, TensorType

KINDS: dict[str, tuple[DType, ...]] = {
    "sum": NUMBERS,
    "prod": NUMBERS,
    "max": NUMBERS,
    "min": NUMBERS,
    "mean": ("float32",),
    "any": ("bool",),
    "all": ("bool",),
}


@dataclass(frozen=True)
class Reduce(Op):
    """reduce(x): `kind` (sum prod max min mean any all) over `axes`; the dtype stays.

    Over nothing: sum 0, prod 1, max and min the lowest and highest value, mean NaN, any false, all true.
    """

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = False
    mnemonic: ClassVar[str] = "reduce"

    def infer(self, *operands: TensorType) -> TensorType:
        check_count("reduce", operands, 1)
        if self.kind not in KINDS:
            raise OpError(f"reduce: no kind is called {self.kind!r}; known: {', '.join(KINDS)}")
        x = operands[0]
        check_dtype(f"reduce {self.kind}", "x", x, KINDS[self.kind])
        check_axes("reduce", self.axes, x)
        return TensorType(x.dtype, reduced_shape(x.shape, self.axes, self.keepdims))

    def reference(self, env: Env, *operands: Array) -> Array:
        x = operands[0]
        return np.asarray(reduce_array(self.kind, x, self.axes, self.keepdims))

    def loop(self, out: TensorType, *operands: TensorType) -> Loop:
        x = operands[0]
        at, extents = reduced_index(x, self.axes, self.keepdims, out.rank)
        body = load(0, x, at)
        if self.kind == "mean":
            return Loop(out, mean_of(out.rank, extents, body))
        return Loop(out, reduction(self.kind, out.rank, extents, body))

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        return operands[0].elements


def reduced_index(
    x: TensorType, reduced: tuple[int, ...], keepdims: bool, first: int
) -> tuple[tuple[Expr, ...], tuple[Dim, ...]]:
    """x's index where `reduced` axes run over Axis(first), Axis(first + 1), ... in ascending order and the others over
    the output's axes; and the extents of the reduced axes."""
    order = sorted(reduced)
    inner = dict(zip(order, fresh(first, len(order)), strict=True))
    kept = [k for k in range(x.rank) if k not in inner]
    outer = axes(x.rank)
    index = tuple(inner[k] if k in inner else outer[k if keepdims else kept.index(k)] for k in range(x.rank))
    return index, tuple(x.shape[k] for k in order)


def reduce_array(kind: str, x: Array, over: tuple[int, ...], keepdims: bool) -> Any:
    """`kind` of x over axes in NumPy, the dtype kept, identities for empty extents."""
    with np.errstate(all="ignore"):
        if kind == "sum":
            return x.sum(axis=over, keepdims=keepdims, dtype=x.dtype)
        if kind == "prod":
            return x.prod(axis=over, keepdims=keepdims, dtype=x.dtype)
        if kind == "mean":
            count = int(np.prod([x.shape[k] for k in over], dtype=np.int64))
            return np.divide(x.sum(axis=over, keepdims=keepdims), x.dtype.type(count))
        if kind == "any":
            return x.any(axis=over, keepdims=keepdims)
        if kind == "all":
            return x.all(axis=over, keepdims=keepdims)
        low, high = (-np.inf, np.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        if kind == "max":
            return x.max(axis=over, keepdims=keepdims, initial=low)
        return x.min(axis=over, keepdims=keepdims, initial=high)
