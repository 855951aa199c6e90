"""The Graph: what a model computes, as immutable nodes.

    Graph  := name, dims {symbol: (lo, hi)}, inputs (Node...), outputs ((name, Node)...), weights {name: Weight}
    Node   := op, operands (Node...), type, origin          one result each; identity is object identity
    op     := a frozen dataclass of one file under ops/: its fields are the op's attributes
    leaves := input(name) | weight(name) | constant(value)

Printed, a node is one line:

    %3: f32[batch,tokens,384] = linear(%2, @encoder.0.query.weight, @encoder.0.query.bias) {activation=gelu}  # origin

**Invariant**: nodes are never mutated; a pass builds a new graph with `rewrite`. Provenance (`origin`) is not part of
what a graph means: two graphs that print alike without comments are equal (`printer.graph_key`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .dims import Dim, Range
from .loops import Loop
from .types import TensorType

Array = NDArray[Any]
Env = Mapping[str, int]


class OpError(Exception):
    """An op's operands or attributes do not fit; the message says which and what would."""


@dataclass(frozen=True)
class Op:
    """Base of all ops. A subclass is a frozen dataclass: fields are attributes, all of them hashable and printable.

    Subclasses give `infer` (shape rule) and `reference` (NumPy, the definition), and either `loop` (their loop form)
    or nothing more (a *whole*, for which a target brings its own kernel).
    """

    mnemonic: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The name that is printed."""
        return self.mnemonic

    def infer(self, *operands: TensorType) -> TensorType:
        """The result's type. Raises OpError."""
        raise NotImplementedError(type(self).__name__)

    def reference(self, env: Env, *operands: Array) -> Array:
        """The result in NumPy; env gives each symbol's value. float32 operands arrive as float32 or, when the
        interpreter runs in double precision, as float64: the result keeps that precision."""
        raise NotImplementedError(type(self).__name__)

    def loop(self, out: TensorType, *operands: TensorType) -> Loop | None:
        """The loop form, or None for a whole."""
        return None

    def flops(self, out: TensorType, *operands: TensorType) -> Dim:
        """Floating-point operations of one application (a multiply-add counts as two)."""
        return out.elements


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: a name for people (module path), the model's source line, the op it was imported as."""

    name: str = ""
    source: str = ""
    imported: str = ""


@dataclass(frozen=True, eq=False)
class Node:
    """One value. Compared and hashed by identity."""

    op: Op
    operands: tuple[Node, ...]
    type: TensorType
    origin: Origin = field(default=Origin(), repr=False)


def make(op: Op, *operands: Node, origin: Origin | None = None) -> Node:
    """A node of op over operands, its type inferred. Raises OpError."""
    inferred = op.infer(*(o.type for o in operands))
    return Node(op, operands, inferred, origin or Origin())


@dataclass(frozen=True)
class Place:
    """Where a weight's bytes lie: little-endian, C order, in the weight's shape, `offset` bytes into `file`. `dtype` is
    the stored one: the weight's own, or float16, bfloat16 or float64 for a float32 weight."""

    file: Path
    offset: int
    dtype: str


@dataclass(frozen=True)
class Weight:
    """A tensor kept outside the graph. `load()` gives the array (memory-mapped where its file allows)."""

    type: TensorType
    load: Callable[[], Array] = field(repr=False, compare=False)
    digest: str = ""
    """sha256 of the bytes when known; "" until computed."""
    place: Place | None = field(default=None, compare=False)
    """Where in the model's own files the bytes are; None where they are not there as they are used."""


@dataclass(frozen=True)
class InputSpec:
    """What callers may send for one graph input."""

    default: float | int | None = None
    """Value of every element where a caller leaves the input out; None: it must be given."""
    minimum: float | int | None = None
    maximum: float | int | None = None
    nan: bool = False
    mask: bool = False
    """True for the 0/1 mask [batch, tokens] that says which positions count."""


@dataclass(frozen=True)
class Graph:
    """A model. `dims` bounds every symbol (inclusive); `inputs` are Input nodes in the order callers see."""

    name: str
    dims: Mapping[str, Range]
    inputs: tuple[Node, ...]
    outputs: tuple[tuple[str, Node], ...]
    weights: Mapping[str, Weight] = field(default_factory=dict[str, Weight])
    input_specs: Mapping[str, InputSpec] = field(default_factory=dict[str, InputSpec])
    batch_dim: str | None = "batch"
    length_dim: str | None = None

    def nodes(self) -> tuple[Node, ...]:
        """Every node the outputs need, operands first, in a deterministic order; inputs come first even if unused."""
        return topological([*self.inputs, *(node for _, node in self.outputs)])

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed."""
        return replace(self, **changes)


def topological(roots: list[Node]) -> tuple[Node, ...]:
    """roots and what they need, operands before users; depth first in operand order, without recursion."""
    done: dict[Node, None] = {}
    stack: list[tuple[Node, Iterator[Node]]] = []
    for root in roots:
        if root in done:
            continue
        stack.append((root, iter(root.operands)))
        while stack:
            node, rest = stack[-1]
            for operand in rest:
                if operand not in done:
                    stack.append((operand, iter(operand.operands)))
                    break
            else:
                stack.pop()
                done[node] = None
    return tuple(done)


def users(graph: Graph) -> dict[Node, list[Node]]:
    """For each node the nodes that read it (a graph output is not a user)."""
    found: dict[Node, list[Node]] = {node: [] for node in graph.nodes()}
    for node in found:
        for operand in node.operands:
            found[operand].append(node)
    return found


def rewrite(graph: Graph, fn: Callable[[Node], Node]) -> Graph:
    """graph with fn applied to every node, operands first. fn gets the node over its rewritten operands and returns it,
    or another node in its place. Weights that nothing names any more are dropped; the graph is otherwise unchanged."""
    image: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(image[o] for o in node.operands)
        same = all(a is b for a, b in zip(operands, node.operands, strict=True))
        image[node] = fn(
            node if same else Node(node.op, operands, node.op.infer(*(o.type for o in operands)), node.origin)
        )
    outputs = tuple((name, image[node]) for name, node in graph.outputs)
    inputs = tuple(image[node] for node in graph.inputs)
    return graph.replace(inputs=inputs, outputs=outputs)


def as_array(value: Any, type_: TensorType) -> Array:
    """value as a NumPy array of the type's dtype."""
    return np.asarray(value, dtype="bool" if type_.dtype == "bool" else type_.dtype)
