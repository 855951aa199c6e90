"""`infc compare`: a model layer by layer, to the first value that differs.

    source framework  --layers, outputs-->  imported graph  --outputs-->  optimized graph  --every value-->  compiled code

The graphs run in the reference interpreter in double precision; the compiled code is built once more with every value
that has rows as an output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime import Model
from .bundle.golden import TOLERANCES, golden_sizes, random_inputs, settled
from .codegen.plan_graph import plan_graph
from .driver import Machine
from .errors import InfcError
from .frontends import Imported
from .ir.graph import Array, Graph, Node
from .ir.interpret import run as interpret
from .ir.ops.leaf import Constant, Input, WeightRef
from .ir.printer import number_nodes
from .passes.placement import Place
from .passes.ragged import analyse

TOLERANCE = 1e-4
"""Largest difference that counts as equal, relative to max(1, the largest value)."""


@dataclass(frozen=True)
class Difference:
    """How far one value is from the stage before: `error` is relative to max(1, its largest value)."""

    stage: str
    name: str
    op: str
    shape: tuple[int, ...]
    error: float

    @property
    def differs(self) -> bool:
        """NaN differs."""
        return not self.error <= TOLERANCE


def difference(stage: str, name: str, op: str, got: Array, want: Array) -> Difference:
    """Compares two values of one shape; infinities and NaN must stand in the same places."""
    if got.shape != want.shape:
        return Difference(stage, name, op, got.shape, float("nan"))
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return Difference(stage, name, op, got.shape, float("nan"))
    scale = max(1.0, float(np.abs(b[finite]).max(initial=0.0)))
    return Difference(stage, name, op, got.shape, float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / scale)


def compare_stages(imported: Imported, optimized: Graph, machine: Machine, work: Path) -> list[Difference]:
    """Every comparison, in the order in which values are computed; inputs are random, of the golden answers' sizes."""
    sizes = golden_sizes(imported.graph)[-1]
    inputs = random_inputs(imported.graph, sizes)
    source = settled(optimized, inputs, imported.reference(inputs))
    found = compare_layers(imported, inputs)
    first = settled(optimized, inputs, interpret(imported.graph, inputs, double=True))
    found += [difference("import", name, "output", first[name], source[name]) for name, _ in imported.graph.outputs]
    second = interpret(optimized, inputs, double=True)
    found += [difference("passes", name, "output", second[name], first[name]) for name, _ in optimized.outputs]
    return found + compare_compiled(optimized, machine, inputs, work)


def compare_layers(imported: Imported, inputs: Mapping[str, Array]) -> list[Difference]:
    """Each layer of the source's model against the last value of the imported graph that comes from it, in the graph's
    order. A layer whose output the graph holds in another shape is not compared."""
    if imported.layers is None:
        return []
    values = imported.layers(inputs)
    last = {node.origin.name: node for node in imported.graph.nodes() if node.origin.name in values}
    names = number_nodes(imported.graph)
    ours = interpret(imported.graph, dict(inputs), double=True, keep=tuple(last.values()))
    found: list[Difference] = []
    for name, node in last.items():
        got, want = ours[names[node]], values[name]
        if got.shape == want.shape:
            # NaN is a query without keys; its way to the outputs is compared there
            want = np.where(np.isnan(want), got, want) if want.dtype.kind == "f" else want
            found.append(difference("layer", name, node.op.name, got, want))
    return found


def first_difference(imported: Imported, machine: Machine, work: Path) -> Difference | None:
    """The first value of a compiled float32 model that is not what it should be, for inputs of the golden answers."""
    for sizes in golden_sizes(imported.graph):
        inputs = random_inputs(imported.graph, sizes)
        source = settled(imported.graph, inputs, imported.reference(inputs))
        ours = interpret(imported.graph, inputs, double=True)
        found = compare_layers(imported, inputs)
        found += [difference("graph", name, "output", ours[name], source[name]) for name, _ in imported.graph.outputs]
        found += compare_compiled(imported.graph, machine, inputs, work)
        if (first := next((d for d in found if d.differs), None)) is not None:
            return first
    return None


def check_smallest(imported: Imported) -> None:
    """Compares the imported graph with the source where dimensions are one, each alone and all at once: torch.export traces for
    sizes of two and more, so that a branch for one is left out. Raises InfcError that names the sizes."""
    bounds = imported.graph.dims
    ones = [name for name, (low, high) in bounds.items() if low == 1 < high]
    usual = golden_sizes(imported.graph)[-1]
    for chosen in dict.fromkeys((*((name,) for name in ones), tuple(ones))) if ones else ():
        sizes = usual | dict.fromkeys(chosen, 1)
        said = " and ".join(f"{name} = 1" for name in chosen)
        begins = ", ".join(f"`dim {name} in 2..{bounds[name][1]}`" for name in chosen)
        inputs = random_inputs(imported.graph, sizes)
        try:
            answers = imported.reference(inputs)
        except InfcError as error:
            raise InfcError(f"the model fails for {said}: {error.message}", hint=f"write {begins}") from None
        source = settled(imported.graph, inputs, answers)
        ours = interpret(imported.graph, dict(inputs))
        for name, _ in imported.graph.outputs:
            found = difference("import", name, "output", ours[name], source[name])
            if not found.error <= TOLERANCES["float32"]:
                raise InfcError(
                    f"the model computes something else for {said} than for larger sizes: output {name!r} differs by "
                    f"{found.error:.2g}, since it decides by sizes and is traced once for all of them",
                    hint=f"write {begins}, or decide by values",
                )


def compare_compiled(graph: Graph, machine: Machine, inputs: Mapping[str, Array], work: Path) -> list[Difference]:
    """Every value of the compiled graph that has rows, against the interpreter."""
    watched = watch(graph)
    plan = plan_graph(watched, analyse(watched))
    built = machine.target.compile(machine.target.render(plan, machine.variant), machine.variant, work, 2)
    want = interpret(watched, dict(inputs), double=True)
    with Model(built.library, built.weights, machine.cores) as model:
        got = model.run(inputs)
    names = {name: node for name, node in watched.outputs}
    return [
        difference("compiled", _shown(node, name), node.op.name, got[name], want[name]) for name, node in names.items()
    ]


def watch(graph: Graph) -> Graph:
    """graph with every computed value that has rows as an output, in order of execution; its own outputs come last."""
    place = analyse(graph).place
    outputs = {node for _, node in graph.outputs}
    watched = [
        (f"value{number}", node)
        for number, node in enumerate(graph.nodes())
        if not isinstance(node.op, Input | WeightRef | Constant)
        and node not in outputs
        and place[node] not in (Place.SHARED, Place.PREFIX)
        and node.type.rank > 0
    ]
    return graph.replace(outputs=(*watched, *graph.outputs))


def _shown(node: Node, name: str) -> str:
    return node.origin.name or name
