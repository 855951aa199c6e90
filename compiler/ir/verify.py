"""The verifier: what holds for every graph between two passes, as two tables of checks.

A check gives None, or what is wrong. That a graph has no cycle needs no check: a node's operands exist before it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from .dims import Dim, DimExpr, Sym, bounds, symbols
from .graph import Graph, Node, OpError
from .ops.argsort import Argsort
from .ops.leaf import Constant, Input, WeightRef
from .ops.slice import Slice
from .printer import print_node
from .types import DTYPES, REDUCED, TensorType, numpy_dtype


class VerifyError(Exception):
    """A graph that is not well formed; the message names the stage, the check and the line of the node."""


def verify(graph: Graph, stage: str = "graph") -> Graph:
    """graph, if every check of both tables holds; else raises VerifyError. `stage` says in messages who made it."""
    for what, check in GRAPH_CHECKS:
        message = check(graph)
        if message is not None:
            raise VerifyError(f"after {stage}: {what}: {message} (graph {graph.name})")
    for node in graph.nodes():
        for what, check in NODE_CHECKS:
            message = check(graph, node)
            if message is not None:
                raise VerifyError(f"after {stage}: {what}: {message}\n  {_line(graph, node)}")
    return graph


def _line(graph: Graph, node: Node) -> str:
    try:
        return print_node(graph, node)
    except (TypeError, KeyError):  # an attribute or dtype that cannot be printed is what some check is about
        return f"{node.type!r} = {node.op!r}"


def _outputs_named(graph: Graph) -> str | None:
    names = [name for name, _ in graph.outputs]
    if not names:
        return "there is no output"
    if len(set(names)) != len(names) or "" in names:
        return f"outputs {names} need a name each, all different"
    return None


def _inputs_named(graph: Graph) -> str | None:
    names: list[str] = []
    for node in graph.inputs:
        if not isinstance(node.op, Input):
            return f"{node.op.name} stands among the inputs"
        names.append(node.op.input)
    if len(set(names)) != len(names) or "" in names:
        return f"inputs {names} need a name each, all different"
    return None


def _specs_known(graph: Graph) -> str | None:
    names = {node.op.input for node in graph.inputs if isinstance(node.op, Input)}
    unknown = sorted(set(graph.input_specs) - names)
    return f"there is no input {', '.join(unknown)}" if unknown else None


def _bounds_ordered(graph: Graph) -> str | None:
    for name, (low, high) in graph.dims.items():
        if not 0 <= low <= high:
            return f"{name} has bounds {low}..{high}"
    return None


def _special_dims_known(graph: Graph) -> str | None:
    for name in (graph.batch_dim, graph.length_dim):
        if name is not None and name not in graph.dims:
            return f"{name} is not among the dimensions {', '.join(graph.dims) or '(none)'}"
    return None


def _symbols_given(graph: Graph) -> str | None:
    """Every symbol is a dimension of some input by itself, so that shapes of inputs say its value."""
    plain = {
        dim.terms[0][0][0].name
        for node in graph.inputs
        for dim in node.type.shape
        if isinstance(dim, DimExpr) and len(dim.terms) == 1 and dim.terms[0][1] == 1 and len(dim.terms[0][0]) == 1
        if isinstance(dim.terms[0][0][0], Sym)
    }
    free = sorted(set(graph.dims) - plain)
    return f"no input has {', '.join(free)} as a dimension" if free else None


def _input_listed(graph: Graph, node: Node) -> str | None:
    if isinstance(node.op, Input) and node not in graph.inputs:
        return "this input is not among the graph's"
    return None


def _attributes_plain(graph: Graph, node: Node) -> str | None:
    for field in dataclasses.fields(node.op):
        value = getattr(node.op, field.name)
        if not _plain(value):
            return f"attribute {field.name} is {type(value).__name__} {value!r}"
    return None


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in cast("tuple[Any, ...]", value))
    return value is None or type(value) in (bool, int, float, str, DimExpr, TensorType)


def _dtype_known(graph: Graph, node: Node) -> str | None:
    return None if node.type.dtype in (*DTYPES, *REDUCED) else f"dtype {node.type.dtype!r}"


def _symbols_bounded(graph: Graph, node: Node) -> str | None:
    for dim in (*node.type.shape, *_dims_of(node)):
        free = sorted(symbols(dim) - set(graph.dims))
        if free:
            return f"dimension {dim} has no bounds for {', '.join(free)}"
    return None


def _dims_of(node: Node) -> list[Dim]:
    found: list[Dim] = []
    for field in dataclasses.fields(node.op):
        value = getattr(node.op, field.name)
        several = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        found += [v for v in several if isinstance(v, DimExpr)]
    return found


def _types_infer(graph: Graph, node: Node) -> str | None:
    try:
        inferred = node.op.infer(*(o.type for o in node.operands))
    except OpError as error:
        return str(error)
    return None if inferred == node.type else f"the op gives {inferred}"


def _weight_fits(graph: Graph, node: Node) -> str | None:
    if not isinstance(node.op, WeightRef):
        return None
    weight = graph.weights.get(node.op.weight)
    if weight is None:
        return "there is no such weight"
    return None if weight.type == node.type else f"the weight is {weight.type}"


def _constant_fits(graph: Graph, node: Node) -> str | None:
    if not isinstance(node.op, Constant):
        return None
    value, dtype = node.op.value, node.op.dtype
    if dtype == "float32":
        return None if isinstance(value, float) else f"{value!r} is no float"
    if dtype == "bool":
        return None if isinstance(value, bool) else f"{value!r} is no bool"
    limit = np.iinfo(numpy_dtype(dtype))
    fits = type(value) is int and limit.min <= value <= limit.max
    return None if fits else f"{value!r} does not fit {dtype}"


def _shape_possible(graph: Graph, node: Node) -> str | None:
    for dim in node.type.shape:
        low = _exact_low(dim, graph)
        if low is not None and low < 0:
            return f"dimension {dim} can be {low}"
    return None


def _slice_inside(graph: Graph, node: Node) -> str | None:
    if not isinstance(node.op, Slice):
        return None
    op, extent = node.op, node.operands[0].type.shape[node.op.axis]
    for what, room in (
        ("its start below 0", op.start),
        ("its stop before its start", op.stop - op.start),
        (f"its stop beyond the extent {extent}", extent - op.stop),
    ):
        low = _exact_low(room, graph)
        if low is not None and low < 0:
            return f"{op.start}:{op.stop} can have {what}, by {-low}"
    return None


def _argsort_inside(graph: Graph, node: Node) -> str | None:
    if not isinstance(node.op, Argsort):
        return None
    extent = node.operands[0].type.shape[node.op.axis]
    low = _exact_low(extent - node.op.count, graph)
    return f"the first {node.op.count} can be more than the extent {extent}" if low is not None and low < 0 else None


def _exact_low(dim: Dim, graph: Graph) -> int | None:
    """The least value of dim where it is affine in its symbols (there the interval is exact), else None."""
    if isinstance(dim, int):
        return dim
    affine = all(len(m) <= 1 and all(isinstance(a, Sym) for a in m) for m, _ in dim.terms)
    return bounds(dim, graph.dims)[0] if affine else None


GRAPH_CHECKS: tuple[tuple[str, Callable[[Graph], str | None]], ...] = (
    ("outputs are named", _outputs_named),
    ("inputs are named", _inputs_named),
    ("input specs name inputs", _specs_known),
    ("bounds are ordered", _bounds_ordered),
    ("batch and length are dimensions", _special_dims_known),
    ("inputs give every symbol", _symbols_given),
)

NODE_CHECKS: tuple[tuple[str, Callable[[Graph, Node], str | None]], ...] = (
    ("inputs are listed", _input_listed),
    ("attributes are plain values", _attributes_plain),
    ("dtypes are known", _dtype_known),
    ("symbols are bounded", _symbols_bounded),
    ("types infer", _types_infer),
    ("weights exist and fit", _weight_fits),
    ("constants fit their dtype", _constant_fits),
    ("dimensions are not negative", _shape_possible),
    ("slices are inside", _slice_inside),
    ("sorted axes have as many", _argsort_inside),
)
