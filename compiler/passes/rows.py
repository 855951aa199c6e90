"""Batch independence: is row r of every value computed from row r of its operands alone?

A value *carries* the batch on axis k with m elements a row (`Carry(k, m)`): element i of that axis belongs to row
i // m. [batch, tokens, 384] carries it on axis 0 with 1; the view [batch*12, tokens, 32] on axis 0 with 12.

With Axis(k) written as r*m + j, a node keeps rows apart if in its loop form
  * every Load reads its operand's carrying axis at r*m' + (something without r), and everything else
  * is free of r and of the size of the batch.
That the something stays within the row follows: the same index, with a batch of one row, is in bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.dims import Dim, exact_div, sym, symbols
from ..ir.graph import Graph, Node
from ..ir.loops import Axis, Expr, Load, Loop, Prim, Reduce, Size, children
from .dependence import dependence
from .indices import Indices, extents_of

ROW_SYMBOL = "#r"
WITHIN_SYMBOL = "#j"


@dataclass(frozen=True)
class Carry:
    """The batch lies on `axis`, `inner` elements a row."""

    axis: int
    inner: Dim


class Mixed(Exception):
    """Rows are not kept apart; the message says where, as a phrase."""


def carries(graph: Graph, batch: str) -> dict[Node, Carry | None]:
    """The carry of every node; None for a value without a batch. Raises Mixed naming the first node that mixes rows."""
    found: dict[Node, Carry | None] = {}
    for node in graph.nodes():
        loop = dependence(node)
        try:
            found[node] = carry = _carry_of_shape(node, batch)
            if loop is not None:
                check_rows(loop, carry, [found[o] for o in node.operands], batch)
        except Mixed as why:
            raise Mixed(f"{describe(node)} {why}") from None
    return found


def describe(node: Node) -> str:
    """A node as people know it: its op, its name in the model, its type."""
    name = f" ({node.origin.name})" if node.origin.name else ""
    return f"{node.op.name}{name} {node.type}"


def check_rows(loop: Loop, carry: Carry | None, operands: list[Carry | None], batch: str) -> None:
    """Raises Mixed unless loop keeps rows apart."""
    extents = extents_of(loop.out.shape, loop.body)
    values: Mapping[int, Dim] = {}
    if carry is not None:
        extents |= {ROW_SYMBOL: sym(batch), WITHIN_SYMBOL: carry.inner}
        within: Dim = 0 if carry.inner == 1 else sym(WITHIN_SYMBOL)
        values = {carry.axis: sym(ROW_SYMBOL) * carry.inner + within}
    indices = Indices(extents, values)
    forbidden = {ROW_SYMBOL, batch}

    def free(expr: Expr, what: str) -> None:
        """Raises Mixed unless expr is the same for every row but for the elements that it loads."""
        if isinstance(expr, (Axis, Size)) or (isinstance(expr, Prim) and expr.dtype == "int64"):
            value = indices.polynomial(expr)
            if not symbols(value) & forbidden:
                for name in sorted(symbols(value) & set(indices.opaque)):
                    inside = indices.opaque[name]
                    for part in (inside,) if isinstance(inside, Load) else children(inside):
                        free(part, what)
                return
            if not isinstance(expr, Prim):
                raise Mixed(
                    f"uses the {'size of the batch' if batch in symbols(value) else 'number of the row'} {what}"
                )
        if isinstance(expr, Load):
            check_load(expr)
            return
        if isinstance(expr, Reduce) and any(batch in symbols(extent) for _, extent in expr.axes):
            raise Mixed("reduces over rows")
        for child in children(expr):
            free(child, what)

    def check_load(load: Load) -> None:
        source = operands[load.operand]
        for axis, index in enumerate(load.index):
            if source is None or axis != source.axis:
                free(index, "as an index")
                continue
            rest = indices.polynomial(index) - sym(ROW_SYMBOL) * source.inner
            if symbols(rest) & forbidden or carry is None:
                raise Mixed("reads other rows than its own")
            for name in sorted(symbols(rest) & set(indices.opaque)):
                free(indices.opaque[name], "as an index")

    free(loop.body, "as a value")


def _carry_of_shape(node: Node, batch: str) -> Carry | None:
    axes = [k for k, dim in enumerate(node.type.shape) if batch in symbols(dim)]
    if not axes:
        return None
    if len(axes) > 1:
        raise Mixed(f"has the dimension {batch!r} twice")
    inner = exact_div(node.type.shape[axes[0]], sym(batch))
    if inner is None or batch in symbols(inner):
        raise Mixed(f"has a dimension {node.type.shape[axes[0]]} that is no multiple of {batch!r}")
    return Carry(axes[0], inner)
