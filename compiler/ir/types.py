"""Tensor types: a dtype and a shape of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .dims import Dim, parse_dim, product

Plain = Literal["float32", "int64", "int32", "bool"]
Reduced = Literal["bfloat16", "q8"]
DType = Plain | Reduced
DTYPES: tuple[Plain, ...] = get_args(Plain)
"""What every op may take."""
REDUCED: tuple[Reduced, ...] = get_args(Reduced)
"""What ops with a kernel of reduced precision take: bfloat16, and q8, vectors of 8-bit integers with a scale each (see
reduced.py). In NumPy their values are float32 numbers that lie on the grid of the dtype."""

SHORT: dict[DType, str] = {
    "float32": "f32", "int64": "i64", "int32": "i32", "bool": "b1", "bfloat16": "bf16", "q8": "q8",
}  # fmt: skip
LONG: dict[str, DType] = {short: dtype for dtype, short in SHORT.items()}
ITEM_BYTES: dict[DType, int] = {"float32": 4, "int64": 8, "int32": 4, "bool": 1, "bfloat16": 2, "q8": 1}
"""Bytes an element; of q8 without what a target stores beside it."""


def is_float(dtype: DType) -> bool:
    """Whether values of dtype are floating-point numbers to the interpreter."""
    return dtype == "float32" or dtype in REDUCED


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """NumPy's dtype for values of `dtype`."""
    return np.dtype("float32" if is_float(dtype) else dtype)


@dataclass(frozen=True)
class TensorType:
    """A row-major tensor: dtype and shape. Prints as `f32[batch,tokens,384]`."""

    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> Dim:
        """Size in bytes."""
        return self.elements * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{SHORT[self.dtype]}[{','.join(str(d) for d in self.shape)}]"


def parse_type(text: str) -> TensorType:
    """The type that `str` printed. Raises ValueError."""
    head, bracket, rest = text.partition("[")
    if head not in LONG or not bracket or not rest.endswith("]"):
        raise ValueError(f"type {text!r}: expected one of {', '.join(LONG)} with a shape, such as f32[batch,384]")
    inner = rest[:-1]
    return TensorType(LONG[head], tuple(parse_dim(part) for part in inner.split(",")) if inner else ())
