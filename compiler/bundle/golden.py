"""golden.json: inputs made from a seed and the answers of the reference model, asked before a server says it is ready."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.dims import evaluate
from ..ir.graph import Graph, InputSpec
from ..ir.interpret import run
from ..ir.ops.leaf import Input
from ..ir.types import numpy_dtype

FORMAT = 1
SEED = 20261
TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2, "int8": 5e-2}
"""Of a golden answer, relative to max(1, its largest value): far above rounding, far below any fault."""

Arrays = Mapping[str, NDArray[Any]]


def random_inputs(graph: Graph, sizes: Mapping[str, int], seed: int = SEED) -> dict[str, NDArray[Any]]:
    """Valid inputs of the given sizes: ids within their range, floats from a normal distribution cut to their range; a mask
    is ones."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for node in graph.inputs:
        assert isinstance(node.op, Input)
        spec = graph.input_specs.get(node.op.input, InputSpec())
        shape = tuple(evaluate(d, sizes) for d in node.type.shape)
        dtype = numpy_dtype(node.type.dtype)
        if spec.mask:
            made[node.op.input] = np.ones(shape, dtype)
        elif node.type.dtype == "float32":
            values = rng.standard_normal(shape).astype(np.float32)
            if spec.minimum is not None and spec.maximum is not None:
                values = rng.uniform(spec.minimum, spec.maximum, shape).astype(np.float32)
                values = np.clip(values, np.float32(spec.minimum), np.float32(spec.maximum))
            made[node.op.input] = values
        elif node.type.dtype == "bool":
            made[node.op.input] = rng.integers(0, 2, shape).astype(np.bool_)
        else:
            low = int(spec.minimum if spec.minimum is not None else 0)
            high = int(spec.maximum if spec.maximum is not None else low + 1)
            made[node.op.input] = rng.integers(low, high + 1, shape).astype(dtype)
    return made


def settled(graph: Graph, inputs: Arrays, answers: Arrays) -> dict[str, NDArray[Any]]:
    """`answers` of the source framework; where one is NaN, what graph says: for a query that sees no key torch gives NaN in
    a softmax that was written out and zeros in scaled_dot_product_attention, and we give zeros however it was written."""
    missing = [name for name, a in answers.items() if a.dtype.kind == "f" and np.isnan(a).any()]
    if not missing:
        return dict(answers)
    ours = run(graph, dict(inputs), double=True)
    found = {n: np.where(np.isnan(answers[n]), ours[n], answers[n]).astype(answers[n].dtype) for n in missing}
    return {**answers, **found}


def golden_sizes(graph: Graph) -> list[dict[str, int]]:
    """Sizes asked: two small ones within the bounds of every dimension."""
    small = {name: min(max(low, 2), high) for name, (low, high) in graph.dims.items()}
    middle = {
        name: min(max(low, 3 if name == graph.batch_dim else 13), high) for name, (low, high) in graph.dims.items()
    }
    return [small] if small == middle else [small, middle]


def golden(graph: Graph, reference: Callable[[Arrays], Arrays], precision: str = "float32") -> str:
    """The text of golden.json; `reference` answers one request, as exactly as `precision` can."""
    cases: list[dict[str, object]] = []
    for sizes in golden_sizes(graph):
        inputs = random_inputs(graph, sizes)
        outputs = reference(inputs)
        cases.append(
            {"inputs": _encode(inputs), "outputs": _encode({name: outputs[name] for name, _ in graph.outputs})}
        )
    document = {"format": FORMAT, "cases": cases, "max_abs_error": TOLERANCES[precision], "sha256": None}
    return json.dumps(document, sort_keys=True, indent=1) + "\n"


def _encode(arrays: Arrays) -> dict[str, object]:
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "data": base64.b64encode(
                np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            ).decode(),
        }
        for name, array in arrays.items()
    }


def decode(document: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of one case's inputs or outputs."""
    return {
        name: np.frombuffer(base64.b64decode(item["data"]), item["dtype"]).reshape(item["shape"])
        for name, item in document.items()
    }
