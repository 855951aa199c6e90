"""Which ops have a kernel of reduced precision on an instruction set."""

from __future__ import annotations

from collections.abc import Sequence

from ....compiler.ir.graph import Op
from ....compiler.ir.ops.attention import Attention
from ....compiler.ir.ops.linear import Linear
from ....compiler.ir.types import TensorType
from ..isa import Isa
from .attention import supports_attention
from .pack import supports
from .table import selectable


def why_not(isa: Isa, op: Op, operands: Sequence[TensorType]) -> str:
    """Why op over operands of these types has no kernel, "" where it has one."""
    dtype = operands[0].dtype
    if isinstance(op, Linear):
        n, k = operands[1].shape
        assert isinstance(n, int), "weights have a fixed shape"
        assert isinstance(k, int), "weights have a fixed shape"
        refused = supports(isa, dtype, n, k)
        kind = f"linear_{isa.dots[dtype].suffix}" if not refused else ""
    elif isinstance(op, Attention):
        depth = operands[0].shape[3]
        fixed = all(isinstance(d, int) for t in operands[:3] for d in t.shape[2:])
        refused = (
            supports_attention(isa, dtype, depth) if fixed and isinstance(depth, int) else "its heads are not fixed"
        )
        kind = "attention_bf16"
    else:
        return f"{op.name} has no kernel of reduced precision"
    return refused or ("" if selectable(kind, isa) else f"kernel {kind} is not tested on {isa.name}")
