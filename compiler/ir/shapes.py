"""Checks and shape rules that several ops share. Every check raises OpError in the words of the op that asks."""

from __future__ import annotations

from collections.abc import Sequence

from .dims import Dim, exact_div, floordiv, product
from .graph import OpError
from .types import DType, TensorType

Shape = tuple[Dim, ...]
NUMBERS: tuple[DType, ...] = ("float32", "int64", "int32")
INTEGERS: tuple[DType, ...] = ("int64", "int32")


def check_count(op: str, operands: Sequence[TensorType], expected: int) -> None:
    """As many operands as the op takes with these attributes."""
    if len(operands) != expected:
        raise OpError(f"{op} takes {expected} operand{'s' * (expected != 1)} here, not {len(operands)}")


def check_dtype(op: str, what: str, type_: TensorType, allowed: Sequence[DType]) -> None:
    """type_ is of one of the allowed dtypes."""
    if type_.dtype not in allowed:
        raise OpError(f"{op}: {what} must be {' or '.join(allowed)}, not {type_}")


def check_axis(op: str, axis: int, type_: TensorType) -> None:
    """axis counts from the front and exists."""
    if not 0 <= axis < type_.rank:
        raise OpError(f"{op}: axis {axis} is not in 0..{type_.rank - 1} of {type_}")


def check_axes(op: str, axes: Sequence[int], type_: TensorType) -> None:
    """Every axis exists, none twice."""
    for axis in axes:
        check_axis(op, axis, type_)
    if len(set(axes)) != len(axes):
        raise OpError(f"{op}: axes {tuple(axes)} name one axis twice")


def check_shape(op: str, what: str, type_: TensorType, shape: Shape) -> None:
    """type_ has exactly this shape."""
    if type_.shape != shape:
        raise OpError(f"{op}: {what} {type_} must have shape [{text(shape)}]")


def check_not_negative(op: str, what: str, dim: Dim) -> None:
    """dim is not an integer below zero (a symbolic one is the verifier's to bound)."""
    if isinstance(dim, int) and dim < 0:
        raise OpError(f"{op}: {what} is {dim}; it must not be negative")


def text(shape: Shape) -> str:
    """`batch,tokens,384`."""
    return ",".join(str(d) for d in shape)


def broadcast_dim(op: str, a: Dim, b: Dim, context: str) -> Dim:
    """The dimension that a and b broadcast to: equal ones stay, 1 yields."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    raise OpError(f"{op}: dimensions {a} and {b} differ and neither is 1 ({context})")


def broadcast_shapes(op: str, *shapes: Shape) -> Shape:
    """NumPy's broadcasting; symbolic dimensions are equal only where they are the same expression."""
    context = " and ".join(f"[{text(s)}]" for s in shapes)
    out: list[Dim] = [1] * max((len(s) for s in shapes), default=0)
    for shape in shapes:
        for back in range(1, len(shape) + 1):
            out[-back] = broadcast_dim(op, out[-back], shape[-back], context)
    return tuple(out)


def check_broadcasts_to(op: str, what: str, type_: TensorType, shape: Shape) -> None:
    """type_ broadcasts to exactly shape."""
    if type_.rank > len(shape) or broadcast_shapes(op, type_.shape, shape) != shape:
        raise OpError(f"{op}: {what} {type_} does not broadcast to [{text(shape)}]")


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """shape without axes, or with 1 in their place."""
    if keepdims:
        return tuple(1 if k in axes else d for k, d in enumerate(shape))
    return tuple(d for k, d in enumerate(shape) if k not in axes)


def window_extent(
    op: str, extent: Dim, kernel: int, stride: int, padding: tuple[int, int], dilation: int, ceil_mode: bool = False
) -> Dim:
    """Number of windows over a padded extent; PyTorch's rule, where with ceil_mode the last window must begin inside
    the input or its low padding."""
    low, high = padding
    room = extent + (low + high - dilation * (kernel - 1) - 1)
    if isinstance(room, int) and room < 0:
        raise OpError(f"{op}: a window of {dilation * (kernel - 1) + 1} does not fit into {extent} + {low} + {high}")
    if not ceil_mode:
        return floordiv(room, stride) + 1
    if stride == 1:
        return room + 1
    if not isinstance(room, int):
        raise OpError(f"{op}: ceil_mode with stride {stride} needs a fixed extent, not {extent}")
    count = -(-room // stride) + 1
    assert isinstance(extent, int)
    return count - 1 if (count - 1) * stride >= extent + low else count


def match_groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Pairs (axes of source, axes of target) of equal element counts, as small as can be, in order: row-major reshape
    works on each pair alone. Axes of extent 1 are in no pair. The element counts of both shapes must be equal."""
    left = [k for k, d in enumerate(source) if d != 1]
    right = [k for k, d in enumerate(target) if d != 1]
    if 0 in source or 0 in target:
        return [(left, right)]
    groups: list[tuple[list[int], list[int]]] = []
    while left or right:
        a, b = [left.pop(0)] if left else [], [right.pop(0)] if right else []
        while True:
            p, q = product([source[k] for k in a]), product([target[k] for k in b])
            if p == q:
                break
            if left and (not right or _smaller(p, q)):
                a.append(left.pop(0))
            elif right:
                b.append(right.pop(0))
            else:
                raise OpError(f"reshape: [{text(source)}] and [{text(target)}] differ in their element counts")
        groups.append((a, b))
    return groups


def _smaller(p: Dim, q: Dim) -> bool:
    """Whether p is the one to grow so that p and q meet: it divides q, or is the smaller integer, or is undecided."""
    if isinstance(p, int) and isinstance(q, int):
        return p < q
    if exact_div(q, p) is not None:
        return True
    return exact_div(p, q) is None
