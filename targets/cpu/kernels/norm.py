"""layer_norm and rms_norm over the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..isa import Isa
from .dot import q8_row
from .quantize import LANES, q8_source
from .render import Kernel, kernel


@dataclass(frozen=True)
class NormContext:
    """What norm.c.j2 reads. `body` columns go in groups of `lanes` vectors, up to `full` by vectors, `tail` remain."""

    symbol: str
    rms: bool
    width: int
    vector: int
    lanes: int
    body: int
    full: int
    tail: int
    tree: str
    inverse: str
    eps: str
    weight: bool
    bias: bool
    residual: bool
    also: str | None
    keep: bool
    smooth: bool
    padding: int
    row_items: int
    row_bytes: int


def layer_norm(
    isa: Isa,
    width: int,
    eps: float,
    weight: bool,
    bias: bool,
    residual: bool,
    also: str | None = None,
    keep: bool = True,
    smooth: bool = False,
) -> Kernel:
    """`void S(x, ldx, res, ldr, w, b, y, ldy, rows)`: y = (v - mean) / sqrt(var + eps) * w + b with v = x + res.

    With `also`, q8 or bfloat16: `void S(x, ldx, res, ldr, w, b, y, ldy, z, ldz, rows)`, z being y as `quantize_rows` or
    `cast_bf16` gives it (ldz in bytes for q8, in elements for bfloat16). Where not `keep`, y is not written and may be
    NULL. With also="q8" and `smooth` a float32 smooth[width] follows ldz: z is y * smooth quantized, y stays as it is.
    """
    return _norm(isa, width, eps, weight, bias, residual, also, keep, smooth, rms=False)


def rms_norm(
    isa: Isa,
    width: int,
    eps: float,
    weight: bool,
    also: str | None = None,
    keep: bool = True,
    smooth: bool = False,
) -> Kernel:
    """`void S(x, ldx, res, ldr, w, b, y, ldy, rows)`: y = x / sqrt(mean(x²) + eps) * w; res and b are not read. `also`,
    `keep` and `smooth` as for `layer_norm`."""
    return _norm(isa, width, eps, weight, False, False, also, keep, smooth, rms=True)


def _norm(
    isa: Isa,
    width: int,
    eps: float,
    weight: bool,
    bias: bool,
    residual: bool,
    also: str | None,
    keep: bool,
    smooth: bool,
    *,
    rms: bool,
) -> Kernel:
    full = width // isa.vector * isa.vector
    row_bytes = q8_row(isa, width)
    context = NormContext(
        symbol="",
        rms=rms,
        width=width,
        vector=isa.vector,
        lanes=LANES,
        body=width // (LANES * isa.vector) * LANES * isa.vector,
        full=full,
        tail=width - full,
        tree="(s0 + s1) + (s2 + s3)",
        inverse=c_float(1.0 / width),
        eps=c_float(eps),
        weight=weight,
        bias=bias,
        residual=residual,
        also=also,
        keep=keep,
        smooth=smooth and also == "q8",
        padding=-(-width // isa.vector) * isa.vector,
        row_items=row_bytes // isa.dots["q8"].item_bytes,
        row_bytes=row_bytes,
    )
    kind = ("rms_norm" if rms else "layer_norm") + ({"q8": "_q8", "bfloat16": "_bf16", None: ""}[also])
    return kernel(kind, "norm.c.j2", context, shared=[q8_source(isa)] if also == "q8" else [])


def c_float(value: float) -> str:
    """value, rounded to float32, as an exact C literal."""
    single = float(np.float32(value))
    if math.isnan(single):
        return '__builtin_nanf("")'
    if single in (float("inf"), float("-inf")):
        return "__builtin_inff()" if single > 0 else "(-__builtin_inff())"
    return f"{single.hex()}f"
