"""How a random graph draws each op: one recipe a mnemonic. See generate.py for what they avoid."""

from __future__ import annotations

import math
from collections.abc import Callable

from infc.compiler.ir.dims import Dim, DimExpr
from infc.compiler.ir.graph import Node
from infc.compiler.ir.ops.argmax import Argmax
from infc.compiler.ir.ops.argmin import Argmin
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.flip import Flip
from infc.compiler.ir.ops.fused import fused as fused_op
from infc.compiler.ir.ops.gather import Gather
from infc.compiler.ir.ops.group_norm import GroupNorm
from infc.compiler.ir.ops.index import Index
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.l2_normalize import L2Normalize
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.log_softmax import LogSoftmax
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.pad import Pad
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.reduce import KINDS, Reduce
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.rms_norm import RmsNorm
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.ops.take import Take
from infc.compiler.ir.ops.var import Var
from infc.compiler.ir.prims import ACTIVATIONS, TABLE
from infc.compiler.ir.shapes import INTEGERS, NUMBERS
from infc.compiler.ir.types import DTYPES

from .draft import BATCH, GRID, TOKENS, Draft, Info, Shape
from .recipes_maps import binary_info, primitive


def apply(draft: Draft, name: str) -> Node:
    """Draws op (or primitive, or `map`) `name` into draft."""
    if name == "map":
        name = draft.rng.choice([n for n in TABLE if n != "cast"])
    recipe = RECIPES.get(name)
    return recipe(draft) if recipe is not None else primitive(draft, name)


# Leaves.


def input_(draft: Draft) -> Node:
    shape: Shape = tuple(draft.rng.choice((1, 2, 5)) for _ in range(draft.rng.randint(0, 3)))
    return draft.input(draft.rng.choice(DTYPES), (BATCH, *shape), -4, 4)


def weight(draft: Draft) -> Node:
    x = draft.value("float32")
    sizes = tuple(d if isinstance(d, int) else 1 for d in x.type.shape)
    w = draft.weight("float32", sizes, -1, 1)
    return draft.add(Map("mul"), x, w, info=binary_info("mul", draft.infos[x], draft.infos[w]))


def constant_(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(NUMBERS))
    c = draft.scalar(x.type.dtype, -4, 4)
    return draft.add(Map("add"), x, c, info=binary_info("add", draft.infos[x], draft.infos[c]))


# Movement.


def cast(draft: Draft) -> Node:
    source, target = draft.rng.choice(DTYPES), draft.rng.choice(DTYPES)
    x = draft.value(source, rank=(0, 4), exact=target != "float32", low=-500, high=500)
    i = draft.infos[x] if source != "bool" else Info(0, 1, 1)
    if target in INTEGERS and source == "float32":
        i = Info(math.floor(i.low), math.ceil(i.high), 1)
    return draft.add(Cast(target), x, info=i if target != "bool" else Info(0, 1, 1))


def reshape(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES))
    shape = list(x.type.shape)
    start = 0 if draft.mixes or not shape or shape[0] != BATCH else 1
    for _ in range(draft.rng.randint(1, 2)):
        kind = draft.rng.randrange(4)
        pairs = list(range(start, len(shape) - 1))
        splits = [
            (k, f)
            for k in range(len(shape))
            for d in (shape[k],)
            if isinstance(d, int)
            for f in (2, 3, 4)
            if d % f == 0
        ]
        if kind == 0 and pairs:
            k = draft.rng.choice(pairs)
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        elif kind == 1 and splits:
            k, f = draft.rng.choice(splits)
            shape[k : k + 1] = [shape[k] // f, f]
        elif kind == 2 and len(shape) < 5:
            shape.insert(draft.rng.randint(start, len(shape)), 1)
        elif kind == 3 and len(shape) > start:
            total: Dim = 1
            for d in shape[start:]:
                total = total * d
            shape[start:] = [total]
    return draft.add(Reshape(tuple(shape)), x)


def permute(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES))
    start = 0 if draft.mixes or x.type.shape[:1] != (BATCH,) else 1
    rest = list(range(start, x.type.rank))
    draft.rng.shuffle(rest)
    return draft.add(Permute((*range(start), *rest)), x)


def expand(draft: Draft) -> Node:
    shape = draft.shape()
    x = draft.value(draft.rng.choice(DTYPES), draft.narrowed(shape))
    return draft.add(Expand(shape), x)


