"""Float32 rows to reduced precision: quantize_rows and cast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ....compiler.ir.reduced import Q8_ZERO
from ..isa import Isa
from .dot import q8_row
from .render import Kernel, guarded, kernel, render

LANES = 4
"""Vectors that a pass over a row works on side by side: enough to hide an operation's latency."""


@dataclass(frozen=True)
class QuantizeContext:
    """What quantize.c.j2 reads: the maximum of `body` columns is taken by `step`, up to `full` by vectors, `tail` remain;
    padding elements padding..row_items are zero values, the scale is at row_bytes."""

    symbol: str
    half: bool
    smooth: bool
    width: int
    vector: int
    lanes: int
    step: int
    body: int
    full: int
    tail: int
    padding: int
    row_items: int
    row_bytes: int


def quantize_rows(isa: Isa, width: int, dtype: str = "float32", smooth: bool = False) -> Kernel:
    """`void S(x, ldx, z, ldz, rows)`: q8 rows z (stride ldz **bytes**) of x[rows, width], float32 or bfloat16.

    scale = max|row|/127 and q = rint(row * (127/max|row|)), to nearest even. A row of magnitudes below 2^-120 is zeros
    with scale 0; one with a NaN or an infinity has scale NaN. With `smooth`, `void S(x, ldx, z, ldz, smooth, rows)`: each
    row is multiplied by float32 smooth[width] first (the scale migration of SmoothQuant, Xiao et al. 2022).
    """
    full = width // isa.vector * isa.vector
    row_bytes = q8_row(isa, width)
    half = dtype == "bfloat16"
    step = LANES * isa.vector * (2 if half and not smooth else 1)  # bfloat16 are compared as 16-bit integers
    context = QuantizeContext(
        symbol="",
        half=half,
        smooth=smooth,
        width=width,
        vector=isa.vector,
        lanes=LANES,
        step=step,
        body=width // step * step,
        full=full,
        tail=width - full,
        padding=-(-width // isa.vector) * isa.vector,
        row_items=row_bytes // isa.dots["q8"].item_bytes,
        row_bytes=row_bytes,
    )
    return kernel("quantize_rows", "quantize.c.j2", context, shared=[q8_source(isa)])


@dataclass(frozen=True)
class CastContext:
    """What cast.c.j2 reads: `full` columns by whole vectors, `tail` more."""

    symbol: str
    vector: int
    width: int
    full: int
    tail: int


def cast_bf16(isa: Isa, width: int) -> Kernel:
    """`void S(x, ldx, z, ldz, rows)`: bfloat16 z of float32 x[rows, width], to nearest even; NaN stays NaN. Where the ISA
    has an instruction for it (x86-64-v4-bf16 and later), subnormal values become 0."""
    full = width // isa.vector * isa.vector
    return kernel("cast_bf16", "cast.c.j2", CastContext("", isa.vector, width, full, width - full))


@dataclass(frozen=True)
class Q8Context:
    """What quantize.h.j2 reads. `magic` is 1.5 * 2^23 + offset: added to a float below 2^22 it leaves the nearest
    integer plus the offset in the low bits."""

    offset: int
    magic: str
    zero_bits: str


@cache
def q8_source(isa: Isa) -> str:
    """C of the functions that quantize a row, to stand before kernels that do."""
    offset = isa.dots["q8"].offset
    zero = int(np.float32(Q8_ZERO).view(np.int32))
    context = Q8Context(offset, f"{float(12582912 + offset)}f", f"0x{zero:08x}")
    return guarded("INFC_Q8", render("quantize.h.j2", context))
