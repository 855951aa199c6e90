"""The GEMM micro-kernel that linear, matmul, convolution and attention share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..isa import Isa
from .render import guarded, render


@dataclass(frozen=True)
class TileContext:
    """What tile.c.j2 reads."""

    name: str
    vector: int
    vectors: int
    counts: tuple[int, ...]
    streamed: int
    pair_rows: int
    by_rows: bool


@dataclass(frozen=True)
class Tile:
    """Micro-kernels of 1..max_rows rows:
    `name(rows, k, a, lda, b, ldb, out, ldo, ahead, ahead_step, need, need_row)`."""

    name: str
    source: str
    max_rows: int
    columns: int


@cache
def tile(isa: Isa, *, vectors: int | None = None, by_rows: bool = True, ahead: bool = True) -> Tile:
    """Micro-kernels over `vectors` vectors of columns (default: the ISA's panel). The broadcast operand is read along
    its rows (`by_rows`: a[row * lda + i]) or across them (a[row + i * lda]). `ahead` False: nothing is prefetched."""
    width = isa.panel_vectors if vectors is None else vectors
    name = f"infc_tile_{'r' if by_rows else 'c'}{width}{'' if ahead else '_still'}"
    counts = tuple(range(1, isa.max_rows + 1))
    pairs = pair_rows(isa) if by_rows and vectors is None else 0
    context = TileContext(
        name, isa.vector, width, counts, streamed_rows(isa) if ahead else isa.max_rows, pairs, by_rows
    )
    source = render("tile.c.j2", context)
    return Tile(name, guarded(name.upper(), source), isa.max_rows, width * isa.vector)


def streamed_rows(isa: Isa) -> int:
    """Rows of a tile up to which loading the panel is most of its time (measured on Zen 4: 4 of 14)."""
    return isa.max_rows * 2 // 7


def pair_rows(isa: Isa) -> int:
    """Rows of a call up to which two panels at a time pay: with one, the accumulators' latency is what it waits for."""
    return 2