def slice_(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True)
    axis = draft.rng.choice(draft.axes_of(x))
    extent = x.type.shape[axis]
    least = draft.low(extent)
    start, step = draft.rng.randint(0, least - 1), draft.rng.randint(1, 3)
    stop: Dim = draft.rng.randint(start + 1, least) if draft.chance(0.3) else extent
    return draft.add(Slice(axis, start, stop, step), x)


def concat(draft: Draft) -> Node:
    dtype = draft.rng.choice(DTYPES)
    first = draft.value(dtype, along=True)
    axis = draft.rng.choice(draft.axes_of(first))
    parts = [first]
    for _ in range(draft.rng.randint(0, 2)):
        shape = list(first.type.shape)
        if draft.chance(0.6):
            shape[axis] = draft.rng.randint(1, 4)
        parts.append(draft.value(dtype, tuple(shape)))
    return draft.add(Concat(axis), *parts)


def pad(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True)
    free = draft.axes_of(x)
    low, high = ([draft.rng.randint(0, 2) if k in free else 0 for k in range(x.type.rank)] for _ in range(2))
    value = {"bool": draft.chance(0.5), "float32": draft.rng.randint(-4, 4) / 2}.get(
        x.type.dtype, draft.rng.randint(-3, 3)
    )
    i = draft.infos[x]
    info = Info(min(i.low, float(value)), max(i.high, float(value)), min(i.step, GRID))
    return draft.add(Pad(tuple(low), tuple(high), value), x, info=info)


def flip(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True)
    free = draft.axes_of(x)
    return draft.add(Flip(tuple(draft.rng.sample(free, draft.rng.randint(1, len(free))))), x)


def iota(draft: Draft) -> Node:
    shape, dtype = draft.shape(), draft.rng.choice(NUMBERS)
    axis = draft.rng.randrange(len(shape))
    unit = 4 if dtype == "float32" else 1
    start, step = (draft.rng.randint(-4, 4) / unit for _ in range(2))
    if dtype != "float32":
        start, step = int(start), int(step)
    ends = (start, start + step * draft.high(shape[axis]))
    return draft.add(Iota(shape, axis, start, step, dtype), info=Info(min(ends), max(ends), 1 / unit))


def indices(draft: Draft, shape: Shape, extent: Dim) -> Node:
    """Integers that index an axis of this extent at every size."""
    return draft.value(draft.rng.choice(INTEGERS), shape, low=0, high=draft.low(extent) - 1)


def gather(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True)
    axis = draft.rng.choice(draft.axes_of(x))
    shape = list(x.type.shape)
    shape[axis] = draft.rng.randint(1, 5)
    picked = indices(draft, tuple(shape), x.type.shape[axis])
    return draft.add(Gather(axis), x, picked, info=draft.infos[x])


def take(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True, rank=(1, 3))
    axis = draft.rng.choice(draft.axes_of(x))
    picked = indices(draft, tuple(draft.rng.randint(1, 4) for _ in range(draft.rng.randint(0, 2))), x.type.shape[axis])
    return draft.add(Take(axis), x, picked, info=draft.infos[x])


def embedding(draft: Draft) -> Node:
    table = draft.weight(draft.rng.choice(DTYPES), (draft.rng.randint(1, 9), draft.rng.randint(1, 8)), -2, 2)
    ids = indices(draft, draft.shape(0, 3), table.type.shape[0])
    return draft.add(Embedding(), table, ids, info=draft.infos[table])


def index(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(DTYPES), along=True)
    free = draft.axes_of(x)
    first = draft.rng.choice(free)
    count = 2 if first + 1 < x.type.rank and first + 1 in free and draft.chance(0.7) else 1
    shape: Shape = tuple(draft.rng.randint(1, 3) for _ in range(draft.rng.randint(1, 2)))
    axes = tuple(range(first, first + count))
    picked = [indices(draft, shape if k == 0 else draft.narrowed(shape), x.type.shape[a]) for k, a in enumerate(axes)]
    return draft.add(Index(axes), x, *picked, info=draft.infos[x])


# Reductions.


def count(draft: Draft, node: Node, axes: tuple[int, ...]) -> int:
    return math.prod(draft.high(node.type.shape[k]) for k in axes)


def reduce(draft: Draft) -> Node:
    kind = draft.rng.choice(list(KINDS))
    dtype = draft.rng.choice(KINDS[kind])
    small = 1 if kind == "prod" else 8
    x = draft.value(dtype, along=True, low=-small, high=small)
    free = draft.axes_of(x)
    axes = tuple(draft.rng.sample(free, draft.rng.randint(1, len(free))))
    i, n = draft.infos[x], count(draft, x, axes)
    if kind == "sum":
        i = Info(min(0, n * i.low), max(0, n * i.high), i.step)
    elif kind == "prod":
        i = Info(-1, 1, 1 if i.step == 1 else 0)
    elif kind == "mean":
        i = Info(i.low, i.high, 0)
    return draft.add(Reduce(kind, axes, draft.chance(0.4)), x, info=i)


