"""The ragged analysis: which values rows share, which are stored flat, which nodes run per row, and what is proved.

`analyse` answers, for a graph with a batch and perhaps a length dimension: may requests be merged (`rows.py`), may rows
be cut to their kept positions (`trim.py`), where does each value live (`lengths.py`), and which nodes are islands
(`islands.py`). It changes nothing in the graph.
"""

from __future__ import annotations

from ..ir.dims import sym, symbols
from ..ir.graph import Graph, Node
from ..ir.loops import Expr, Reduce, Size, children
from ..ir.ops.leaf import Input
from .dependence import dependence
from .islands import JOINED, group_islands
from .lengths import LEAVES, Lengths, place_nodes
from .placement import Place, Placement
from .rows import Carry, Mixed, carries, describe
from .trim import why_not_trim

__all__ = ["Place", "Placement", "analyse", "explain"]


def analyse(graph: Graph) -> Placement:
    """What is proved of graph. Never fails: what cannot be proved is denied, with the reason."""
    try:
        carry = _proved_carries(graph)
    except Mixed as why:
        return _whole_request(graph, str(why))
    nodes = graph.nodes()
    found = place_nodes(graph, carry, graph.length_dim)
    groups, joined = group_islands(nodes, {n for _, n in graph.outputs}, found.place, found.flat)
    reasons = found.reasons | dict.fromkeys(joined, JOINED)
    trim_reason = why_not_trim(graph, graph.length_dim)
    return _placement(graph, "", trim_reason, Lengths(found.place, found.flat, reasons), groups)


def explain(placement: Placement, graph: Graph) -> str:
    """A text for people: the two proofs, then a line per node with its place and how it is computed, then the islands."""
    number = {node: k for k, node in enumerate(n for n in graph.nodes() if n.op.mnemonic != "weight")}
    lines = [
        f"batchable: {'yes' if placement.batchable else 'no, ' + placement.batchable_reason}",
        f"trim: {'yes' if placement.trim else 'no, ' + placement.trim_reason}",
    ]
    for node, k in number.items():
        how = "flat" if placement.flat[node] else f"island: {placement.reasons.get(node, 'per row')}"
        lines.append(f"  {k:4} {placement.place[node].value:6} {describe(node)}  {how}")
    for k, group in enumerate(placement.islands):
        lines.append(f"island {k}: {', '.join(str(number[node]) for node in group)}")
    return "\n".join(lines) + "\n"


def _proved_carries(graph: Graph) -> dict[Node, Carry | None]:
    """The carry of every node. Raises Mixed where rows cannot be proved independent or cannot be told apart."""
    batch = graph.batch_dim
    if batch is None or batch not in graph.dims:
        raise Mixed("the model has no batch dimension")
    for node in graph.nodes():
        others = frozenset[str]().union(*(symbols(d) for d in node.type.shape)) - {batch, graph.length_dim}
        if others:
            raise Mixed(f"{describe(node)} has the dimension {min(others)!r}, which requests may not share")
    for node in graph.inputs:
        name = node.op.input if isinstance(node.op, Input) else ""
        _check_interface(node, f"input {name!r}", batch)
        if node.type.shape[0] != sym(batch):
            raise Mixed(f"input {name!r} {node.type} has {node.type.shape[0]} as its first dimension, not {batch!r}")
    for name, node in graph.outputs:
        _check_interface(node, f"output {name!r}", batch)
    return carries(graph, batch)


def _check_interface(node: Node, what: str, batch: str) -> None:
    shape = node.type.shape
    if not any(batch in symbols(dim) for dim in shape):
        raise Mixed(f"{what} {node.type} has no batch dimension")
    if batch not in symbols(shape[0]):
        raise Mixed(f"{what} {node.type} does not have the batch in its first dimension")


def _whole_request(graph: Graph, reason: str) -> Placement:
    """Every value that depends on the request is LOCAL, and the one island is the whole model."""
    place: dict[Node, Place] = {}
    flat: dict[Node, bool] = {}
    for node in graph.nodes():
        own = node.op.mnemonic == "input" or any(symbols(d) for d in node.type.shape) or _uses_sizes(node)
        shared = not own and all(place[o] is Place.SHARED for o in node.operands)
        place[node] = Place.SHARED if shared else Place.LOCAL
        flat[node] = shared
    group = tuple(n for n in graph.nodes() if not flat[n] and n.op.mnemonic not in LEAVES)
    reasons = dict.fromkeys((n for n in flat if not flat[n]), "rows are not proved independent")
    found = Lengths(place, flat, reasons)
    return _placement(graph, reason, "rows are not proved independent", found, (group,) if group else ())


def _uses_sizes(node: Node) -> bool:
    """True where a dimension that differs between requests takes part in the computation."""
    loop = dependence(node)
    return loop is not None and _has_sizes(loop.body)


def _has_sizes(expr: Expr) -> bool:
    if isinstance(expr, Size):
        return bool(symbols(expr.dim))
    if isinstance(expr, Reduce) and any(symbols(extent) for _, extent in expr.axes):
        return True
    return any(_has_sizes(child) for child in children(expr))


def _placement(
    graph: Graph, batchable_reason: str, trim_reason: str, found: Lengths, islands: tuple[tuple[Node, ...], ...]
) -> Placement:
    return Placement(
        batchable=not batchable_reason,
        batchable_reason=batchable_reason,
        trim=not trim_reason,
        trim_reason=trim_reason,
        place=found.place,
        flat=found.flat,
        islands=islands,
        reasons=found.reasons,
        output_places={name: found.place[node] for name, node in graph.outputs},
    )
