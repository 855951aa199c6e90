"""What rewrite rules ask of nodes: constants, splats, staticness, users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..ir.dims import symbols
from ..ir.graph import Graph, Node, Op, OpError, make, rewrite, users
from ..ir.ops.expand import Expand
from ..ir.ops.leaf import Constant, Input, WeightRef, constant
from ..ir.ops.map import Map
from ..ir.ops.permute import Permute
from ..ir.ops.reshape import Reshape

Number = float | int | bool


@dataclass(frozen=True)
class Facts:
    """What rules may know of the graph that they rewrite."""

    graph: Graph

    @cached_property
    def use_counts(self) -> dict[Node, int]:
        """How often each node is read; a graph output counts as one."""
        counts = {node: len(found) for node, found in users(self.graph).items()}
        for _, node in self.graph.outputs:
            counts[node] += 1
        return counts

    def is_single(self, node: Node) -> bool:
        """True where exactly one reader needs node (nodes made meanwhile have the reader that is being rewritten)."""
        return self.use_counts.get(node, 1) == 1

    def is_zero_or_one(self, node: Node) -> bool:
        """True for an integer input that callers may fill with 0 and 1 only."""
        if not isinstance(node.op, Input):
            return False
        spec = self.graph.input_specs.get(node.op.input)
        return spec is not None and spec.minimum == 0 and spec.maximum == 1


Rule = Callable[[Node, Facts], Node | None]
"""Gives a node that computes the same, or None where the rule does not apply."""


def apply_rules(graph: Graph, rules: Sequence[tuple[type[Op], Rule]], *, most: int = 64) -> Graph:
    """graph after rules until none applies. Each sweep goes operands first; `facts` are of the graph before the sweep."""
    for _ in range(most):
        facts, changed = Facts(graph), False

        def visit(node: Node, facts: Facts = facts) -> Node:
            nonlocal changed
            for class_, rule in rules:
                if isinstance(node.op, class_):
                    found = rule(node, facts)
                    if found is not None and found is not node:
                        changed = True
                        return found
            return node

        after = rewrite(graph, visit)
        if not changed:
            return graph
        graph = after
    raise AssertionError(f"rewriting did not come to an end in {most} sweeps; one of the rules undoes another")


def like(node: Node, op: Op, *operands: Node) -> Node:
    """op over operands, in the place of node: it has node's origin."""
    return make(op, *operands, origin=node.origin)


def try_like(node: Node, op: Op, *operands: Node) -> Node | None:
    """`like`, or None where op does not take these operands or gives another type than node's."""
    try:
        found = like(node, op, *operands)
    except OpError:
        return None
    return found if found.type == node.type else None


def splat(node: Node) -> Number | None:
    """The value of every element, for a constant and its views."""
    while isinstance(node.op, (Expand, Reshape, Permute)):
        node = node.operands[0]
    return node.op.value if isinstance(node.op, Constant) else None


def is_splat(node: Node, value: Number) -> bool:
    """True where every element is value (and a zero has the sign of value)."""
    found = splat(node)
    return found is not None and found == value and str(float(found)) == str(float(value))


def scalar_of(node: Node) -> Node | None:
    """The scalar constant that node is a view of."""
    value = splat(node)
    return None if value is None else constant(value, node.type.dtype, node.origin)


def broadcast_to(node: Node, like_: Node) -> Node:
    """node, expanded to the shape of like_ where it differs."""
    return node if node.type.shape == like_.type.shape else like(like_, Expand(like_.type.shape), node)


def is_fn(node: Node, *names: str) -> bool:
    """True for a map of one of these primitives."""
    return isinstance(node.op, Map) and node.op.fn in names


def static_nodes(graph: Graph) -> frozenset[Node]:
    """Nodes that depend on weights, constants and fixed shapes alone."""
    found: set[Node] = set()
    for node in graph.nodes():
        if isinstance(node.op, Input) or any(symbols(d) for d in node.type.shape):
            continue
        if all(o in found for o in node.operands):
            found.add(node)
    return frozenset(found)


def is_static(node: Node) -> bool:
    """True where node depends on weights, constants and fixed shapes alone."""
    waiting, seen = [node], {node}
    while waiting:
        current = waiting.pop()
        if isinstance(current.op, Input) or any(symbols(d) for d in current.type.shape):
            return False
        for operand in current.operands:
            if operand not in seen:
                seen.add(operand)
                waiting.append(operand)
    return True


def weight_names(graph: Graph) -> frozenset[str]:
    """Names of the weights that some node reads."""
    return frozenset(n.op.weight for n in graph.nodes() if isinstance(n.op, WeightRef))
