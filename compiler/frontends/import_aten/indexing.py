"""Reading by index: gather, index_select, advanced indexing."""

from __future__ import annotations

from ...ir.dims import Dim
from ...ir.graph import Node
from ...ir.ops.iota import Iota
from ...ir.ops.leaf import Constant
from ...ir.ops.map import Map
from .scope import Scope, Unsupported, Value, aten, axis_of, broadcast, tensor


def wrapped(s: Scope, index: Node, extent: Dim) -> Node:
    """index with negative entries counted from the end; unchanged where it cannot be negative."""
    if not may_be_negative(index):
        return index
    kind = index.type.dtype
    negative = s.map("lt", index, s.constant(0, kind))
    return s.map("where", negative, s.map("add", index, s.node(extent, kind)), index)


def may_be_negative(node: Node, depth: int = 12) -> bool:
    """Whether an integer may be below 0, as far as the ops say (counts, clamps and sums of such are not)."""
    op = node.op
    if depth == 0 or node.type.dtype == "bool":
        return node.type.dtype != "bool"
    if isinstance(op, Constant):
        return op.value < 0
    if isinstance(op, Iota):
        return op.start < 0 or op.step < 0
    if op.mnemonic in ("argmax", "argmin", "argsort"):
        return False
    if op.mnemonic in ("reshape", "permute", "expand", "slice", "flip", "concat", "cast", "cumsum"):
        if op.mnemonic == "cast" and node.operands[0].type.dtype == "float32":
            return True
        return any(may_be_negative(o, depth - 1) for o in node.operands)
    if isinstance(op, Map):
        fn = op.fn
        if fn in ("add", "mul", "min"):
            return any(may_be_negative(o, depth - 1) for o in node.operands)
        if fn in ("max", "mod"):
            return all(may_be_negative(o, depth - 1) for o in node.operands)
        if fn == "where":
            return any(may_be_negative(o, depth - 1) for o in node.operands[1:])
        return fn != "abs"
    return True


@aten("gather")
def gather(s: Scope, x: Value, axis: Value, index: Value, *rest: Value) -> Node:
    node = tensor(x)
    return s.op("gather", node, tensor(index), axis=axis_of(axis, node.type.rank))


@aten("index_select")
def index_select(s: Scope, x: Value, axis: Value, index: Value) -> Node:
    node = tensor(x)
    return s.op("take", node, tensor(index), axis=axis_of(axis, node.type.rank))


@aten("index.Tensor", "_unsafe_index.Tensor")
def index_tensor(s: Scope, x: Value, indices: Value) -> Node:
    """x[:, i, j, :]: index tensors on some axes. Those axes are brought together; where they were apart, the indexed
    axes go to the front (NumPy's rule, torch's too)."""
    node = tensor(x)
    listed = indices if isinstance(indices, list) else [indices]
    given = {axis: tensor(i) for axis, i in enumerate(listed) if i is not None}
    if any(i.type.dtype == "bool" for i in given.values()):
        raise Unsupported("indexing by a mask: the result's shape depends on data", "use `torch.where` with the mask")
    axes = sorted(given)
    if not axes:
        return node
    ids = [wrapped(s, given[a], node.type.shape[a]) for a in axes]
    broadcast(*(i.type for i in ids))
    if axes != list(range(axes[0], axes[0] + len(axes))):
        rest = [a for a in range(node.type.rank) if a not in axes]
        node = s.permute(node, (*axes, *rest))
        axes = list(range(len(axes)))
    if len(axes) == 1:
        return s.op("take", node, ids[0], axis=axes[0])
    return s.op("index", node, *ids, axes=tuple(axes))
