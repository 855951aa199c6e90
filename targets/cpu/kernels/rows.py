"""Kernels over rows: softmax, log_softmax and embedding."""

from __future__ import annotations

from dataclasses import dataclass

from ..isa import Isa
from .render import Kernel, kernel


@dataclass(frozen=True)
class SoftmaxContext:
    """What softmax.c.j2 reads."""

    symbol: str
    vector: int
    log: bool


def softmax(isa: Isa, log: bool) -> Kernel:
    """`void S(x, y, rows, n)`: (log) softmax over the contiguous last axis of x[rows, n]; y may be x."""
    return kernel("log_softmax" if log else "softmax", "softmax.c.j2", SoftmaxContext("", isa.vector, log))


@dataclass(frozen=True)
class EmbeddingContext:
    """What embedding.c.j2 reads."""

    symbol: str
    width: int
    count: int
    ids: str


def embedding(isa: Isa, width: int, ids_dtype: str, count: int) -> Kernel:
    """`void S(table, ids, y, rows)`: y[rows, width] = table[ids]; ids (int64 or int32) outside 0..count-1 are clamped."""
    return kernel("embedding", "embedding.c.j2", EmbeddingContext("", width, count, f"{ids_dtype}_t"))
