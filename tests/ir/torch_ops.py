"""Every op in torch: what the NumPy references are compared with. float32 tensors are given and taken as float64."""

# pyright: basic
# torch is untyped: this module is the boundary to it.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.graph import Array, Op
from infc.compiler.ir.ops.map import Map

Tensor = Any
DTYPES = {"float32": torch.float64, "int64": torch.int64, "int32": torch.int32, "bool": torch.bool}


def torch_apply(op: Op, env: Mapping[str, int], operands: list[Array]) -> Array:
    """op's result on arrays, by torch."""
    tensors: list[Tensor] = [torch.from_numpy(np.array(o, order="C")) for o in operands]
    if isinstance(op, Map):
        return np.asarray(MAPS[op.fn](*tensors))
    return np.asarray(OPS[op.mnemonic](op, env, *tensors))


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _int_floordiv(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")


MAPS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "floordiv": _int_floordiv,
    "mod": torch.remainder,
    "pow": torch.pow,
    "min": torch.minimum,
    "max": torch.maximum,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "xor": torch.logical_xor,
    "not": torch.logical_not,
    "bitand": torch.bitwise_and,
    "bitor": torch.bitwise_or,
    "bitxor": torch.bitwise_xor,
    "bitnot": torch.bitwise_not,
    "where": _where,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


def _shape(op: Any, env: Mapping[str, int]) -> list[int]:
    return [evaluate(d, env) for d in op.shape]


def _slice(op: Any, env: Mapping[str, int], x: Tensor) -> Tensor:
    picked = torch.arange(evaluate(op.start, env), evaluate(op.stop, env), op.step)
    return torch.index_select(x, op.axis, picked)


def _pad(op: Any, env: Mapping[str, int], x: Tensor) -> Tensor:
    amounts = [evaluate(d, env) for pair in zip(reversed(op.low), reversed(op.high), strict=True) for d in pair]
    return F.pad(x, amounts, value=op.value) if amounts else x


def _iota(op: Any, env: Mapping[str, int]) -> Tensor:
    shape = _shape(op, env)
    line = torch.arange(shape[op.axis], dtype=DTYPES[op.dtype]) * op.step + op.start
    line = line.reshape([-1 if k == op.axis else 1 for k in range(len(shape))])
    return line.expand(shape).to(torch.float32 if op.dtype == "float32" else DTYPES[op.dtype])


def _index(op: Any, env: Mapping[str, int], x: Tensor, *indices: Tensor) -> Tensor:
    return x[(slice(None),) * op.axes[0] + tuple(i.long() for i in indices)]


def _take(op: Any, env: Mapping[str, int], x: Tensor, index: Tensor) -> Tensor:
    picked = torch.index_select(x, op.axis, index.reshape(-1).long())
    return picked.reshape(*x.shape[: op.axis], *index.shape, *x.shape[op.axis + 1 :])


def _reduce(op: Any, env: Mapping[str, int], x: Tensor) -> Tensor:
    if op.kind == "prod":
        for axis in sorted(op.axes, reverse=True):
            x = torch.prod(x, axis, keepdim=op.keepdims, dtype=x.dtype)
        return x
    if op.kind in ("sum", "mean"):
        return getattr(torch, op.kind)(x, op.axes, keepdim=op.keepdims, dtype=x.dtype)
    return {"max": torch.amax, "min": torch.amin, "any": torch.any, "all": torch.all}[op.kind](
        x, op.axes, keepdim=op.keepdims
    )


def _layer_norm(op: Any, env: Mapping[str, int], x: Tensor, *rest: Tensor) -> Tensor:
    given = list(rest)
    weight = given.pop(0) if op.weight else None
    bias = given.pop(0) if op.bias else None
    return F.layer_norm(x + given.pop(0) if op.residual else x, x.shape[-1:], weight, bias, op.eps)


def _rms_norm(op: Any, env: Mapping[str, int], x: Tensor, *rest: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], rest[0] if op.weight else None, op.eps)


def _group_norm(op: Any, env: Mapping[str, int], x: Tensor, *rest: Tensor) -> Tensor:
    """By native_group_norm, which unlike F.group_norm takes one value per group."""
    weight, bias = rest[0] if op.weight else None, rest[-1] if op.bias else None
    rows, channels, inner = x.shape[0], x.shape[1], int(np.prod(x.shape[2:]))
    return torch.native_group_norm(x.contiguous(), weight, bias, rows, channels, inner, op.groups, op.eps)[0]


