"""Views, joins and cuts: reshape, permute, expand, slice, concat, pad, flip, roll, repeat."""

from __future__ import annotations

from typing import Any

from ...ir.dims import Dim, bounds, exact_div, product
from ...ir.graph import Node
from .edges import MODES, edge_pad
from .scope import Scope, Unsupported, Unwritten, Value, aten, axes_of, axis_of, dims_of, shape_of, static, tensor
from .unwritten import part_of


def resolve(s: Scope, x: Node, sizes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """sizes with -1 replaced by what is left of x's elements. Raises Unsupported."""
    if -1 not in sizes:
        return sizes
    left: Dim | None = x.type.elements
    for size in sizes:
        left = None if left is None else left if size == -1 else _divide(left, size)
    if left is None:
        raise Unsupported(f"{x.type} viewed as [{', '.join(str(d) for d in sizes)}]: the rest is no whole dimension")
    return tuple(left if d == -1 else d for d in sizes)


def _divide(total: Dim, size: Dim) -> Dim | None:
    return exact_div(total, size) if size != 0 else None


@aten("view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy", "_reshape_copy")
def view(s: Scope, x: Value, sizes: Value, *rest: Value) -> Node:
    node = tensor(x)
    return s.reshape(node, resolve(s, node, dims_of(sizes, "the view")))


@aten("view_as", "reshape_as")
def view_as(s: Scope, x: Value, other: Value) -> Node:
    return s.reshape(tensor(x), tensor(other).type.shape)


@aten("flatten.using_ints")
def flatten(s: Scope, x: Value, start: Value = 0, end: Value = -1) -> Node:
    node = tensor(x)
    if node.type.rank == 0:
        return s.reshape(node, (1,))
    a, b = axis_of(start, node.type.rank), axis_of(end, node.type.rank)
    shape = node.type.shape
    return s.reshape(node, (*shape[:a], product(shape[a : b + 1]), *shape[b + 1 :]))


@aten("unflatten.int")
def unflatten(s: Scope, x: Value, axis: Value, sizes: Value) -> Node:
    node = tensor(x)
    at = axis_of(axis, node.type.rank)
    shape = (*node.type.shape[:at], *dims_of(sizes, "unflatten"), *node.type.shape[at + 1 :])
    return s.reshape(node, resolve(s, node, shape))


@aten("squeeze", "squeeze.dim", "squeeze.dims", "squeeze_copy.dims")
def squeeze(s: Scope, x: Value, axes: Value = None) -> Node:
    node = tensor(x)
    wanted = set(axes_of(axes, node.type.rank))
    for at in sorted(wanted):
        extent = node.type.shape[at]
        if not isinstance(extent, int) and bounds(extent, s.dims)[0] <= 1 <= bounds(extent, s.dims)[1]:
            raise Unsupported(
                f"squeeze takes axis {at}, of {extent} elements, out for some inputs and leaves it for others",
                "name the axes that always have one element, as in `x.squeeze(-1)`, or let the dimension begin at 2",
            )
    return s.reshape(node, tuple(d for i, d in enumerate(node.type.shape) if not (i in wanted and d == 1)))


@aten("unsqueeze", "unsqueeze_copy")
def unsqueeze(s: Scope, x: Value, axis: Value) -> Node:
    node = tensor(x)
    at = axis_of(axis, node.type.rank + 1)
    return s.reshape(node, (*node.type.shape[:at], 1, *node.type.shape[at:]))


@aten("permute", "permute_copy")
def permute(s: Scope, x: Value, perm: Value) -> Node:
    node = tensor(x)
    return s.permute(node, tuple(axis_of(p, node.type.rank) for p in dims_of(perm, "permute")))


@aten("transpose.int", "swapaxes", "swapdims")
def transpose(s: Scope, x: Value, first: Value, second: Value) -> Node:
    node = tensor(x)
    perm = list(range(node.type.rank))
    a, b = axis_of(first, node.type.rank), axis_of(second, node.type.rank)
    if perm:
        perm[a], perm[b] = perm[b], perm[a]
    return s.permute(node, tuple(perm))


@aten("t", "numpy_T", "mT")
def t(s: Scope, x: Value) -> Node:
    node = tensor(x)
    return s.permute(node, tuple(reversed(range(node.type.rank))))


@aten("movedim.int", "movedim.intlist")
def movedim(s: Scope, x: Value, source: Value, target: Value) -> Node:
    node = tensor(x)
    a = [axis_of(v, node.type.rank) for v in dims_of(source, "movedim")]
    b = [axis_of(v, node.type.rank) for v in dims_of(target, "movedim")]
    rest = iter(i for i in range(node.type.rank) if i not in a)
    return s.permute(node, tuple(a[b.index(i)] if i in b else next(rest) for i in range(node.type.rank)))


@aten("expand", "expand_copy", "broadcast_to")
def expand(s: Scope, x: Value, sizes: Value, *rest: Value) -> Node:
    node = tensor(x)
    wanted = dims_of(sizes, "expand")
    lead = len(wanted) - node.type.rank
    shape = tuple(node.type.shape[i - lead] if d == -1 else d for i, d in enumerate(wanted))
    return s.expand(node, shape)


@aten("expand_as")
def expand_as(s: Scope, x: Value, other: Value) -> Node:
    return s.expand(tensor(x), tensor(other).type.shape)


@aten("repeat", "tile")
def repeat(s: Scope, x: Value, counts: Value) -> Node:
    """Each axis d repeated r times: [d] -> [1, d] -> expand [r, d] -> reshape [r * d]."""
    node = tensor(x)
    times = dims_of(counts, "repeat")
    times = (*([1] * (node.type.rank - len(times))), *times)
    shape: tuple[Dim, ...] = (*([1] * (len(times) - node.type.rank)), *node.type.shape)
    if all(r == 1 or d == 1 for r, d in zip(times, shape, strict=True)):
        return s.expand(s.reshape(node, shape), tuple(r * d for r, d in zip(times, shape, strict=True)))
    split = tuple(v for d in shape for v in (1, d))
    grown = tuple(v for r, d in zip(times, shape, strict=True) for v in (r, d))
    total = tuple(r * d for r, d in zip(times, shape, strict=True))
    return s.reshape(s.expand(s.reshape(node, split), grown), total)


@aten("repeat_interleave.self_int")
def repeat_interleave(s: Scope, x: Value, count: Value, axis: Value = None, *rest: Value) -> Node:
    node = tensor(x)
    if axis is None:
        node = s.reshape(node, (node.type.elements,))
    at = axis_of(axis if axis is not None else 0, node.type.rank)
    shape, r = node.type.shape, static(count, "the number of repeats")
    grown = s.expand(s.reshape(node, (*shape[: at + 1], 1, *shape[at + 1 :])), (*shape[: at + 1], r, *shape[at + 1 :]))
    return s.reshape(grown, (*shape[:at], shape[at] * r, *shape[at + 1 :]))


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest1d.vec", "upsample_nearest2d.vec")
def upsample_nearest(s: Scope, x: Value, sizes: Value, *scales: Value) -> Node:
    """Each element repeated a whole number of times along each spatial axis."""
    node = tensor(x)
    spatial = node.type.shape[2:]
    factors: list[int] = []
    for k, extent in enumerate(spatial):
        wanted = sizes[k] if isinstance(sizes, list) else None
        if isinstance(wanted, int) and isinstance(extent, int) and wanted % extent == 0:
            factors.append(wanted // extent)
            continue
        scale = scales[0][k] if scales and isinstance(scales[0], list) else None
        if not isinstance(scale, float) or not scale.is_integer():
            raise Unsupported("upsampling by a factor that is no constant integer")
        factors.append(int(scale))
    for k, factor in enumerate(factors):
        node = repeat_interleave(s, node, factor, 2 + k) if factor > 1 else node
    return node


def end_of(s: Scope, value: Value, extent: Dim, missing: Dim) -> Dim:
    """A slice's bound in 0..extent: negative counts from the end, beyond the end is the end. Raises Unsupported."""
    if value is None:
        return missing
    (bound,) = dims_of(value, "the slice")
    low, high = bounds(bound, s.dims)
    if high < 0:
        bound = bound + extent
        if bounds(bound, s.dims)[1] < 0:
            return 0
        if bounds(bound, s.dims)[0] < 0:
            raise Unsupported(f"a slice starts {bound} from the front, which some lengths do not have")
        return bound
    if low < 0:
        raise Unsupported(f"the slice bound {bound} may be negative")
    if isinstance(bound, int) and bound >= 2**62:
        return extent
    gap_low, gap_high = bounds(extent - bound, s.dims)
    if gap_high <= 0:
        return extent
    if gap_low < 0:
        raise Unsupported(f"whether the slice bound {bound} lies within the extent {extent} depends on the input")
    return bound


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_tensor(
    s: Scope, x: Value, axis: Value = 0, start: Value = None, stop: Value = None, step: Value = 1
) -> Node | Unwritten:
    shape = shape_of(x)
    at = axis_of(axis, len(shape))
    first, last = ends_of(s, shape[at], start, stop)
    if isinstance(x, Unwritten) and step == 1:
        return part_of(x, at, first, last)
    return s.slice(tensor(x), at, first, last, static(step, "the slice's step"))


def ends_of(s: Scope, extent: Dim, start: Value, stop: Value) -> tuple[Dim, Dim]:
    """Where a slice of one axis begins and ends, counted from the front; equal where it is empty."""
    first, last = end_of(s, start, extent, 0), end_of(s, stop, extent, extent)
    return (first, first) if bounds(last - first, s.dims)[1] <= 0 else (first, last)


@aten("narrow")
def narrow(s: Scope, x: Value, axis: Value, start: Value, length: Value) -> Node:
    node = tensor(x)
    at = axis_of(axis, node.type.rank)
    first = end_of(s, start, node.type.shape[at], 0)
    return s.slice(node, at, first, first + dims_of(length, "the length")[0])


@aten("select.int", "select_copy.int")
def select(s: Scope, x: Value, axis: Value, index: Value) -> Node | Unwritten:
    shape = shape_of(x)
    at = axis_of(axis, len(shape))
    place = place_of(s, shape, at, index)
    if isinstance(x, Unwritten):
        return Unwritten((*shape[:at], *shape[at + 1 :]), x.dtype)
    node = tensor(x)
    piece = s.slice(node, at, place, place + 1)
    return s.reshape(piece, (*node.type.shape[:at], *node.type.shape[at + 1 :]))


def place_of(s: Scope, shape: tuple[Dim, ...], at: int, index: Value) -> Dim:
    """An index of one axis, counted from the front. Raises Unsupported where it may be outside."""
    extent = shape[at]
    (place,) = dims_of(index, "the index")
    if bounds(place, s.dims)[1] < 0:
        place = place + extent
    if bounds(place, s.dims)[0] < 0 or bounds(extent - place, s.dims)[0] < 1:
        raise Unsupported(f"the index {place} is outside axis {at} of [{', '.join(map(str, shape))}] for some inputs")
    return place


def _pieces(s: Scope, node: Node, at: int, sizes: list[Dim]) -> list[Value]:
    out: list[Value] = []
    start: Dim = 0
    for size in sizes:
        out.append(s.slice(node, at, start, start + size))
        start = start + size
    return out


@aten("split.Tensor", "split.default")
def split(s: Scope, x: Value, size: Value, axis: Value = 0) -> list[Value]:
    node = tensor(x)
    at = axis_of(axis, node.type.rank)
    extent, width = static(node.type.shape[at], "the extent to split"), static(size, "the size of a piece")
    return _pieces(s, node, at, [min(width, extent - k) for k in range(0, max(extent, 1), width)])


@aten("split_with_sizes", "split.sizes", "split_with_sizes_copy")
def split_with_sizes(s: Scope, x: Value, sizes: Value, axis: Value = 0) -> list[Value]:
    node = tensor(x)
    return _pieces(s, node, axis_of(axis, node.type.rank), list(dims_of(sizes, "split")))


@aten("chunk", "tensor_split.sections")
def chunk(s: Scope, x: Value, count: Value, axis: Value = 0) -> list[Value]:
    node = tensor(x)
    at = axis_of(axis, node.type.rank)
    extent, pieces = static(node.type.shape[at], "the extent to split"), static(count, "the number of pieces")
    return split(s, node, max(-(-extent // pieces), 1), at)


@aten("unbind.int")
def unbind(s: Scope, x: Value, axis: Value = 0) -> list[Value]:
    node = tensor(x)
    at = axis_of(axis, node.type.rank)
    return [select(s, node, at, i) for i in range(static(node.type.shape[at], "the extent to unbind"))]


@aten("cat", "concat")
def cat(s: Scope, xs: Value, axis: Value = 0) -> Node:
    nodes = [tensor(x) for x in _list(xs)]
    kept = [s.cast(n, s.dtype) for n in nodes if n.type.shape != (0,)] or nodes[:1]
    if len(kept) == 1:
        return kept[0]
    return s.op("concat", *kept, axis=axis_of(axis, kept[0].type.rank))


@aten("stack")
def stack(s: Scope, xs: Value, axis: Value = 0) -> Node:
    return cat(s, [unsqueeze(s, x, axis) for x in _list(xs)], axis_of(axis, tensor(_list(xs)[0]).type.rank + 1))


def _list(values: Value) -> list[Any]:
    return values if isinstance(values, list) else [values]


@aten("constant_pad_nd", "pad")
def pad(s: Scope, x: Value, amounts: Value, mode: Value = "constant", value: Value = None) -> Node:
    """Padding from the last axis forwards; a negative amount cuts."""
    node = tensor(x)
    if not isinstance(mode, str):
        mode, value = "constant", mode
    listed = dims_of(amounts, "the padding")
    if mode in MODES:
        return edge_pad(s, node, listed, mode)
    if mode != "constant":
        raise Unsupported(f"padding of mode {mode!r}", "use zero padding (mode constant)")
    low: list[Dim] = [0] * node.type.rank
    high: list[Dim] = [0] * node.type.rank
    for k in range(len(listed) // 2):
        low[node.type.rank - 1 - k], high[node.type.rank - 1 - k] = listed[2 * k], listed[2 * k + 1]
    for at in range(node.type.rank):
        cut_low, cut_high = _cut(s, low[at]), _cut(s, high[at])
        if cut_low != 0 or cut_high != 0:
            node = s.slice(node, at, cut_low, node.type.shape[at] - cut_high)
            low[at], high[at] = low[at] + cut_low, high[at] + cut_high
    if all(v == 0 for v in (*low, *high)):
        return node
    fill = value if isinstance(value, (int, float)) else 0
    typed = bool(fill) if node.type.dtype == "bool" else float(fill) if node.type.dtype == "float32" else int(fill)
    return s.op("pad", node, low=tuple(low), high=tuple(high), value=typed)


def _cut(s: Scope, amount: Dim) -> Dim:
    low, high = bounds(amount, s.dims)
    if low >= 0:
        return 0
    if high <= 0:
        return amount * -1
    raise Unsupported(f"the padding {amount} may be negative or positive")


@aten("flip")
def flip(s: Scope, x: Value, axes: Value) -> Node:
    node = tensor(x)
    return s.op("flip", node, axes=axes_of(axes, node.type.rank))


@aten("roll")
def roll(s: Scope, x: Value, shifts: Value, axes: Value = None) -> Node:
    node = tensor(x)
    if axes is None or axes == []:
        flat = s.reshape(node, (node.type.elements,))
        return s.reshape(roll(s, flat, shifts, [0]), node.type.shape)
    for shift, axis in zip(dims_of(shifts, "the shift"), dims_of(axes, "the axes"), strict=True):
        at = axis_of(axis, node.type.rank)
        extent = node.type.shape[at]
        if isinstance(shift, int) and isinstance(extent, int):
            shift = shift % extent if extent else 0
        elif bounds(shift, s.dims)[1] < 0:
            shift = shift + extent
        if shift == 0:
            continue
        if bounds(shift, s.dims)[0] < 0 or bounds(extent - shift, s.dims)[0] < 0:
            raise Unsupported(f"a roll by {shift} over an extent of {extent}", "roll by less than the least extent")
        cut = extent - shift
        node = s.op("concat", s.slice(node, at, cut, extent), s.slice(node, at, 0, cut), axis=at)
    return node


@aten("pixel_shuffle")
def pixel_shuffle(s: Scope, x: Value, factor: Value) -> Node:
    node, r = tensor(x), static(factor, "the upscale factor")
    *lead, c, h, w = node.type.shape
    n = len(lead)
    split_ = s.reshape(node, (*lead, c // (r * r), r, r, h, w))
    moved = s.permute(split_, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return s.reshape(moved, (*lead, c // (r * r), h * r, w * r))


@aten("pixel_unshuffle")
def pixel_unshuffle(s: Scope, x: Value, factor: Value) -> Node:
    node, r = tensor(x), static(factor, "the downscale factor")
    *lead, c, h, w = node.type.shape
    n = len(lead)
    split_ = s.reshape(node, (*lead, c, h // r, r, w // r, r))
    moved = s.permute(split_, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return s.reshape(moved, (*lead, c * (r * r), h // r, w // r))


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(s: Scope, x: Value, groups: Value) -> Node:
    node, g = tensor(x), static(groups, "the number of groups")
    n, c, *spatial = node.type.shape
    rank = len(spatial)
    moved = s.permute(s.reshape(node, (n, g, c // g, *spatial)), (0, 2, 1, *range(3, 3 + rank)))
    return s.reshape(moved, node.type.shape)


@aten("diagonal", "diagonal_copy")
def diagonal(s: Scope, x: Value, offset: Value = 0, first: Value = 0, second: Value = 1) -> Node:
    """x[..., i, i + offset]: the two axes last, flattened, every (columns + 1)-th element."""
    node, k = tensor(x), static(offset, "the offset")
    a, b = axis_of(first, node.type.rank), axis_of(second, node.type.rank)
    rest = [i for i in range(node.type.rank) if i not in (a, b)]
    moved = s.permute(node, (*rest, a, b))
    lead = moved.type.shape[:-2]
    rows, columns = static(moved.type.shape[-2], "the extent"), static(moved.type.shape[-1], "the extent")
    count = max(min(rows, columns - k) if k >= 0 else min(rows + k, columns), 0)
    start = k if k >= 0 else -k * columns
    flat = s.reshape(moved, (*lead, rows * columns))
    stop = start + (count - 1) * (columns + 1) + 1 if count else start
    return s.slice(flat, len(lead), start, stop, columns + 1)
