"""Layers: linear and matrix products, convolutions, pools, norms, embedding."""

from __future__ import annotations

from typing import Any

from ...ir.dims import Dim, product
from ...ir.graph import Node
from ...ir.ops.permute import Permute
from .elementwise import arithmetic
from .reduction import reduce
from .scope import Scope, Unsupported, Value, aten, broadcast, dims_of, number, static, tensor


def linear_node(s: Scope, x: Node, weight: Node, bias: Node | None) -> Node:
    """x · weightᵀ + bias; x of any rank, a bias of any broadcastable shape."""
    if bias is not None and bias.type.shape == (weight.type.shape[0],):
        return s.op("linear", x, weight, bias, bias=True)
    out = s.op("linear", x, weight)
    return out if bias is None else s.map("add", out, bias)


@aten("linear")
def linear(s: Scope, x: Value, weight: Value, bias: Value = None) -> Node:
    w, b = tensor(weight), None if bias is None else tensor(bias)
    if w.type.rank == 1:
        out = linear_node(s, tensor(x), s.reshape(w, (1, w.type.shape[0])), None)
        flat = s.reshape(out, out.type.shape[:-1])
        return flat if b is None else s.map("add", flat, b)
    return linear_node(s, tensor(x), w, b)


def product_node(s: Scope, a: Node, b: Node) -> Node:
    """a @ b for ranks >= 2; a weight that was transposed on the way becomes a linear again."""
    if b.type.rank == 2 and b.op.mnemonic == "permute" and b.operands[0].op.mnemonic == "weight":
        return s.op("linear", a, b.operands[0])
    rank = b.type.rank
    if isinstance(b.op, Permute) and b.op.perm == (*range(rank - 2), rank - 1, rank - 2):
        return s.op("matmul", a, b.operands[0], transpose_b=True)
    return s.op("matmul", a, b)


@aten("mm", "bmm", "matmul", "mv", "dot")
def matmul(s: Scope, a: Value, b: Value) -> Node:
    x, y = tensor(a), tensor(b)
    if any(v.type.dtype != "float32" for v in (x, y)):
        raise Unsupported(f"a product of {x.type.dtype} matrices", "convert both to float32")
    left, right = x.type.rank == 1, y.type.rank == 1
    x = s.reshape(x, (1, *x.type.shape)) if left else x
    y = s.reshape(y, (*y.type.shape, 1)) if right else y
    out = product_node(s, x, y)
    shape = out.type.shape
    rows = shape[:-2] if left else shape[:-1]
    return s.reshape(out, (*rows, *(() if right else shape[-1:]))) if left or right else out


def _scaled_sum(s: Scope, bias: Value, value: Node, beta: Value, alpha: Value) -> Node:
    scaled = value if alpha == 1 else arithmetic(s, "mul", value, alpha, "float32")
    if beta == 0:
        return scaled
    add: Value = bias if beta == 1 else arithmetic(s, "mul", bias, beta, "float32")
    return s.map("add", scaled, s.node(add, "float32"))


@aten("addmm", "baddbmm", "addmv")
def addmm(s: Scope, bias: Value, a: Value, b: Value, beta: Value = 1, alpha: Value = 1) -> Node:
    out = matmul(s, a, b)
    node = tensor(bias)
    plain = alpha == 1 and beta == 1 and out.op.mnemonic == "linear" and len(out.operands) == 2
    if plain and node.type.shape == out.type.shape[-1:]:
        return s.op("linear", *out.operands, node, bias=True)
    return _scaled_sum(s, bias, out, beta, alpha)


@aten("outer")
def outer(s: Scope, a: Value, b: Value) -> Node:
    x, y = tensor(a), tensor(b)
    return arithmetic(s, "mul", s.reshape(x, (*x.type.shape, 1)), y)


@aten("embedding")
def embedding(s: Scope, weight: Value, ids: Value, *rest: Value) -> Node:
    return s.op("embedding", tensor(weight), tensor(ids))


# ── convolutions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _each(value: Value, count: int, what: str) -> tuple[int, ...]:
    found = tuple(static(v, what) for v in (value if isinstance(value, list) else [value]))
    if len(found) == 1:
        return found * count
    if len(found) != count:
        raise Unsupported(f"{what} has {len(found)} entries for {count} spatial axes")
    return found


