"""Max and average pooling over one or two spatial axes."""

from __future__ import annotations

from dataclasses import dataclass

from ..isa import Isa
from .render import Kernel, kernel

LINE = 4096
"""Floats of a row that are worked on at a time, where the window is not larger."""


@dataclass(frozen=True)
class PoolContext:
    """What pool.c.j2 reads: sizes in elements; `chunk` outputs of a row at a time need `line` floats."""

    symbol: str
    kind: str
    height: int
    width: int
    out_height: int
    out_width: int
    window_y: int
    window_x: int
    stride_y: int
    stride_x: int
    dilation_y: int
    dilation_x: int
    pad_y: int
    pad_x: int
    high_y: int
    high_x: int
    reach_x: int
    include_pad: bool
    filler: str
    chunk: int
    line: int


def pool(
    isa: Isa,
    kind: str,
    size: tuple[int, ...],
    out: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    count_include_pad: bool,
) -> Kernel:
    """`void S(x, y, plane0, plane1)`: x[planes, *size] to y[planes, *out] by `kind` max or avg; planes = images * channels.

    `out` is given since ceil_mode decides it; windows may hang over the padded end. NaN propagates.
    """
    if len(size) == 1:
        size, out, window, stride, dilation = (1, *size), (1, *out), (1, *window), (1, *stride), (1, *dilation)
        padding = ((0, 0), *padding)
    reach = dilation[1] * (window[1] - 1) + 1
    chunk = min(out[1], max(1, (LINE - reach) // stride[1]))
    context = PoolContext(
        symbol="",
        kind=kind,
        height=size[0],
        width=size[1],
        out_height=out[0],
        out_width=out[1],
        window_y=window[0],
        window_x=window[1],
        stride_y=stride[0],
        stride_x=stride[1],
        dilation_y=dilation[0],
        dilation_x=dilation[1],
        pad_y=padding[0][0],
        pad_x=padding[1][0],
        high_y=padding[0][1],
        high_x=padding[1][1],
        reach_x=reach,
        include_pad=count_include_pad,
        filler="-__builtin_inff()" if kind == "max" else "0.0f",
        chunk=chunk,
        line=(chunk - 1) * stride[1] + reach,
    )
    return kernel("pool", "pool.c.j2", context)
