"""cse: equal computations become one. Two nodes are equal when their ops print alike and their operands are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Node, rewrite


@dataclass(frozen=True)
class Cse:
    """add(f(x), f(x)) with two nodes f(x) -> the same with one."""

    name: ClassVar[str] = "cse"

    def apply(self, graph: Graph) -> Graph:
        seen: dict[tuple[str, tuple[Node, ...]], Node] = {}

        def visit(node: Node) -> Node:
            # repr, not ==: 0.0 equals -0.0, and 1 equals True
            return seen.setdefault((repr(node.op), node.operands), node)

        return rewrite(graph, visit)
