"""Small random graphs over every op, for comparing implementations of them.

`random_graph(seed)` gives a valid graph of one to eight drawn ops with a symbolic batch (and sometimes tokens), every
output with the batch in front; `random_graph(seed, "softmax")` one with that op (or primitive) in it. The same seed gives
the same graph. `sizes(graph)` gives both bounds and a case between, `random_inputs(graph, size, seed)` inputs for it.

Values are kept where implementations must agree: every node has an interval and, for floats, the grid that its values
lie on (`step`; 0 once rounding has touched them). Steps are powers of two, so sums and products on the grid are exact.
Comparisons, floor, argmax, casts to integers and the like only see exact values; divisors stay away from zero, logarithms
and roots get positive values, norms of rounded values have an eps that hides cancellation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.graph import Array, Graph, InputSpec, Node, make, topological
from infc.compiler.ir.ops import known
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.leaf import Constant, Input, WeightRef
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.reduce import Reduce
from infc.compiler.ir.prims import TABLE

from . import recipes
from .draft import BATCH, EXTENTS, TOKENS, Draft, draw


def random_graph(seed: int, op: str | None = None, mixes: bool | None = None) -> tuple[Graph, dict[str, Array]]:
    """A graph and its weights' arrays; with op (a mnemonic or a primitive's name) one that has it. Deterministic.
    `mixes` says whether ops may work along the batch (None: in one graph of eight)."""
    rng = random.Random(f"{seed} {op}")
    tokens = rng.random() < 0.5 or op == "masked_mean"
    dims = {"batch": (1, rng.choice((1, 3, 5)))}
    if tokens:
        dims["tokens"] = (1, rng.choice((1, 4, 9)))
    draft = Draft(rng, tokens, mixes=rng.random() < 0.12 if mixes is None else mixes, dims=dims)
    draft.input("float32", (BATCH, TOKENS) if tokens else (BATCH, rng.choice(EXTENTS)), -2, 2)
    names = list(recipes.RECIPES)
    count = rng.randint(1, 8)
    chosen = [rng.choice(names) for _ in range(count)]
    if op is not None:
        chosen[rng.randrange(count)] = op
    for name in chosen:
        recipes.apply(draft, name)
    outputs = _outputs(draft)
    used = {node.op.weight for node in topological(outputs) if isinstance(node.op, WeightRef)}
    length = "tokens" if tokens and rng.random() < 0.5 else None
    graph = Graph(
        name=f"random{seed}",
        dims=dims,
        inputs=tuple(draft.inputs),
        outputs=tuple((f"out{k}", node) for k, node in enumerate(outputs)),
        weights={name: weight for name, weight in draft.weights.items() if name in used},
        input_specs=draft.specs,
        length_dim=length,
    )
    return graph, {name: weight.load() for name, weight in graph.weights.items()}


def _outputs(draft: Draft) -> list[Node]:
    """Every computed node that nothing reads; one without the batch in front is brought into a row of numbers."""
    leaves = (Input, WeightRef, Constant)
    sinks = [node for node in draft.pool if node not in draft.used and not isinstance(node.op, leaves)]
    sinks = sinks or [node for node in draft.pool if node.type.shape[:1] == (BATCH,)][-1:]
    outputs: list[Node] = []
    for node in sinks:
        if node.type.shape[:1] == (BATCH,):
            outputs.append(node)
            continue
        value = node if node.type.dtype == "float32" else make(Cast("float32"), node)
        if value.type.rank:
            value = make(Reduce("mean", tuple(range(value.type.rank))), value)
        row = draft.inputs[0]
        if draft.chance(0.5):
            outputs.append(make(Map("add"), row, value))
        else:
            outputs.append(make(Expand((BATCH,)), value))
    return outputs


def targets() -> tuple[str, ...]:
    """Every op and every primitive by name, as `random_graph` takes them. quantize is left out: it rounds to coarse grids,
    where single and double precision may part; test_ir_reduced.py is about it."""
    return (*(name for name in known() if name != "quantize"), *(name for name in TABLE if name != "cast"))


def cases(count: int) -> list[tuple[int, str]]:
    """count pairs (seed, op) for `random_graph` that go round all targets."""
    names = targets()
    return [(k // len(names), names[k % len(names)]) for k in range(count)]


def sizes(graph: Graph) -> list[dict[str, int]]:
    """A value of every symbol: all at their lower bounds, all at their upper bounds, and between."""
    cases = [
        {name: low for name, (low, _) in graph.dims.items()},
        {name: high for name, (_, high) in graph.dims.items()},
        {name: (low + high) // 2 for name, (low, high) in graph.dims.items()},
    ]
    return [case for k, case in enumerate(cases) if case not in cases[:k]]


def random_inputs(graph: Graph, size: Mapping[str, int], seed: int) -> dict[str, Array]:
    """Arrays for every input at these sizes, within what their specs allow."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for node in graph.inputs:
        assert isinstance(node.op, Input)
        name = node.op.input
        spec = graph.input_specs.get(name, InputSpec())
        low = -2 if spec.minimum is None else spec.minimum
        high = 2 if spec.maximum is None else spec.maximum
        found[name] = draw(rng, node.type.dtype, [evaluate(d, size) for d in node.type.shape], low, high)
    return found
