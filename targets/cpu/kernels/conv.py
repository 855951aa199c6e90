"""Convolution over one or two spatial axes: an implicit GEMM, or directly where each group has one channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..isa import Isa
from .linear import vector_function
from .render import Kernel, kernel
from .tile import tile


@dataclass(frozen=True)
class Phase:
    """The columns of one residue modulo the stride: `start` in a copied row; entry i, low <= i < high, is input column
    i * stride + shift, the others are padding."""

    start: int
    low: int
    high: int
    shift: int


@dataclass(frozen=True)
class Source:
    """How conv_source.c.j2 lays an input row out: `phases` of `length` entries each, `row` floats together."""

    height: int
    width: int
    stride: int
    length: int
    row: int
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class ConvContext:
    """What conv.c.j2 and conv_depthwise.c.j2 read. channels, filters: of one group; taps: offset of each kernel position
    from an output's first input element; terms: channels * taps, the length of a sum."""

    symbol: str
    s: Source
    groups: int
    channels: int
    filters: int
    terms: int
    taps: tuple[int, ...]
    out_height: int
    out_width: int
    stride_y: int
    pad_y: int
    reach_y: int
    band: int
    bands: int
    filter_block: int
    filter_blocks: int
    nr: int
    narrow: int
    vector: int
    vectors: int
    block_rows: int
    """depthwise: output rows computed at a time, and vectors of each."""
    block_vectors: int
    max_rows: int
    wide_tile: str
    narrow_tile: str
    activation: str | None
    bias: bool
    residual: bool


def conv(
    isa: Isa,
    channels: int,
    filters: int,
    size: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    activation: str | None = None,
    bias: bool = False,
    residual: bool = False,
    tasks: int = 4,
) -> Kernel:
    """`void S(x, w, bias, res, y, task0, task1, scratch)`: y = act(x ⋆ w + bias + res).

    x[images, channels, *size], w is `pack_conv`'s, y and res [images, filters, *out], all contiguous; one or two spatial
    axes. Tasks are numbered image by image, `Kernel.tasks_per_item` each. `Kernel.scratch` floats.
    `tasks` is how many tasks of one image to aim for (the threads, or twice as many); no result depends on it.
    """
    if len(size) == 1:
        size, window, stride, dilation = (1, *size), (1, *window), (1, *stride), (1, *dilation)
        padding = ((0, 0), *padding)
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    out_height, out_width = (
        (n + low + high - r) // s + 1 for n, (low, high), r, s in zip(size, padding, reach, stride, strict=True)
    )
    source, taps = _source(size, window, stride, padding, dilation, out_width)
    group_channels, group_filters = channels // groups, filters // groups
    terms = group_channels * len(taps)
    depthwise = group_channels == 1
    band = (
        out_height
        if depthwise
        else _band(isa, (group_channels, group_filters, len(taps)), (out_height, out_width), tasks)
    )
    bands = -(-out_height // band)
    blocks = 1 if depthwise else max(1, min(tasks // (groups * bands), group_filters // (4 * isa.max_rows)))
    filter_block = -(-group_filters // blocks)
    blocks = -(-group_filters // filter_block)
    wide, narrow = tile(isa), tile(isa, vectors=isa.panel_vectors // 2)
    block_vectors = min(4, -(-out_width // isa.vector))
    block_rows = min(4 // block_vectors, out_height)
    context = ConvContext(
        symbol="",
        s=source,
        groups=groups,
        channels=group_channels,
        filters=group_filters,
        terms=terms,
        taps=taps,
        out_height=out_height,
        out_width=out_width,
        stride_y=stride[0],
        pad_y=padding[0][0],
        reach_y=reach[0],
        band=band,
        bands=bands,
        filter_block=filter_block,
        filter_blocks=blocks,
        nr=isa.nr,
        narrow=narrow.columns,
        vector=isa.vector,
        vectors=isa.panel_vectors,
        block_rows=block_rows,
        block_vectors=block_vectors,
        max_rows=isa.max_rows,
        wide_tile=wide.name,
        narrow_tile=narrow.name,
        activation=vector_function(activation),
        bias=bias,
        residual=residual,
    )
    copied = group_channels * ((band - 1) * stride[0] + reach[0]) * source.row + isa.nr
    if depthwise:
        beyond = (block_rows * stride[0] * source.row) + block_vectors * isa.vector  # read for dropped outputs
        return kernel("conv_depthwise", "conv_depthwise.c.j2", context, scratch=copied + beyond, tasks_per_item=groups)
    return kernel(
        "conv",
        "conv.c.j2",
        context,
        shared=[wide.source, narrow.source],
        scratch=copied + (terms + 1) * isa.nr,
        tasks_per_item=groups * bands * blocks,
    )


def pack_conv(isa: Isa, weight: NDArray[Any]) -> NDArray[np.float32]:
    """weight[O, C/groups, *window] as the kernel reads it: [O, C/groups * taps], which is its own order."""
    return np.ascontiguousarray(weight.reshape(weight.shape[0], -1), np.float32)


def _source(
    size: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    out_width: int,
) -> tuple[Source, tuple[int, ...]]:
    """The layout of a copied input row, and where each tap of the first output lies in the copied rows."""
    (_, width), step, low = size, stride[1], padding[1][0]
    length = out_width + (window[1] - 1) * dilation[1] // step
    residues = sorted({j * dilation[1] % step for j in range(window[1])})
    phases = tuple(
        Phase(
            start=index * length,
            low=min(max(-(-(low - residue) // step), 0), length),
            high=min(max(-(-(width + low - residue) // step), 0), length),
            shift=residue - low,
        )
        for index, residue in enumerate(residues)
    )
    row = length * len(residues)
    taps = tuple(
        i * dilation[0] * row + residues.index(j * dilation[1] % step) * length + j * dilation[1] // step
        for i in range(window[0])
        for j in range(window[1])
    )
    return Source(size[0], width, step, length, row, phases), taps


def _band(isa: Isa, group: tuple[int, int, int], out: tuple[int, int], tasks: int) -> int:
    """Output rows of a task: as few as cost at most 4 % more than the cheapest choice, in estimated cycles for an image.

    A band costs its panels (the last may be partly empty), gathering them, and copying its input rows.
    """

    (channels, filters, taps), (height, width) = group, out

    def cost(band: int) -> float:
        total = 0.0
        for rows in [band] * (height // band) + ([height % band] if height % band else []):
            panels = -(-rows * width // isa.nr)
            runs = min(isa.nr, isa.nr // width + 2)
            multiply = filters * isa.panel_vectors / 2
            gather = isa.panel_vectors + runs
            copied = (rows + 2) * (width + 2) / isa.vector * 2 + (rows + 2) * 4
            far = 3.0 if 4 * channels * (rows + 2) * (width + 2) > isa.l2_bytes // 2 else 1.0  # outgrows the cache
            total += channels * (taps * panels * (multiply + gather * far) + copied * far)
        return total

    costs = {band: cost(band) for band in range(1, height + 1)}
    allowed = 1.04 * min(costs.values())
    fitting = [band for band, value in costs.items() if value <= allowed]
    enough = [band for band in fitting if -(-height // band) >= tasks]
    return max(enough) if enough else min(fitting)
