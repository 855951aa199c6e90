"""Decisions: the precision of each layer, and why. A list that is printed in the lock and the build report, and that
the pass `quantize{layers=...}` replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ..dsl.spec import Search
from .errors import InfcError
from .ir.graph import Graph, Node, Op
from .ir.ops.attention import Attention
from .ir.ops.linear import Linear
from .ir.types import TensorType
from .passes.quantize import PRECISIONS, layer_name, print_layers, reducible

Refuses = Callable[[Op, Sequence[TensorType]], str]
"""Why a target has no kernel for an op over operands of these types; "" where it has one."""


@dataclass(frozen=True)
class Decision:
    """One layer's precision (float32, bfloat16, int8); `reason` where it is not what `search { precision }` says."""

    layer: str
    precision: str
    reason: str = ""


def decide(graph: Graph, search: Search, refuses: Refuses) -> tuple[Decision, ...]:
    """A decision for each linear over a weight and each attention, in the order of the graph; of several layers of one name
    all have the widest that one needs. () where everything is float32.

    int8 means q8 for linears and bfloat16 for attention, where the target has it. Raises InfcError (exit 2) where `keep`
    names no layer, or where no layer at all can be reduced as wanted.
    """
    wanted = search.precisions[0].kind
    if wanted == "float32" and not search.keep:
        return ()
    nodes = [n for n in graph.nodes() if reducible(n)]
    _check_keep(search, [layer_name(n) for n in nodes])
    found: dict[str, Decision] = {}
    for node in nodes:
        name = layer_name(node)
        kept = next((k for k in search.keep if matches(name, k.pattern)), None)
        precision = kept.precision.kind if kept else wanted
        reason = f"keep {kept.pattern!r}" if kept else ""
        if isinstance(node.op, Attention) and precision == "int8":
            precision, reason = "bfloat16", reason or "attention: 8 bits are too few for a softmax's weights"
        why = refuses_node(node, precision, refuses)
        if why:
            precision, reason = "float32", why
        before = found.get(name)
        if before is None or _width(precision) > _width(before.precision):
            found[name] = Decision(name, precision, reason)
    decisions = tuple(found.values())
    if wanted != "float32" and all(
        found[layer_name(n)].precision == "float32" for n in nodes if isinstance(n.op, Linear)
    ):
        why = next((d.reason for d in decisions if d.reason), "it has no linear layer over fixed weights")
        raise InfcError(f"no layer of the model can be computed in {wanted}: {why}", hint="write `precision float32`")
    return decisions


def layers_text(decisions: Sequence[Decision]) -> str:
    """The option `layers` of the pass quantize; layers in float32 are left out."""
    return print_layers({d.layer: d.precision for d in decisions if d.precision != "float32"})


def narrowest(graph: Graph) -> str:
    """The narrowest precision that some value of graph is in: float32, bfloat16 or int8."""
    dtypes = {node.type.dtype for node in graph.nodes()}
    return min((p for p, dtype in PRECISIONS.items() if dtype in dtypes), key=_width, default="float32")


def matches(layer: str, pattern: str) -> bool:
    """Whether a glob names a layer, or one of those that were joined into it: `a.query+key` is a.query and a.key."""
    stem, dot, last = layer.rpartition(".")
    return any(fnmatchcase(name, pattern) for name in (layer, *(stem + dot + part for part in last.split("+"))))


def refuses_node(node: Node, precision: str, refuses: Refuses) -> str:
    """Why the target has no kernel for a linear or attention in `precision`; "" where it has one."""
    if precision == "float32":
        return ""
    dtype = PRECISIONS[precision]
    types = [o.type for o in node.operands]
    count = 1 if isinstance(node.op, Linear) else 3
    reduced = (*(TensorType(dtype, t.shape) for t in types[:count]), *types[count:])
    return refuses(replace(node.op, precision=dtype) if isinstance(node.op, Linear) else node.op, reduced)


def _check_keep(search: Search, names: Sequence[str]) -> None:
    for kept in search.keep:
        if not any(matches(name, kept.pattern) for name in names):
            shown = (
                ", ".join(dict.fromkeys(names))
                if len(set(names)) < 8
                else ", ".join([*dict.fromkeys(names)][:7]) + ", ..."
            )
            raise InfcError(f"`keep` {kept.pattern!r} names no layer", hint=f"the layers are {shown}")


def _width(precision: str) -> int:
    return {"int8": 8, "bfloat16": 16, "float32": 32}[precision]
