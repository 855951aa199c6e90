"""Leaves: input, weight, constant. A leaf carries its type; nothing is inferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Array, Env, Node, Op, Origin
from ..types import DType, TensorType, numpy_dtype


@dataclass(frozen=True)
class Input(Op):
    """What a caller gives under `input`."""

    input: str
    type: TensorType
    mnemonic: ClassVar[str] = "input"

    def infer(self, *operands: TensorType) -> TensorType:
        return self.type


@dataclass(frozen=True)
class WeightRef(Op):
    """The weight `weight` of the graph's table. Prints as `@weight`."""

    weight: str
    type: TensorType
    mnemonic: ClassVar[str] = "weight"

    def infer(self, *operands: TensorType) -> TensorType:
        return self.type


@dataclass(frozen=True)
class Constant(Op):
    """A scalar (rank 0). Arrays are weights."""

    value: float | int | bool
    dtype: DType
    mnemonic: ClassVar[str] = "constant"

    def infer(self, *operands: TensorType) -> TensorType:
        return TensorType(self.dtype, ())

    def reference(self, env: Env, *operands: Array) -> Array:
        return np.asarray(self.value, dtype=numpy_dtype(self.dtype))


def input_node(name: str, type_: TensorType, origin: Origin | None = None) -> Node:
    """An input called name."""
    return Node(Input(name, type_), (), type_, origin or Origin())


def weight_node(name: str, type_: TensorType, origin: Origin | None = None) -> Node:
    """A reference to weight name."""
    return Node(WeightRef(name, type_), (), type_, origin or Origin())


def constant(value: float | bool, dtype: DType, origin: Origin | None = None) -> Node:
    """A scalar; value is taken as the dtype's Python type."""
    plain = float(value) if dtype == "float32" else bool(value) if dtype == "bool" else int(value)
    return Node(Constant(plain, dtype), (), TensorType(dtype, ()), origin or Origin())