def _linear(op: Any, env: Mapping[str, int], x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
    out = F.linear(x, weight, rest[0] if op.bias else None)
    out = MAPS[op.activation](out) if op.activation else out
    return out + rest[-1] if op.residual else out


def _conv(op: Any, env: Mapping[str, int], x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
    x = F.pad(x, [amount for pair in reversed(op.padding) for amount in pair])
    fn = F.conv1d if x.ndim == 3 else F.conv2d
    out = fn(x, weight, rest[0] if op.bias else None, op.stride, 0, op.dilation, op.groups)
    out = out + rest[-1] if op.residual else out
    return MAPS[op.activation](out) if op.activation else out


def _pool(op: Any, env: Mapping[str, int], x: Tensor) -> Tensor:
    """torch takes equal padding on both sides: windows beyond what it makes are cut; for unequal padding pad first."""
    sides = [amount for pair in reversed(op.padding) for amount in pair]
    one = x.ndim == 3
    if op.kind == "max":
        x, dtype = x.double(), x.dtype
        if all(low == high and 2 * low <= k for (low, high), k in zip(op.padding, op.kernel, strict=True)):
            pads = tuple(low for low, _ in op.padding)
        elif op.ceil_mode:
            return _pool_by_hand(op, x, dtype)
        else:
            x, pads = F.pad(x, sides, value=-torch.inf), (0,) * len(op.kernel)
        fn = F.max_pool1d if one else F.max_pool2d
        return fn(x, op.kernel, op.stride, pads, op.dilation, op.ceil_mode).to(dtype)
    if all(low == high and 2 * low <= k for (low, high), k in zip(op.padding, op.kernel, strict=True)):
        pads = tuple(low for low, _ in op.padding)
        fn = F.avg_pool1d if one else F.avg_pool2d
        return fn(x, op.kernel, op.stride, pads, op.ceil_mode, op.count_include_pad)
    return _pool_by_hand(op, x, x.dtype)


def _pool_by_hand(op: Any, x: Tensor, dtype: Any) -> Tensor:
    """Window by window, by the rule in torch's documentation; padding that torch itself does not take."""
    extents = list(x.shape[2:])
    counts: list[int] = []
    for n, k, s, (low, high), d in zip(extents, op.kernel, op.stride, op.padding, op.dilation, strict=True):
        room = n + low + high - d * (k - 1) - 1
        windows = -(-room // s) + 1 if op.ceil_mode else room // s + 1
        counts.append(windows - 1 if op.ceil_mode and (windows - 1) * s >= n + low else windows)
    out = torch.empty((*x.shape[:2], *counts), dtype=x.dtype)
    for at in np.ndindex(*counts):
        inside: list[slice] = []
        size, kept = 1, 1
        for i, n, k, s, (low, high), d in zip(at, extents, op.kernel, op.stride, op.padding, op.dilation, strict=True):
            start = i * s - low
            end = min(start + d * (k - 1) + 1, n + high)
            size *= end - start
            first = start if start >= 0 else start + -(start // d) * d
            inside.append(slice(first, min(end, n), d))
            kept *= len(range(first, min(end, n), d))
        window = x[(slice(None), slice(None), *inside)].flatten(2)
        mean = window.sum(-1) / (size if op.count_include_pad else kept)
        out[(slice(None), slice(None), *at)] = window.amax(-1) if op.kind == "max" else mean
    return out.to(dtype)


def _attention(op: Any, env: Mapping[str, int], *operands: Tensor) -> Tensor:
    q, k, v = (o.transpose(1, 2) for o in operands[:3])
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    t, s = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])[None, :]
    kept = torch.ones(q.shape[0], 1, q.shape[2], k.shape[2], dtype=torch.bool)
    if op.causal:
        kept = kept & (s <= t)
    if op.window:
        kept = kept & (t - op.window[0] <= s) & (s <= t + op.window[1])
    none = torch.zeros((), dtype=torch.bool)
    if op.mask:
        mask = operands[3][:, None, None, :]
        none = ~mask.any(-1, keepdim=True)
        kept = kept & (mask | (none if op.empty != "zeros" else torch.zeros_like(none)))
    if op.empty != "zeros":
        scores = q @ k.mT * op.scale + (operands[-1] if op.bias else 0)
        fill = torch.zeros_like(scores) if op.empty == "mean" else (scores.float() + op.low).to(q.dtype)
        return (torch.where(none, fill, scores).masked_fill(~kept, -torch.inf).softmax(-1) @ v).transpose(1, 2)
    scores = torch.zeros(kept.shape, dtype=q.dtype).masked_fill(~kept, -torch.inf)
    if op.bias:
        scores = scores + operands[-1]
    out = F.scaled_dot_product_attention(q, k, v, scores.expand(*q.shape[:3], k.shape[2]), scale=op.scale)
    return torch.where(kept.any(-1, keepdim=True), out, 0.0).transpose(1, 2)


def _masked_mean(op: Any, env: Mapping[str, int], x: Tensor, mask: Tensor) -> Tensor:
    """As sentence-transformers pools."""
    weights = mask[:, :, None].to(x.dtype)
    return (x * weights).sum(1) / torch.clamp(weights.sum(1), min=1e-9)


def _argsort(op: Any, env: Mapping[str, int], x: Tensor) -> Tensor:
    order = torch.argsort(x, dim=op.axis, descending=op.descending, stable=True)
    return order.narrow(op.axis, 0, evaluate(op.count, env))


def _recurrence(op: Any, env: Mapping[str, int], x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
    """Step by step through torch's cells, whose input weights are the identity."""
    width, hidden = weight.shape
    own = rest[0] if op.bias else torch.zeros(hidden, dtype=x.dtype)
    states = list(rest[op.bias :]) or [torch.zeros(len(x), hidden, dtype=x.dtype)] * 2
    added = torch.cat([torch.zeros(width - hidden, dtype=x.dtype), own]) if op.kind == "gru" else None
    one = torch.eye(width, dtype=x.dtype)
    outs: list[Tensor] = []
    steps = x.unbind(1)
    for step in reversed(steps) if op.reverse else steps:
        if op.kind == "lstm":
            states = list(torch.lstm_cell(step, states, one, weight))
        elif op.kind == "gru":
            states = [torch.gru_cell(step, states[0], one, weight, torch.zeros(width, dtype=x.dtype), added)]
        else:
            cell = torch.rnn_tanh_cell if op.kind == "tanh" else torch.rnn_relu_cell
            states = [cell(step, states[0], one, weight)]
        outs.append(torch.cat(states, -1) if op.cells else states[0])
    return torch.stack(outs[::-1] if op.reverse else outs, 1)


OPS: dict[str, Callable[..., Tensor]] = {
    "constant": lambda op, env: torch.tensor(op.value, dtype=DTYPES[op.dtype]),
    "cast": lambda op, env, x: x.to(DTYPES[op.dtype]),
    "reshape": lambda op, env, x: x.reshape(_shape(op, env)),
    "permute": lambda op, env, x: x.permute(op.perm),
    "expand": lambda op, env, x: x.expand(_shape(op, env)),
    "slice": _slice,
    "concat": lambda op, env, *xs: torch.cat(xs, op.axis),
    "pad": _pad,
    "flip": lambda op, env, x: torch.flip(x, op.axes),
    "iota": _iota,
    "gather": lambda op, env, x, index: torch.gather(x, op.axis, index.long()),
    "take": _take,
    "embedding": lambda op, env, weight, ids: F.embedding(ids, weight),
    "index": _index,
    "reduce": _reduce,
    "argmax": lambda op, env, x: torch.argmax(x, op.axis, keepdim=op.keepdims),
    "argmin": lambda op, env, x: torch.argmin(x, op.axis, keepdim=op.keepdims),
    "argsort": _argsort,
    "recurrence": _recurrence,
    "cumsum": lambda op, env, x: torch.cumsum(x, op.axis, dtype=x.dtype),
    "softmax": lambda op, env, x: torch.softmax(x, op.axis),
    "log_softmax": lambda op, env, x: torch.log_softmax(x, op.axis),
    "var": lambda op, env, x: torch.var(x, op.axes, correction=op.correction, keepdim=op.keepdims),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "l2_normalize": lambda op, env, x: F.normalize(x, dim=-1, eps=op.eps),
    "linear": _linear,
    "matmul": lambda op, env, a, b: torch.matmul(a, b.transpose(-1, -2) if op.transpose_b else b),
    "conv": _conv,
    "pool": _pool,
    "attention": _attention,
    "masked_mean": _masked_mean,
}
