"""Which loop each axis of a Program becomes.

A reduction should be computed once for each value of the axes it depends on, so an axis that some reduction does not
depend on goes inside (serial), below the point where that reduction is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....compiler.ir.dims import Dim
from . import polynomial
from .lower import FLAT_AXIS, Mode, Program, extent_dim

TILE = 64
"""Lanes of a tile where the vector axis has no better divisor."""


@dataclass(frozen=True)
class Nest:
    """Which axes go where. `outer`: what begin..end ranges over. `vector` is None for a result of one element."""

    range_axes: tuple[int, ...]
    serial: tuple[int, ...]
    vector: int | None
    tiled: bool

    @property
    def vector_is_range(self) -> bool:
        return self.vector is not None and self.vector in self.range_axes


def plan(program: Program) -> Nest:
    """The loop nest of program."""
    values = program.values
    assert program.body is not None
    axes = program.axes
    vector = axes[-1] if axes else None
    reductions = [v for v in values.reachable(program.body) if values[v].op == "reduce"]
    free = [f for f in (program.depends(v) & frozenset(axes) for v in reductions) if f]
    others = axes[:-1]
    if program.mode is Mode.FLAT:  # the range is the tokens
        serial = tuple(k for k in others if k != FLAT_AXIS)
    else:
        serial = tuple(k for k in others if any(k not in f for f in free))
    outer = tuple(k for k in others if k not in serial)
    if not outer and vector is not None:
        if not serial or all(vector in f for f in free):
            outer = (vector,)
        else:  # no axis is shared by all reductions: some are computed again for each step of the range
            outer, serial = others, ()
    tiled = vector is not None and any(vector in f for f in free)
    return Nest(outer, serial, vector, tiled)


def outer_extent(program: Program, nest: Nest) -> Dim:
    """What begin..end ranges over; in FLAT loops 1, since the tokens of a run are no symbol."""
    extents = (program.values.extents[k] for k in nest.range_axes if k != FLAT_AXIS)
    return extent_dim(program.values, polynomial.product(extents))


def tile_width(extent: int) -> int:
    """Lanes of a tile of an axis with a fixed extent: all of it, or a divisor, so that every tile is full."""
    if extent <= 2 * TILE:
        return extent
    divisors = [w for w in range(2 * TILE, 31, -1) if extent % w == 0 and w % 16 == 0]
    return divisors[0] if divisors else TILE
