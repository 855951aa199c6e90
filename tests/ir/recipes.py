"""How a random graph draws each op: one recipe a mnemonic. See generate.py for what they avoid."""

from __future__ import annotations

import math
from collections.abc import Callable

from infc.compiler.ir.dims import Dim
from infc.compiler.ir.graph import Node
from infc.compiler.ir.ops.argmax import Argmax
from infc.compiler.ir.ops.argmin import Argmin
from infc.compiler.ir.ops.argsort import Argsort
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.concat import Concat
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
from infc.compiler.ir.ops.log_softmax import LogSoftmax
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.pad import Pad
from infc.compiler.ir.ops.permute import Permute
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
from .recipes_products import attention, conv, linear, masked_mean, matmul, pool, recurrence


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


def argsort(draft: Draft) -> Node:
    x = draft.value(draft.rng.choice(NUMBERS), along=True, exact=True)
    axis = draft.rng.choice(draft.axes_of(x))
    extent = x.type.shape[axis]
    least = draft.low(extent)
    count = draft.rng.randint(1, least) if least > 0 and draft.chance(0.5) else extent
    info = Info(0, max(draft.high(extent) - 1, 0), 1)
    return draft.add(Argsort(axis, count, draft.chance(0.5)), x, info=info)


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
    "argsort": argsort,
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
    "recurrence": recurrence,
    "fused": fused,
    "map": lambda draft: apply(draft, "map"),
}
