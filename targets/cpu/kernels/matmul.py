"""matmul of two computed matrices."""

from __future__ import annotations

from dataclasses import dataclass

from ..isa import Isa
from .render import Kernel, kernel
from .tile import tile


@dataclass(frozen=True)
class MatmulContext:
    """What matmul.c.j2 reads."""

    symbol: str
    tile: str
    nr: int
    vector: int
    max_rows: int
    transpose_b: bool


def matmul(isa: Isa, transpose_b: bool) -> Kernel:
    """`void S(a, lda, b, ldb, c, ldc, m, k, n, scratch)`: c[m, n] = a[m, k] · b[k, n], or b[n, k] if `transpose_b`.

    Any m, n >= 0 and k >= 0; `Kernel.scratch(k)` floats for the largest k.
    """
    micro = tile(isa)
    context = MatmulContext("", micro.name, isa.nr, isa.vector, isa.max_rows, transpose_b)

    def scratch(k: int) -> int:
        return matmul_scratch(isa, k)

    return kernel("matmul", "matmul.c.j2", context, shared=[micro.source], scratch=scratch)


def matmul_scratch(isa: Isa, k: int) -> int:
    """Floats of scratch for products over at most k."""
    return isa.nr * max(k, 1)
