"""Memory that is filled part by part: `empty`, and slices of it that are assigned to until nothing is left."""

from __future__ import annotations

from ...ir.dims import Dim
from ...ir.graph import Node
from .scope import Scope, Unsupported, Unwritten, Value, aten, dims_of, shape_of, tensor


@aten("empty.memory_format", "empty_strided", "empty_permuted")
def empty(s: Scope, sizes: Value, *rest: Value) -> Unwritten:
    return Unwritten(dims_of(sizes, "empty"), s.dtype)


@aten("empty_like")
def empty_like(s: Scope, x: Value, *rest: Value) -> Unwritten:
    return Unwritten(shape_of(x), s.dtype)


@aten("new_empty")
def new_empty(s: Scope, x: Value, sizes: Value, *rest: Value) -> Unwritten:
    return Unwritten(dims_of(sizes, "new_empty"), s.dtype)


def part_of(memory: Unwritten, at: int, first: Dim, last: Dim) -> Unwritten:
    """The slice first:last of one axis, to write to. Whoever reads it is refused, even where it was written."""
    if (first, last) == (0, memory.shape[at]):
        return memory
    return Unwritten((*memory.shape[:at], last - first, *memory.shape[at + 1 :]), memory.dtype)


def written(s: Scope, memory: Unwritten, at: int, first: Dim, last: Dim, part: Value) -> Node | Unwritten:
    """memory with part, which broadcasts to it, at first:last of one axis: a tensor once all of it is written. Raises
    Unsupported where a place is written twice, or along another axis than before."""
    if isinstance(part, Unwritten):
        if (first, last) == (0, memory.shape[at]) and part.shape == memory.shape:
            return part
        raise Unsupported("memory is filled along more than one axis", Unwritten.HINT)
    if memory.axis not in (None, at):
        raise Unsupported("memory is filled along more than one axis", Unwritten.HINT)
    shape = (*memory.shape[:at], last - first, *memory.shape[at + 1 :])
    value = s.expand(s.cast(tensor(part), memory.dtype), shape)
    parts = (*memory.parts, (first, last, value))
    whole = _in_order(parts, memory.shape[at])
    if whole is None:
        return Unwritten(memory.shape, memory.dtype, at, parts)
    return whole[0] if len(whole) == 1 else s.op("concat", *whole, axis=at)


def _in_order(parts: tuple[tuple[Dim, Dim, Node], ...], extent: Dim) -> list[Node] | None:
    """The parts, each beginning where the one before ends, up to the extent; None where there are gaps."""
    left, place, found = list(parts), 0, list[Node]()
    while left:
        part = next((p for p in left if p[0] == place), None)
        if part is None:
            return None
        left.remove(part)
        place = part[1]
        found.append(part[2])
    return found if place == extent else None
