"""What reads beyond an axis or along windows of it: padding by what is there, unfold, running products."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dims import Dim, bounds
from ...ir.graph import Node
from .scope import Scope, Unsupported, Value, aten, axis_of, dims_of, static, tensor

MODES = ("reflect", "replicate", "circular")
MOST_STEPS = 64
"""Places of a window, or of an axis, that are taken one after the other."""


def edge_pad(s: Scope, node: Node, amounts: Sequence[Dim], mode: str) -> Node:
    """node with so many elements before and after each of its last axes, from the last forwards, made of its own (torch's
    rules): mirrored without the edge, the edge again, or those of the other end."""
    for k in range(len(amounts) // 2):
        at = node.type.rank - 1 - k
        low, high = amounts[2 * k], amounts[2 * k + 1]
        extent = node.type.shape[at]
        least = bounds(extent, s.dims)[0]
        if not isinstance(low, int) or not isinstance(high, int) or low < 0 or high < 0:
            raise Unsupported(f"{mode} padding of {low} and {high}", "pad by fixed counts of 0 or more")
        needed = {"reflect": max(low, high) + 1, "circular": max(low, high), "replicate": 1}[mode]
        if least < needed:
            raise Unsupported(
                f"{mode} padding of {low} and {high} of an axis that may have {least} elements", "pad by fewer"
            )
        pieces = [*_edge(s, node, at, low, mode, front=True), node, *_edge(s, node, at, high, mode, front=False)]
        if len(pieces) > 1:
            node = s.op("concat", *pieces, axis=at)
    return node


def _edge(s: Scope, node: Node, at: int, count: int, mode: str, *, front: bool) -> list[Node]:
    """What stands before or behind one axis; nothing of a count of 0."""
    if count == 0:
        return []
    extent = node.type.shape[at]
    if mode == "reflect":
        part = s.slice(node, at, 1, count + 1) if front else s.slice(node, at, extent - count - 1, extent - 1)
        return [s.op("flip", part, axes=(at,))]
    if mode == "circular":
        return [s.slice(node, at, extent - count, extent) if front else s.slice(node, at, 0, count)]
    edge = s.slice(node, at, 0, 1) if front else s.slice(node, at, extent - 1, extent)
    return [s.expand(edge, (*node.type.shape[:at], count, *node.type.shape[at + 1 :]))]


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(s: Scope, x: Value, amounts: Value) -> Node:
    return edge_pad(s, tensor(x), dims_of(amounts, "the padding"), "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(s: Scope, x: Value, amounts: Value) -> Node:
    return edge_pad(s, tensor(x), dims_of(amounts, "the padding"), "replicate")


@aten("unfold")
def unfold(s: Scope, x: Value, axis: Value, size: Value, step: Value) -> Node:
    """Windows of one axis, [..., windows, ..., size]."""
    node = tensor(x)
    if node.type.rank == 0:
        raise Unsupported("windows of a scalar", "give it an axis")
    at = axis_of(axis, node.type.rank)
    width, stride = static(size, "the window's size"), static(step, "the window's step")
    if not 0 < width <= MOST_STEPS or stride < 1:
        raise Unsupported(f"windows of {width} with the step {stride}", f"take windows of 1 to {MOST_STEPS}")
    last = node.type.shape[at] - width  # where the last window may begin
    windows = last // stride + 1
    taken = [s.slice(node, at, place, place + last - last % stride + 1, stride) for place in range(width)]
    shape = (*node.type.shape[:at], windows, *node.type.shape[at + 1 :], 1)
    return s.op("concat", *(s.reshape(piece, shape) for piece in taken), axis=node.type.rank)


@aten("cumprod")
def cumprod(s: Scope, x: Value, axis: Value, *rest: Value) -> Node:
    """Running products of an axis of a fixed extent."""
    node = s.cast(tensor(x), s.dtype)
    if node.type.rank == 0:
        return node
    at = axis_of(axis, node.type.rank)
    extent = node.type.shape[at]
    if not isinstance(extent, int) or not 0 < extent <= MOST_STEPS:
        raise Unsupported(f"running products of {extent} elements", f"take up to {MOST_STEPS}, or cumsum of logarithms")
    products = [s.slice(node, at, 0, 1)]
    for place in range(1, extent):
        products.append(s.map("mul", products[-1], s.slice(node, at, place, place + 1)))
    return s.op("concat", *products, axis=at)
