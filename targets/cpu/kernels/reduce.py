"""masked_mean, l2_normalize, group_norm, cumsum, argmax, argmin and argsort."""

from __future__ import annotations

from dataclasses import dataclass

from ..isa import Isa
from .norm import c_float
from .render import Kernel, kernel


@dataclass(frozen=True)
class WidthContext:
    """What masked_mean.c.j2 and l2_normalize.c.j2 read: `full` columns by whole vectors, `tail` more."""

    symbol: str
    vector: int
    width: int
    full: int
    tail: int
    eps: str


def masked_mean(isa: Isa, width: int) -> Kernel:
    """`void S(x, ldx, mask, y, tokens)`: y[width] = mean of the rows of x[tokens, width] whose mask byte is set, added in
    order; zeros where none is. Other rows are not read."""
    return kernel("masked_mean", "masked_mean.c.j2", _width(isa, width, 0.0))


def l2_normalize(isa: Isa, width: int, eps: float) -> Kernel:
    """`void S(x, ldx, y, ldy, rows)`: y = x / max(|x|, eps) over rows of width; y may be x."""
    return kernel("l2_normalize", "l2_normalize.c.j2", _width(isa, width, eps))


def _width(isa: Isa, width: int, eps: float) -> WidthContext:
    full = width // isa.vector * isa.vector
    return WidthContext("", isa.vector, width, full, width - full, c_float(eps))


@dataclass(frozen=True)
class GroupNormContext:
    """What group_norm.c.j2 reads."""

    symbol: str
    vector: int
    groups: int
    channels: int
    eps: str
    weight: bool
    bias: bool


def group_norm(isa: Isa, channels: int, groups: int, eps: float, weight: bool, bias: bool) -> Kernel:
    """`void S(x, w, b, y, group0, group1, plane)`: x[images, channels, plane] with plane elements a channel; a task is one
    group of one image, numbered image * groups + group. y may be x."""
    context = GroupNormContext("", isa.vector, groups, channels // groups, c_float(eps), weight, bias)
    return kernel("group_norm", "group_norm.c.j2", context)


@dataclass(frozen=True)
class CumsumContext:
    """What cumsum.c.j2 reads."""

    symbol: str
    type: str
    sum: str


def cumsum(isa: Isa, dtype: str) -> Kernel:
    """`void S(x, y, outer, n, inner)`: y[o, i, j] = x[o, 0, j] + ... + x[o, i, j], in order. dtype float32, int64, int32;
    integers wrap."""
    if dtype == "float32":
        return kernel("cumsum", "cumsum.c.j2", CumsumContext("", "float", "float"))
    return kernel("cumsum", "cumsum.c.j2", CumsumContext("", f"{dtype}_t", f"u{dtype}_t"))


@dataclass(frozen=True)
class ArgContext:
    """What arg.c.j2 reads; `better` is the C comparison that a new best element passes."""

    symbol: str
    type: str
    better: str
    nan: bool


def argmax(isa: Isa, dtype: str) -> Kernel:
    """`void S(x, y, outer, n, inner)`: int64 y[o, j] = index of the first largest x[o, :, j], or of the first NaN."""
    return _arg("argmax", dtype, ">")


def argmin(isa: Isa, dtype: str) -> Kernel:
    """`void S(x, y, outer, n, inner)`: int64 y[o, j] = index of the first smallest x[o, :, j], or of the first NaN."""
    return _arg("argmin", dtype, "<")


def _arg(kind: str, dtype: str, better: str) -> Kernel:
    return kernel(kind, "arg.c.j2", ArgContext("", _c_type(dtype), better, dtype == "float32"))


def _c_type(dtype: str) -> str:
    return {"float32": "float", "bool": "uint8_t"}.get(dtype, f"{dtype}_t")


@dataclass(frozen=True)
class ArgsortContext:
    """What argsort.c.j2 reads; `better` is the C comparison of an element with one that comes after it."""

    symbol: str
    type: str
    better: str
    descending: bool
    nan: bool
    few: int
    run: int


FEW = 64
"""Up to so many of at least eight times as many elements are selected; others are taken from a sorted whole."""
RUN = 16


def argsort(isa: Isa, dtype: str, descending: bool) -> Kernel:
    """`void S(x, y, outer, n, inner, count, scratch)`: int64 y[o, r, j] = where the r-th of x[o, :, j] in order is, r < count
    <= n, equal ones by index. A merge sort, or a selection of few; `Kernel.scratch(n)` floats for the largest n."""
    better = ">" if descending else "<"
    context = ArgsortContext("", _c_type(dtype), better, descending, dtype == "float32", FEW, RUN)
    return kernel("argsort", "argsort.c.j2", context, scratch=_entries)


def _entries(n: int) -> int:
    """Floats of two arrays of n values with their indices."""
    return 2 * 4 * max(n, 1)
