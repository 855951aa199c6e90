"""What each output element of a node depends on, as a loop form.

For an op with a loop form it is that form. For a whole without one it is an expression that loads the same elements of
the operands, under a primitive named `depends` and reductions of that kind: right about *which* elements are read,
silent about what is done with them. The ragged analysis needs no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ..ir.graph import Node, Op
from ..ir.loops import Axis, Expr, Literal, Load, Loop, Prim, Reduce
from ..ir.types import TensorType

DEPENDS = "depends"


def dependence(node: Node) -> Loop | None:
    """The loop form of node, or one that depends on the same elements; None for a leaf.

    Raises NotImplementedError, naming the op, for a whole that is in neither table: a new whole needs a row here.
    """
    if not node.operands and node.op.mnemonic in ("input", "weight", "constant"):
        return None
    return _dependence(node.op, node.type, tuple(o.type for o in node.operands))


@lru_cache(maxsize=4096)
def _dependence(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Loop:
    loop = op.loop(out, *operands)
    if loop is not None:
        return loop
    rule = WHOLES.get(op.mnemonic)
    if rule is None:
        raise NotImplementedError(f"op {op.mnemonic} has no loop form and no row in passes/dependence.py")
    return Loop(out, rule(op, out, operands))


def _linear(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Expr:
    axes, inner = _axes(out), Axis(out.rank)
    total: Expr = Reduce(
        "sum",
        ((inner.number, operands[0].shape[-1]),),
        Prim("mul", (_load(operands, 0, *axes[:-1], inner), _load(operands, 1, axes[-1], inner)), "float32"),
        "float32",
    )
    reads: list[Expr] = [total]
    for number in range(2, len(operands)):
        whole = operands[number].rank == out.rank and operands[number].shape == out.shape
        reads.append(_load(operands, number, *(axes if whole and number == len(operands) - 1 else axes[-1:])))
    return Prim(DEPENDS, tuple(reads), out.dtype)


def _quantize(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Expr:
    """A vector of q8 depends on the whole vector of x, by its scale."""
    axes, inner = _axes(out), Axis(out.rank)
    reads: list[Expr] = [_load(operands, 0, *axes)]
    if len(operands) > 1:
        reads.append(_load(operands, 1, axes[-1]))
    if out.dtype == "q8":
        whole = _load(operands, 0, *axes[:-1], inner)
        reads.append(Reduce(DEPENDS, ((inner.number, out.shape[-1]),), whole, out.dtype))
    return Prim(DEPENDS, tuple(reads), out.dtype)


def _attention(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Expr:
    """out[b,t,h,d] reads q[b,t,h,:], k[b,:,h//group,:], v[b,:,h//group,d], mask[b,:], bias[b,h,t,:] (broadcast)."""
    b, t, h, d = _axes(out)
    key, inner = Axis(4), Axis(5)
    keys, queries = operands[1].shape[1], operands[0].shape[3]
    heads, key_heads = operands[0].shape[2], operands[1].shape[2]
    group = heads // key_heads if isinstance(heads, int) and isinstance(key_heads, int) else 1
    kh: Expr = h if group == 1 else Prim("floordiv", (h, Literal(group, "int64")), "int64")
    score: Expr = Reduce(
        "sum",
        ((inner.number, queries),),
        Prim("mul", (_load(operands, 0, b, t, h, inner), _load(operands, 1, b, key, kh, inner)), "float32"),
        "float32",
    )
    reads: list[Expr] = [score, _load(operands, 2, b, key, kh, d)]
    has_mask, has_bias = bool(getattr(op, "mask", False)), bool(getattr(op, "bias", False))
    if has_mask:
        reads.append(_load(operands, 3, b, key))
    if has_bias:
        bias = operands[3 + has_mask]
        places: tuple[Expr, ...] = (b, h, t, key)[4 - bias.rank :]
        index = [Literal(0, "int64") if dim == 1 else e for dim, e in zip(bias.shape, places, strict=True)]
        reads.append(_load(operands, 3 + has_mask, *index))
    return Reduce(DEPENDS, ((key.number, keys),), Prim(DEPENDS, tuple(reads), out.dtype), out.dtype)


def _recurrence(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Expr:
    """Each step depends on all of its row's."""
    b, step, inner, part = Axis(0), Axis(3), Axis(4), Axis(5)
    gates, hidden = operands[1].shape
    reads: list[Expr] = [_load(operands, 0, b, step, inner), _load(operands, 1, inner, part)]
    reads += [_load(operands, k, *((part,) if operands[k].rank == 1 else (b, part))) for k in range(2, len(operands))]
    over = ((step.number, operands[0].shape[1]), (inner.number, gates), (part.number, hidden))
    return Reduce(DEPENDS, over, Prim(DEPENDS, tuple(reads), out.dtype), out.dtype)


def _argsort(op: Op, out: TensorType, operands: tuple[TensorType, ...]) -> Expr:
    """Each place depends on the whole axis."""
    axis, inner = int(getattr(op, "axis", 0)), Axis(out.rank)
    index: list[Expr] = list(_axes(out))
    index[axis] = inner
    whole = Reduce(DEPENDS, ((inner.number, operands[0].shape[axis]),), _load(operands, 0, *index), out.dtype)
    return Prim(DEPENDS, (whole,), out.dtype)


def _axes(out: TensorType) -> tuple[Axis, ...]:
    return tuple(Axis(k) for k in range(out.rank))


def _load(operands: tuple[TensorType, ...], number: int, *index: Expr) -> Load:
    return Load(number, index, operands[number].dtype)


WHOLES: dict[str, Callable[[Op, TensorType, tuple[TensorType, ...]], Expr]] = {
    "linear": _linear,
    "quantize": _quantize,
    "attention": _attention,
    "recurrence": _recurrence,
    "argsort": _argsort,
}
