"""Pooling and normalization: appended to a graph of hidden states, and in NumPy for the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dsl.spec import Pooling
from ...runtime.texts import PARTIAL
from ..ir.graph import Array, Graph, InputSpec, Node, Origin, make
from ..ir.ops import known
from ..ir.ops.l2_normalize import L2Normalize
from ..ir.ops.leaf import Input, constant, input_node
from ..ir.types import TensorType

EPS = 1e-12
"""torch.nn.functional.normalize's least norm."""


def append_pooling(graph: Graph, pooling: Pooling, normalize: bool, partial: bool = False) -> Graph:
    """graph with its one output [batch, tokens, H] turned into `embedding` [batch, H]; its mask is the input that is
    marked as one, and with `partial` a new input PARTIAL int64 [batch, tokens] as well. Rows of which nothing is kept give
    zeros under mean, max and last, and the first token under cls."""
    ((_, hidden),) = graph.outputs
    origin = Origin(f"pooling.{pooling}")
    masks = {name for name, spec in graph.input_specs.items() if spec.mask}
    mask_input = next(n for n in graph.inputs if isinstance(n.op, Input) and n.op.input in masks)

    def op(mnemonic: str, *operands: Node, **attributes: Any) -> Node:
        return make(known()[mnemonic](**attributes), *operands, origin=origin)

    mask = op("cast", mask_input, dtype="bool")
    if partial:
        more = input_node(PARTIAL, TensorType("int64", mask_input.type.shape), origin)
        specs = {**graph.input_specs, PARTIAL: InputSpec(1, 0, 1)}
        graph = graph.replace(inputs=(*graph.inputs, more), input_specs=specs)
        mask = op("map", mask, op("cast", more, dtype="bool"), fn="and")
    batch, tokens, width = hidden.type.shape
    zero = constant(0.0, "float32", origin)
    if pooling == "mean":
        out = op("masked_mean", hidden, mask)
    elif pooling == "cls" and not partial:
        out = op("reshape", op("slice", hidden, axis=1, start=0, stop=1), shape=(batch, width))
    elif pooling == "max":
        per_token = op("reshape", mask, shape=(batch, tokens, 1))
        lowest = constant(float("-inf"), "float32", origin)
        top = op("reduce", op("map", per_token, hidden, lowest, fn="where"), kind="max", axes=(1,), keepdims=False)
        some = op("reduce", mask, kind="any", axes=(1,), keepdims=True)
        out = op("map", some, top, zero, fn="where")
    else:
        line = op("iota", shape=(1, tokens), axis=1, start=0, step=1, dtype="int64")
        some = op("reduce", mask, kind="any", axes=(1,), keepdims=True)
        nothing = constant(0, "int64", origin)
        if pooling == "cls":
            kept = op("map", mask, line, constant(1 << 40, "int64", origin), fn="where")
            first = op("reduce", kept, kind="min", axes=(1,), keepdims=True)
            at = op("map", some, first, nothing, fn="where")
        else:
            at = op("reduce", op("map", mask, line, nothing, fn="where"), kind="max", axes=(1,), keepdims=True)
        index = op("expand", op("reshape", at, shape=(batch, 1, 1)), shape=(batch, 1, width))
        out = op("reshape", op("gather", hidden, index, axis=1), shape=(batch, width))
        if pooling == "last":
            out = op("map", some, out, zero, fn="where")
    if normalize:
        out = make(L2Normalize(eps=EPS), out, origin=Origin("normalize"))
    return graph.replace(outputs=(("embedding", out),))


def pool(hidden: Array, mask: Array, pooling: Pooling, normalize: bool, pooled: Array | None = None) -> Array:
    """The same in NumPy, double precision inside: hidden [B, T, H], mask [B, T], of a `partial` one also pooled [B, T] ->
    [B, H] float32."""
    x: Array = hidden.astype(np.float64)
    kept: Array = mask.astype(bool) if pooled is None else mask.astype(bool) & pooled.astype(bool)
    if pooling == "mean":
        weights = kept[:, :, None].astype(np.float64)
        out = (x * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    elif pooling == "cls":
        out = x[:, 0] if pooled is None else x[np.arange(x.shape[0]), kept.argmax(axis=1)]
    elif pooling == "max":
        top: Array = np.max(np.where(kept[:, :, None], x, -np.inf), axis=1)
        some: Any = np.max(kept, axis=1, keepdims=True)
        out: Any = np.where(some, top, 0.0)
    else:
        places: Array = np.arange(int(x.shape[1]), dtype=np.int64).reshape(1, -1)
        last: Array = np.max(kept * places, axis=1)
        picked: Any = x[np.arange(x.shape[0]), last]
        some = np.max(kept, axis=1, keepdims=True)
        out = np.where(some, picked, 0.0)
    if normalize:
        out = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), EPS)
    return out.astype(np.float32)
