"""Attention over one segment, exact, without the matrix of all scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ....compiler.errors import Exit, InfcError
from ..isa import Isa
from .norm import c_float
from .render import Kernel, guarded, kernel, render

TILES_OF_A_TASK = 6
"""A task is at most this many tiles of max_rows queries: enough that packing the keys is a small part of it."""


@dataclass(frozen=True)
class AttentionTile:
    """What attention_tile.c.j2 reads: micro-kernels of `counts` rows by `vectors` vectors, b's rows `ldb` words apart."""

    name: str
    half: bool
    counts: tuple[int, ...]
    vector: int
    vectors: int
    ldb: int


@dataclass(frozen=True)
class AttentionMath:
    """What attention_math.h.j2 reads; `low` and `high` are the lanes that interleave two vectors' halves."""

    vector: int
    halves: tuple[int, ...]
    low: str
    high: str
    avx512: bool
    bf16: bool


@dataclass(frozen=True)
class ValuePanel:
    """Columns start..start+used of v, packed `columns` wide and multiplied by `tile`."""

    start: int
    used: int
    columns: int
    tile: str


@dataclass(frozen=True)
class AttentionContext:
    """What attention.c.j2 reads. A key j is kept for query i where i - left <= j <= i + right (None: no such bound).

    ks: elements of a 32-bit word; words: words of a row of k; folded: the scale is applied with the maximum's subtraction.
    binary_scale: scale · log2(e); empty, low: the op's, "zeros" without a mask.
    """

    symbol: str
    type: str
    out_type: str
    heads_q: int
    heads_k: int
    group: int
    d: int
    dv: int
    ks: int
    words: int
    block: int
    vector: int
    nr: int
    narrow: int
    max_rows: int
    aliased_rows: int
    row_groups: int
    wide_tile: str
    narrow_tile: str
    panels: tuple[ValuePanel, ...]
    value_columns: int
    exp2: str
    folded: bool
    scale: str
    inverse_scale: str
    binary_scale: str
    log2e: str
    left: int | None
    right: int | None
    mask: bool
    bias: bool
    empty: str
    low: str


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
    dtype: str = "float32",
    out: str = "float32",
    empty: str = "zeros",
    low: float = 0.0,
) -> Kernel:
    """`void S(q, ldq, k, ldk, v, ldv, mask, bias, bias_h, bias_i, out, ldo, queries, keys, first_query, task0, task1, scratch)`.

    Queries first_query.. of one segment, as many as `queries` says: q[queries, heads_q * d], out[queries, heads_q * dv]
    hold these alone, k[keys, heads_k * d], v[keys, heads_k * dv], mask[keys] bytes the whole segment, with row strides
    ldq.. in elements; bias for head h, position i of the segment and key j at bias[h * bias_h + i * bias_i + j].
    A task is one head and up to `Kernel.block` queries: heads_q * ceil(queries / block) tasks, those of a head one after
    the other. `Kernel.scratch(keys)` floats. A query that keeps no key gives zeros, but for a mask without any key, where
    `empty` and `low` count as they do for the op.
    q, k, v are `dtype`, the result is `out`: float32, or bfloat16 where `supports_attention` gives "" (ldq even then).
    Scores and softmax are float32; for bfloat16 inputs the weights are rounded to bfloat16 before the product with v.

    An int8 model uses these: they take what its QKV linear gives. An int8 product with v would round the weights of
    a softmax, which spread over many powers of two, to 256 even steps: an error of 2^-9 of the *largest* weight in each,
    where bfloat16 has 2^-8 of its own, and the row scales of q8 keys would have to be applied to every score; all to
    halve products that are not what the time goes to (powers of two are).
    """
    refused = supports_attention(isa, dtype, d)
    if refused:
        raise InfcError(f"attention in {dtype}: {refused}", exit_code=Exit.INTERNAL, hint="compute it in float32")
    half = dtype == "bfloat16"
    ks, vector, nr = 2 if half else 1, isa.vector, isa.nr
    narrow = isa.panel_vectors // 2
    wide_tile, narrow_tile = _tile(isa, isa.panel_vectors, nr, half), _tile(isa, narrow, nr, half)
    value_tiles = {n: _tile(isa, n // vector, n, half) for n in (nr, narrow * vector)}
    panels = _value_panels(dv, {n: t[0] for n, t in value_tiles.items()})
    columns = sum(p.columns for p in panels)
    left, right = _bounds(causal, window)
    row_groups = -(-isa.max_rows // vector)
    context = AttentionContext(
        symbol="",
        type="uint16_t" if half else "float",
        out_type="uint16_t" if out == "bfloat16" else "float",
        heads_q=heads_q,
        heads_k=heads_k,
        group=heads_q // heads_k,
        d=d,
        dv=dv,
        ks=ks,
        words=d // ks,
        block=TILES_OF_A_TASK * isa.max_rows,
        vector=vector,
        nr=nr,
        narrow=narrow * vector,
        max_rows=isa.max_rows,
        aliased_rows=isa.aliased_rows,
        row_groups=row_groups,
        wide_tile=wide_tile[0],
        narrow_tile=narrow_tile[0],
        panels=panels,
        value_columns=columns,
        exp2="infc_attention_exp2_half" if half else "infc_attention_exp2",
        folded=scale > 0 and not bias,
        scale=c_float(scale),
        inverse_scale=c_float(1 / scale) if scale else "0.0f",
        binary_scale=c_float(scale * math.log2(math.e)),
        log2e=c_float(math.log2(math.e)),
        left=left,
        right=right,
        mask=mask,
        bias=bias,
        empty=empty if mask else "zeros",
        low=c_float(low),
    )

    def scratch(keys: int) -> int:
        padded = -(-keys // nr) * nr
        lists = 2 * keys + 2 if mask else 0
        return padded * (d // ks) + padded // ks * columns + isa.max_rows * (padded + 16) + lists

    shared = [_math(isa), *dict.fromkeys(t[1] for t in (wide_tile, narrow_tile, *value_tiles.values()))]
    kind = "attention_bf16" if half else "attention"
    return kernel(kind, "attention.c.j2", context, shared=shared, scratch=scratch, block=context.block)


def supports_attention(isa: Isa, dtype: str, d: int) -> str:
    """Why `attention` has no kernel for q, k, v of `dtype` (float32, bfloat16) and heads of d on isa, or "" where it has
    one. Values (dv) may have any size."""
    if dtype == "float32":
        return ""
    if dtype not in isa.dots or dtype != "bfloat16":
        return f"{isa.name} has no {dtype} product for it"
    return f"heads of {d} are odd, and bfloat16 values are multiplied in pairs" if d % 2 else ""


def _bounds(causal: bool, window: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """(left, right): the narrowest of the window's and causality's."""
    bounds = [window] if window is not None else []
    if causal:
        bounds.append((-1, 0))
    lefts, rights = [b[0] for b in bounds if b[0] >= 0], [b[1] for b in bounds]
    return min(lefts) if lefts else None, min(rights) if rights else None


def _tile(isa: Isa, vectors: int, ldb: int, half: bool) -> tuple[str, str]:
    """(name, source) of the micro-kernels over `vectors` vectors of a panel whose rows are `ldb` words."""
    name = f"infc_attention_{'h' if half else 'f'}{vectors}_{ldb}"
    counts = tuple(range(1, isa.max_rows + 1))
    tile = AttentionTile(name, half, counts, isa.vector, vectors, ldb)
    return name, guarded(name.upper(), render("attention_tile.c.j2", tile))


def _math(isa: Isa) -> str:
    vector = isa.vector
    lanes = [lane for i in range(vector) for lane in (i, vector + i)]
    low, high = (", ".join(str(lane) for lane in part) for part in (lanes[:vector], lanes[vector:]))
    halves = tuple(1 << i for i in reversed(range(vector.bit_length() - 1)))
    avx512 = "avx512dq" in isa.features
    context = AttentionMath(vector, halves, low, high, avx512, "bfloat16" in isa.dots)
    return guarded("INFC_ATTENTION_MATH", render("attention_math.h.j2", context))


def _value_panels(dv: int, tiles: dict[int, str]) -> tuple[ValuePanel, ...]:
    """Wide panels, then narrow ones, the last padded; `tiles` has each width's micro-kernel, widest first."""
    wide, narrow = tiles
    found: list[ValuePanel] = []
    start = 0
    while start < dv:
        columns = wide if dv - start > narrow else narrow
        found.append(ValuePanel(start, min(columns, dv - start), columns, tiles[columns]))
        start += columns
    return tuple(found)