def conv_node(
    s: Scope, x: Node, weight: Node, bias: Node | None, stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...], dilation: tuple[int, ...], groups: int,
) -> Node:  # fmt: skip
    """A convolution; an input without a batch axis gets one for the while."""
    batched = x.type.rank == weight.type.rank
    x = x if batched else s.reshape(x, (1, *x.type.shape))
    operands = (x, weight) if bias is None else (x, weight, bias)
    out = s.op(
        "conv", *operands, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias is not None
    )
    return out if batched else s.reshape(out, out.type.shape[1:])


@aten("conv1d", "conv2d")
def conv(
    s: Scope, x: Value, weight: Value, bias: Value = None, stride: Value = 1, padding: Value = 0, dilation: Value = 1,
    groups: Value = 1,
) -> Node:  # fmt: skip
    w = tensor(weight)
    n = w.type.rank - 2
    if n not in (1, 2):
        raise Unsupported(f"a convolution over {n} axes", "use conv1d or conv2d")
    pads = _each(padding, n, "the padding")
    return conv_node(
        s, tensor(x), w, None if bias is None else tensor(bias), _each(stride, n, "the stride"),
        tuple((p, p) for p in pads), _each(dilation, n, "the dilation"), static(groups, "groups"),
    )  # fmt: skip


