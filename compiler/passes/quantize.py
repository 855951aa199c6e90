"""quantize: linear layers and attention in a reduced precision, layer by layer, as a list of decisions says.

    linear      linear(x, w)         -> linear(quantize(x){dtype=q8}, w){precision=q8}; bfloat16 likewise
    smooth      linear(x, w)         -> linear(quantize(x, s), w / s) where the graph has factors s for the layer (q8)
    attention   attention(q, k, v)   -> attention over bfloat16
    halves      linear(..), attention(..) -> the same {out=bfloat16} where only quantize and such attention read it

`layers` is the list of decisions, `name=precision` joined by `;` in the order of the graph (see decisions.py): it can be
printed, hashed and replayed. Layers that it does not name stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast
from urllib.parse import quote, unquote

from ..errors import InfcError
from ..ir.graph import Graph, Node, Weight, make, rewrite, users
from ..ir.ops.attention import Attention
from ..ir.ops.leaf import WeightRef, weight_node
from ..ir.ops.linear import Linear
from ..ir.ops.quantize import Quantize as QuantizeOp
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..ir.types import DType, Reduced

PRECISIONS: Mapping[str, DType] = {"float32": "float32", "bfloat16": "bfloat16", "int8": "q8"}
"""The graph's dtype for each precision that decisions name."""
SMOOTH = "smooth:"
"""A weight of this name and a layer's: factors of its scale migration, float32 [K]."""


@dataclass(frozen=True)
class Quantize:
    """linear(x, w) -> linear(quantize(x), w){precision}; see the module."""

    layers: str = ""
    name: ClassVar[str] = "quantize"

    def apply(self, graph: Graph) -> Graph:
        chosen = parse_layers(self.layers)
        known = {layer_name(n) for n in graph.nodes() if isinstance(n.op, Linear | Attention)}
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise InfcError(
                f"pass quantize: no layer is called {unknown[0]!r}", hint=f"the layers are {', '.join(sorted(known))}"
            )
        return _halve(_reduce_layers(graph, chosen), chosen)


def parse_layers(text: str) -> dict[str, DType]:
    """Layer name to dtype. Raises InfcError for a part that is no decision."""
    found: dict[str, DType] = {}
    for part in text.split(";") if text else ():
        name, equals, precision = part.rpartition("=")
        if not equals or precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise InfcError(f"pass quantize: {part!r} is no decision", hint=f"NAME=PRECISION, one of {known}")
        found[unquote(name)] = PRECISIONS[precision]
    return found


def print_layers(chosen: Mapping[str, str]) -> str:
    """The text that `parse_layers` reads; values are precisions."""
    return ";".join(f"{quote(name, safe='/:+*@ ')}={precision}" for name, precision in chosen.items())


def layer_name(node: Node) -> str:
    """What decisions call a linear or attention: its name in the model, else its weight's."""
    weights = [o.op.weight for o in node.operands if isinstance(o.op, WeightRef)]
    return node.origin.name or (weights[0] if weights else node.op.name)


def reducible(node: Node) -> bool:
    """Whether a node can be in reduced precision at all: a linear over a fixed weight, or attention."""
    if isinstance(node.op, Linear):
        return isinstance(node.operands[1].op, WeightRef) and isinstance(node.type.shape[-1], int)
    return isinstance(node.op, Attention)


def _reduce_layers(graph: Graph, chosen: Mapping[str, DType]) -> Graph:
    """graph with linears over quantized operands."""
    quantized: dict[tuple[Node, DType, str], Node] = {}
    weights: dict[str, Weight] = {}

    def visit(node: Node) -> Node:
        dtype = chosen.get(layer_name(node), "float32")
        if not isinstance(node.op, Linear) or dtype == "float32" or node.op.precision != "float32":
            return node
        if not reducible(node):
            return node
        x, weight, *rest = node.operands
        name = SMOOTH + layer_name(node)
        smooth = name if dtype == "q8" and name in graph.weights else ""
        if (x, dtype, smooth) not in quantized:
            factors = (weight_node(smooth, graph.weights[smooth].type),) if smooth else ()
            quantized[x, dtype, smooth] = _narrow(x, dtype, node, *factors)
        if smooth:
            weight = _divided(graph, weight, smooth, weights)
        op = replace(node.op, precision=dtype)
        return make(op, quantized[x, dtype, smooth], weight, *rest, origin=node.origin)

    graph = rewrite(graph, visit)
    return graph.replace(weights={**graph.weights, **weights})


def _narrow(x: Node, dtype: DType, reader: Node, *smooth: Node) -> Node:
    """x in a reduced precision, for reader."""
    origin = replace(reader.origin, name=f"{reader.origin.name}.quantize" if reader.origin.name else "")
    return make(QuantizeOp(cast(Reduced, dtype), smooth=bool(smooth)), x, *smooth, origin=origin)


def _divided(graph: Graph, weight: Node, smooth: str, made: dict[str, Weight]) -> Node:
    """weight[N, K] / smooth[K], as a weight of its own."""
    name = cast(WeightRef, weight.op).weight
    scaled = f"{name}/{smooth}"
    load, factors = graph.weights[name].load, graph.weights[smooth].load
    made[scaled] = Weight(graph.weights[name].type, lambda: load() / factors())
    return weight_node(scaled, weight.type)


def _halve(graph: Graph, chosen: Mapping[str, DType]) -> Graph:
    """graph with attention over bfloat16 where chosen, and with bfloat16 results where nothing else reads them."""
    readers, outputs = users(graph), {node for _, node in graph.outputs}
    over_halves = {n for n in graph.nodes() if isinstance(n.op, Attention) and chosen.get(layer_name(n)) == "bfloat16"}

    def is_read_halved(node: Node) -> bool:
        """Whether all that reads node, also as columns or in another shape, takes bfloat16."""
        if node in outputs or not readers[node]:
            return False
        return all(
            isinstance(r.op, QuantizeOp)
            or (_is_view(r) and is_read_halved(r))
            or (r in over_halves and node in r.operands[:3] and node not in r.operands[3:])
            for r in readers[node]
        )

    image: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(image[o] for o in node.operands)
        op = node.op
        if isinstance(op, QuantizeOp) and op.dtype == operands[0].type.dtype and not op.smooth:
            image[node] = operands[0]
            continue
        if node in over_halves:
            narrowed = (o if o.type.dtype == "bfloat16" else _narrow(o, "bfloat16", node) for o in operands[:3])
            operands = (*narrowed, *operands[3:])
        reduced = isinstance(op, Linear) and op.precision != "float32" or node in over_halves
        if reduced and isinstance(op, Linear | Attention) and is_read_halved(node):
            op = replace(op, out="bfloat16")
        same = op is node.op and all(a is b for a, b in zip(operands, node.operands, strict=True))
        image[node] = node if same else Node(op, operands, op.infer(*(o.type for o in operands)), node.origin)
    return graph.replace(
        inputs=tuple(image[n] for n in graph.inputs), outputs=tuple((name, image[n]) for name, n in graph.outputs)
    )


def _is_view(node: Node) -> bool:
    """Whether a plan can take node as a view of its operand: another shape, or some columns."""
    op = node.op
    return isinstance(op, Reshape) or (isinstance(op, Slice) and op.axis == node.type.rank - 1 and op.step == 1)
