"""Grouping nodes that run per row into as few groups as the flat nodes between them allow.

Flat nodes and islands take turns: phase 0 flat, phase 0 islands, phase 1 flat, ... A flat node goes one phase behind the
last island that it reads; an island goes into the phase of the last flat node that it reads. All islands of a phase form
one group. That is the fewest phases, since each is forced by a path.

LOCAL values do not leave a group: where a later group needs one, what makes it is listed there again, down to values
that are stored. Light nodes may be computed twice; where a heavy one would be, the flat nodes between the two groups
become part of the island instead, which joins the groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..ir.graph import Node
from .lengths import LEAVES
from .placement import Place

HEAVY = (
    "linear",
    "matmul",
    "conv",
    "attention",
    "recurrence",
    "pool",
    "embedding",
    "softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
)
JOINED = "it lies between two islands that share work"

Groups = tuple[tuple[Node, ...], ...]


def group_islands(
    nodes: Sequence[Node], outputs: Collection[Node], place: Mapping[Node, Place], flat: dict[Node, bool]
) -> tuple[Groups, list[Node]]:
    """(groups of nodes that are not flat, flat nodes that had to join an island). `flat` is updated for the latter.
    nodes: the whole graph, operands first."""
    joined: list[Node] = []
    while True:
        phase = _phases(nodes, flat)
        groups = _groups(nodes, outputs, place, flat, phase)
        between = _between(nodes, place, flat, phase, groups)
        if not between:
            return tuple(tuple(g) for g in groups), joined
        for node in between:
            flat[node] = False
        joined += between


def _island(node: Node, flat: Mapping[Node, bool]) -> bool:
    return not flat[node] and node.op.mnemonic not in LEAVES


def _phases(nodes: Sequence[Node], flat: Mapping[Node, bool]) -> dict[Node, int]:
    phase: dict[Node, int] = {}
    for node in nodes:
        mine = _island(node, flat)
        phase[node] = max((phase[o] + (_island(o, flat) and not mine) for o in node.operands), default=0)
    return phase


def _groups(
    nodes: Sequence[Node],
    outputs: Collection[Node],
    place: Mapping[Node, Place],
    flat: Mapping[Node, bool],
    phase: Mapping[Node, int],
) -> list[list[Node]]:
    """What each phase stores, with every LOCAL node that it takes, in the graph's order."""
    order = {node: k for k, node in enumerate(nodes)}
    members: dict[int, set[Node]] = {}
    for node in nodes:
        if _island(node, flat) and (place[node] is not Place.LOCAL or node in outputs):
            members.setdefault(phase[node], set()).add(node)
    for group in members.values():
        waiting = list(group)
        while waiting:
            for operand in waiting.pop().operands:
                if operand not in group and place[operand] is Place.LOCAL and _island(operand, flat):
                    group.add(operand)
                    waiting.append(operand)
    return [sorted(members[k], key=order.__getitem__) for k in sorted(members)]


def _between(
    nodes: Sequence[Node],
    place: Mapping[Node, Place],
    flat: Mapping[Node, bool],
    phase: Mapping[Node, int],
    groups: Sequence[Sequence[Node]],
) -> list[Node]:
    """Flat nodes that keep apart two groups which would both compute a heavy LOCAL node."""
    shared: dict[Node, int] = {}
    for group in groups:
        for node in group:
            shared[node] = shared.get(node, 0) + 1
    last: dict[Node, int] = {}
    for group in groups:
        for node in group:
            own = max(phase[n] for n in group)
            last[node] = max(last.get(node, 0), own)
    heavy = [n for n in nodes if shared.get(n, 0) > 1 and n.op.mnemonic in HEAVY and place[n] is Place.LOCAL]
    found: dict[Node, None] = {}
    for node in heavy:
        for other in nodes:
            batched = place[other] in (Place.ROW, Place.TOKEN)
            if flat[other] and batched and other.op.mnemonic not in LEAVES and phase[node] < phase[other] <= last[node]:
                found[other] = None
    return list(found)
