"""Attention over one segment, exact, without the matrix of all scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..isa import Isa
from .norm import c_float
from .render import Kernel, kernel
from .tile import Tile, tile


@dataclass(frozen=True)
class ValuePanel:
    """Columns start..start+used of v, computed `columns` at a time by `tile`; `packed`: from a zero-padded copy."""

    start: int
    used: int
    columns: int
    tile: str
    packed: bool


@dataclass(frozen=True)
class AttentionContext:
    """What attention.c.j2 reads. A key j is kept for query i where i - left <= j <= i + right (None: no such bound)."""

    symbol: str
    heads_q: int
    heads_k: int
    group: int
    d: int
    dv: int
    block: int
    vector: int
    narrow: int
    narrow_vectors: int
    columns: int
    max_rows: int
    wide_rows: str
    narrow_rows: str
    whole: int
    tail: int
    panels: tuple[ValuePanel, ...]
    scale: str
    left: int | None
    right: int | None
    mask: bool
    bias: bool


def attention(
    isa: Isa,
    heads_q: int,
    heads_k: int,
    d: int,
    dv: int,
    scale: float,
    causal: bool,
    window: tuple[int, int] | None,
    mask: bool,
    bias: bool,
) -> Kernel:
    """`void S(q, ldq, k, ldk, v, ldv, mask, bias, bias_h, bias_i, out, ldo, queries, keys, first_query, task0, task1, scratch)`.

    Queries first_query.. of one segment, as many as `queries` says: q[queries, heads_q * d], out[queries, heads_q * dv]
    hold these alone, k[keys, heads_k * d], v[keys, heads_k * dv], mask[keys] bytes the whole segment, with row strides
    ldq.. in elements; bias for head h, position i of the segment and key j at bias[h * bias_h + i * bias_i + j].
    A task is one head and `Kernel.block` queries: heads_q * ceil(queries / block) tasks. `Kernel.scratch(keys)` floats.
    A query that keeps no key gives zeros.
    """
    wide, narrow = isa.panel_vectors, isa.panel_vectors // 2
    rows_wide, rows_narrow = tile(isa, vectors=wide), tile(isa, vectors=narrow)
    across_wide, across_narrow = tile(isa, vectors=wide, by_rows=False), tile(isa, vectors=narrow, by_rows=False)
    panels = _value_panels(isa, dv, across_wide, across_narrow)
    packed = [p for p in panels if p.packed]
    tail = packed[0].used if packed else 0
    bounds = [window] if window is not None else []
    if causal:
        bounds.append((-1, 0))
    lefts, rights = [b[0] for b in bounds if b[0] >= 0], [b[1] for b in bounds]
    context = AttentionContext(
        symbol="",
        heads_q=heads_q,
        heads_k=heads_k,
        group=heads_q // heads_k,
        d=d,
        dv=dv,
        block=isa.nr,
        vector=isa.vector,
        narrow=narrow * isa.vector,
        narrow_vectors=narrow,
        columns=isa.nr,
        max_rows=isa.max_rows,
        wide_rows=rows_wide.name,
        narrow_rows=rows_narrow.name,
        whole=dv - tail,
        tail=tail,
        panels=panels,
        scale=c_float(scale * math.log2(math.e)),
        left=min(lefts) if lefts else None,
        right=min(rights) if rights else None,
        mask=mask,
        bias=bias,
    )
    block, rest = isa.nr, narrow * isa.vector if tail else 0

    def scratch(keys: int) -> int:
        return d * block + keys * (block + rest) + keys + 16

    shared = [rows_wide.source, rows_narrow.source, across_wide.source, across_narrow.source]
    return kernel("attention", "attention.c.j2", context, shared=shared, scratch=scratch, block=block)


def _value_panels(isa: Isa, dv: int, wide: Tile, narrow: Tile) -> tuple[ValuePanel, ...]:
    """Wide panels, then at most one narrow one, then what is left from a padded copy."""
    found: list[ValuePanel] = []
    start = 0
    for columns, micro in ((wide.columns, wide), (narrow.columns, narrow)):
        while dv - start >= columns:
            found.append(ValuePanel(start, columns, columns, micro.name, False))
            start += columns
    if start < dv:
        found.append(ValuePanel(start, dv - start, narrow.columns, narrow.name, True))
    return tuple(found)
