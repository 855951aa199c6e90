"""Trimming: may the positions behind a row's kept ones be left out?

Take one row whose mask is 1 for the first n >= 1 of its positions and 0 behind. Two facts are worked out per node, for a
run on the whole row compared with a run on its first n positions:

    kept      every element whose indices on length axes are all below n is the same in both runs
    excluded  per length axis, an interval for elements at or behind n on that axis (the mask: exactly 0)

A loop keeps what is kept if it reads length axes at its own positions, or at position 0, and if whatever a reduction
over the length adds at excluded positions is the reduction's identity: 0 for a sum. Attention and softmax over keys get
there through a mask: a false one, or scores that are at most -HUGE. Values are taken to be finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir.dims import sym, symbols
from ..ir.graph import Graph, InputSpec, Node
from ..ir.loops import Expr, Load, Loop, Prim, Reduce, Size, children
from ..ir.ops.leaf import Constant, Input
from .dependence import dependence
from .indices import Indices, axis_symbol, extents_of
from .intervals import HUGE, ZERO, Facts, Interval, anything, evaluate_interval, meet
from .rows import describe

HIDDEN = -0.99 * HUGE
"""A score at or below gets weight 0 in a softmax over scores of which one is above -HUGE / 10."""


@dataclass(frozen=True)
class Kept:
    """What is known of one node."""

    why_not: str = ""
    """"" where kept elements are equal; else what stands in the way."""
    always: Interval = (0, 0)
    excluded: Mapping[int, Interval] = field(default_factory=dict[int, Interval])


def why_not_trim(graph: Graph, length: str | None) -> str:
    """ "" where every output of graph is proved to be the same on the kept positions; else the reason."""
    if length is None:
        return "the model has no length"
    masks = [name for name, spec in graph.input_specs.items() if spec.mask]
    if len(masks) != 1:
        return "no input is a mask over the positions" if not masks else f"several inputs are masks: {', '.join(masks)}"
    found: dict[Node, Kept] = {}
    for node in graph.nodes():
        found[node] = _kept(node, length, graph.input_specs, found)
    for name, node in graph.outputs:
        if found[node].why_not:
            return found[node].why_not
        odd = [d for d in node.type.shape if length in symbols(d) and d != sym(length)]
        if odd:
            return f"output {name!r} has the dimension {odd[0]}"
    return ""


def _kept(node: Node, length: str, specs: Mapping[str, InputSpec], found: Mapping[Node, Kept]) -> Kept:
    op = node.op
    positions = [k for k, dim in enumerate(node.type.shape) if dim == sym(length)]
    if isinstance(op, Constant):
        return Kept(always=(float(op.value), float(op.value)))
    if isinstance(op, Input):
        spec = specs.get(op.input, InputSpec())
        low, high = anything(node.type.dtype)
        low = low if spec.minimum is None else float(spec.minimum)
        high = high if spec.maximum is None else float(spec.maximum)
        return Kept("", (low, high), {k: ZERO for k in positions if spec.mask})
    loop = dependence(node)
    if loop is None:
        return Kept(always=anything(node.type.dtype))
    for operand in node.operands:
        if found[operand].why_not:
            return Kept(found[operand].why_not, anything(node.type.dtype))
    facts = [found[o] for o in node.operands]
    special = SPECIAL.get(op.mnemonic)
    result = special(node, length, facts) if special is not None else None
    if result is None:
        why = _Walk(node, loop, length, facts).why_not()
        always = _interval(node, loop, length, facts, None)
        excluded = {k: meet(always, _interval(node, loop, length, facts, k)) for k in positions}
        result = Kept(why, always, excluded)
    return Kept(f"{describe(node)} {result.why_not}", result.always) if result.why_not else result


@dataclass
class _Walk:
    """Whether one loop keeps what is kept."""

    node: Node
    loop: Loop
    length: str
    facts: list[Kept]

    def why_not(self) -> str:
        self.indices = Indices(extents_of(self.loop.out.shape, self.loop.body))
        own = {axis_symbol(k) for k, dim in enumerate(self.loop.out.shape) if dim == sym(self.length)}
        return self._visit(self.loop.body, frozenset(own))

    def _visit(self, expr: Expr, kept: frozenset[str]) -> str:
        if isinstance(expr, (Size, Prim)) and expr.dtype == "int64":
            value = self.indices.polynomial(expr)
            inside = [self.indices.opaque[n] for n in sorted(symbols(value) & set(self.indices.opaque))]
            if self.length in symbols(value):
                return "depends on the length itself"
            if inside != [expr]:
                return self._first(inside, kept)
        if isinstance(expr, Reduce):
            for number, extent in expr.axes:
                if self.length not in symbols(extent):
                    continue
                if extent != sym(self.length) or not self._neutral(expr, number, kept):
                    return "mixes positions, and nothing shows that excluded ones add nothing"
                kept |= {axis_symbol(number)}
        if isinstance(expr, Load):
            return self._load(expr, kept)
        return self._first(children(expr), kept)

    def _first(self, exprs: tuple[Expr, ...] | list[Expr], kept: frozenset[str]) -> str:
        return next((why for e in exprs if (why := self._visit(e, kept))), "")

    def _load(self, load: Load, kept: frozenset[str]) -> str:
        shape = self.node.operands[load.operand].type.shape
        for dim, index in zip(shape, load.index, strict=True):
            if self.length not in symbols(dim):
                why = self._visit(index, kept)
                if why:
                    return why
                continue
            at = self.indices.polynomial(index)
            if dim != sym(self.length):
                return f"reads an axis of {dim} positions"
            if at != 0 and not any(at == sym(name) for name in kept):
                return "reads positions that may be excluded"
        return ""

    def _neutral(self, reduce: Reduce, number: int, kept: frozenset[str]) -> bool:
        body = _interval(self.node, self.loop, self.length, self.facts, number, reduce.body, kept)
        return {
            "sum": body == ZERO,
            "any": body == ZERO,
            "all": body == (1, 1),
            "prod": body == (1, 1),
            "max": body[1] <= HIDDEN,
            "min": body[0] >= -HIDDEN,
        }.get(reduce.kind, False)


def _interval(
    node: Node,
    loop: Loop,
    length: str,
    facts: list[Kept],
    excluded: int | None,
    body: Expr | None = None,
    kept: frozenset[str] = frozenset(),
) -> Interval:
    """The interval of loop's element (or of body in it) where Axis(excluded) is an excluded position."""
    indices = Indices(extents_of(loop.out.shape, loop.body))
    out_of_reach = None if excluded is None else sym(axis_symbol(excluded))

    def load(expr: Load) -> Interval:
        known = facts[expr.operand].always
        for axis, index in enumerate(expr.index):
            if out_of_reach is not None and indices.polynomial(index) == out_of_reach:
                known = meet(known, facts[expr.operand].excluded.get(axis, known))
        return known

    def compare(left: Expr, right: Expr) -> Interval | None:
        if out_of_reach is None or left.dtype != "int64":
            return None
        difference = indices.polynomial(left) - indices.polynomial(right)
        if any(difference == out_of_reach - sym(name) for name in kept):
            return (1, 2.0**63)  # an excluded position lies behind every kept one
        if any(difference == sym(name) - out_of_reach for name in kept):
            return (-(2.0**63), -1)
        return None

    return evaluate_interval(loop.body if body is None else body, Facts(load, compare))


