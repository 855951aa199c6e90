"""Weights of linear layers as the panels that its kernels read, and which shapes have such panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....compiler.ir.reduced import to_bfloat16, to_q8
from ..isa import Isa
from .dot import LINE, dot_steps

Q8_MOST_K = (2**31 - 1) // (127 * 127)
"""The longest sum of products of two q8 values that an int32 holds."""


def supports(isa: Isa, precision: str, n: int, k: int) -> str:
    """Why linear[n, k] has no kernel in `precision` (float32, bfloat16, q8) on isa, or "" where it has one."""
    if precision == "float32":
        return ""
    if precision not in isa.dots:
        return f"{isa.name} has no {precision} dot product"
    if precision == "bfloat16" and k % 2:
        return f"K = {k} is odd, and bfloat16 values are multiplied in pairs"
    if precision == "q8" and k > Q8_MOST_K:
        return f"K = {k} can overflow an int32 sum (at most {Q8_MOST_K})"
    return ""


def panels(isa: Isa, n: int) -> int:
    """Panels of n columns."""
    return -(-n // isa.nr)


def narrow(isa: Isa, n: int) -> bool:
    """Whether float32 weights of n columns are kept row by row: their sums run along k in a vector's lanes."""
    return n <= isa.vector // 2


def narrow_row(isa: Isa, k: int) -> int:
    """Floats of such a row: k, padded with zeros to whole vectors."""
    return -(-k // isa.vector) * isa.vector


@dataclass(frozen=True)
class PanelLayout:
    """A panel of reduced precision, in bytes: `header`, for q8 nr float32 column scales and nr int32 starts of the
    accumulators (they cancel the rows' offset), then [steps][nr][ks] weights; `bytes` in all, whole lines."""

    header: int
    steps: int
    bytes: int


def panel_layout(isa: Isa, precision: str, k: int) -> PanelLayout:
    """The layout of a panel over k."""
    dot = isa.dots[precision]
    header = 8 * isa.nr if precision == "q8" else 0
    steps = dot_steps(isa, precision, k) * dot.lanes
    data = steps * isa.nr * dot.ks * dot.weight_bytes
    return PanelLayout(header, steps, -(-(header + data) // LINE) * LINE)


def packed_bytes(isa: Isa, n: int, k: int, precision: str = "float32") -> int:
    """Bytes of what `pack_linear` makes of weight[n, k]."""
    if precision == "float32" and narrow(isa, n):
        return 4 * n * narrow_row(isa, k)
    if precision == "float32":
        return panels_bytes(isa, n, k)
    return panels(isa, n) * panel_layout(isa, precision, k).bytes


def panels_bytes(isa: Isa, n: int, k: int) -> int:
    """Bytes of what `pack_panels` makes of weight[n, k]."""
    return panels(isa, n) * 4 * isa.nr * k


def pack_linear(isa: Isa, weight: NDArray[Any], precision: str = "float32") -> NDArray[Any]:
    """weight[N, K] (float32) as panels, zero padded; to be stored 64-byte aligned.

    float32: [ceil(N/nr)][K][nr] floats, or where `narrow` [N][narrow_row(K)]. bfloat16 and q8: bytes, [ceil(N/nr)] panels of `panel_layout`; bfloat16 rounds
    to nearest even; q8 takes each row's scale as max|w|/127, so a weight that lies on that grid is stored exactly.
    """
    if precision == "float32" and narrow(isa, len(weight)):
        rows = np.zeros((len(weight), narrow_row(isa, weight.shape[1])), np.float32)
        rows[:, : weight.shape[1]] = weight
        return rows
    if precision == "float32":
        return pack_panels(isa, weight)
    dot = isa.dots[precision]
    layout = panel_layout(isa, precision, weight.shape[1])
    if precision == "bfloat16":
        data = _panels_of(isa, to_bfloat16(weight), 2)
        header = np.zeros((len(data), 0), np.uint8)
    else:
        q, scale = to_q8(weight)
        data = _panels_of(isa, q, dot.ks)
        start = -dot.offset * q.sum(axis=1, dtype=np.int32)
        columns = [_columns(isa, part).view(np.uint8) for part in (scale, start)]
        header = np.concatenate(columns, axis=1)
    packed = np.zeros((len(data), layout.bytes), np.uint8)
    packed[:, : layout.header] = header
    body = data.reshape(len(data), -1).view(np.uint8)
    packed[:, layout.header : layout.header + body.shape[1]] = body
    return packed


def pack_panels(isa: Isa, weight: NDArray[Any]) -> NDArray[Any]:
    """weight[N, K] (float32) as [ceil(N/nr)][K][nr] floats, zero padded."""
    return _panels_of(isa, weight.astype(np.float32, copy=False), 1)[..., 0]


def _panels_of(isa: Isa, weight: NDArray[Any], ks: int) -> NDArray[Any]:
    """weight[N, K] as [ceil(N/nr)][ceil(K/ks)][nr][ks], zero padded."""
    n, k = weight.shape
    padded = np.zeros((panels(isa, n) * isa.nr, -(-k // ks) * ks), weight.dtype)
    padded[:n, :k] = weight
    return np.ascontiguousarray(padded.reshape(-1, isa.nr, padded.shape[1] // ks, ks).transpose(0, 2, 1, 3))


def _columns(isa: Isa, values: NDArray[Any]) -> NDArray[Any]:
    """values[N] as [ceil(N/nr)][nr], zero padded."""
    padded = np.zeros(panels(isa, len(values)) * isa.nr, values.dtype)
    padded[: len(values)] = values
    return padded.reshape(-1, isa.nr)