def position(draft: Draft, make_op: Callable[[int, bool], Argmax | Argmin]) -> Node:
    x = draft.value(draft.rng.choice(NUMBERS), along=True, exact=True)
    axes = [k for k in draft.axes_of(x) if draft.low(x.type.shape[k]) > 0]
    if not axes:
        x = draft.fresh("float32", (BATCH, 5))
        axes = [1]
    axis = draft.rng.choice(axes)
    info = Info(0, draft.high(x.type.shape[axis]) - 1, 1)
    return draft.add(make_op(axis, draft.chance(0.4)), x, info=info)


def cumsum(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(NUMBERS), along=True)
    axis = draft.rng.choice(draft.axes_of(x))
    i, n = draft.infos[x], count(draft, x, (axis,))
    return draft.add(Cumsum(axis), x, info=Info(min(i.low, n * i.low), max(i.high, n * i.high), i.step))


def softmax(draft: Draft) -> Node:
    x = draft.value("float32", along=True, low=-8, high=8)
    return draft.add(Softmax(draft.rng.choice(draft.axes_of(x))), x, info=Info(0, 1, 0))


def log_softmax(draft: Draft) -> Node:
    x = draft.value("float32", along=True, low=-8, high=8)
    return draft.add(LogSoftmax(draft.rng.choice(draft.axes_of(x))), x, info=Info(-24, 0, 0))


def var(draft: Draft) -> Node:
    x = draft.value("float32", along=True)
    free = draft.axes_of(x)
    axes = tuple(draft.rng.sample(free, draft.rng.randint(1, len(free))))
    least = math.prod(draft.low(x.type.shape[k]) for k in axes)
    correction = draft.rng.choice([c for c in (0, 0.5, 1) if c < least] or [0])
    width = draft.infos[x].high - draft.infos[x].low
    return draft.add(Var(axes, correction, draft.chance(0.4)), x, info=Info(0, 2 * width * width, 0))


# Norms.


def normed(draft: Draft, rank: tuple[int, int]) -> tuple[Node, float]:
    """A float operand and an eps for it: small only where the operand's values are exact."""
    x = draft.value("float32", rank=rank, along=True)
    while x.type.rank < rank[0] or (x.type.shape[-1] == BATCH and not draft.mixes):
        x = draft.fresh("float32", (BATCH, 5, 4))
    return x, draft.rng.choice((1e-3, 1e-5)) if draft.infos[x].step == GRID else 0.1


def layer_norm(draft: Draft) -> Node:
    x, eps = normed(draft, (1, 4))
    weighted, biased, residual = (draft.chance(0.5) for _ in range(3))
    rest = [draft.value("float32", x.type.shape[-1:], low=-2, high=2) for _ in range(weighted + biased)]
    if residual:
        rest.append(draft.value("float32", x.type.shape))
        eps = 0.1
    limit = 2 * math.sqrt(draft.high(x.type.shape[-1])) + 2
    return draft.add(LayerNorm(eps, weighted, biased, residual), x, *rest, info=Info(-limit, limit, 0))


def rms_norm(draft: Draft) -> Node:
    x, eps = normed(draft, (1, 4))
    weighted = draft.chance(0.6)
    rest = [draft.value("float32", x.type.shape[-1:], low=-2, high=2)] if weighted else []
    limit = 2 * math.sqrt(draft.high(x.type.shape[-1]))
    return draft.add(RmsNorm(eps, weighted), x, *rest, info=Info(-limit, limit, 0))


def group_norm(draft: Draft) -> Node:
    groups, width = draft.rng.randint(1, 3), draft.rng.randint(1, 3)
    spatial: Shape = tuple(draft.rng.choice((1, 3, 4)) for _ in range(draft.rng.randint(0, 2)))
    if draft.tokens and spatial and draft.chance(0.3):
        spatial = (TOKENS, *spatial[1:])
    x = draft.value("float32", (BATCH, groups * width, *spatial))
    eps = 1e-3 if draft.infos[x].step == GRID else 0.1
    weighted, biased = draft.chance(0.5), draft.chance(0.5)
    rest = [draft.value("float32", (groups * width,), low=-2, high=2) for _ in range(weighted + biased)]
    limit = 2 * math.sqrt(count(draft, x, tuple(range(1, x.type.rank)))) + 2
    return draft.add(GroupNorm(groups, eps, weighted, biased), x, *rest, info=Info(-limit, limit, 0))


