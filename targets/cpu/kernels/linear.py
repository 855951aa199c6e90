"""linear: act(x · Wᵀ + bias) + residual over packed weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....compiler.errors import Exit, InfcError
from ..isa import Dot, Isa
from ..tuning.choice import MOST_TILES, Choice
from .dot import dot_steps, dot_tile, q8_row
from .pack import narrow, narrow_row, panel_layout, panels, supports
from .prelude import SHORT_FUNCTIONS, VECTOR_FUNCTIONS
from .render import Kernel, kernel
from .tile import pair_rows, tile


@dataclass(frozen=True)
class LinearContext:
    """What linear.c.j2 reads. `activation` is the C name of the vector form; `tail` the columns of the last panel where
    it is not full, else 0."""

    symbol: str
    tile: str
    pair: str
    pair_rows: int
    n: int
    k: int
    nr: int
    vector: int
    vectors: int
    panels: int
    tail: int
    max_rows: int
    aliased_rows: int
    chunk_tiles: int
    activation: str | None
    bias: bool
    residual: bool
    plain: bool


@dataclass(frozen=True)
class NarrowContext:
    """What linear_narrow.c.j2 reads: sums run in `lanes` vectors, up to k = `body`; then by vectors up to `full`, and
    `tail` remain. Rows of w have `padded` floats."""

    symbol: str
    n: int
    k: int
    padded: int
    vector: int
    lanes: int
    body: int
    full: int
    tail: int
    activation: str | None
    bias: bool
    residual: bool


@dataclass(frozen=True)
class LinearDotContext:
    """What linear_dot.c.j2 reads; bytes of a panel, of the scales and starts before it, of its part of a step, and of a
    row up to its scale."""

    symbol: str
    tile: str
    pair: str
    pair_rows: int
    precision: str
    dot: Dot
    q8: bool
    n: int
    k: int
    nr: int
    vector: int
    vectors: int
    panels: int
    tail: int
    max_rows: int
    aliased_rows: int
    chunk_tiles: int
    steps: int
    step_bytes: int
    header: int
    panel_bytes: int
    row_bytes: int
    result: str
    activation: str | None
    bias: bool
    residual: bool


def linear(
    isa: Isa,
    n: int,
    k: int,
    activation: str | None,
    bias: bool,
    residual: bool,
    precision: str = "float32",
    out: str = "float32",
    choice: Choice | None = None,
) -> Kernel:
    """`void S(a, lda, w, bias, res, ldr, c, ldc, rows, panel0, panel1)`: c[rows, n] from a[rows, k], panels panel0..panel1.

    a, c, res have row strides lda, ldc, ldr, in elements; w is what `pack_linear` makes for `precision`; c may be res,
    never a. bias and res are float32, c is `out` (float32, or bfloat16 where `precision` is reduced). Sums run in order
    of k in one accumulator each (float32 layers of a few columns, `narrow`: in the lanes of vectors along k). bfloat16: a are bfloat16 rows, products summed in float32. q8: a are q8 rows, lda their
    stride in **bytes**; sums are exact. `choice`, of tiles, changes no bit (None: `usual_choice`). Raises InfcError for an activation without a vector form, or a precision, n and k
    that `supports` refuses.
    """
    if precision != "float32":
        return _linear_dot(isa, n, k, activation, bias, residual, precision, out, choice)
    if narrow(isa, n):
        return _linear_narrow(isa, n, k, activation, bias, residual)
    taken = choice or usual_choice(isa, precision, k)
    micro = tile(isa, ahead=taken.ahead)
    tail = n % isa.nr
    context = LinearContext(
        symbol="",
        tile=micro.name,
        pair=f"{micro.name}_pair",
        pair_rows=pair_rows(isa),
        n=n,
        k=k,
        nr=isa.nr,
        vector=isa.vector,
        vectors=isa.panel_vectors,
        panels=panels(isa, n),
        tail=tail,
        max_rows=taken.rows,
        aliased_rows=min(taken.rows, isa.aliased_rows),
        chunk_tiles=taken.tiles,
        activation=vector_function(activation),
        bias=bias,
        residual=residual,
        plain=not (activation or bias or residual),
    )
    return kernel("linear", "linear.c.j2", context, shared=[micro.source])


def _linear_narrow(isa: Isa, n: int, k: int, activation: str | None, bias: bool, residual: bool) -> Kernel:
    lanes = 4 if n == 1 else 2 if n <= 4 else 1
    full = k // isa.vector * isa.vector
    context = NarrowContext(
        symbol="",
        n=n,
        k=k,
        padded=narrow_row(isa, k),
        vector=isa.vector,
        lanes=lanes,
        body=k // (lanes * isa.vector) * lanes * isa.vector,
        full=full,
        tail=k - full,
        activation=vector_function(activation),
        bias=bias,
        residual=residual,
    )
    return kernel("linear_narrow", "linear_narrow.c.j2", context)


def _linear_dot(
    isa: Isa,
    n: int,
    k: int,
    activation: str | None,
    bias: bool,
    residual: bool,
    precision: str,
    out: str,
    choice: Choice | None,
) -> Kernel:
    refused = supports(isa, precision, n, k)
    if refused:
        raise InfcError(f"linear in {precision}: {refused}", exit_code=Exit.INTERNAL, hint="keep it in float32")
    taken = choice or usual_choice(isa, precision, k)
    dot, micro = isa.dots[precision], dot_tile(isa, precision, ahead=taken.ahead)
    layout = panel_layout(isa, precision, k)
    context = LinearDotContext(
        symbol="",
        tile=micro.name,
        pair=f"{micro.name}_pair",
        pair_rows=pair_rows(isa),
        precision=precision,
        dot=dot,
        q8=precision == "q8",
        n=n,
        k=k,
        nr=isa.nr,
        vector=isa.vector,
        vectors=isa.panel_vectors,
        panels=panels(isa, n),
        tail=n % isa.nr,
        max_rows=taken.rows,
        aliased_rows=min(taken.rows, isa.aliased_rows),
        chunk_tiles=taken.tiles,
        steps=dot_steps(isa, precision, k),
        step_bytes=isa.nr * dot.ks * dot.lanes * dot.weight_bytes,
        header=layout.header,
        panel_bytes=layout.bytes,
        row_bytes=_row_bytes(isa, precision, k),
        result="uint16_t" if out == "bfloat16" else "float",
        activation=vector_function(activation, SHORT_FUNCTIONS),
        bias=bias,
        residual=residual,
    )
    return kernel(f"linear_{dot.suffix}", "linear_dot.c.j2", context, shared=[micro.source])


def usual_choice(isa: Isa, precision: str, k: int) -> Choice:
    """What is taken where nothing was measured: the ISA's tallest tile, as many tiles as stay in half of L2 (at least one;
    rows that lie a multiple of 4 KiB apart make lower tiles), the next panel prefetched."""
    fit = isa.l2_bytes // 2 // (max(_row_bytes(isa, precision, k), 1) * tallest(isa, precision, k))
    return Choice(isa.max_rows, min(max(fit, 1), MOST_TILES), True)


def tallest(isa: Isa, precision: str, k: int) -> int:
    """Rows of the tallest tile where rows of k elements lie one behind the other."""
    aliased = precision != "q8" and _row_bytes(isa, precision, k) % 4096 == 0  # a line follows q8 rows
    return isa.aliased_rows if aliased else isa.max_rows


def _row_bytes(isa: Isa, precision: str, k: int) -> int:
    """Bytes of a row's elements."""
    return q8_row(isa, k) if precision == "q8" else k * (2 if precision == "bfloat16" else 4)


def vector_function(activation: str | None, forms: Mapping[str, str] = VECTOR_FUNCTIONS) -> str | None:
    """C name of an activation's vector form. Raises InfcError for one that has none."""
    if activation is None:
        return None
    if activation not in forms:
        raise InfcError(
            f"no kernel has the activation {activation!r} in its epilogue",
            exit_code=Exit.INTERNAL,
            hint=f"known: {', '.join(forms)}",
        )
    return forms[activation]
