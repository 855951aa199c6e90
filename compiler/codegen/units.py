"""Units: which nodes are computed together, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import Exit, InfcError
from ..ir.dims import Dim
from ..ir.graph import Graph, Node
from ..ir.ops.layer_norm import LayerNorm
from ..ir.ops.quantize import Quantize
from ..ir.ops.rms_norm import RmsNorm
from ..passes.placement import Place, Placement
from .chains import chain_lead, joins
from .views import View, is_leaf


@dataclass(frozen=True)
class Group:
    """Nodes computed as one unit: an island, a chain (see chains.py), or one node."""

    island: bool
    nodes: tuple[Node, ...]
    reason: str = ""
    rows: tuple[Dim, ...] | None = None
    """The leading axes that number the rows of a chain, or of a node that could begin one."""

    @property
    def chain(self) -> bool:
        return not self.island and len(self.nodes) > 1


def quantized_norms(nodes: Sequence[Node]) -> dict[Node, Node]:
    """The norms among a chain's nodes that the next node quantizes, with that node: one step writes both values."""
    return {
        norm: node
        for norm, node in pairwise(nodes)
        if isinstance(norm.op, LayerNorm | RmsNorm) and isinstance(node.op, Quantize) and node.operands[0] is norm
    }


def group_units(graph: Graph, placement: Placement, views: Mapping[Node, View]) -> list[Group]:
    """Units in an order in which each finds its operands: islands as grouped by the analysis, chains as long as they can
    be, other nodes one by one. What is the same for every request comes first, so that it cuts no chain in two."""
    nodes = [n for n in graph.nodes() if not is_leaf(n)]
    position = {node: i for i, node in enumerate(graph.nodes())}
    groups: list[Group] = []
    in_island: set[Node] = set()
    for island in placement.islands:
        members = tuple(n for n in island if not is_leaf(n))
        in_island.update(members)
        reasons = {placement.reasons.get(n, "") for n in members} - {""}
        groups.append(Group(True, members, "; ".join(sorted(reasons))))
    groups += [Group(False, (n,)) for n in nodes if n not in in_island]
    writer: dict[Node, int] = {}
    for g, group in enumerate(groups):
        for node in group.nodes:
            if placement.place[node] is not Place.LOCAL:
                writer[node] = g
    waits: list[set[int]] = []
    for g, group in enumerate(groups):
        inside = set(group.nodes)
        needed = {writer[o] for n in group.nodes for o in n.operands if o not in inside and o in writer}
        waits.append(needed - {g})
    done: set[int] = set()
    ordered: list[Group] = []
    order = [
        (
            any(placement.place[n] not in (Place.SHARED, Place.PREFIX) for n in group.nodes),
            max((position[n] for n in group.nodes), default=0),
            min((position[n] for n in group.nodes), default=0),
        )
        for group in groups
    ]
    while len(done) < len(groups):
        ready = [g for g in range(len(groups)) if g not in done and waits[g] <= done]
        if not ready:
            raise InfcError("the graph's islands wait for one another", exit_code=Exit.INTERNAL)
        chosen = min(ready, key=lambda g: order[g])
        done.add(chosen)
        kept = tuple(n for n in groups[chosen].nodes if n not in views)
        if kept:
            ordered.append(replace(groups[chosen], nodes=kept))
    return _chained(ordered, placement, views)


def _chained(groups: list[Group], placement: Placement, views: Mapping[Node, View]) -> list[Group]:
    """Consecutive single nodes that can form a chain, as one group."""
    stored = {node: view.source for node, view in views.items()}
    place = placement.place
    chained: list[Group] = []
    for group in groups:
        if group.island or len(group.nodes) != 1:
            chained.append(group)
            continue
        (node,) = group.nodes
        before = chained[-1] if chained else None
        if before is not None and before.rows is not None and joins(node, before.nodes, before.rows, place, stored):
            chained[-1] = replace(before, nodes=(*before.nodes, node))
        else:
            chained.append(replace(group, rows=chain_lead(node, place)))
    return chained
