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
from dataclasses import dataclass, replace

from ....compiler.ir.dims import Dim, Range
from ....compiler.ir.loops import Loop
from ..isa import Isa
from .choice import LARGEST_TVM_SHARE, Choice, choose
from .lower import Mode, OperandDesc, lower_loop
from .nest import outer_extent
from .print_c import print_c
from .print_tvm import Refused
from .tvm_object import object_of

__all__ = [
    "LARGEST_TVM_SHARE",
    "Choice",
    "LoopKernel",
    "Mode",
    "OperandDesc",
    "Refused",
    "choose",
    "loop_c",
    "loop_tvm",
    "render",
]


@dataclass(frozen=True)
class LoopKernel:
    """One C function. `symbol` follows from the content, so that equal kernels are emitted once. `source` needs
    prelude.h before it. `outer`: the extent of begin..end (FLAT: 1; the range is the tokens). `provider`: who made it,
    for reports ("c" or "tvm"), `reason`: why not TVM. `object` holds a compiled part to link, if any: (name, bytes)."""

    symbol: str
    source: str
    outer: Dim
    provider: str
    reason: str = ""
    object: tuple[str, bytes] | None = None


def render(
    loop: Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    symbols: tuple[str, ...],
    isa: Isa,
    ranges: Mapping[str, Range] | None = None,
    *,
    tvm: bool = False,
    share: float = 0.0,
) -> LoopKernel:
    """The kernel of loop. `ranges` bounds symbols (at least 1 where it says nothing). With `tvm`, TVM is asked first
    unless the step takes too large a `share` of the model's time (see choice.py); the caller then links
    `LoopKernel.object`. Raises InfcError (exit 1) where the loop does not fit the mode, exit 6 where TVM is missing."""
    if not tvm:
        return loop_c(loop, operands, mode, symbols, isa, ranges)
    made = loop_tvm(loop, operands, mode, symbols, isa, ranges, share=share)
    if isinstance(made, LoopKernel):
        return made
    return replace(loop_c(loop, operands, mode, symbols, isa, ranges), reason=made.reason)


def loop_c(
    loop: Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    symbols: tuple[str, ...],
    isa: Isa,
    ranges: Mapping[str, Range] | None = None,
) -> LoopKernel:
    """The kernel as C. The text is the same for every ISA; clang makes the difference."""
    program = lower_loop(str(loop.out), loop, operands, mode, ranges)
    source, outer = print_c("SYMBOL", program, symbols)
    symbol = f"infc_tail_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return LoopKernel(symbol, source.replace("SYMBOL", symbol), outer, "c")


def loop_tvm(
    loop: Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    symbols: tuple[str, ...],
    isa: Isa,
    ranges: Mapping[str, Range] | None = None,
    *,
    share: float = 0.0,
) -> LoopKernel | Refused:
    """The kernel as an object that TVM compiled and a C function that calls it, or why TVM does not print it. An element
    has the bits that `loop_c` gives it. Raises InfcError (exit 6) where TVM is not installed."""
    program = lower_loop(str(loop.out), loop, operands, mode, ranges)
    choice = choose(program, isa, share)
    if choice.ir is None:
        return Refused(choice.reason)
    made = object_of(choice.ir, program, symbols, isa)
    if isinstance(made, Refused):
        return made
    symbol, source, content = made
    return LoopKernel(symbol, source, outer_extent(program, choice.ir.nest), "tvm", object=(f"{symbol}.o", content))
