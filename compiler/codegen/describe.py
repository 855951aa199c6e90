"""What infc_describe returns: a model's inputs, outputs, dimensions, steps and flags, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..ir.dims import Dim
from ..ir.graph import Graph, InputSpec
from ..ir.ops.embedding import Embedding
from ..ir.ops.leaf import Input
from ..ir.ops.linear import Linear
from ..ir.types import ITEM_BYTES
from .plan import Plan, Step

FORMAT = 1


def describe_inputs(graph: Graph) -> list[dict[str, object]]:
    """One object an input: name, dtype, shape (integers and symbols), default, min, max, nan, mask."""
    return [
        _describe_input(n.op.input, n.type.dtype, n.type.shape, graph) for n in graph.inputs if isinstance(n.op, Input)
    ]


def _describe_input(name: str, dtype: str, shape: tuple[Dim, ...], graph: Graph) -> dict[str, object]:
    spec: InputSpec = graph.input_specs.get(name, InputSpec())
    return {
        "name": name,
        "dtype": dtype,
        "shape": _shape(shape),
        "default": spec.default,
        "min": spec.minimum,
        "max": spec.maximum,
        "nan": spec.nan,
        **({"mask": True} if spec.mask else {}),
    }


def describe_outputs(graph: Graph) -> list[dict[str, object]]:
    """One object an output: name, dtype, shape."""
    return [{"name": name, "dtype": n.type.dtype, "shape": _shape(n.type.shape)} for name, n in graph.outputs]


def _shape(shape: tuple[Dim, ...]) -> list[int | str]:
    return [d if isinstance(d, int) else str(d) for d in shape]


def describe(plan: Plan, isa: str, providers: Mapping[int, str]) -> str:
    """The JSON text of a plan compiled for `isa`; deterministic."""
    graph, placement = plan.graph, plan.placement
    in_island = {step.index for unit in plan.units if unit.island for step in unit.steps}
    document = {
        "abi": FORMAT,
        "name": graph.name,
        "isa": isa,
        "batchable": placement.batchable,
        "batch_invariant": True,
        "batch_dim": graph.batch_dim,
        "length_dim": graph.length_dim if graph.length_dim in plan.symbols else None,
        "trim": plan.trim,
        "dims": {name: list(bound) for name, bound in graph.dims.items()},
        "inputs": describe_inputs(graph),
        "outputs": describe_outputs(graph),
        "steps": [
            {
                "name": step.name,
                "op": step.op.name,
                "provider": providers[step.index],
                "island": step.index in in_island,
                "flops": str(step.flops),
                "precision": getattr(step.op, "precision", step.operands[0].type.dtype if step.operands else "float32"),
                "weight_bytes": _weight_bytes(step),
                "bytes": str(_moved(step)),
            }
            for step in plan.steps
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _weight_bytes(step: Step) -> int:
    """Bytes of the weights that a step reads whole, as its precision packs them; of tables it reads single rows."""
    if isinstance(step.op, Embedding):
        return 0
    item = ITEM_BYTES[step.op.precision] if isinstance(step.op, Linear) else 4
    sizes = [ref.type.elements for ref in step.operands if ref.where == "weight"]
    return sum(size * (item if position == 0 else 4) for position, size in enumerate(sizes) if isinstance(size, int))


def _moved(step: Step) -> Dim:
    """Bytes of values that it reads and writes."""
    total: Dim = 0
    for ref in step.refs:
        total = total + (ref.type.bytes if ref.where != "weight" else 0)
    return total