def _attention(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    """Excluded keys get no weight: by the mask, by a bias of at most HIDDEN, or because no kept query looks ahead."""
    if length not in symbols(node.operands[1].type.shape[1]):
        return None
    if any(o.type.shape[1] != sym(length) for o in node.operands[:3]):
        return Kept("has queries and keys of different lengths")
    has_mask, has_bias = bool(getattr(node.op, "mask", False)), bool(getattr(node.op, "bias", False))
    hidden = bool(getattr(node.op, "causal", False))
    if has_mask:
        hidden |= facts[3].excluded.get(1) == ZERO
    if has_bias:
        rank = node.operands[3 + has_mask].type.rank
        hidden |= facts[3 + has_mask].excluded.get(rank - 1, ZERO)[1] <= HIDDEN
    return Kept("", anything("float32")) if hidden else Kept("lets excluded positions be attended to")


def _recurrence(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    """What is excluded lies behind: forwards it comes too late to matter."""
    if length not in symbols(node.type.shape[1]):
        return None
    forwards = node.type.shape[1] == sym(length) and not getattr(node.op, "reverse", False)
    return Kept("", anything("float32")) if forwards else Kept("begins with excluded positions")


def _softmax(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    axis = int(getattr(node.op, "axis", -1))
    if length not in symbols(node.type.shape[axis]):
        return None
    if node.type.shape[axis] != sym(length) or facts[0].excluded.get(axis, ZERO)[1] > HIDDEN:
        return Kept("gives weight to excluded positions")
    return Kept("", (0, 1), {axis: ZERO})


def _log_softmax(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    found = _softmax(node, length, facts)
    return found if found is None or found.why_not else Kept("", anything("float32"))


def _masked_mean(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    if length not in symbols(node.operands[1].type.shape[1]):
        return None
    if facts[1].excluded.get(1) != ZERO:
        return Kept("averages over excluded positions")
    return Kept("", anything("float32"))


def _cumsum(node: Node, length: str, facts: list[Kept]) -> Kept | None:
    axis = int(getattr(node.op, "axis", -1))
    return Kept("", anything(node.type.dtype)) if node.type.shape[axis] == sym(length) else None


SPECIAL: dict[str, Callable[[Node, str, list[Kept]], Kept | None]] = {
    "attention": _attention,
    "recurrence": _recurrence,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "masked_mean": _masked_mean,
    "cumsum": _cumsum,
}
"""Wholes with rules of their own; None to go by the loop form."""
