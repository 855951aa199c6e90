"""Building blocks of loop forms: index arithmetic, broadcasting loads, guards, reductions."""

from __future__ import annotations

from collections.abc import Sequence

from .dims import Dim, product
from .loops import Axis, Expr, Literal, Load, Reduce, Size, axes
from .prims import cast, prim
from .shapes import Shape, match_groups
from .types import DType, TensorType

Index = tuple[Expr, ...]
ZERO = Literal(0, "int64")


def size(dim: Dim) -> Expr:
    """A dimension as a value."""
    return Literal(dim, "int64") if isinstance(dim, int) else Size(dim)


def plus(a: Expr, b: Expr) -> Expr:
    """a + b on indices; adding zero adds nothing."""
    if b == ZERO:
        return a
    return b if a == ZERO else prim("add", a, b)


def minus(a: Expr, b: Expr) -> Expr:
    """a - b on indices; taking zero takes nothing."""
    return a if b == ZERO else prim("sub", a, b)


def times(a: Expr, dim: Dim) -> Expr:
    """a * dim on indices."""
    if a == ZERO or dim == 0:
        return ZERO
    return a if dim == 1 else prim("mul", a, size(dim))


def divided(a: Expr, dim: Dim) -> Expr:
    """a // dim on indices that are not negative."""
    return a if dim == 1 else prim("floordiv", a, size(dim))


def modulo(a: Expr, dim: Dim) -> Expr:
    """a % dim on indices that are not negative."""
    return ZERO if dim == 1 else prim("mod", a, size(dim))


def load(number: int, type_: TensorType, index: Sequence[Expr]) -> Load:
    """Element `index` of operand `number`."""
    assert len(index) == type_.rank, f"{len(index)} indices for {type_}"
    return Load(number, tuple(index), type_.dtype)


def broadcast_load(number: int, type_: TensorType, shape: Shape, index: Sequence[Expr] | None = None) -> Load:
    """Operand `number` broadcast to shape, at index (default: the output's own axes)."""
    at = axes(len(shape)) if index is None else index
    skip = len(shape) - type_.rank
    picked = (at[skip + k] if dim == shape[skip + k] else ZERO for k, dim in enumerate(type_.shape))
    return load(number, type_, tuple(picked))


def linearize(index: Sequence[Expr], shape: Sequence[Dim]) -> Expr:
    """The row-major position of index in shape, as a sum of index * stride."""
    total: Expr = ZERO
    for k, e in enumerate(index):
        total = plus(total, times(e, product(list(shape[k + 1 :]))))
    return total


def delinearize(position: Expr, shape: Sequence[Dim]) -> Index:
    """The index at a row-major position of shape."""
    out: list[Expr] = []
    for k, dim in enumerate(shape):
        quotient = divided(position, product(list(shape[k + 1 :])))
        out.append(quotient if k == 0 else modulo(quotient, dim))
    return tuple(out)


def reshape_index(source: Shape, target: Shape, index: Sequence[Expr]) -> Index:
    """Where element `index` of target lies in source, of equal element count. An axis that stays keeps its index; a
    split gives sums of products, a merge floordiv and mod, of that group's axes only."""
    out: list[Expr] = [ZERO] * len(source)
    for a, b in match_groups(source, target):
        position = linearize([index[k] for k in b], [target[k] for k in b])
        for k, e in zip(a, delinearize(position, [source[k] for k in a]), strict=True):
            out[k] = e
    return tuple(out)


def in_range(value: Expr, low: Expr | None, high: Expr | None) -> Expr | None:
    """low <= value < high as a guard; None on a side: unbounded there; None for no guard at all."""
    above = None if low is None else prim("ge", value, low)
    below = None if high is None else prim("lt", value, high)
    return both(above, below)


def both(a: Expr | None, b: Expr | None) -> Expr | None:
    """The conjunction of two guards; None is true."""
    if a is None or b is None:
        return a if b is None else b
    return prim("and", a, b)


def guarded(guard: Expr | None, value: Expr, otherwise: Expr) -> Expr:
    """value where guard holds, else otherwise; value is evaluated only under the guard."""
    return value if guard is None else prim("where", guard, value, otherwise)


def reduction(kind: str, first: int, extents: Sequence[Dim], body: Expr) -> Reduce:
    """Reduce over axes first, first + 1, ... of these extents."""
    dtype: DType = "bool" if kind in ("any", "all") else body.dtype
    return Reduce(kind, tuple((first + k, d) for k, d in enumerate(extents)), body, dtype)


def fresh(first: int, count: int) -> tuple[Axis, ...]:
    """Axis(first), ..., Axis(first + count - 1)."""
    return tuple(Axis(first + k) for k in range(count))


def count_of(extents: Sequence[Dim]) -> Expr:
    """The product of extents as float32."""
    total = product(list(extents))
    return Literal(float(total), "float32") if isinstance(total, int) else cast(size(total), "float32")


def mean_of(first: int, extents: Sequence[Dim], body: Expr) -> Expr:
    """The mean of body over axes first, first + 1, ..."""
    return prim("div", reduction("sum", first, extents, body), count_of(extents))


def number(value: float, dtype: DType) -> Literal:
    """value as a literal of dtype."""
    if dtype == "bool":
        return Literal(bool(value), dtype)
    return Literal(float(value) if dtype == "float32" else int(value), dtype)


def lowest(dtype: DType) -> Literal:
    """The identity of max: minus infinity, or the smallest integer."""
    if dtype == "float32":
        return Literal(float("-inf"), dtype)
    return Literal(-(2 ** (63 if dtype == "int64" else 31)), dtype)
