"""The reference interpreter: a graph in NumPy. It is the definition of what a model computes.

Generated code is compared with it, and it with torch. With `double` all float32 arithmetic is done in float64: the
distance between the two says how large an error float32 itself explains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .dims import DimExpr, Sym, evaluate
from .evaluate import evaluate_loop
from .graph import Array, Graph, InputSpec, Node, as_array
from .ops.leaf import Input, WeightRef
from .printer import number_nodes
from .types import TensorType, is_float, numpy_dtype


class InputError(Exception):
    """What was given does not fit the graph's inputs; the message names the input."""


def run(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    double: bool = False,
    keep: Collection[Node] = (),
    loops: bool = False,
) -> dict[str, Array]:
    """The outputs of graph by name, and nodes of `keep` under their printed numbers (`%7`).

    inputs: arrays by input name, of the input's dtype (float32 inputs may be float64 with `double`) and shape; one left
    out takes its default. Symbols are bound from the shapes. With `loops` an op that has a loop form is evaluated by
    it. Raises InputError for inputs that do not fit, OpError from shape rules never (types are inferred before).
    """
    env = bind(graph, inputs)
    nodes = graph.nodes()
    last = {operand: node for node in nodes for operand in node.operands}
    wanted = {node for _, node in graph.outputs} | set(keep)
    values: dict[Node, Array] = {}
    for node in nodes:
        operands = tuple(values[o] for o in node.operands)
        values[node] = _result(graph, node, inputs, env, operands, double=double, loops=loops)
        for operand in set(node.operands):
            if last[operand] is node and operand not in wanted:
                del values[operand]
    names = number_nodes(graph)
    kept = {names[node]: values[node] for node in keep}
    return {**kept, **{name: values[node] for name, node in graph.outputs}}


def _result(
    graph: Graph,
    node: Node,
    inputs: Mapping[str, Array],
    env: Mapping[str, int],
    operands: tuple[Array, ...],
    *,
    double: bool,
    loops: bool,
) -> Array:
    """One node's array, its shape and dtype checked against its type."""
    op = node.op
    if isinstance(op, Input):
        value = _input(graph, op.input, node.type, inputs, env)
    elif isinstance(op, WeightRef):
        value = graph.weights[op.weight].load()
    else:
        loop = op.loop(node.type, *(o.type for o in node.operands)) if loops else None
        value = op.reference(env, *operands) if loop is None else evaluate_loop(loop, env, operands)
    dtype = np.dtype(np.float64) if double and is_float(node.type.dtype) else numpy_dtype(node.type.dtype)
    value = np.asarray(value)
    shape = tuple(evaluate(d, env) for d in node.type.shape)
    if value.shape != shape or (value.dtype != dtype and not (double and value.dtype == np.float32)):
        raise AssertionError(
            f"{op.name} gave {value.dtype}{list(value.shape)} where {node.type} is {dtype}{list(shape)}"
        )
    return value.astype(dtype, copy=False)


def bind(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Each symbol's value, from the shapes of inputs. Raises InputError: unknown or missing input, wrong dtype, rank or
    dimension, a symbol with two values, without a value, or outside its bounds."""
    names = {node.op.input: node.type for node in graph.inputs if isinstance(node.op, Input)}
    unknown = sorted(set(inputs) - set(names))
    if unknown:
        raise InputError(f"no input is called {', '.join(unknown)}; the inputs are {', '.join(names)}")
    env: dict[str, int] = {}
    for name, type_ in names.items():
        if name not in inputs:
            continue
        if inputs[name].ndim != type_.rank:
            raise InputError(f"input {name}: shape {list(inputs[name].shape)} is given for {type_}")
        for dim, size in zip(type_.shape, inputs[name].shape, strict=True):
            symbol = _symbol(dim)
            if symbol is not None and env.setdefault(symbol, size) != size:
                raise InputError(f"input {name}: {symbol} is {size} here and {env[symbol]} in another input")
    for symbol, (low, high) in graph.dims.items():
        if symbol not in env:
            raise InputError(f"no given input says how long {symbol} is")
        if not low <= env[symbol] <= high:
            raise InputError(f"{symbol} is {env[symbol]}; it must be in {low}..{high}")
    return env


def _symbol(dim: Any) -> str | None:
    """The name of a dimension that is one symbol and nothing else."""
    if isinstance(dim, DimExpr) and len(dim.terms) == 1:
        (monomial, coefficient) = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Sym):
            return monomial[0].name
    return None


def _input(graph: Graph, name: str, type_: TensorType, inputs: Mapping[str, Array], env: Mapping[str, int]) -> Array:
    """The array given for an input, checked, or its default."""
    spec = graph.input_specs.get(name, InputSpec())
    shape = tuple(evaluate(d, env) for d in type_.shape)
    if name not in inputs:
        if spec.default is None:
            raise InputError(f"input {name} {type_} is missing and has no default")
        return np.broadcast_to(as_array(spec.default, type_), shape)
    value = inputs[name]
    if value.shape != shape:
        raise InputError(f"input {name}: shape {list(value.shape)} is given, {type_} is {list(shape)} here")
    if value.dtype != numpy_dtype(type_.dtype) and not (type_.dtype == "float32" and value.dtype == np.float64):
        raise InputError(f"input {name}: dtype {value.dtype} is given, it must be {type_.dtype}")
    if value.size:
        if value.dtype.kind == "f" and not spec.nan and np.isnan(value).any():
            raise InputError(f"input {name} has a NaN")
        if spec.minimum is not None and value.min() < spec.minimum:
            raise InputError(f"input {name} has {value.min()}; the least allowed is {spec.minimum}")
        if spec.maximum is not None and value.max() > spec.maximum:
            raise InputError(f"input {name} has {value.max()}; the largest allowed is {spec.maximum}")
    return value
