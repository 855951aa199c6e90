"""recurrence: a recurrent layer in one direction over rows side by side."""

from __future__ import annotations

from dataclasses import dataclass

from ....compiler.ir.ops.recurrence import GATES
from ..isa import Isa
from .pack import panels
from .render import Kernel, kernel
from .tile import tile


@dataclass(frozen=True)
class RecurrenceContext:
    """What recurrence.c.j2 reads. `full` of `hidden` are whole vectors, `tail` remain."""

    symbol: str
    tile: str
    kind: str
    reverse: bool
    bias: bool
    cells: bool
    gates: int
    hidden: int
    full: int
    tail: int
    panels: int
    nr: int
    vector: int
    max_rows: int


def recurrence(isa: Isa, kind: str, hidden: int, *, reverse: bool, bias: bool, cells: bool) -> Kernel:
    """`void S(x, ldx, w, bias, h0, c0, y, ldy, at, steps, rows, scratch)`: at most `Kernel.block` rows side by side; row r's
    vectors are at[r] .. at[r] + steps[r] - 1 of x[.][gates * hidden] and of y. w is what `pack_panels` makes of the
    weight; h0 and c0, [rows][hidden], may be NULL: zeros. See the op for kinds, `reverse`, `bias` and `cells`."""
    micro, gates = tile(isa), GATES[kind]
    full = hidden // isa.vector * isa.vector
    columns = panels(isa, gates * hidden)
    context = RecurrenceContext(
        symbol="",
        tile=micro.name,
        kind=kind,
        reverse=reverse,
        bias=bias,
        cells=cells,
        gates=gates,
        hidden=hidden,
        full=full,
        tail=hidden - full,
        panels=columns,
        nr=isa.nr,
        vector=isa.vector,
        max_rows=isa.max_rows,
    )
    scratch = isa.max_rows * ((2 if kind == "lstm" else 1) * hidden + columns * isa.nr)
    shared = [micro.source]
    return kernel("recurrence", "recurrence.c.j2", context, shared=shared, scratch=scratch, block=isa.max_rows)
