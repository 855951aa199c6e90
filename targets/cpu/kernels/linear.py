"""linear: act(x · Wᵀ + bias) + residual over packed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....compiler.errors import Exit, InfcError
from ..isa import Isa
from .prelude import VECTOR_FUNCTIONS
from .render import Kernel, kernel
from .tile import tile


@dataclass(frozen=True)
class LinearContext:
    """What linear.c.j2 reads. `activation` is the C name of the vector form; `tail` the columns of the last panel where
    it is not full, else 0."""

    symbol: str
    tile: str
    n: int
    k: int
    nr: int
    vector: int
    vectors: int
    panels: int
    tail: int
    max_rows: int
    chunk: int
    activation: str | None
    bias: bool
    residual: bool
    plain: bool


def linear(isa: Isa, n: int, k: int, activation: str | None, bias: bool, residual: bool) -> Kernel:
    """`void S(a, lda, w, bias, res, ldr, c, ldc, rows, panel0, panel1)`: c[rows, n] from a[rows, k], panels panel0..panel1.

    a, c, res have row strides lda, ldc, ldr (elements); w is `pack_linear`'s; c may be res, never a. Sums run in
    order of k in one accumulator each. Raises InfcError for an activation without a vector form.
    """
    micro = tile(isa)
    tail = n % isa.nr
    context = LinearContext(
        symbol="",
        tile=micro.name,
        n=n,
        k=k,
        nr=isa.nr,
        vector=isa.vector,
        vectors=isa.panel_vectors,
        panels=panels(isa, n),
        tail=tail,
        max_rows=isa.max_rows,
        chunk=row_chunk(isa, k),
        activation=vector_function(activation),
        bias=bias,
        residual=residual,
        plain=not (activation or bias or residual),
    )
    return kernel("linear", "linear.c.j2", context, shared=[micro.source])


def panels(isa: Isa, n: int) -> int:
    """Panels of n columns."""
    return -(-n // isa.nr)


def pack_linear(isa: Isa, weight: NDArray[Any]) -> NDArray[np.float32]:
    """weight[N, K] as panels [ceil(N/nr)][K][nr], zero padded; to be stored 64-byte aligned."""
    n, k = weight.shape
    padded = np.zeros((panels(isa, n) * isa.nr, k), np.float32)
    padded[:n] = weight
    return np.ascontiguousarray(padded.reshape(-1, isa.nr, k).transpose(0, 2, 1))


def row_chunk(isa: Isa, k: int) -> int:
    """Rows of the broadcast operand that stay in half of L2: whole tiles, at least one, at most 64."""
    fit = isa.l2_bytes // 2 // (4 * max(k, 1) * isa.max_rows)
    return isa.max_rows * min(max(fit, 1), 64)


def vector_function(activation: str | None) -> str | None:
    """C name of an activation's vector form. Raises InfcError for one that has none."""
    if activation is None:
        return None
    if activation not in VECTOR_FUNCTIONS:
        raise InfcError(
            f"no kernel has the activation {activation!r} in its epilogue",
            exit_code=Exit.INTERNAL,
            hint=f"known: {', '.join(VECTOR_FUNCTIONS)}",
        )
    return VECTOR_FUNCTIONS[activation]
