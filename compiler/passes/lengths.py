"""Where each value lives and which nodes are computed flat, once rows are proved independent.

The rules, over the loop form with r = Axis(0) the row and p = Axis(1) the position:

    SHARED   no batch, no length; reads SHARED only
    PREFIX   no batch; nothing but its extents depends on the length; reads SHARED and PREFIX
    TOKEN    flat if it reads TOKEN at [r, p, ...], ROW at [r, ...], PREFIX and SHARED anywhere
    ROW      flat if it reads ROW at [r, ...], TOKEN at [r, c, ...] for a constant c, PREFIX and SHARED anywhere
    LOCAL    never flat

and never flat where the length is used as a value or summed over. Attention over a segment and the masked mean are flat
by their own kernels, which walk one segment at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..ir.dims import Dim, Range, sym, symbols
from ..ir.graph import Graph, Node
from ..ir.loops import Expr, Load, Loop, Prim, Reduce, Size, children
from .dependence import dependence
from .indices import Indices, axis_symbol, extents_of
from .placement import Place
from .rows import Carry

LEAVES = ("input", "weight", "constant")


@dataclass(frozen=True)
class Lengths:
    """Place and flatness of every node; `reasons` for those that are not flat."""

    place: dict[Node, Place]
    flat: dict[Node, bool]
    reasons: dict[Node, str]


def place_nodes(graph: Graph, carry: Mapping[Node, Carry | None], length: str | None) -> Lengths:
    """The place of every node of graph. length: the symbol of the length, None where there is none."""
    found = Lengths({}, {}, {})
    for node in graph.nodes():
        place = _place(node, carry[node], length, found.place)
        found.place[node] = place
        reason = _why_not_flat(node, place, length, found.place, graph.dims)
        found.flat[node] = not reason
        if reason:
            found.reasons[node] = reason
    return found


def _place(node: Node, carry: Carry | None, length: str | None, places: Mapping[Node, Place]) -> Place:
    shape = node.type.shape
    lengths = [k for k, dim in enumerate(shape) if length is not None and length in symbols(dim)]
    if carry is None:
        operands = {places[o] for o in node.operands}
        if not operands <= {Place.SHARED, Place.PREFIX} or _uses_length(dependence(node), length):
            return Place.LOCAL
        return Place.PREFIX if lengths or Place.PREFIX in operands else Place.SHARED
    if carry != Carry(0, 1):
        return Place.LOCAL
    if not lengths:
        return Place.ROW
    return Place.TOKEN if lengths == [1] and length is not None and shape[1] == sym(length) else Place.LOCAL


def _uses_length(loop: Loop | None, length: str | None) -> bool:
    """True where the length is a value or an extent of a reduction in loop."""
    if loop is None or length is None:
        return False
    indices = Indices(extents_of(loop.out.shape, loop.body))

    def visit(expr: Expr) -> bool:
        if isinstance(expr, Reduce) and any(length in symbols(extent) for _, extent in expr.axes):
            return True
        if isinstance(expr, (Size, Prim)) and expr.dtype == "int64":
            value = indices.polynomial(expr)
            inside = [indices.opaque[n] for n in sorted(symbols(value) & set(indices.opaque))]
            if inside != [expr]:
                return length in symbols(value) or any(visit(e) for e in inside)
        return any(visit(child) for child in children(expr))

    return visit(loop.body)


def _why_not_flat(
    node: Node, place: Place, length: str | None, places: Mapping[Node, Place], dims: Mapping[str, Range]
) -> str:
    """ "" where node is computed flat; else why not, as a phrase."""
    if place is Place.LOCAL:
        return (
            "its shape is neither [batch, ...] nor [batch, length, ...]"
            if _carries_rows(node, places)
            else ("the length is used as a value or summed over")
        )
    if place in (Place.SHARED, Place.PREFIX) or node.op.mnemonic in LEAVES:
        return ""
    if any(places[o] is Place.LOCAL for o in node.operands):
        return "it reads a value that exists per row only"
    if length is None:
        return ""
    special = SPECIAL.get(node.op.mnemonic)
    if special is not None:
        reason = special(node, place, [places[o] for o in node.operands])
        if reason is not None:
            return reason
    loop = dependence(node)
    assert loop is not None
    if _uses_length(loop, length):
        return "the length is used as a value or summed over"
    return _why_loads_not_flat(node, loop, place, places, dims.get(length, (1, 1))[0])


def _carries_rows(node: Node, places: Mapping[Node, Place]) -> bool:
    return not node.operands or any(places[o] not in (Place.SHARED, Place.PREFIX) for o in node.operands)


def _why_loads_not_flat(node: Node, loop: Loop, place: Place, places: Mapping[Node, Place], shortest: int) -> str:
    indices = Indices(extents_of(loop.out.shape, loop.body))
    position: Dim = sym(axis_symbol(1))

    def visit(expr: Expr) -> str:
        if isinstance(expr, Load) and places[node.operands[expr.operand]] is Place.TOKEN:
            at = indices.polynomial(expr.index[1])
            if place is Place.TOKEN and at != position:
                return "it reads other positions than its own"
            if place is Place.ROW and not (isinstance(at, int) and 0 <= at < shortest):
                return "it reads positions that are no constants"
        return next((reason for child in children(expr) if (reason := visit(child))), "")

    return visit(loop.body)


def _attention(node: Node, place: Place, operands: list[Place]) -> str | None:
    """Over segments: q, k, v and the mask flat; a bias the same for all rows."""
    if place is not Place.TOKEN:
        return None
    has_mask = bool(getattr(node.op, "mask", False))
    if any(p is not Place.TOKEN for p in operands[: 3 + has_mask]):
        return "its queries, keys, values and mask are not all [batch, length, ...]"
    if any(p not in (Place.SHARED, Place.PREFIX) for p in operands[3 + has_mask :]):
        return "its bias differs from row to row"
    return ""


def _recurrence(node: Node, place: Place, operands: list[Place]) -> str | None:
    """Over segments: the gates flat, the first states a row each."""
    if place is not Place.TOKEN:
        return None
    flat = operands[0] is Place.TOKEN and all(p in (Place.SHARED, Place.ROW) for p in operands[1:])
    return "" if flat else "its input is not [batch, length, ...]"


def _masked_mean(node: Node, place: Place, operands: list[Place]) -> str | None:
    return "" if place is Place.ROW and operands == [Place.TOKEN, Place.TOKEN] else None


def _matmul(node: Node, place: Place, operands: list[Place]) -> str | None:
    """Flat over tokens only as rows times one matrix."""
    if place is not Place.TOKEN or (operands == [Place.TOKEN, Place.SHARED] and node.operands[1].type.rank == 2):
        return None
    return "its operands are not the tokens' rows times one matrix"


SPECIAL: dict[str, Callable[[Node, Place, list[Place]], str | None]] = {
    "attention": _attention,
    "recurrence": _recurrence,
    "masked_mean": _masked_mean,
    "matmul": _matmul,
}
"""Wholes with kernels of their own: "" flat, a phrase why not, None to go by the general rule."""
