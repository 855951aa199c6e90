"""Hand-made graphs for the tests of passes, and random inputs for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.compiler.ir.dims import Dim, evaluate, sym, symbols
from infc.compiler.ir.graph import Graph, InputSpec, Node, Op, Origin, Weight, make
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.leaf import Input, constant, input_node, weight_node
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.types import DType, TensorType, numpy_dtype
from infc.compiler.passes.pipeline import default_passes, run_passes

Array = NDArray[Any]
B, T = sym("batch"), sym("tokens")


@dataclass
class Builder:
    """Collects inputs and weights; `graph` makes the Graph."""

    seed: int = 0
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    inputs: list[Node] = field(default_factory=list[Node])
    specs: dict[str, InputSpec] = field(default_factory=dict[str, InputSpec])

    def input(self, name: str, *shape: Dim, dtype: DType = "float32", **spec: Any) -> Node:
        node = input_node(name, TensorType(dtype, shape), Origin(name))
        self.inputs.append(node)
        self.specs[name] = InputSpec(**spec)
        return node

    def mask(self, name: str = "attention_mask") -> Node:
        return self.input(name, B, T, dtype="int64", default=1, minimum=0, maximum=1, mask=True)

    def weight(self, name: str, *shape: int, scale: float = 0.3) -> Node:
        rng = np.random.default_rng([self.seed, len(self.weights)])
        return self.array(name, (rng.standard_normal(shape) * scale).astype(np.float32))

    def array(self, name: str, value: Array) -> Node:
        dtype: DType = next(d for d in ("float32", "int64", "int32", "bool") if numpy_dtype(d) == value.dtype)
        type_ = TensorType(dtype, value.shape)
        self.weights[name] = Weight(type_, lambda: value)
        return weight_node(name, type_)

    def linear(self, x: Node, name: str, out: int) -> Node:
        width = x.type.shape[-1]
        assert isinstance(width, int)
        weight, bias = self.weight(f"{name}.weight", out, width), self.weight(f"{name}.bias", out)
        return make(Linear(bias=True), x, weight, bias, origin=Origin(name))

    def norm(self, x: Node, name: str) -> Node:
        width = x.type.shape[-1]
        assert isinstance(width, int)
        return make(LayerNorm(), x, self.weight(f"{name}.weight", width), self.weight(f"{name}.bias", width))

    def graph(self, length: str | None = None, **outputs: Node) -> Graph:
        dims = {"batch": (1, 8)} | ({length: (1, 16)} if length else {})
        return Graph(
            name="test",
            dims=dims,
            inputs=tuple(self.inputs),
            outputs=tuple(outputs.items()),
            weights=self.weights,
            input_specs=self.specs,
            batch_dim="batch",
            length_dim=length,
        )


def op(fn: str, *operands: Node) -> Node:
    """A map node."""
    return make(Map(fn), *operands)


def node(op_: Op, *operands: Node) -> Node:
    return make(op_, *operands)


def f32(value: float) -> Node:
    return constant(value, "float32")


def i64(value: int) -> Node:
    return constant(value, "int64")


def bert(layers: int = 2, hidden: int = 16, heads: int = 4, pooled: bool = True) -> Graph:
    """A BERT-like encoder as it is imported: permutes around attention, the mask a chain of casts."""
    b = Builder()
    ids = b.input("input_ids", B, T, dtype="int64", minimum=0, maximum=19)
    mask = b.mask()
    positions = node(Expand((B, T)), node(Reshape((1, T)), node(Iota((T,), 0))))
    words = node(Embedding(), b.weight("words", 20, hidden), ids)
    x = op("add", words, node(Embedding(), b.weight("positions", 16, hidden), positions))
    x = b.norm(x, "embeddings.norm")
    keep = op("ne", mask, i64(0))
    size = hidden // heads

    def split(y: Node) -> Node:
        y = node(Permute((0, 2, 1, 3)), node(Reshape((B, T, heads, size)), y))
        return node(Permute((0, 2, 1, 3)), y)

    for k in range(layers):
        q, key, v = (split(b.linear(x, f"{k}.{n}", hidden)) for n in ("query", "key", "value"))
        a = node(Attention(scale=size**-0.5, mask=True), q, key, v, keep)
        a = node(Reshape((B, T, hidden)), a)
        x = b.norm(op("add", b.linear(a, f"{k}.out", hidden), x), f"{k}.norm1")
        up = op("gelu", b.linear(x, f"{k}.up", hidden * 2))
        x = b.norm(op("add", b.linear(up, f"{k}.down", hidden), x), f"{k}.norm2")
    return b.graph("tokens", embedding=node(MaskedMean(), x, keep) if pooled else x)


def mlp() -> Graph:
    """relu(x W1 + b1) W2 + b2, a sigmoid behind."""
    b = Builder()
    x = op("relu", b.linear(b.input("features", B, 6), "first", 8))
    return b.graph(score=op("sigmoid", b.linear(x, "second", 1)))


def random_inputs(graph: Graph, seed: int = 0, lengths: tuple[int, ...] = (5, 3, 1)) -> dict[str, Array]:
    """Inputs of len(lengths) rows, padded to the longest; the mask keeps lengths[r] positions of row r."""
    rng = np.random.default_rng(seed)
    env = {name: len(lengths) if name == graph.batch_dim else max(lengths) for name in graph.dims}
    found: dict[str, Array] = {}
    for leaf in graph.inputs:
        assert isinstance(leaf.op, Input)
        spec, type_ = graph.input_specs.get(leaf.op.input, InputSpec()), leaf.type
        shape = [evaluate(d, env) for d in type_.shape]
        if spec.mask:
            found[leaf.op.input] = (np.arange(max(lengths))[None] < np.array(lengths)[:, None]).astype(np.int64)
        elif type_.dtype == "float32":
            found[leaf.op.input] = rng.standard_normal(shape).astype(np.float32)
        else:
            low, high = int(spec.minimum or 0), int(3 if spec.maximum is None else spec.maximum)
            found[leaf.op.input] = rng.integers(low, high + 1, shape).astype(numpy_dtype(type_.dtype))
    return found


def has(dim: Dim, name: str | None) -> bool:
    return name is not None and name in symbols(dim)


def same_bits(a: Array, b: Array) -> bool:
    """Equal dtype, shape and every bit (any NaN equals any NaN)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b)))


def optimized(graph: Graph) -> Graph:
    """graph after the passes of a build."""
    return run_passes(graph, default_passes())


def takes_all(op: Op, operands: Sequence[TensorType]) -> str:
    """A target that has every kernel of reduced precision."""
    return ""
