"""dead_code: drops the weights that nothing reads. Nodes that no output needs are not in a graph to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph
from .patterns import weight_names


@dataclass(frozen=True)
class DeadCode:
    """weights {a, b} with b unread -> weights {a}"""

    name: ClassVar[str] = "dead_code"

    def apply(self, graph: Graph) -> Graph:
        names = weight_names(graph)
        return graph.replace(weights={name: w for name, w in graph.weights.items() if name in names})
