"""Weights that stay in the model's own files: mapped when they are read, widened where they are stored narrower."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..ir.graph import Array, Place, Weight
from ..ir.types import TensorType

STORED_BYTES: Mapping[str, int] = {
    "float32": 4, "int64": 8, "int32": 4, "bool": 1, "float16": 2, "bfloat16": 2, "float64": 8,
}  # fmt: skip
"""What a weight may be stored as, and the bytes of one element."""
WIDENED = ("float16", "bfloat16", "float64")
"""Stored dtypes that are float32 weights in a graph."""
_NUMPY: Mapping[str, str] = {"bfloat16": "<u2", "bool": "u1"}


def placed_weight(place: Place, type_: TensorType) -> Weight:
    """The weight at `place`: of its dtype, or float32 and stored in one of WIDENED. Raises ValueError."""
    if place.dtype != type_.dtype and not (type_.dtype == "float32" and place.dtype in WIDENED):
        raise ValueError(f"a weight of {type_} cannot be stored as {place.dtype}")
    return Weight(type_, _loader(place, type_), place=place)


def fixed_shape(type_: TensorType) -> tuple[int, ...]:
    """The shape of a weight's type, whose extents are all numbers."""
    return tuple(d for d in type_.shape if isinstance(d, int))


def _loader(place: Place, type_: TensorType) -> Callable[[], Array]:
    shape = fixed_shape(type_)
    stored = np.dtype(_NUMPY.get(place.dtype, place.dtype)).newbyteorder("<")

    def load() -> Array:
        if math.prod(shape) == 0:
            return np.zeros(shape, type_.dtype)
        mapped = np.memmap(place.file, dtype=stored, mode="r", offset=place.offset, shape=shape)
        if place.dtype == "bool":
            return mapped != 0  # a stored byte may be any number
        if place.dtype == "bfloat16":
            return (mapped.astype(np.uint32) << 16).view(np.float32)
        return (
            mapped if place.dtype == type_.dtype and place.offset % stored.itemsize == 0 else mapped.astype(type_.dtype)
        )

    return load
