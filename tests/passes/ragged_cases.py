"""Graphs for the ragged analysis: what it has to prove, and what it has to deny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pass_models import B, Builder, T, bert, f32, i64, mlp, node, op

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Graph, Node
from infc.compiler.ir.ops.argsort import Argsort
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.flip import Flip
from infc.compiler.ir.ops.gather import Gather
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.leaf import constant
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.recurrence import Recurrence
from infc.compiler.ir.ops.reduce import Reduce
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.ops.take import Take

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Case:
    """A graph, what must be found of it, and how many islands it has at most (None: any number)."""

    name: str
    make: Callable[[], Graph]
    batchable: bool = True
    trim: bool = True
    islands: int | None = 0
    why: str = ""
    """A part of the reason for the first thing that is denied."""


def text_input() -> tuple[Builder, Node, Node]:
    """(builder, token vectors [B, T, 8], mask [B, T] as bool)."""
    b = Builder()
    ids = b.input("ids", B, T, dtype="int64", minimum=0, maximum=9)
    keep = op("ne", b.mask(), i64(0))
    return b, node(Embedding(), b.weight("words", 10, 8), ids), keep


def heads(x: Node) -> Node:
    """[B, T, 8] -> [B, 2, T, 4]."""
    return node(Permute((0, 2, 1, 3)), node(Reshape((B, T, 2, 4)), x))


def unite(x: Node) -> Node:
    """[B, 2, T, 4] -> [B, T, 8]."""
    return node(Reshape((B, T, 8)), node(Permute((0, 2, 1, 3)), x))


def key_mask(keep: Node) -> Node:
    return node(Reshape((B, 1, 1, T)), keep)


def eager(hide: Callable[[Node, Node], Node], position_bias: bool = False) -> Graph:
    """Attention written out; hide(scores, keep) takes excluded keys away."""
    b, x, keep = text_input()
    q, k, v = (heads(b.linear(x, n, 8)) for n in "qkv")
    scores = op("div", node(Matmul(), q, node(Permute((0, 1, 3, 2)), k)), f32(2.0))
    if position_bias:
        line = node(Iota((T,), 0))
        delta = op("sub", node(Reshape((1, T)), line), node(Reshape((T, 1)), line))
        bucket = op("add", op("min", op("max", delta, i64(-3)), i64(3)), i64(3))
        bias = node(Permute((2, 0, 1)), node(Embedding(), b.weight("buckets", 7, 2), bucket))
        scores = op("add", scores, node(Reshape((1, 2, T, T)), bias))
    probs = node(Softmax(3), hide(scores, keep))
    y = b.linear(unite(node(Matmul(), probs, v)), "o", 8)
    return b.graph("tokens", out=op("add", y, x))


def additive(scores: Node, keep: Node) -> Node:
    mask = node(Cast("float32"), key_mask(keep))
    return op("add", scores, op("mul", op("sub", f32(1.0), mask), f32(LOWEST)))


def selecting(scores: Node, keep: Node) -> Node:
    return op("where", key_mask(keep), scores, f32(LOWEST))


def softly(scores: Node, keep: Node) -> Node:
    """A penalty that a score may outweigh."""
    mask = node(Cast("float32"), key_mask(keep))
    return op("add", scores, op("mul", op("sub", f32(1.0), mask), f32(-5.0)))


def deberta() -> Graph:
    """Disentangled attention: gathers by relative position, a [B, 1, T, T] mask from a product of masks."""
    b, x, keep = text_input()
    q, k, v = (heads(b.linear(x, n, 8)) for n in "qkv")
    merged = [node(Reshape((B * 2, T, 4)), y) for y in (q, k, v)]
    scores = node(Matmul(transpose_b=True), merged[0], merged[1])
    line = node(Iota((T,), 0))
    delta = op("sub", node(Reshape((T, 1)), line), node(Reshape((1, T)), line))
    index = op("min", op("max", op("add", delta, i64(3)), i64(0)), i64(6))
    table = node(Permute((1, 0, 2)), node(Reshape((7, 2, 4)), b.weight("relative", 7, 8)))
    table = node(Reshape((B * 2, 7, 4)), node(Expand((B, 2, 7, 4)), node(Reshape((1, 2, 7, 4)), table)))
    content = node(Matmul(transpose_b=True), merged[0], table)
    wide = node(Expand((B * 2, T, T)), node(Reshape((1, T, T)), index))
    scores = op("add", scores, node(Gather(2), content, wide))
    scores = node(Reshape((B, 2, T, T)), op("mul", scores, f32(0.25)))
    both = op("and", node(Reshape((B, 1, T, 1)), keep), key_mask(keep))
    probs = node(Softmax(3), op("where", both, scores, f32(LOWEST)))
    y = node(Matmul(), node(Reshape((B * 2, T, T)), probs), merged[2])
    y = unite(node(Reshape((B, 2, T, 4)), y))
    return b.graph("tokens", out=b.linear(y, "o", 8))


def roberta_positions() -> Graph:
    """Position ids cumsum(ids != pad) * (ids != pad) + pad."""
    b = Builder()
    ids = b.input("ids", B, T, dtype="int64", minimum=0, maximum=9)
    keep = op("ne", b.mask(), i64(0))
    real = node(Cast("int64"), op("ne", ids, i64(1)))
    positions = op("add", op("mul", node(Cumsum(1), real), real), i64(1))
    x = op("add", node(Embedding(), b.weight("w", 10, 8), ids), node(Embedding(), b.weight("p", 24, 8), positions))
    q, k, v = (node(Reshape((B, T, 2, 4)), b.linear(x, n, 8)) for n in "qkv")
    y = node(Attention(0.5, mask=True), q, k, v, keep)
    return b.graph("tokens", out=node(Reshape((B, T, 8)), y))


def masked_sum() -> Graph:
    """Mean pooling as it is written by hand: sum(x * m) / max(sum(m), 1e-9)."""
    b, x, keep = text_input()
    m = node(Cast("float32"), node(Reshape((B, T, 1)), keep))
    total = node(Reduce("sum", (1,)), op("mul", x, m))
    count = op("max", node(Reduce("sum", (1,)), node(Expand((B, T, 8)), m)), f32(1e-9))
    return b.graph("tokens", out=op("div", total, count))


def masked_max() -> Graph:
    b, x, keep = text_input()
    low = op("where", node(Reshape((B, T, 1)), keep), x, f32(float("-inf")))
    return b.graph("tokens", out=node(Reduce("max", (1,)), low))


def rope() -> Graph:
    """Rotary embeddings at each position."""
    b, x, keep = text_input()
    q, k, v = (node(Reshape((B, T, 2, 4)), b.linear(x, n, 8)) for n in "qkv")
    frequencies = b.weight("frequencies", 1, 4)
    angle = op("mul", node(Reshape((T, 1)), node(Iota((T,), 0, dtype="float32"))), frequencies)
    cos, sin = (node(Reshape((1, T, 1, 4)), op(f, angle)) for f in ("cos", "sin"))

    def turned(y: Node) -> Node:
        low, high = node(Slice(3, 0, 2), y), node(Slice(3, 2, 4), y)
        return op("add", op("mul", y, cos), op("mul", node(Concat(3), op("neg", high), low), sin))

    y = node(Attention(0.5, mask=True), turned(q), turned(k), v, keep)
    return b.graph("tokens", out=node(Reshape((B, T, 8)), y))


def first_token() -> Graph:
    g = bert(1, pooled=False)
    x = g.outputs[0][1]
    return g.replace(outputs=(("out", op("tanh", node(Reshape((B, 16)), node(Slice(1, 0, 1), x)))),))


def of_tokens(change: Callable[[Builder, Node, Node], Node]) -> Callable[[], Graph]:
    """A graph with the one output change(builder, x, keep)."""

    def build() -> Graph:
        b, x, keep = text_input()
        return b.graph("tokens", out=change(b, x, keep))

    return build


def conv_over_tokens(b: Builder, x: Node, keep: Node) -> Node:
    y = node(Permute((0, 2, 1)), x)
    y = node(Conv((1,), ((1, 1),), (1,)), y, b.weight("kernel", 8, 8, 3))
    return node(Permute((0, 2, 1)), y)


def last_token(b: Builder, x: Node, keep: Node) -> Node:
    return node(Reshape((B, 8)), node(Slice(1, T - 1, T), x))


def last_kept_token(b: Builder, x: Node, keep: Node) -> Node:
    """Gathered at sum(mask) - 1."""
    at = op("sub", node(Reduce("sum", (1,), keepdims=True), node(Cast("int64"), keep)), i64(1))
    at = node(Expand((B, 1, 8)), node(Reshape((B, 1, 1)), at))
    return node(Reshape((B, 8)), node(Gather(1), x, at))


def other_mask(x: Node) -> Node:
    """[B, T] from the values themselves."""
    return op("gt", node(Reshape((B, T)), node(Slice(2, 0, 1), x)), f32(0.0))


def reordered(b: Builder, x: Node, keep: Node) -> Node:
    """Each token replaced by one that a second input points to."""
    at = op("min", b.input("order", B, T, 8, dtype="int64", minimum=0, maximum=0), i64(0))
    return node(Gather(1), x, at)


def vision() -> Graph:
    """A patch encoder: a fixed number of tokens, all rows flat."""
    b = Builder()
    x = node(Conv((2, 2), ((0, 0), (0, 0)), (1, 1)), b.input("pixels", B, 3, 4, 4), b.weight("patch", 8, 3, 2, 2))
    x = node(Permute((0, 2, 1)), node(Reshape((B, 8, 4)), x))
    cls = node(Expand((B, 1, 8)), b.weight("cls", 1, 1, 8))
    x = op("add", node(Concat(1), cls, x), b.weight("positions", 1, 5, 8))
    q, k, v = (node(Reshape((B, 5, 2, 4)), b.linear(b.norm(x, "n"), n, 8)) for n in "qkv")
    y = node(Reshape((B, 5, 8)), node(Attention(0.5), q, k, v))
    return b.graph(out=node(Reshape((B, 8)), node(Slice(1, 0, 1), op("add", x, y))))


def features(change: Callable[[Builder, Node], Node]) -> Callable[[], Graph]:
    def build() -> Graph:
        b = Builder()
        return b.graph(out=change(b, b.input("x", B, 6)))

    return build


def time_major(b: Builder, x: Node, keep: Node) -> Node:
    y = node(Permute((1, 0, 2)), x)
    y = node(Reshape((T * B, 8)), y)
    return node(Permute((1, 0, 2)), node(Reshape((T, B, 8)), op("tanh", y)))


def rows_mixed_by_view(b: Builder, x: Node) -> Node:
    return node(Reshape((B, 6)), op("tanh", node(Permute((1, 0)), node(Reshape((6, B)), x))))


def by_order(x: Node, axis: int) -> Node:
    """x sorted downwards along axis."""
    return node(Gather(axis), x, node(Argsort(axis, x.type.shape[axis], True), x))


CASES = (
    Case("mlp", mlp, trim=False, why="no length"),
    Case("bert", lambda: bert(2), islands=2),
    Case("bert, hidden state", lambda: bert(1, pooled=False), islands=1),
    Case("first token", first_token, islands=1),
    Case("vision", vision, trim=False),
    Case("roberta positions", roberta_positions, islands=None),
    Case("rope", rope),
    Case("eager additive", lambda: eager(additive), islands=None),
    Case("eager where", lambda: eager(selecting), islands=None),
    Case("mpnet", lambda: eager(additive, position_bias=True), islands=None),
    Case("deberta", deberta, islands=None),
    Case("masked sum", masked_sum, islands=1),
    Case("masked max", masked_max, islands=1),
    Case("cumsum", of_tokens(lambda b, x, keep: node(Cumsum(1), x)), islands=1),
    Case("recurrence", of_tokens(lambda b, x, keep: node(Recurrence("lstm"), x, b.weight("hidden", 8, 2)))),
    Case(
        "recurrence backwards",
        of_tokens(lambda b, x, keep: node(Recurrence("tanh", reverse=True), x, b.weight("hidden", 8, 8))),
        trim=False,
        why="begins with excluded positions",
    ),
    Case(
        "recurrence over rows",
        features(lambda b, x: node(Recurrence("tanh"), node(Reshape((1, B, 6)), x), b.weight("hidden", 6, 6))),
        batchable=False,
        trim=False,
        islands=None,
    ),
    Case("sorted columns", of_tokens(lambda b, x, keep: by_order(x, 2)), islands=0),
    Case("sorted tokens", of_tokens(lambda b, x, keep: by_order(x, 1)), trim=False, islands=1),
    Case("soft mask", lambda: eager(softly), trim=False, islands=None, why="gives weight to excluded positions"),
    Case(
        "attention without a mask",
        of_tokens(lambda b, x, keep: node(Attention(0.5), *[node(Reshape((B, T, 2, 4)), x)] * 3)),
        trim=False,
        why="lets excluded positions be attended to",
    ),
    Case(
        "attention with a mask of its own",
        of_tokens(lambda b, x, keep: node(Attention(0.5, mask=True), *[node(Reshape((B, T, 2, 4)), x)] * 3, other_mask(x))),
        trim=False,
        why="lets excluded positions be attended to",
    ),
    Case("tokens in another order", of_tokens(reordered), trim=False, islands=1, why="may be excluded"),
    Case(
        "causal attention without a mask",
        of_tokens(lambda b, x, keep: node(Attention(0.5, causal=True), *[node(Reshape((B, T, 2, 4)), x)] * 3)),
    ),
    Case("unmasked mean", of_tokens(lambda b, x, keep: node(Reduce("mean", (1,)), x)), trim=False, islands=1),
    Case("unmasked softmax", of_tokens(lambda b, x, keep: node(Softmax(1), x)), trim=False, islands=1),
    Case("conv over tokens", of_tokens(conv_over_tokens), trim=False, islands=1),
    Case("flip", of_tokens(lambda b, x, keep: node(Flip((1,)), x)), trim=False, islands=1),
    Case("last token", of_tokens(last_token), trim=False, islands=1),
    Case("last kept token", of_tokens(last_kept_token), trim=False, islands=2, why="may be excluded"),
    Case(
        "length as a value",
        of_tokens(lambda b, x, keep: op("div", x, node(Cast("float32"), node(Reduce("sum", (0,)), ones(T))))),
        trim=False,
        islands=None,
    ),
    Case(
        "flattened tokens",
        of_tokens(lambda b, x, keep: node(Reshape((B, T, 8)), b.linear(node(Reshape((B * T, 8)), x), "l", 8))),
        trim=False,  # until canonicalize takes the reshapes away
        islands=1,
    ),
    Case("flat features of all tokens", of_tokens(lambda b, x, keep: node(Reshape((B, T * 8)), x)), trim=False, islands=1),
    Case("time major", of_tokens(time_major), batchable=False, trim=False, islands=1),
    Case("centred over rows", features(centred := lambda b, x: op("sub", x, node(Reduce("mean", (0,), True), x))),
         batchable=False, trim=False, islands=1, why="reduces over rows"),
    Case("cumsum over rows", features(lambda b, x: node(Cumsum(0), x)), batchable=False, trim=False, islands=1),
    Case("sorted rows", features(lambda b, x: by_order(x, 0)), batchable=False, trim=False, islands=1),
    Case("softmax over rows", features(lambda b, x: node(Softmax(0), x)), batchable=False, trim=False, islands=1),
    Case("flip of rows", features(lambda b, x: node(Flip((0,)), x)), batchable=False, trim=False, islands=1),
    Case("first row", features(lambda b, x: op("add", x, node(Slice(0, 0, 1), x))), batchable=False, trim=False,
         islands=1),
    Case(
        "row number",
        features(lambda b, x: op("mul", x, node(Iota((B, 1), 0, dtype="float32")))),
        batchable=False,
        trim=False,
        islands=1,
        why="number of the row",
    ),
    Case("rows times rows", features(lambda b, x: node(Matmul(transpose_b=True), x, x)), batchable=False, trim=False,
         islands=1, why="twice"),
    Case("rows mixed by a view", features(rows_mixed_by_view), batchable=False, trim=False, islands=1),
    Case("take by row", features(lambda b, x: node(Take(0), x, node(Cast("int64"), node(Reduce("sum", (1,)),
         op("mul", x, f32(0.0)))))), batchable=False, trim=False, islands=1, why="other rows"),
    Case("output without rows", features(lambda b, x: node(Reduce("sum", (0, 1)), x)), batchable=False, trim=False,
         islands=1, why="no batch dimension"),
)  # fmt: skip


def ones(*shape: object) -> Node:
    return node(Expand(tuple(sym(str(d)) for d in shape)), constant(1, "int64"))
