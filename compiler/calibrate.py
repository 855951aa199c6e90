"""Calibration: what rows of the spec's `calibrate` data say about quantizing a graph to int8. The interpreter runs it; of
the rows nothing is kept.

Scale migration (Xiao et al., SmoothQuant, 2023): column k of a layer's input is divided by s[k] and column k of its weight
multiplied by it, with s[k] = max|x[k]|^a / max|w[k]|^(1-a), so that columns which are large in every row do not coarsen the
scale of all others. Such columns come from norms: only their readers are migrated.

Sensitive layers: where int8 misses the spec's accuracy on these rows, the layers that disturb the outputs most when they
alone are int8 go back to a wider precision, most sensitive first, until it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from .decisions import Decision, Refuses, layers_text, refuses_node
from .ir.graph import Array, Graph, Node, Weight
from .ir.interpret import run
from .ir.ops.layer_norm import LayerNorm
from .ir.ops.leaf import WeightRef
from .ir.ops.linear import Linear
from .ir.ops.rms_norm import RmsNorm
from .ir.printer import number_nodes
from .ir.types import TensorType
from .passes.quantize import SMOOTH, Quantize, layer_name, reducible

MOST_ROWS = 64
"""Rows that are run; further ones hardly move a maximum."""
MIGRATED = 0.5
"""The exponent a: half of the spread goes from activations to weights."""
LEAST = 1e-5
"""Magnitudes below count as this."""
JUDGED_ROWS = 24
"""Rows on which the spec's accuracy is judged."""
SENSITIVITY_ROWS = 4
"""Rows on which each layer is tried alone."""

Request = Mapping[str, Array]
Outputs = dict[str, Array]
Misses = Callable[[Sequence[Outputs], Sequence[Outputs]], str]
"""(outputs row by row, those of float32) -> which accuracy target they miss, "" where they meet all."""


def migrate_scales(graph: Graph, rows: Sequence[Request], decisions: Sequence[Decision]) -> Graph:
    """graph with factors 1 / s, float32 [K], for each linear that is to be int8 and reads a norm; the pass quantize finds
    them by the layer's name."""
    chosen = {d.layer for d in decisions if d.precision == "int8"}
    linears = [
        n
        for n in graph.nodes()
        if isinstance(n.op, Linear) and reducible(n) and layer_name(n) in chosen
        if isinstance(n.operands[0].op, LayerNorm | RmsNorm)
    ]
    largest = channel_maxima(graph, rows, [n.operands[0] for n in linears])
    factors: dict[str, Array] = {}
    for node in linears:
        weight = np.abs(graph.weights[cast(WeightRef, node.operands[1].op).weight].load()).max(axis=0)
        x = np.maximum(largest[node.operands[0]], LEAST)
        factor = np.maximum(weight, LEAST) ** (1 - MIGRATED) / x**MIGRATED
        name = SMOOTH + layer_name(node)
        if name in factors:  # a layer that is called several times: the factors that suit all calls
            factor = np.minimum(factor, factors[name])
        factors[name] = factor.astype(np.float32)
    added = {name: Weight(TensorType("float32", f.shape), lambda f=f: f) for name, f in factors.items()}
    return graph.replace(weights={**graph.weights, **added})


def channel_maxima(graph: Graph, rows: Sequence[Request], nodes: Sequence[Node]) -> dict[Node, Array]:
    """For each node the largest magnitude of each column of its last axis, over the first `MOST_ROWS` rows: float32 [K]."""
    names = number_nodes(graph)
    found: dict[Node, Array] = {}
    for request in rows[:MOST_ROWS]:
        values = run(graph, request, keep=nodes)
        for node in dict.fromkeys(nodes):
            value = np.abs(values[names[node]])
            most = value.reshape(-1, value.shape[-1]).max(axis=0, initial=0.0)
            found[node] = np.maximum(found[node], most) if node in found else most
    return found


def widen_sensitive(
    graph: Graph, rows: Sequence[Request], decisions: tuple[Decision, ...], misses: Misses, refuses: Refuses
) -> tuple[Decision, ...]:
    """decisions, with as many int8 layers in a wider precision (bfloat16 where the target has it, else float32) as it takes
    for the rows to meet the spec's accuracy: 1, 2, 4, ... most sensitive ones; all where that is not enough."""
    rows = rows[:JUDGED_ROWS]
    exact = [run(graph, row) for row in rows]

    def missed(tried: tuple[Decision, ...]) -> str:
        reduced = Quantize(layers_text(tried)).apply(graph)
        return misses([run(reduced, row) for row in rows], exact)

    why = missed(decisions)
    if not why:
        return decisions
    order = _by_sensitivity(graph, rows[:SENSITIVITY_ROWS], exact, decisions)
    count = 1
    while True:
        chosen = dict(order[:count])
        tried = tuple(_widened(graph, d, chosen[d.layer], why, refuses) if d.layer in chosen else d for d in decisions)
        if count >= len(order) or not missed(tried):
            return tried
        count *= 2


def _by_sensitivity(
    graph: Graph, rows: Sequence[Request], exact: Sequence[Outputs], decisions: Sequence[Decision]
) -> list[tuple[str, float]]:
    """The int8 layers, most sensitive first, each with the relative error (root mean square) of the outputs when it alone
    is int8."""
    found: list[tuple[str, float]] = []
    for decision in decisions:
        if decision.precision != "int8":
            continue
        alone = Quantize(layers_text([decision])).apply(graph)
        error = total = 0.0
        for row, want in zip(rows, exact, strict=False):
            got = run(alone, row)
            error += sum(float(np.square(got[n].astype(np.float64) - want[n]).sum()) for n in want)
            total += sum(float(np.square(want[n].astype(np.float64)).sum()) for n in want)
        found.append((decision.layer, float(np.sqrt(error / max(total, 1e-300)))))
    return sorted(found, key=lambda item: -item[1])


def _widened(graph: Graph, decision: Decision, error: float, why: str, refuses: Refuses) -> Decision:
    nodes = [n for n in graph.nodes() if reducible(n) and layer_name(n) == decision.layer]
    half = not any(refuses_node(n, "bfloat16", refuses) for n in nodes)
    reason = f"int8 misses {why}; this layer alone moves the outputs by {error:.2g}"
    return replace(decision, precision="bfloat16" if half else "float32", reason=reason)
