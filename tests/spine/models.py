"""Graphs by hand that the spine's tests compile: an MLP, an encoder with a mask, a small convolutional network."""

from __future__ import annotations

import numpy as np

from infc.compiler.ir.dims import Dim, sym
from infc.compiler.ir.graph import Graph, InputSpec, Node, Weight, make
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.leaf import constant, input_node, weight_node
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.types import TensorType

VOCABULARY, WIDTH, HEADS = 50, 48, 3
BATCH, TOKENS = sym("batch"), sym("tokens")


class Weights:
    """Random weights by name."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.table: dict[str, Weight] = {}

    def __call__(self, name: str, *shape: int) -> Node:
        array = (self._rng.standard_normal(shape) * 0.3).astype(np.float32)
        type_ = TensorType("float32", shape)
        self.table[name] = Weight(type_, lambda: array)
        return weight_node(name, type_)


def linear(w: Weights, name: str, x: Node, n: int, activation: str | None = None) -> Node:
    """A dense layer of n columns."""
    k = x.type.shape[-1]
    assert isinstance(k, int)
    return make(Linear(True, False, activation), x, w(f"{name}.weight", n, k), w(f"{name}.bias", n))


def mlp() -> Graph:
    """64 numbers to one score."""
    w = Weights(1)
    x = input_node("features", TensorType("float32", (BATCH, 64)))
    y = linear(w, "c", linear(w, "b", linear(w, "a", x, 256, "relu"), 256, "gelu"), 1)
    return Graph("mlp", {"batch": (1, 64)}, (x,), (("score", y),), w.table, {"features": InputSpec()})


def encoder(*, positions: bool = False) -> Graph:
    """Ids and a mask to hidden states and their mean; with positions, an island that counts kept tokens."""
    w = Weights(2)
    ids_type = TensorType("int64", (BATCH, TOKENS))
    ids, mask = input_node("input_ids", ids_type), input_node("attention_mask", ids_type)
    kept = make(Map("ne"), mask, constant(0, "int64"))
    x = make(Embedding(), w("words", VOCABULARY, WIDTH), ids)
    if positions:
        place = make(Cumsum(1), mask)
        x = make(Map("add"), x, make(Embedding(), w("places", 80, WIDTH), place))
    split: tuple[Dim, ...] = (BATCH, TOKENS, HEADS, WIDTH // HEADS)
    q, k, v = (make(Reshape(split), linear(w, name, x, WIDTH)) for name in "qkv")
    mixed = make(Attention(scale=0.25, mask=True), q, k, v, kept)
    hidden = make(Map("add"), x, linear(w, "out", make(Reshape((BATCH, TOKENS, WIDTH)), mixed), WIDTH))
    hidden = make(LayerNorm(), hidden, w("norm.weight", WIDTH), w("norm.bias", WIDTH))
    hidden = make(Map("add"), hidden, linear(w, "down", linear(w, "up", hidden, 96, "gelu"), WIDTH))
    specs = {
        "input_ids": InputSpec(minimum=0, maximum=VOCABULARY - 1),
        "attention_mask": InputSpec(default=1, minimum=0, maximum=1, mask=True),
    }
    outputs = (("hidden", hidden), ("mean", make(MaskedMean(), hidden, kept)))
    dims = {"batch": (1, 8), "tokens": (1, 64)}
    return Graph("encoder", dims, (ids, mask), outputs, w.table, specs, length_dim="tokens")


def images() -> Graph:
    """3 x 9 x 9 images to 5 logits."""
    w = Weights(3)
    x = input_node("image", TensorType("float32", (BATCH, 3, 9, 9)))
    h = make(Conv((1, 1), ((1, 1), (1, 1)), (1, 1), bias=True, activation="relu"), x, w("a", 8, 3, 3, 3), w("ab", 8))
    h = make(Pool("max", (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)), h)
    h = make(Reshape((BATCH, 128)), h)
    return Graph(
        "images", {"batch": (1, 20)}, (x,), (("logits", linear(w, "fc", h, 5)),), w.table, {"image": InputSpec()}
    )