def l2_normalize(draft: Draft) -> Node:
    x, _ = normed(draft, (1, 4))
    exact = draft.infos[x].step == GRID
    return draft.add(L2Normalize(1e-12 if exact else 0.1), x, info=Info(-1, 1, 0))


# Products.


def activation(draft: Draft) -> str | None:
    return draft.rng.choice(ACTIVATIONS) if draft.chance(0.4) else None


def product_info(draft: Draft, terms: int, *nodes: Node) -> Info:
    a, b = (draft.infos[node].largest for node in nodes[:2])
    limit = terms * a * b + sum(draft.infos[node].largest for node in nodes[2:]) + 1
    return Info(-limit, limit, 0)


def linear(draft: Draft) -> Node:
    k, n = draft.rng.choice((1, 4, 7, 16)), draft.rng.choice((1, 3, 8, 17))
    lead = draft.shape(1, 2)
    x = draft.value("float32", (*lead, k))
    bias, residual, act = draft.chance(0.5), draft.chance(0.4), activation(draft)
    rest = [draft.weight("float32", (n, k), -1, 1)]
    if bias:
        rest.append(draft.value("float32", (n,)))
    if residual:
        rest.append(draft.value("float32", (*lead, n)))
    return draft.add(Linear(bias, residual, act), x, *rest, info=product_info(draft, k, x, *rest))


def matmul(draft: Draft) -> Node:
    dtype = draft.rng.choice(NUMBERS)
    m, k, n = (draft.rng.choice((1, 3, 4, 9)) for _ in range(3))
    rows: Dim = TOKENS if draft.tokens and draft.chance(0.4) else m
    inner: Dim = TOKENS if draft.tokens and draft.chance(0.3) else k
    lead = draft.shape(1, 2) if draft.chance(0.8) else ()
    lead = tuple(d for d in lead if d != TOKENS)
    a = draft.value(dtype, (*lead, rows, inner))
    transposed = draft.chance(0.4)
    b = draft.value(dtype, (*draft.narrowed(lead), *((n, inner) if transposed else (inner, n))))
    info = product_info(draft, draft.high(inner), a, b)
    step = draft.infos[a].step * draft.infos[b].step
    return draft.add(Matmul(transposed), a, b, info=Info(info.low, info.high, step))


def windows(draft: Draft, spatial: int) -> tuple[Shape, list[int], list[int], list[tuple[int, int]], list[int]]:
    """(extents, kernel, stride, padding, dilation) that give at least one window at every size."""
    extents: list[Dim] = []
    kernel: list[int] = []
    stride: list[int] = []
    padding: list[tuple[int, int]] = []
    dilation: list[int] = []
    for _ in range(spatial):
        k, d = draft.rng.randint(1, 3), draft.rng.randint(1, 2)
        reach = d * (k - 1)
        extent = draft.rng.randint(reach + 1, 8)
        pad = (draft.rng.randint(0, reach), draft.rng.randint(0, reach))
        extents.append(extent)
        if draft.tokens and TOKENS not in extents and draft.chance(0.3):
            extents[-1], pad = TOKENS, (reach, draft.rng.randint(0, reach))
        kernel.append(k)
        stride.append(draft.rng.randint(1, 3))
        padding.append(pad)
        dilation.append(d)
    return tuple(extents), kernel, stride, padding, dilation


def conv(draft: Draft) -> Node:
    extents, kernel, stride, padding, dilation = windows(draft, draft.rng.randint(1, 2))
    groups, width, filters = draft.rng.randint(1, 3), draft.rng.randint(1, 3), draft.rng.randint(1, 2)
    x = draft.value("float32", (BATCH, groups * width, *extents))
    w = draft.weight("float32", (groups * filters, width, *kernel), -1, 1)
    bias, residual, act = draft.chance(0.5), draft.chance(0.3), activation(draft)
    operands = [x, w, *([draft.value("float32", (groups * filters,))] if bias else [])]
    attributes = (tuple(stride), tuple(padding), tuple(dilation), groups, bias)
    if residual:
        out = Conv(*attributes).infer(*(o.type for o in operands))
        operands.append(draft.value("float32", out.shape))
    info = product_info(draft, width * math.prod(kernel), *operands)
    return draft.add(Conv(*attributes, residual, act), *operands, info=info)


