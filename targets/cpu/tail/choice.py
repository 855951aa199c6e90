"""Who prints a loop: TVM, or C for clang.

TVM takes what it vectorizes well: rows of a fixed length, each element on its own or with reductions of the row. C takes
everything, and is taken where a step's share of the time is worth clang's attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..isa import Isa
from .lower import Program
from .print_tvm import Refused, TensorIr, tensor_ir

Provider = Literal["c", "tvm"]

LARGEST_TVM_SHARE = 0.05
"""Of a model's time: a step above this is printed as C."""


@dataclass(frozen=True)
class Choice:
    """The provider and, where it is C, why not TVM."""

    provider: Provider
    reason: str = ""
    ir: TensorIr | None = None


def choose(program: Program, isa: Isa, share: float = 0.0, limit: float = LARGEST_TVM_SHARE) -> Choice:
    """The provider of program, whose step takes `share` of the model's time (measured or estimated, 0..1)."""
    if share > limit:
        return Choice("c", f"it takes {share:.0%} of the time, more than {limit:.0%}")
    ir = tensor_ir(program, isa)
    if isinstance(ir, Refused):
        return Choice("c", ir.reason)
    return Choice("tvm", ir=ir)
