"""Weights that a class has and its checkpoint does not: outputs that need them are left out, or the model is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..ir.graph import Graph, Node, topological
from ..ir.ops.leaf import WeightRef
from .errors import FrontendError


def without_missing(graph: Graph, missing: Iterable[str], *, named: bool) -> tuple[Graph, dict[str, str]]:
    """graph without the outputs that need a weight of `missing` (a BERT saved without its pooler), and for each of them that
    weight; graph as it is where the spec names its outputs (`named`), or where none would be left."""
    used = {name: _weights(node) & set(missing) for name, node in graph.outputs}
    lost = {name: min(weights) for name, weights in used.items() if weights}
    if named or len(lost) == len(graph.outputs):
        return graph, {}
    kept = tuple((name, node) for name, node in graph.outputs if name not in lost)
    weights = {weight for _, node in kept for weight in _weights(node)}
    return graph.replace(outputs=kept, weights={k: w for k, w in graph.weights.items() if k in weights}), lost


def said(lost: Mapping[str, str]) -> tuple[str, ...]:
    """What the build report says of outputs that were left out."""
    return tuple(
        f"output {name} is left out: it needs {weight!r}, which the checkpoint does not have"
        for name, weight in lost.items()
    )


def check_present(graph: Graph, missing: Iterable[str], kind: str, folder: Path) -> None:
    """Raises FrontendError when the graph, of a class called `kind`, uses a weight of `missing`."""
    used = sorted(set(missing) & set(graph.weights))
    if not used:
        return
    more = f" (and {len(used) - 1} more)" if len(used) > 1 else ""
    shape = list(graph.weights[used[0]].type.shape)
    raise FrontendError(
        f"{folder.name}: the checkpoint has no tensor {used[0]!r} of shape {shape}{more}, which {kind} needs",
        hint="name the class that the checkpoint was saved from under `architectures` in config.json",
    )


def _weights(node: Node) -> set[str]:
    return {n.op.weight for n in topological([node]) if isinstance(n.op, WeightRef)}