@aten("conv1d.padding", "conv2d.padding")
def conv_padding(
    s: Scope, x: Value, weight: Value, bias: Value = None, stride: Value = 1, padding: Value = "valid",
    dilation: Value = 1, groups: Value = 1,
) -> Node:  # fmt: skip
    """padding "same" keeps the extents (the odd zero goes to the high end), "valid" pads nothing."""
    w = tensor(weight)
    n = w.type.rank - 2
    spread = _each(dilation, n, "the dilation")
    pads = [(0, 0)] * n
    if padding == "same":
        totals = [d * (static(k, "the kernel") - 1) for d, k in zip(spread, w.type.shape[2:], strict=True)]
        pads = [(t // 2, t - t // 2) for t in totals]
    return conv_node(
        s, tensor(x), w, None if bias is None else tensor(bias), _each(stride, n, "the stride"), tuple(pads), spread,
        static(groups, "groups"),
    )  # fmt: skip


@aten("convolution", "_convolution")
def convolution(
    s: Scope, x: Value, weight: Value, bias: Value, stride: Value, padding: Value, dilation: Value, transposed: Value,
    output_padding: Value, groups: Value, *rest: Value,
) -> Node:  # fmt: skip
    if transposed:
        raise Unsupported("a transposed convolution", "use a convolution followed by `pixel_shuffle`")
    return conv(s, x, weight, bias, stride, padding, dilation, groups)


# ── pools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pool(s: Scope, x: Value, kind: str, n: int, kernel: Value, stride: Value, padding: Value, **rest: Any) -> Node:
    node = tensor(x)
    batched = node.type.rank == n + 2
    node = node if batched else s.reshape(node, (1, *node.type.shape))
    size = _each(kernel, n, "the kernel")
    step = size if stride is None or stride == [] else _each(stride, n, "the stride")
    pads = tuple((p, p) for p in _each(padding, n, "the padding"))
    dilation = _each(rest.pop("dilation", 1), n, "the dilation")
    out = s.op("pool", node, kind=kind, kernel=size, stride=step, padding=pads, dilation=dilation, **rest)
    return out if batched else s.reshape(out, out.type.shape[1:])


def _max_pool(
    s: Scope, x: Value, n: int, kernel: Value, stride: Value, padding: Value, dilation: Value, ceil: Value
) -> Node:
    return _pool(s, x, "max", n, kernel, stride, padding, dilation=dilation, ceil_mode=bool(ceil))


@aten("max_pool1d")
def max_pool1d(
    s: Scope, x: Value, kernel: Value, stride: Value = None, padding: Value = 0, dilation: Value = 1,
    ceil: Value = False,
) -> Node:  # fmt: skip
    return _max_pool(s, x, 1, kernel, stride, padding, dilation, ceil)


@aten("max_pool2d")
def max_pool2d(
    s: Scope, x: Value, kernel: Value, stride: Value = None, padding: Value = 0, dilation: Value = 1,
    ceil: Value = False,
) -> Node:  # fmt: skip
    return _max_pool(s, x, 2, kernel, stride, padding, dilation, ceil)


@aten("max_pool2d_with_indices")
def max_pool2d_with_indices(
    s: Scope, x: Value, kernel: Value, stride: Value = None, padding: Value = 0, dilation: Value = 1,
    ceil: Value = False,
) -> tuple[Node, None]:  # fmt: skip
    return _max_pool(s, x, 2, kernel, stride, padding, dilation, ceil), None


@aten("avg_pool1d")
def avg_pool1d(
    s: Scope, x: Value, kernel: Value, stride: Value = None, padding: Value = 0, ceil: Value = False,
    include: Value = True,
) -> Node:  # fmt: skip
    return _pool(s, x, "avg", 1, kernel, stride, padding, ceil_mode=bool(ceil), count_include_pad=bool(include))


@aten("avg_pool2d")
def avg_pool2d(
    s: Scope, x: Value, kernel: Value, stride: Value = None, padding: Value = 0, ceil: Value = False,
    include: Value = True, divisor: Value = None,
) -> Node:  # fmt: skip
    if divisor is not None:
        raise Unsupported("avg_pool2d with divisor_override", "multiply the result by a constant")
    return _pool(s, x, "avg", 2, kernel, stride, padding, ceil_mode=bool(ceil), count_include_pad=bool(include))


def _adaptive(s: Scope, x: Value, sizes: Value, n: int, kind: str) -> Node:
    """To 1: the mean (largest) of all. To a divisor of the extent: a pool of equal windows. Others: windows apart."""
    node = tensor(x)
    wanted = _each(sizes, n, "the output size")
    first = node.type.rank - n
    spatial = node.type.shape[first:]
    if all(w == 1 for w in wanted):
        return reduce(s, node, "mean" if kind == "avg" else "max", tuple(range(first, node.type.rank)), True)
    extents = [static(d, "the extent of an adaptive pool to more than 1") for d in spatial]
    if all(e % w == 0 for e, w in zip(extents, wanted, strict=True)):
        kernel: list[Any] = [e // w for e, w in zip(extents, wanted, strict=True)]
        return _pool(s, x, kind, n, kernel, kernel, 0)
    for i, (extent, w) in enumerate(zip(extents, wanted, strict=True)):
        if extent == w:
            continue
        windows = [(k * extent // w, -(-(k + 1) * extent // w)) for k in range(w)]
        pieces = [
            reduce(s, s.slice(node, first + i, a, b), "mean" if kind == "avg" else "max", (first + i,), True)
            for a, b in windows
        ]
        node = s.op("concat", *pieces, axis=first + i) if len(pieces) > 1 else pieces[0]
    return node


@aten("adaptive_avg_pool1d")
def adaptive_avg_pool1d(s: Scope, x: Value, sizes: Value) -> Node:
    return _adaptive(s, x, sizes, 1, "avg")


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_avg_pool2d(s: Scope, x: Value, sizes: Value) -> Node:
    return _adaptive(s, x, sizes, 2, "avg")


@aten("adaptive_max_pool1d")
def adaptive_max_pool1d(s: Scope, x: Value, sizes: Value) -> tuple[Node, None]:
    return _adaptive(s, x, sizes, 1, "max"), None


@aten("adaptive_max_pool2d")
def adaptive_max_pool2d(s: Scope, x: Value, sizes: Value) -> tuple[Node, None]:
    return _adaptive(s, x, sizes, 2, "max"), None


# ── norms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _over_last(s: Scope, node: Node, shape: tuple[Dim, ...]) -> Node:
    """node with the normalized axes merged into one."""
    return s.reshape(node, (*node.type.shape[: node.type.rank - len(shape)], product(shape)))


@aten("layer_norm")
def layer_norm(
    s: Scope, x: Value, shape: Value, weight: Value = None, bias: Value = None, eps: Value = 1e-5, *rest: Value
) -> Node:
    node, over = tensor(x), dims_of(shape, "layer_norm's shape")
    merged = _over_last(s, node, over)
    params = [s.reshape(tensor(p), (product(over),)) for p in (weight, bias) if p is not None]
    out = s.op("layer_norm", merged, *params, eps=number(eps, "eps"), weight=weight is not None, bias=bias is not None)
    return s.reshape(out, node.type.shape)


@aten("native_layer_norm")
def native_layer_norm(
    s: Scope, x: Value, shape: Value, weight: Value, bias: Value, eps: Value
) -> tuple[Node, None, None]:
    return layer_norm(s, x, shape, weight, bias, eps), None, None


@aten("rms_norm", "_fused_rms_norm")
def rms_norm(s: Scope, x: Value, shape: Value, weight: Value = None, eps: Value = None) -> Any:
    node, over = tensor(x), dims_of(shape, "rms_norm's shape")
    merged = _over_last(s, node, over)
    params = [] if weight is None else [s.reshape(tensor(weight), (product(over),))]
    epsilon = 1.1920928955078125e-07 if eps is None else number(eps, "eps")
    out = s.reshape(s.op("rms_norm", merged, *params, eps=epsilon, weight=weight is not None), node.type.shape)
    return (out, None) if len(s.results) == 2 else out


@aten("group_norm")
def group_norm(
    s: Scope, x: Value, groups: Value, weight: Value = None, bias: Value = None, eps: Value = 1e-5, *rest: Value
) -> Node:
    params = [tensor(p) for p in (weight, bias) if p is not None]
    return s.op(
        "group_norm", tensor(x), *params, groups=static(groups, "groups"), eps=number(eps, "eps"),
        weight=weight is not None, bias=bias is not None,
    )  # fmt: skip


@aten("native_group_norm")
def native_group_norm(
    s: Scope, x: Value, weight: Value, bias: Value, n: Value, c: Value, hw: Value, groups: Value, eps: Value
) -> tuple[Node, None, None]:
    return group_norm(s, x, groups, weight, bias, eps), None, None


def batch_norm_node(
    s: Scope, x: Node, weight: Node | None, bias: Node | None, mean: Node, var: Node, eps: float
) -> Node:
    """x * scale + shift per channel: scale = weight / sqrt(var + eps), shift = bias - mean * scale."""
    scale = s.map("rsqrt", s.map("add", var, s.constant(eps, "float32")))
    scale = scale if weight is None else s.map("mul", scale, weight)
    shift = s.map("neg", s.map("mul", mean, scale))
    shift = shift if bias is None else s.map("add", shift, bias)
    shape = (x.type.shape[1], *([1] * (x.type.rank - 2)))
    return s.map("add", s.map("mul", x, s.reshape(scale, shape)), s.reshape(shift, shape))


def _optional(value: Value) -> Node | None:
    return None if value is None else tensor(value)


@aten("_native_batch_norm_legit_no_training")
def batch_norm_no_training(
    s: Scope, x: Value, weight: Value, bias: Value, mean: Value, var: Value, momentum: Value, eps: Value
) -> tuple[Node, None, None]:
    node = tensor(x)
    out = batch_norm_node(s, node, _optional(weight), _optional(bias), tensor(mean), tensor(var), number(eps, "eps"))
    return out, None, None


@aten("batch_norm")
def batch_norm(
    s: Scope, x: Value, weight: Value, bias: Value, mean: Value, var: Value, training: Value, momentum: Value,
    eps: Value, *rest: Value,
) -> Node:  # fmt: skip
    if training or mean is None or var is None:
        raise Unsupported("batch norm over the batch's own statistics", "call `.eval()`, keep track_running_stats=True")
    return batch_norm_node(
        s, tensor(x), _optional(weight), _optional(bias), tensor(mean), tensor(var), number(eps, "eps")
    )


@aten("_native_batch_norm_legit", "_native_batch_norm_legit.no_stats", "native_batch_norm")
def batch_norm_training(s: Scope, *values: Value) -> Node:
    raise Unsupported("batch norm over the batch's own statistics", "call `.eval()`, keep track_running_stats=True")


@aten("instance_norm")
def instance_norm(
    s: Scope, x: Value, weight: Value, bias: Value, mean: Value, var: Value, use_input: Value, momentum: Value,
    eps: Value, *rest: Value,
) -> Node:  # fmt: skip
    node = tensor(x)
    if not use_input:
        return batch_norm_node(
            s, node, _optional(weight), _optional(bias), tensor(mean), tensor(var), number(eps, "eps")
        )
    return group_norm(s, x, node.type.shape[1], weight, bias, eps)


@aten("cosine_similarity")
def cosine_similarity(s: Scope, a: Value, b: Value, axis: Value = 1, eps: Value = 1e-8) -> Node:
    """sum(a b) / sqrt(max(sum(a²), eps²) max(sum(b²), eps²))."""
    x, y = tensor(a), tensor(b)
    shape = broadcast(x.type, y.type)
    at = (static(axis, "the axis") % len(shape),)
    floor = s.constant(number(eps, "eps") ** 2, "float32")

    def dot(u: Node, v: Node) -> Node:
        return reduce(s, s.expand(s.map("mul", u, v), shape), "sum", at, False)

    scale = s.map("mul", s.map("max", dot(x, x), floor), s.map("max", dot(y, y), floor))
    return s.map("div", dot(x, y), s.map("sqrt", scale))
