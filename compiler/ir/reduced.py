"""Reduced precision: which numbers bfloat16 and q8 hold, in NumPy. This defines them; targets store them as they like.

bfloat16   float32 with 8 bits of significand, rounded to nearest even
q8         a vector along the last axis is integers q in -127..127 times one scale, max|x| / 127 (symmetric, dynamic)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .types import DType

Array = NDArray[Any]

Q8_ZERO = 2.0**-120
"""A vector whose magnitudes are all below this is zeros: 127 over its maximum could overflow."""


def reduce_to(dtype: DType, x: Array) -> Array:
    """x (float) on the grid of dtype, as float32; float32 gives x itself."""
    if dtype == "bfloat16":
        return bfloat16_values(to_bfloat16(x))
    if dtype == "q8":
        q, scale = to_q8(x)
        return q.astype(np.float32) * scale[..., None]
    return x


def to_bfloat16(x: Array) -> NDArray[np.uint16]:
    """The bits of x rounded to bfloat16, to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(nan, bits >> np.uint32(16) | np.uint32(0x40), rounded).astype(np.uint16).reshape(np.shape(x))


def bfloat16_values(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that bfloat16 bits stand for."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_q8(x: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(q, scale) of x[..., K]: scale[...] = max|x| / 127, q = rint(x * (127 / max|x|)), in float32, to nearest even.

    A vector of magnitudes below `Q8_ZERO` is zeros with scale 0; one with a NaN or an infinity has scale NaN, so that
    whatever is computed from it is NaN.
    """
    x = x.astype(np.float32, copy=False)
    most = np.abs(x).max(axis=-1, initial=0.0)
    finite = np.isfinite(most)
    usable = finite & (most >= Q8_ZERO)
    factor = np.float32(127) / np.where(usable, most, np.float32(1))
    q = np.rint(np.where(usable[..., None], x, np.float32(0)) * factor[..., None])
    scale = np.where(usable, most / np.float32(127), np.where(finite, np.float32(0), np.float32(np.nan)))
    return q.astype(np.int8), scale.astype(np.float32)
