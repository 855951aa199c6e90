"""Chains: consecutive flat steps that a thread runs one after the other over a block of its own rows.

A step is row-wise where each row (a token, or a batch row) of its result reads that row alone of every flat operand. A
chain needs no barrier between its steps, and what only its own steps read lives in a small buffer of each thread, which
stays in the cache. Attention reads its keys and values at other rows: it may stand in a chain that does not write them.

    linear · attention · linear · layer_norm · linear        becomes        [linear] [attention · linear · layer_norm · linear]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..ir.dims import Dim
from ..ir.graph import Node
from ..ir.loops import Axis, loads
from ..ir.ops.argmax import Argmax
from ..ir.ops.argmin import Argmin
from ..ir.ops.attention import Attention
from ..ir.ops.conv import Conv
from ..ir.ops.cumsum import Cumsum
from ..ir.ops.embedding import Embedding
from ..ir.ops.group_norm import GroupNorm
from ..ir.ops.l2_normalize import L2Normalize
from ..ir.ops.layer_norm import LayerNorm
from ..ir.ops.linear import Linear
from ..ir.ops.log_softmax import LogSoftmax
from ..ir.ops.masked_mean import MaskedMean
from ..ir.ops.matmul import Matmul
from ..ir.ops.pool import Pool
from ..ir.ops.quantize import Quantize
from ..ir.ops.rms_norm import RmsNorm
from ..ir.ops.softmax import Softmax
from ..passes.placement import Place

_LAST_AXIS = LayerNorm | RmsNorm | L2Normalize | Embedding | Linear | Quantize
_ACROSS_ROWS = Argmax | Argmin | Conv | Cumsum | GroupNorm | MaskedMean | Matmul | Pool


def chain_lead(node: Node, place: Mapping[Node, Place]) -> tuple[Dim, ...] | None:
    """The leading axes that number the rows of a chain that begins with node; None where node begins none."""
    if place[node] is Place.TOKEN:
        lead = 2
    elif place[node] is Place.ROW:
        lead = 2 if isinstance(node.op, Attention) else max(node.type.rank - 1, 1)
    else:
        return None
    shape = node.type.shape[:lead]
    return shape if far_operands(node, place, shape) is not None else None


def far_operands(node: Node, place: Mapping[Node, Place], rows: tuple[Dim, ...]) -> tuple[Node, ...] | None:
    """The flat operands that node reads at other rows than its own; None where node cannot stand in a chain over `rows`,
    the leading axes of all its values."""
    op, lead = node.op, len(rows)
    flat = [o for o in node.operands if place[o] in (Place.TOKEN, Place.ROW)]
    if node.type.shape[:lead] != rows or any(place[o] is Place.LOCAL for o in node.operands):
        return None
    if place[node] is Place.ROW and any(place[o] is Place.TOKEN for o in flat):
        return None
    if isinstance(op, Attention):
        return tuple(node.operands[1:]) if lead == 2 and place[node.operands[0]] is place[node] else None
    if isinstance(op, _LAST_AXIS | Softmax | LogSoftmax):
        inside = op.axis >= lead if isinstance(op, Softmax | LogSoftmax) else node.type.rank > lead
        return () if inside and all(o.type.shape[:lead] == rows for o in flat) else None
    loop = op.loop(node.type, *(o.type for o in node.operands))
    if loop is None or isinstance(op, _ACROSS_ROWS) or (place[node] is Place.ROW and lead > 1):
        return None
    own = tuple(Axis(k) for k in range(lead))
    found = (load for load in loads(loop.body) if place[node.operands[load.operand]] is place[node])
    return () if all(load.index[:lead] == own for load in found) else None


def joins(
    node: Node, chain: Collection[Node], rows: tuple[Dim, ...], place: Mapping[Node, Place], stored: Mapping[Node, Node]
) -> bool:
    """Whether node may follow the steps of `chain`; `stored` names the node whose memory a view is."""
    far = far_operands(node, place, rows)
    if far is None or any(place[m] is not place[node] for m in chain):
        return False
    return not any(stored.get(o, o) in chain for o in far)
