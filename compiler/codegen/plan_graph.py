"""Graph to Plan."""

from __future__ import annotations

from ..errors import InfcError
from ..ir.graph import Graph
from ..passes.placement import Place, Placement
from .allocate import Allocation
from .plan import Plan, Step, Unit
from .units import group_units
from .views import find_views


def plan_graph(graph: Graph, placement: Placement) -> Plan:
    """Lowers graph to a plan. Raises InfcError for an output that has no rows, naming it."""
    order = _symbol_order(graph)
    for name, node in graph.outputs:
        if placement.place[node] in (Place.SHARED, Place.PREFIX):
            raise InfcError(
                f"output '{name}' is the same for every request: it has no batch dimension",
                hint="leave it out of the model's outputs, or let it depend on an input",
            )
    views = find_views(graph, placement)
    units = group_units(graph, placement, views)
    allocation = Allocation(graph, placement, views)
    allocation.allocate(units)
    built: list[Unit] = []
    index = 0
    for unit in units:
        steps: list[Step] = []
        for node in unit.nodes:
            refs = tuple(allocation.ref(operand) for operand in node.operands)
            flops = node.op.flops(node.type, *(o.type for o in node.operands))
            name = node.origin.name or node.op.name
            source = node.origin.source
            steps.append(Step(index, name, node.op, refs, allocation.ref(node), flops, source))
            index += 1
        built.append(Unit(unit.island, tuple(steps), unit.reason, unit.rows or ()))
    inputs = tuple(allocation.ref(node) for node in graph.inputs)
    outputs = tuple((name, allocation.ref(node)) for name, node in graph.outputs)
    defaults = {i: allocation.home[node] for i, node in enumerate(graph.inputs) if inputs[i].where == "input"}
    return Plan(graph, placement, order, tuple(allocation.slots), inputs, outputs, tuple(built), defaults)


def _symbol_order(graph: Graph) -> tuple[str, ...]:
    first = [s for s in (graph.batch_dim, graph.length_dim) if s is not None and s in graph.dims]
    return (*first, *sorted(set(graph.dims) - set(first)))
