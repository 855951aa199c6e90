"""Tensor types: a dtype and a shape of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .dims import Dim, parse_dim, product

DType = Literal["float32", "int64", "int32", "bool"]
DTYPES: tuple[DType, ...] = get_args(DType)

SHORT: dict[DType, str] = {"float32": "f32", "int64": "i64", "int32": "i32", "bool": "b1"}
LONG: dict[str, DType] = {short: dtype for dtype, short in SHORT.items()}
ITEM_BYTES: dict[DType, int] = {"float32": 4, "int64": 8, "int32": 4, "bool": 1}


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """NumPy's dtype of the same name."""
    return np.dtype("bool" if dtype == "bool" else dtype)


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
