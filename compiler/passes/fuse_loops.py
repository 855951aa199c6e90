"""fuse_loops: chains of elementwise ops, views and reductions become one loop.

    y = mul(x, 2); z = exp(y)  ->  z = fused(x) {body="exp(mul(x0[i0], 2))"}

A producer's expression takes the place of the Loads of its result. Every element is computed by the same primitives in
the same order as before, so no bit changes. The rules:

  * only ops with a loop form that no target brings a kernel for take part (`WHOLES` never);
  * a producer goes into its reader if the reader is its only one and reads each element at most once; views go
    anywhere, and so do up to MOST_AGAIN primitives that are then computed again;
  * a producer with a reduction goes into a reader only element for element, never under another reduction;
  * nothing crosses between what is computed flat and what runs per row, and what was flat stays flat;
  * a plain reshape gathers nothing, since it costs nothing where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.dims import Dim, product
from ..ir.graph import Graph, Node, Origin, make, rewrite, users
from ..ir.loops import Axis, Expr, Literal, Load, Loop, Prim, Reduce, axes, children, map_children
from ..ir.ops.fused import fused
from ..ir.ops.leaf import Constant
from ..ir.ops.reshape import Reshape
from .indices import Indices, extents_of, simplify_indices
from .lengths import LEAVES
from .placement import Place, Placement
from .ragged import analyse

WHOLES = frozenset(
    [
        "linear",
        "matmul",
        "conv",
        "attention",
        "recurrence",
        "layer_norm",
        "rms_norm",
        "group_norm",
        "softmax",
        "log_softmax",
        "embedding",
        "pool",
        "cumsum",
        "argsort",
        "masked_mean",
        "l2_normalize",
    ]
)
EXPENSIVE = frozenset(
    [
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "sin",
        "cos",
        "tanh",
        "erf",
        "pow",
        "div",
        "gelu",
        "gelu_tanh",
        "silu",
        "sigmoid",
        "hardswish",
        "hardsigmoid",
    ]
)
MOST_AGAIN = 2
"""Primitives that one loop may compute again for other readers or along a broadcast."""


@dataclass(frozen=True)
class FuseLoops:
    """See the module."""

    max_prims: int = 64
    """No fused expression has more primitives and loads than this."""
    name: ClassVar[str] = "fuse_loops"

    def apply(self, graph: Graph) -> Graph:
        placement = analyse(graph)
        readers = users(graph)
        outputs = {node for _, node in graph.outputs}
        unwanted: set[Node] = set()
        while True:
            groups = _groups(graph, placement, readers, outputs, unwanted, self.max_prims)
            if not groups:
                return graph
            after, images = _replace(graph, groups)
            proved = analyse(after)
            if (proved.batchable, proved.trim) != (placement.batchable, placement.trim):
                return graph
            slower = {root for root in groups if placement.flat[root] and not proved.flat[images[root]]}
            if not slower:
                return after
            unwanted |= slower  # what was flat stays flat: these stay apart


def _groups(
    graph: Graph,
    placement: Placement,
    readers: dict[Node, list[Node]],
    outputs: set[Node],
    unwanted: set[Node],
    max_prims: int,
) -> dict[Node, _Group]:
    """The groups of more than one node, by the node that they compute, readers before producers."""
    absorbed: set[Node] = set()
    found: dict[Node, _Group] = {}
    for node in reversed(graph.nodes()):
        if node in absorbed or node in unwanted or not _has_loop(node) or node.op.mnemonic == "reshape":
            continue
        group = _grow(node, readers, outputs, placement, max_prims)
        if len(group.members) > 1:
            found[node] = group
            absorbed |= group.members
    return found


@dataclass
class _Group:
    """A loop over `operands` that computes the last of `members`."""

    root: Node
    members: set[Node]
    owned: set[Node]
    """Members that nothing outside the group reads."""
    operands: list[Node]
    body: Expr
    next_axis: int
    again: int = 0
    """Primitives that this loop computes more often than their producers would."""


def _has_loop(node: Node) -> bool:
    if node.op.mnemonic in LEAVES or node.op.mnemonic in WHOLES:
        return False
    return node.op.loop(node.type, *(o.type for o in node.operands)) is not None


def _loop(node: Node) -> Loop:
    loop = node.op.loop(node.type, *(o.type for o in node.operands))
    assert loop is not None
    return loop


def _grow(
    root: Node, readers: dict[Node, list[Node]], outputs: set[Node], placement: Placement, max_prims: int
) -> _Group:
    """The group that computes root, with as many producers as the rules allow."""
    body = _loop(root).body
    group = _Group(root, {root}, {root}, list(root.operands), body, 1 + max(_numbers(body), default=root.type.rank))
    group.next_axis = max(group.next_axis, root.type.rank)
    merged = True
    while merged:
        merged = False
        for producer in dict.fromkeys(group.operands):
            again = _cost_of_joining(producer, group, readers, outputs, placement)
            if again is None:
                continue
            owned = _is_owned(producer, group, readers, outputs)
            joined = _substituted(group, producer, owned=owned, again=group.again + again)
            if _count(joined.body) <= max_prims:
                group, merged = joined, True
                break
    return group


def _cost_of_joining(
    producer: Node, group: _Group, readers: dict[Node, list[Node]], outputs: set[Node], placement: Placement
) -> int | None:
    """Primitives that would be computed again if producer went into group; None where it may not."""
    if not _has_loop(producer) or not _same_side(producer, group.root, placement):
        return None
    body = _loop(producer).body
    alone = _is_owned(producer, group, readers, outputs)
    if not alone and (producer in outputs or not all(_has_loop(r) for r in readers[producer])):
        return None
    visits = _visits(group, producer)
    once = visits is not None and Indices({}).nonnegative(producer.type.elements - visits)
    if alone and once:
        holds_sum = any(isinstance(e, Reduce) for e in _walk(body))
        nested = holds_sum and _under_reduction(group.body, group.operands.index(producer), under=False)
        return None if nested else 0
    cost = _work_again(body)
    return cost if group.again + cost <= MOST_AGAIN else None


def _is_owned(producer: Node, group: _Group, readers: dict[Node, list[Node]], outputs: set[Node]) -> bool:
    return producer not in outputs and all(r in group.owned for r in readers[producer])


def _same_side(producer: Node, root: Node, placement: Placement) -> bool:
    """Both flat, or both in islands; what all rows share may go anywhere that does not make it larger work."""
    place = placement.place[producer]
    if place in (Place.SHARED, Place.PREFIX):
        return True
    return placement.flat[producer] == placement.flat[root]


def _visits(group: _Group, producer: Node) -> Dim | None:
    """How many elements of producer one run of the group reads, counting repeats; None where it is not read."""
    numbers = {k for k, o in enumerate(group.operands) if o is producer}
    total: Dim = 0

    def visit(expr: Expr, times: Dim) -> None:
        nonlocal total
        if isinstance(expr, Load) and expr.operand in numbers:
            total = total + times
        if isinstance(expr, Reduce):
            times = times * product([extent for _, extent in expr.axes])
        for child in children(expr):
            visit(child, times)

    visit(group.body, group.root.type.elements)
    return None if total == 0 else total


def _under_reduction(expr: Expr, operand: int, *, under: bool) -> bool:
    """True where a Load of operand stands under a reduction."""
    if isinstance(expr, Load) and expr.operand == operand:
        return under
    inside = under or isinstance(expr, Reduce)
    return any(_under_reduction(child, operand, under=inside) for child in children(expr))


def _substituted(group: _Group, producer: Node, *, owned: bool, again: int) -> _Group:
    """group with the Loads of producer replaced by what producer computes."""
    numbers = {k for k, o in enumerate(group.operands) if o is producer}
    kept = [o for o in group.operands if o is not producer]
    operands = list(dict.fromkeys([*kept, *producer.operands]))
    where = {node: k for k, node in enumerate(operands)}
    source = _loop(producer).body
    next_axis = group.next_axis

    def inline(index: tuple[Expr, ...]) -> Expr:
        nonlocal next_axis
        fresh: dict[int, Expr] = dict(enumerate(index))

        def visit(expr: Expr) -> Expr:
            nonlocal next_axis
            if isinstance(expr, Axis):
                return fresh.get(expr.number, expr)
            if isinstance(expr, Reduce):
                axes: list[tuple[int, Dim]] = []
                for number, extent in expr.axes:
                    fresh[number] = Axis(next_axis)
                    axes.append((next_axis, extent))
                    next_axis += 1
                return Reduce(expr.kind, tuple(axes), visit(expr.body), expr.dtype)
            if isinstance(expr, Load):
                index = tuple(visit(e) for e in expr.index)
                return Load(where[producer.operands[expr.operand]], index, expr.dtype)
            return map_children(expr, visit)

        return visit(source)

    def replace_loads(expr: Expr) -> Expr:
        if isinstance(expr, Load) and expr.operand in numbers:
            return inline(tuple(replace_loads(e) for e in expr.index))
        expr = map_children(expr, replace_loads)
        return Load(where[group.operands[expr.operand]], expr.index, expr.dtype) if isinstance(expr, Load) else expr

    body = replace_loads(group.body)
    own = group.owned | {producer} if owned else group.owned
    return _Group(group.root, group.members | {producer}, own, operands, body, next_axis, again)


def _replace(graph: Graph, groups: dict[Node, _Group]) -> tuple[Graph, dict[Node, Node]]:
    """graph with each group as one node, and what became of every node."""
    images: dict[Node, Node] = {}
    originals = iter(graph.nodes())

    def visit(node: Node) -> Node:
        original = next(originals)
        group = groups.get(original)
        if group is not None:
            body = simplify_indices(original.type.shape, group.body)
            operands, body = _used(group.operands, body)
            names = [m.op.name for m in graph.nodes() if m in group.members]
            op = Reshape(original.type.shape) if _is_reshape(body, original, operands) else fused(original.type, body)
            node = make(op, *(images[o] for o in operands), origin=_origin(original, names))
        images[original] = node
        return node

    return rewrite(graph, visit), images


def _is_reshape(body: Expr, node: Node, operands: list[Node]) -> bool:
    """True where the chain moves nothing: each element of `node` is the one at its own place in memory."""
    if not isinstance(body, Load):
        return False
    indices, x = Indices(extents_of(node.type.shape, body)), operands[0].type
    there, here = (
        _place(shape, [indices.polynomial(e) for e in at])
        for shape, at in ((x.shape, body.index), (node.type.shape, axes(node.type.rank)))
    )
    return there == here and x.elements == node.type.elements


def _place(shape: tuple[Dim, ...], index: list[Dim]) -> Dim:
    """How many elements lie before the one at `index`."""
    place: Dim = 0
    for extent, at in zip(shape, index, strict=True):
        place = place * extent + at
    return place


def _used(operands: list[Node], body: Expr) -> tuple[list[Node], Expr]:
    """operands that body loads, and body over their new numbers; constants become literals."""
    constants = {k: o.op for k, o in enumerate(operands) if isinstance(o.op, Constant)}
    read = dict.fromkeys(e.operand for e in _walk(body) if isinstance(e, Load))
    wanted = [k for k in read if k not in constants]

    def visit(expr: Expr) -> Expr:
        expr = map_children(expr, visit)
        if isinstance(expr, Load) and expr.operand in constants:
            return Literal(constants[expr.operand].value, expr.dtype)
        return Load(wanted.index(expr.operand), expr.index, expr.dtype) if isinstance(expr, Load) else expr

    return [operands[k] for k in wanted], visit(body)


def _origin(node: Node, names: list[str]) -> Origin:
    return Origin(node.origin.name, node.origin.source, "+".join(names))


def _walk(expr: Expr) -> list[Expr]:
    found = [expr]
    for child in children(expr):
        found += _walk(child)
    return found


def _numbers(expr: Expr) -> list[int]:
    """Numbers of all axes in expr."""
    own = [e.number for e in _walk(expr) if isinstance(e, Axis)]
    return own + [number for e in _walk(expr) if isinstance(e, Reduce) for number, _ in e.axes]


def _count(expr: Expr) -> int:
    """Primitives and loads in expr, those of indices too."""
    return sum(isinstance(e, Prim | Load | Reduce) for e in _walk(expr))


def _work_again(body: Expr) -> int:
    """What computing a value again costs: its primitives but for those of indices; more than MOST_AGAIN where that is
    never worth it. A view costs nothing."""
    if isinstance(body, Load):
        return 0
    if isinstance(body, Reduce) or (isinstance(body, Prim) and body.name in EXPENSIVE):
        return MOST_AGAIN + 1
    return isinstance(body, Prim) + sum(_work_again(child) for child in children(body))
