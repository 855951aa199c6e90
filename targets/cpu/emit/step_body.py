"""What every step's rendering returns, and the few lines of C they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....compiler.codegen.plan import Step
from ....compiler.errors import Exit, InfcError
from ....compiler.ir.dims import Dim
from ....compiler.ir.types import TensorType
from .. import kernels
from .operands import Emission

FLOP_PER_NS = 32
"""About what one core computes; only decides when a step is too small to be handed to other threads."""


@dataclass(frozen=True)
class Body:
    """A step's C statements.

    `part` computes rows r0..r1, and of them panels p0..p1 where it has panels: what a chain calls for a block. `text` computes
    thread tid's part of the whole step; "": what follows from `part`. `rows`: C expression of the rows it computes;
    `work`: of its time on one core, about, in ns; `reason`: why another provider did not take it.
    """

    text: str
    rows: str
    work: str
    provider: str
    reason: str = ""
    part: str = ""
    over: TensorType | None = None
    """The type whose last-axis vectors are the rows of `part`; None: they are tokens, or batch rows."""
    panels: int = 0


Render = Callable[[Emission, Step], Body | None]


def use(em: Emission, kernel: kernels.Kernel) -> str:
    """The kernel's symbol, its source added to the translation unit once. Raises InfcError (exit 1) for a kernel that no
    test has executed on the ISA."""
    if not kernels.selectable(kernel.kind, em.isa):
        raise InfcError(f"kernel {kernel.kind} is not tested on {em.isa.name}", exit_code=Exit.INTERNAL)
    em.functions.setdefault(kernel.symbol, kernel.source)
    return kernel.symbol


def part_of(text: str, over: TensorType | None, rows: str, work: str, provider: str, panels: int = 0) -> Body:
    """A step that is its parts and nothing else."""
    return Body("", rows, work, provider, part=text, over=over, panels=panels)


def split_rows(rows: str) -> str:
    """Declares r0..r1, this thread's rows."""
    return f"    int64_t r0, r1;\n    rt_split({rows}, 1, tid, threads, &r0, &r1);\n"


def work_of(rows: str, flops_per_row: Dim, em: Emission) -> str:
    """C expression of a step's time in ns."""
    return f"({rows}) * ({em.dim(flops_per_row)}) / {FLOP_PER_NS}"
