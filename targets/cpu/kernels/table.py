"""Which kernels may be selected: those that a test has executed on the ISA.

Rows are (kernel kind, ISA with float32 code of its own). tests/kernels runs each row, AVX2 and AVX-512 natively and NEON
under qemu where the machine has no such CPU, and a test compares this table with what is run.
"""

from __future__ import annotations

from ..isa import Isa

KINDS: tuple[str, ...] = (
    "linear",
    "matmul",
    "attention",
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
)
TESTED: frozenset[tuple[str, str]] = frozenset(
    (kind, isa) for kind in KINDS for isa in ("x86-64-v3", "x86-64-v4", "aarch64-neon")
)
"""(kernel kind, ISA name) that a test executes."""


def selectable(kernel: str, isa: Isa) -> bool:
    """Whether the kernel of this kind may be used on isa (float32 code of a richer ISA is its base's)."""
    return (kernel, isa.float32) in TESTED