def pool(draft: Draft) -> Node:
    kind = draft.rng.choice(("max", "avg"))
    extents, kernel, stride, padding, dilation = windows(draft, draft.rng.randint(1, 2))
    for k, extent in enumerate(extents):
        if kind == "avg" or not isinstance(extent, int) or dilation[k] == 1:
            low, high = (min(p, kernel[k] - 1) for p in padding[k])
            padding[k], dilation[k] = (low if isinstance(extent, int) else kernel[k] - 1, high), 1
        else:  # a dilated window between paddings could hold no element at all
            padding[k] = (0, 0)
    x = draft.value(
        draft.rng.choice(NUMBERS) if kind == "max" else "float32", (BATCH, draft.rng.randint(1, 3), *extents)
    )
    ceil_mode = draft.chance(0.4) and not any(isinstance(e, DimExpr) for e in extents)
    op = Pool(kind, tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), draft.chance(0.5), ceil_mode)
    i = draft.infos[x]
    return draft.add(op, x, info=i if kind == "max" else Info(min(0, i.low), max(0, i.high), 0))


def attention(draft: Draft) -> Node:
    queries: Dim = TOKENS if draft.tokens else draft.rng.randint(1, 5)
    keys: Dim = queries if draft.chance(0.7) else draft.rng.randint(1, 5)
    key_heads = draft.rng.randint(1, 2)
    heads, d, dv = key_heads * draft.rng.randint(1, 2), draft.rng.choice((1, 4, 8)), draft.rng.choice((1, 4, 8))
    q = draft.value("float32", (BATCH, queries, heads, d))
    k = draft.value("float32", (BATCH, keys, key_heads, d))
    v = draft.value("float32", (BATCH, keys, key_heads, dv))
    mask, bias = draft.chance(0.5), draft.chance(0.4)
    rest: list[Node] = []
    if mask:
        rest.append(draft.value("bool", (BATCH, keys)))
    if bias:
        rest.append(
            draft.value(
                "float32",
                draft.rng.choice(((1, heads, queries, keys), (BATCH, 1, queries, keys), (heads, queries, keys))),
            )
        )
    window = (draft.rng.randint(0, 2), draft.rng.randint(0, 2)) if draft.chance(0.3) else None
    op = Attention(draft.rng.choice((0.125, 0.3)), draft.chance(0.3), window, mask, bias)
    i = draft.infos[v]
    return draft.add(op, q, k, v, *rest, info=Info(min(0, i.low), max(0, i.high), 0))


def masked_mean(draft: Draft) -> Node:
    tokens: Dim = TOKENS if draft.tokens else draft.rng.randint(1, 5)
    x = draft.value("float32", (BATCH, tokens, draft.rng.choice((1, 5, 8))))
    mask = draft.value("bool", (BATCH, tokens))
    i = draft.infos[x]
    return draft.add(MaskedMean(), x, mask, info=Info(min(0, i.low), max(0, i.high), 0))


def fused(draft: Draft) -> Node:
    """The loop form of another op as an op of its own."""
    x = draft.value("float32", along=True, low=-8, high=8)
    axis = draft.rng.choice(draft.axes_of(x))
    op = draft.rng.choice((Softmax(axis), Cumsum(axis), Flip((axis,)), Map(draft.rng.choice(ACTIVATIONS))))
    loop = op.loop(x.type, x.type)
    i, n = draft.infos[x], count(draft, x, (axis,))
    limit = max(i.largest, 1) * n
    return draft.add(fused_op(x.type, loop.body), x, info=Info(-limit, limit, 0))


RECIPES: dict[str, Callable[[Draft], Node]] = {
    "input": input_,
    "weight": weight,
    "constant": constant_,
    "cast": cast,
    "reshape": reshape,
    "permute": permute,
    "expand": expand,
    "slice": slice_,
    "concat": concat,
    "pad": pad,
    "flip": flip,
    "iota": iota,
    "gather": gather,
    "take": take,
    "embedding": embedding,
    "index": index,
    "reduce": reduce,
    "argmax": lambda draft: position(draft, Argmax),
    "argmin": lambda draft: position(draft, Argmin),
    "cumsum": cumsum,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "var": var,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "l2_normalize": l2_normalize,
    "linear": linear,
    "matmul": matmul,
    "conv": conv,
    "pool": pool,
    "attention": attention,
    "masked_mean": masked_mean,
    "fused": fused,
    "map": lambda draft: apply(draft, "map"),
}
