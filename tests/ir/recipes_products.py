"""How a random graph draws products of matrices, windows, and what sums over them."""

from __future__ import annotations

import math

from infc.compiler.ir.dims import Dim, DimExpr
from infc.compiler.ir.graph import Node
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.recurrence import GATES, Recurrence
from infc.compiler.ir.prims import ACTIVATIONS
from infc.compiler.ir.shapes import NUMBERS

from .draft import BATCH, TOKENS, Draft, Info, Shape


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


def recurrence(draft: Draft) -> Node:
    kind, hidden = draft.rng.choice(list(GATES)), draft.rng.choice((1, 2, 3))
    steps: Dim = TOKENS if draft.tokens and draft.chance(0.6) else draft.rng.randint(1, 4)
    bias, state = kind == "gru" and draft.chance(0.5), draft.chance(0.4)
    op = Recurrence(kind, draft.chance(0.5), bias, state, kind == "lstm" and draft.chance(0.4))
    gates = GATES[kind] * hidden
    operands = [draft.value("float32", (BATCH, steps, gates)), draft.weight("float32", (gates, hidden), -0.25, 0.25)]
    if bias:
        operands.append(draft.value("float32", (hidden,)))
    operands += [draft.value("float32", (BATCH, hidden)) for _ in range(op.operands_taken - len(operands))]
    given = max(draft.infos[o].largest for o in operands)
    limit = {"lstm": given + draft.high(steps) + 1, "relu": 4 * (given + 1)}.get(kind, given + 1)
    return draft.add(op, *operands, info=Info(-limit, limit, 0))
