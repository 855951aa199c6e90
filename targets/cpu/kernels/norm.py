"""layer_norm and rms_norm over the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..isa import Isa
from .render import Kernel, kernel

LANES = 4
"""Vectors summed side by side: enough to hide an addition's latency."""


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


def layer_norm(isa: Isa, width: int, eps: float, weight: bool, bias: bool, residual: bool) -> Kernel:
    """`void S(x, ldx, res, ldr, w, b, y, ldy, rows)`: y = (v - mean) / sqrt(var + eps) * w + b with v = x + res."""
    return _norm(isa, width, eps, weight, bias, residual, rms=False)


def rms_norm(isa: Isa, width: int, eps: float, weight: bool) -> Kernel:
    """`void S(x, ldx, res, ldr, w, b, y, ldy, rows)`: y = x / sqrt(mean(x²) + eps) * w; res and b are not read."""
    return _norm(isa, width, eps, weight, False, False, rms=True)


def _norm(isa: Isa, width: int, eps: float, weight: bool, bias: bool, residual: bool, *, rms: bool) -> Kernel:
    full = width // isa.vector * isa.vector
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
    )
    return kernel("rms_norm" if rms else "layer_norm", "norm.c.j2", context)


def c_float(value: float) -> str:
    """value, rounded to float32, as an exact C literal."""
    single = float(np.float32(value))
    if math.isnan(single):
        return '__builtin_nanf("")'
    if single in (float("inf"), float("-inf")):
        return "__builtin_inff()" if single > 0 else "(-__builtin_inff())"
    return f"{single.hex()}f"
