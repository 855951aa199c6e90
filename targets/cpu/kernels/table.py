"""Which kernels may be selected: those that a test has executed on the ISA.

Rows are (kernel kind, ISA). Kinds of `FLOAT32` have rows for the ISAs with float32 code of their own, which richer ISAs
share; kinds of reduced precision for those of `WITH_REDUCED`. tests/kernels runs each row, x86-64 natively and aarch64 under
qemu where the machine has no such CPU, and a test compares this table with what is run.
"""

from __future__ import annotations

from ..isa import ISAS, Isa

WITH_REDUCED: tuple[str, ...] = tuple(name for name, isa in ISAS.items() if isa.reduced == name)
"""ISAs with kernels of reduced precision of their own."""

FLOAT32: tuple[str, ...] = (
    "linear",
    "linear_narrow",
    "matmul",
    "attention",
    "recurrence",
    "conv",
    "conv_depthwise",
    "pool",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "softmax",
    "log_softmax",
    "embedding",
    "masked_mean",
    "l2_normalize",
    "cumsum",
    "argmax",
    "argmin",
    "argsort",
)
REDUCED: tuple[str, ...] = (
    "linear_q8",
    "quantize_rows",
    "cast_bf16",
    "layer_norm_q8",
    "layer_norm_bf16",
    "rms_norm_q8",
    "rms_norm_bf16",
)
"""On every ISA; those of `BF16` where there is an instruction for it."""
BF16: tuple[str, ...] = ("linear_bf16", "attention_bf16")
TESTED: frozenset[tuple[str, str]] = frozenset(
    [(kind, isa) for kind in FLOAT32 for isa in ("x86-64-v3", "x86-64-v4", "aarch64-neon")]
    + [(kind, isa) for kind in REDUCED for isa in WITH_REDUCED]
    + [(kind, "x86-64-v4-bf16") for kind in BF16]
)
"""(kernel kind, ISA name) that a test executes."""


def selectable(kernel: str, isa: Isa) -> bool:
    """Whether the kernel of this kind may be used on isa (a richer ISA's code is that of `float32` or `reduced`)."""
    return (kernel, isa.float32 if kernel in FLOAT32 else isa.reduced) in TESTED
