"""A random graph while it grows: shapes, values and their intervals. See generate.py."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import prod

import numpy as np

from infc.compiler.ir.dims import Dim, bounds, sym, symbols
from infc.compiler.ir.graph import Array, InputSpec, Node, Op, Weight, make
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.leaf import constant, input_node, weight_node
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.types import DType, TensorType

Shape = tuple[Dim, ...]
BATCH, TOKENS = sym("batch"), sym("tokens")
GRID = 1 / 16
EXTENTS = (1, 2, 3, 4, 5, 8, 17)


@dataclass(frozen=True)
class Info:
    """low <= value <= high; floats are multiples of step, a power of two, or of nothing (0)."""

    low: float
    high: float
    step: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def exact(self) -> bool:
        """Whether float32 holds the values and small sums of them without rounding."""
        return self.step > 0 and self.largest / self.step < 2**18


@dataclass
class Draft:
    """A graph while it grows."""

    rng: random.Random
    tokens: bool
    mixes: bool
    """Whether ops may work along the batch."""
    dims: dict[str, tuple[int, int]]
    inputs: list[Node] = field(default_factory=list[Node])
    specs: dict[str, InputSpec] = field(default_factory=dict[str, InputSpec])
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    infos: dict[Node, Info] = field(default_factory=dict[Node, Info])
    pool: list[Node] = field(default_factory=list[Node])
    used: set[Node] = field(default_factory=set[Node])

    # Drawing.

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def shape(self, low: int = 1, high: int = 4) -> Shape:
        """A shape of low..high axes, most often with the batch (and tokens, if any) in front."""
        rank = self.rng.randint(low, high)
        front: list[Dim] = []
        if self.chance(0.8):
            front.append(BATCH)
        if self.tokens and self.chance(0.6):
            front.append(TOKENS)
        shape: list[Dim] = front[:rank]
        while len(shape) < rank:
            extent = self.rng.choice(EXTENTS)
            shape.append(extent if prod(d for d in shape if isinstance(d, int)) * extent <= 160 else 1)
        return tuple(shape)

    def narrowed(self, shape: Shape) -> Shape:
        """A shape that broadcasts to shape."""
        kind = self.rng.randrange(4)
        if kind == 0:
            return shape
        if kind == 1:
            return shape[self.rng.randint(0, len(shape)) :]
        return tuple(1 if self.chance(0.5) else d for d in shape)

    def low(self, dim: Dim) -> int:
        return bounds(dim, self.dims)[0]

    def high(self, dim: Dim) -> int:
        return bounds(dim, self.dims)[1]

    def axes_of(self, node: Node) -> list[int]:
        """Axes that ops may work along."""
        return [k for k, d in enumerate(node.type.shape) if self.mixes or "batch" not in symbols(d)]

    # Values.

    def value(
        self,
        dtype: DType,
        shape: Shape | None = None,
        *,
        rank: tuple[int, int] = (1, 4),
        low: float = -4,
        high: float = 4,
        exact: bool = False,
        along: bool = False,
    ) -> Node:
        """A node of this dtype, shape (or rank) and interval; `along`: with an axis that ops may work along."""

        def fits(node: Node) -> bool:
            info = self.infos[node]
            return (
                node.type.dtype == dtype
                and (node.type.shape == shape if shape is not None else rank[0] <= node.type.rank <= rank[1])
                and (dtype == "bool" or (low <= info.low and info.high <= high))
                and (not exact or dtype != "float32" or info.exact)
                and (not along or bool(self.axes_of(node)))
            )

        found = [node for node in self.pool if fits(node)]
        if found and self.chance(0.75):
            node = self.rng.choice(found[-3:])
        else:
            if shape is None:
                shape = self.shape(*rank)
                if along and not self.mixes and set(shape) == {BATCH}:
                    shape = (BATCH, 3) if rank[1] > 1 else (3,)
            node = self.fresh(dtype, shape, low, high)
        self.used.add(node)
        return node

    def fresh(self, dtype: DType, shape: Shape, low: float = -4, high: float = 4) -> Node:
        """A new input or weight, or a view or broadcast of one, of this type with values in low..high."""
        free = frozenset[str]().union(*(symbols(d) for d in shape)) if shape else frozenset[str]()
        if shape and shape[0] == BATCH and all(d == TOKENS for d in shape[1:] if not isinstance(d, int)):
            return self.input(dtype, shape, low, high)
        if not shape and self.chance(0.5):
            return self.scalar(dtype, low, high)
        if not free:
            return self.weight(dtype, shape, low, high)
        if "batch" in free and self.chance(0.5):  # an input with its batch moved back
            order = sorted(range(len(shape)), key=lambda k: shape[k] != BATCH)
            ordered = tuple(shape[k] for k in order)
            if all(isinstance(d, int) or d == TOKENS for d in ordered[1:]):
                source = self.input(dtype, ordered, low, high)
                return self.add(Permute(tuple(order.index(k) for k in range(len(shape)))), source)
        if (
            free == frozenset({"tokens"})
            and shape.count(TOKENS) == 1
            and all(isinstance(d, int) or d == TOKENS for d in shape)
        ):
            axis = shape.index(TOKENS)
            table = self.weight(dtype, tuple(self.high(d) for d in shape), low, high)
            return self.add(Slice(axis, 0, TOKENS), table)
        narrow = self.weight(dtype, tuple(d if isinstance(d, int) else 1 for d in shape), low, high)
        return self.add(Expand(shape), narrow)

    def input(self, dtype: DType, shape: Shape, low: float, high: float) -> Node:
        name = f"x{len(self.inputs)}"
        node = input_node(name, TensorType(dtype, shape))
        if dtype in ("int64", "int32"):
            self.specs[name] = InputSpec(minimum=int(low), maximum=int(high))
        elif dtype == "float32":
            self.specs[name] = InputSpec(minimum=float(low), maximum=float(high))
        self.inputs.append(node)
        return self.keep(node, Info(low, high, GRID if dtype == "float32" else 1))

    def weight(self, dtype: DType, shape: Shape, low: float, high: float) -> Node:
        name = f"w{len(self.weights)}"
        type_ = TensorType(dtype, shape)
        sizes = [d for d in shape if isinstance(d, int)]
        array = draw(np.random.default_rng(self.rng.randrange(2**32)), dtype, sizes, low, high)
        self.weights[name] = Weight(type_, lambda: array)
        return self.keep(weight_node(name, type_), Info(low, high, GRID if dtype == "float32" else 1))

    def scalar(self, dtype: DType, low: float, high: float) -> Node:
        value = draw(np.random.default_rng(self.rng.randrange(2**32)), dtype, [], low, high).item()
        return self.keep(constant(value, dtype), Info(float(value), float(value), GRID if dtype == "float32" else 1))

    def keep(self, node: Node, info: Info) -> Node:
        self.infos[node] = info
        self.pool.append(node)
        return node

    def add(self, op: Op, *operands: Node, info: Info | None = None) -> Node:
        """A node of op, its interval given or the union of its operands'; brought back to a small range."""
        node = make(op, *operands)
        self.used.update(operands)
        if info is None:
            several = [self.infos[o] for o in operands]
            info = Info(min(i.low for i in several), max(i.high for i in several), min(i.step for i in several))
        self.keep(node, info if info.exact else Info(info.low, info.high, 0))
        info = self.infos[node]
        if node.type.dtype == "float32" and info.largest > 32:
            scale = 2.0 ** -int(np.ceil(np.log2(info.largest / 4)))
            small = Info(info.low * scale, info.high * scale, info.step * scale)
            return self.add(Map("mul"), node, constant_of(self, scale, "float32"), info=small)
        if node.type.dtype in ("int64", "int32") and info.largest > 500:
            return self.add(Map("mod"), node, constant_of(self, 7, node.type.dtype), info=Info(0, 6, 1))
        return node


def constant_of(draft: Draft, value: float, dtype: DType) -> Node:
    """A constant node with a known interval."""
    return draft.keep(constant(value, dtype), Info(value, value, GRID if dtype == "float32" else 1))


def draw(rng: np.random.Generator, dtype: DType, shape: list[int], low: float, high: float) -> Array:
    """Uniform values in low..high; floats on the grid."""
    if dtype == "bool":
        return rng.random(shape) < 0.6
    if dtype == "float32":
        return (rng.integers(round(low / GRID), round(high / GRID), shape, endpoint=True) * GRID).astype(np.float32)
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
