"""Graph to Plan."""

from __future__ import annotations

from ..errors import InfcError
from ..ir.graph import Graph, Node, users
from ..ir.ops.quantize import Quantize
from ..passes.placement import Place, Placement
from .allocate import Allocation
from .plan import Also, Plan, Step, Unit
from .units import group_units, quantized_norms
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
    readers = users(graph)
    for _, node in graph.outputs:
        readers[node].append(node)
    built: list[Unit] = []
    index = 0
    for unit in units:
        steps: list[Step] = []
        pairs = quantized_norms(unit.nodes) if unit.chain else {}
        for node in unit.nodes:
            if node in pairs.values():
                continue
            refs = tuple(allocation.ref(operand) for operand in node.operands)
            flops = node.op.flops(node.type, *(o.type for o in node.operands))
            name = node.origin.name or node.op.name
            source = node.origin.source
            also = _also(pairs[node], allocation, unread=readers[node] == [pairs[node]]) if node in pairs else None
            steps.append(Step(index, name, node.op, refs, allocation.ref(node), flops, source, also))
            index += 1
        built.append(Unit(unit.island, tuple(steps), unit.reason, unit.rows or ()))
    inputs = tuple(allocation.ref(node) for node in graph.inputs)
    outputs = tuple((name, allocation.ref(node)) for name, node in graph.outputs)
    defaults = {i: allocation.home[node] for i, node in enumerate(graph.inputs) if inputs[i].where == "input"}
    return Plan(graph, placement, order, tuple(allocation.slots), inputs, outputs, tuple(built), defaults)


def _also(node: Node, allocation: Allocation, *, unread: bool) -> Also:
    """The quantize node as the second result of the norm before it."""
    assert isinstance(node.op, Quantize)
    smooth = allocation.ref(node.operands[1]) if node.op.smooth else None
    return Also(node.op, allocation.ref(node), smooth, keep=not unread)


def _symbol_order(graph: Graph) -> tuple[str, ...]:
    first = [s for s in (graph.batch_dim, graph.length_dim) if s is not None and s in graph.dims]
    return (*first, *sorted(set(graph.dims) - set(first)))
