"""Pooling and what stands behind it: appended to a graph of hidden states, and in NumPy for the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dsl.spec import Pooling
from ...runtime.texts import PARTIAL
from ..ir.graph import Array, Graph, InputSpec, Node, Origin, make
from ..ir.ops import known
from ..ir.ops.leaf import Input, constant, input_node
from ..ir.types import TensorType
from .stages import Stage, append_stages, apply_stages, check_stages

LEAST = 1e-9
"""The least sum of weights that sentence-transformers divides by."""


def append_pooling(
    graph: Graph,
    poolings: Sequence[Pooling],
    stages: Sequence[Stage],
    *,
    partial: bool = False,
    source: str = "model",
    nan_allowed: bool = False,
) -> Graph:
    """graph with its one output [batch, tokens, H] turned into `embedding`, float32 [batch, width]: the poolings side by side,
    and the stages behind them. Its mask is the input that is marked as one, and with `partial` a new input PARTIAL int64
    [batch, tokens] as well. Rows of which nothing is kept give zeros, and under cls the first token.

    Raises FrontendError, which begins with `source`, where a stage does not fit.
    """
    ((_, hidden),) = graph.outputs
    masks = {name for name, spec in graph.input_specs.items() if spec.mask}
    mask_input = next(n for n in graph.inputs if isinstance(n.op, Input) and n.op.input in masks)
    origin = Origin("pooling")
    whole = kept = _op(origin, "cast", mask_input, dtype="bool")
    if partial:
        more = input_node(PARTIAL, TensorType("int64", mask_input.type.shape), origin)
        specs = {**graph.input_specs, PARTIAL: InputSpec(1, 0, 1)}
        graph = graph.replace(inputs=(*graph.inputs, more), input_specs=specs)
        kept = _op(origin, "map", whole, _op(origin, "cast", more, dtype="bool"), fn="and")
    found = [_pooled(pooling, hidden, kept, whole, partial) for pooling in poolings]
    out = found[0] if len(found) == 1 else _op(origin, "concat", *found, axis=1)
    check_stages(stages, out.type.shape[1], source, nan_allowed=nan_allowed)
    graph, out = append_stages(graph, out, stages)
    return graph.replace(outputs=(("embedding", out),))


def _op(origin: Origin, mnemonic: str, *operands: Node, **attributes: Any) -> Node:
    return make(known()[mnemonic](**attributes), *operands, origin=origin)


def _pooled(pooling: Pooling, hidden: Node, mask: Node, whole: Node, partial: bool) -> Node:
    """One pooling of hidden [batch, tokens, H] over `mask`, bool [batch, tokens], which is `whole` but for a prompt."""
    origin = Origin(f"pooling.{pooling}")

    def op(mnemonic: str, *operands: Node, **attributes: Any) -> Node:
        return _op(origin, mnemonic, *operands, **attributes)

    batch, tokens, width = hidden.type.shape
    zero = constant(0.0, "float32", origin)
    if pooling in ("mean", "mean_sqrt"):
        mean = op("masked_mean", hidden, mask)
        if pooling == "mean":
            return mean
        count = op("reduce", op("cast", mask, dtype="float32"), kind="sum", axes=(1,), keepdims=True)
        return op("map", mean, op("map", count, fn="sqrt"), fn="mul")
    if pooling == "cls" and not partial:
        return op("reshape", op("slice", hidden, axis=1, start=0, stop=1), shape=(batch, width))
    some = op("reduce", mask, kind="any", axes=(1,), keepdims=True)
    if pooling == "max":
        per_token = op("reshape", mask, shape=(batch, tokens, 1))
        lowest = constant(float("-inf"), "float32", origin)
        top = op("reduce", op("map", per_token, hidden, lowest, fn="where"), kind="max", axes=(1,), keepdims=False)
        return op("map", some, top, zero, fn="where")
    line = op("iota", shape=(1, tokens), axis=1, start=0, step=1, dtype="int64")
    far, nothing = constant(1 << 40, "int64", origin), constant(0, "int64", origin)
    if pooling == "weighted_mean":
        # Weights count from the first token that is no padding.
        begins = op("reduce", op("map", whole, line, far, fn="where"), kind="min", axes=(1,), keepdims=True)
        place = op("map", op("map", line, begins, fn="sub"), constant(1, "int64", origin), fn="add")
        weights = op("map", mask, op("cast", place, dtype="float32"), zero, fn="where")
        total = op("reduce", weights, kind="sum", axes=(1,), keepdims=True)
        weighed = op("map", hidden, op("reshape", weights, shape=(batch, tokens, 1)), fn="mul")
        summed = op("reduce", weighed, kind="sum", axes=(1,), keepdims=False)
        return op("map", summed, op("map", total, constant(LEAST, "float32", origin), fn="max"), fn="div")
    if pooling == "cls":
        first = op("reduce", op("map", mask, line, far, fn="where"), kind="min", axes=(1,), keepdims=True)
        at = op("map", some, first, nothing, fn="where")
    else:
        at = op("reduce", op("map", mask, line, nothing, fn="where"), kind="max", axes=(1,), keepdims=True)
    index = op("expand", op("reshape", at, shape=(batch, 1, 1)), shape=(batch, 1, width))
    out = op("reshape", op("gather", hidden, index, axis=1), shape=(batch, width))
    return op("map", some, out, zero, fn="where") if pooling == "last" else out


def pool(
    hidden: Array, mask: Array, poolings: Sequence[Pooling], stages: Sequence[Stage], pooled: Array | None = None
) -> Array:
    """The same in NumPy, double precision inside: hidden [B, T, H], mask [B, T], of a `partial` one also pooled [B, T] ->
    [B, width] float32."""
    x: Array = hidden.astype(np.float64)
    whole: Array = mask.astype(bool)
    kept: Array = whole if pooled is None else whole & pooled.astype(bool)
    found = [_pool(pooling, x, kept, whole) for pooling in poolings]
    return apply_stages(np.concatenate(found, axis=1), stages).astype(np.float32)


def _pool(pooling: Pooling, x: Array, kept: Array, whole: Array) -> Array:
    rows: Array = np.arange(len(x), dtype=np.int64)
    places: Array = np.arange(int(x.shape[1]), dtype=np.int64).reshape(1, -1)
    some: Any = np.max(kept, axis=1, keepdims=True)
    if pooling == "cls":
        # Where nothing is a prompt's the first token, whether it is padding or not.
        return x[:, 0] if kept is whole else x[rows, kept.argmax(axis=1)]
    if pooling == "max":
        top: Array = np.max(np.where(kept[:, :, None], x, -np.inf), axis=1)
        return np.where(some, top, 0.0)
    if pooling == "last":
        last: Array = np.max(kept * places, axis=1)
        return np.where(some, x[rows, last], 0.0)
    weights = kept.astype(np.float64)
    if pooling == "weighted_mean":
        weights = kept * (places - whole.argmax(axis=1)[:, None] + 1.0)
    total: Array = weights.sum(axis=1, keepdims=True)
    summed: Array = (x * weights[:, :, None]).sum(axis=1)
    return summed / (np.sqrt(np.maximum(total, LEAST)) if pooling == "mean_sqrt" else np.maximum(total, LEAST))
