"""The long tail: any op with a loop form, as C or as a TVM object.

`render` gives a kernel for one loop. Every kernel has the same C signature:

    void S(void *out, const void *const *in, const int64_t *dim, const int32_t *row_of, const int32_t *pos_of,
           int64_t begin, int64_t end)

dim[k] is the value of symbols[k]; begin..end is a range of `outer` (FLAT: of tokens); `out` overlaps no operand.
In FLAT loops `row_of` and `pos_of` give each token's row and position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ....compiler.ir.dims import Dim, Range
from ....compiler.ir.loops import Loop
from ..isa import Isa
from .lower import Mode, OperandDesc, lower
from .print_c import print_c

__all__ = ["LoopKernel", "Mode", "OperandDesc", "loop_c", "render"]


@dataclass(frozen=True)
class LoopKernel:
    """One C function. `symbol` follows from the content, so that equal kernels are emitted once. `source` needs
    prelude.h before it. `outer`: the extent of begin..end (FLAT: 1; the range is the tokens). `provider`: who made it,
    for reports. `object` holds a compiled part to link, if any, as (name, bytes)."""

    symbol: str
    source: str
    outer: Dim
    provider: str
    object: tuple[str, bytes] | None = None


def render(
    loop: Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    symbols: tuple[str, ...],
    isa: Isa,
    ranges: Mapping[str, Range] | None = None,
) -> LoopKernel:
    """The kernel of loop. `ranges` bounds symbols (at least 1 where it says nothing). Raises InfcError (exit 1) where
    the loop does not fit the mode."""
    return loop_c(loop, operands, mode, symbols, isa, ranges)


def loop_c(
    loop: Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    symbols: tuple[str, ...],
    isa: Isa,
    ranges: Mapping[str, Range] | None = None,
) -> LoopKernel:
    """The kernel as C. The text is the same for every ISA; clang makes the difference."""
    program = lower(str(loop.out), loop, operands, mode, ranges)
    source, outer = print_c("SYMBOL", program, symbols)
    symbol = f"infc_tail_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return LoopKernel(symbol, source.replace("SYMBOL", symbol), outer, "c")
