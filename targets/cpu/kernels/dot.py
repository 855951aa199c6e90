"""Reduced precision: how rows and weights are stored, and the micro-kernel that multiplies them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..isa import Dot, Isa
from .render import guarded, render
from .tile import pair_rows, streamed_rows

LINE = 64
"""Bytes of the line behind a q8 row whose first float is the row's scale."""


@dataclass(frozen=True)
class DotContext:
    """What dot.c.j2 reads."""

    name: str
    dot: Dot
    vector: int
    vectors: int
    counts: tuple[int, ...]
    streamed: int
    pair_rows: int


@dataclass(frozen=True)
class DotTile:
    """Micro-kernels of 1..max_rows rows; `name(rows, steps, a, lda, b, out, start, ahead, ahead_step, need, need_row)`, lda in
    bytes, a step being `Dot.lanes` k-steps. out[max_rows][nr] are floats or int32."""

    name: str
    source: str


@cache
def dot_tile(isa: Isa, precision: str, *, ahead: bool = True) -> DotTile:
    """Micro-kernels for `precision`, bfloat16 or q8, over the ISA's panel. `ahead` False: nothing is prefetched."""
    dot = isa.dots[precision]
    name = f"infc_dot_{dot.suffix}{'' if ahead else '_still'}"
    streamed = streamed_rows(isa) if ahead else isa.max_rows
    context = DotContext(
        name, dot, isa.vector, isa.panel_vectors, tuple(range(1, isa.max_rows + 1)), streamed, pair_rows(isa)
    )
    template = "dot.c.j2" if dot.rows == 1 else "dot_pairs.c.j2"
    return DotTile(name, guarded(name.upper(), render(template, context)))


def dot_steps(isa: Isa, precision: str, k: int) -> int:
    """Steps of the micro-kernel over k elements; the last may be partly padding."""
    dot = isa.dots[precision]
    return -(-k // (dot.ks * dot.lanes))


def q8_row(isa: Isa, k: int) -> int:
    """Bytes of a q8 row's elements, padded with zero values to whole lines: where its scale is."""
    return -(-k * isa.dots["q8"].item_bytes // LINE) * LINE


def q8_stride(isa: Isa, k: int) -> int:
    """Bytes of a q8 row of k elements: the integers, padding, and a line whose first float is the scale."""
    return q8_row(isa, k) + LINE
