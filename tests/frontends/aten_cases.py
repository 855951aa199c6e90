"""Small expressions over four inputs, one for each aten op that the importer knows (and the ways it is written).

x float32 [batch, tokens, 8] · y float32 [batch, tokens, 8] · i int64 [batch, tokens] in 0..9 · img float32 [batch, 4, 9, 10]
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Case = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def _heads(*tensors: Tensor) -> Any:
    """Each [B, T, 8] as [B, 2, T, 4]."""
    return tuple(t.unflatten(-1, (2, 4)).transpose(1, 2) for t in tensors)


def _attend(*tensors: Tensor, **named: Any) -> Tensor:
    sdpa: Any = F.scaled_dot_product_attention
    return sdpa(*_heads(*tensors), **named)


def _seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _places(i: Tensor) -> Tensor:
    """Three different places of eight for each of i [B, T]."""
    return torch.stack([i % 8, (i + 3) % 8, (i + 5) % 8], -1)


def _put(x: Tensor, place: Any, value: Any) -> Tensor:
    """A copy of x with a part assigned."""
    out = x.clone()
    out[place] = value
    return out


ALL = slice(None)
W = _seeded(5, 8)
B = _seeded(5)
TABLE = _seeded(10, 6)
K2 = _seeded(6, 4, 3, 3)
K1 = _seeded(6, 8, 3)
DW = _seeded(4, 1, 3, 3)

ELEMENTWISE: dict[str, Case] = {
    "add": lambda x, y, i, img: x + y,
    "add_alpha": lambda x, y, i, img: torch.add(x, y, alpha=0.5),
    "add_int": lambda x, y, i, img: x + i[:, :, None],
    "sub": lambda x, y, i, img: x - 2.5 * y,
    "rsub": lambda x, y, i, img: 1 - x,
    "mul_bool": lambda x, y, i, img: (x > 0) * (y > 0),
    "div": lambda x, y, i, img: x / (y.abs() + 0.5),
    "int_true_div": lambda x, y, i, img: i / 3,
    "div_floor": lambda x, y, i, img: torch.div(x, 0.7, rounding_mode="floor"),
    "div_trunc": lambda x, y, i, img: torch.div(x, 0.7, rounding_mode="trunc"),
    "int_div_trunc": lambda x, y, i, img: torch.div(i - 5, 3, rounding_mode="trunc"),
    "int_floordiv": lambda x, y, i, img: (i - 5) // 3,
    "int_mod": lambda x, y, i, img: (i - 5) % 3,
    "remainder": lambda x, y, i, img: torch.remainder(x, 0.7),
    "fmod": lambda x, y, i, img: torch.fmod(x, 0.7),
    "pow2": lambda x, y, i, img: x**2,
    "pow3": lambda x, y, i, img: x**3,
    "pow_half": lambda x, y, i, img: x.abs() ** 0.5,
    "pow_tensor": lambda x, y, i, img: (x.abs() + 0.1) ** y,
    "pow_scalar": lambda x, y, i, img: 2.0**x,
    "int_pow": lambda x, y, i, img: i**2,
    "minimum": lambda x, y, i, img: torch.minimum(x, y),
    "maximum": lambda x, y, i, img: torch.maximum(x, y),
    "acos": lambda x, y, i, img: torch.acos(torch.tanh(x) * 1.01),
    "acos_ends": lambda x, y, i, img: torch.acos((i - 4) / 4.0),
    "asin": lambda x, y, i, img: torch.asin(torch.tanh(x)),
    "asin_ends": lambda x, y, i, img: torch.asin((i - 4) / 4.0),
    "atan": lambda x, y, i, img: torch.atan(x * 5),
    "atan_far": lambda x, y, i, img: torch.atan(1e6 * x / (i - 4)[:, :, None]),
    "clamp": lambda x, y, i, img: x.clamp(-0.5, 0.7),
    "clamp_min": lambda x, y, i, img: x.clamp(min=0.1),
    "clamp_int": lambda x, y, i, img: i.clamp(max=4),
    "clamp_tensor": lambda x, y, i, img: torch.clamp(x, min=y),
    "addcmul": lambda x, y, i, img: torch.addcmul(x, x, y, value=0.3),
    "addcdiv": lambda x, y, i, img: torch.addcdiv(x, x, y.abs() + 1, value=0.3),
    "lerp": lambda x, y, i, img: torch.lerp(x, y, 0.25),
    "eq": lambda x, y, i, img: i == 3,
    "ne": lambda x, y, i, img: i != 3,
    "lt": lambda x, y, i, img: x < y,
    "le": lambda x, y, i, img: i <= 4,
    "gt": lambda x, y, i, img: x > 0.2,
    "ge": lambda x, y, i, img: i >= 4.5,
    "eq_bool": lambda x, y, i, img: (x > 0) == (y > 0),
    "ne_bool": lambda x, y, i, img: (x > 0) != (y > 0),
    "logical": lambda x, y, i, img: torch.logical_and(i, x[:, :, 0] > 0) | torch.logical_not(i),
    "logical_xor": lambda x, y, i, img: torch.logical_xor(x > 0, y > 0),
    "bit_int": lambda x, y, i, img: (i & 3) | (i ^ 5),
    "bit_not": lambda x, y, i, img: ~i,
    "bool_not": lambda x, y, i, img: ~(x > 0),
    "where": lambda x, y, i, img: torch.where(x > y, x, y),
    "where_scalar": lambda x, y, i, img: torch.where(x > 0, x, 0.0),
    "where_int": lambda x, y, i, img: torch.where(i > 4, i, 1),
    "masked_fill": lambda x, y, i, img: x.masked_fill(i[:, :, None] > 4, -2.0),
    "isnan": lambda x, y, i, img: torch.isnan(torch.where(x > 0, x, float("nan"))),
    "isinf": lambda x, y, i, img: torch.isinf(torch.where(x > 0, x, float("-inf"))),
    "isfinite": lambda x, y, i, img: torch.isfinite(torch.where(x > 0, x, float("inf"))),
    "exp": lambda x, y, i, img: x.exp(),
    "log": lambda x, y, i, img: (x.abs() + 0.1).log(),
    "sqrt_int": lambda x, y, i, img: i.sqrt(),
    "rsqrt": lambda x, y, i, img: (x.abs() + 0.1).rsqrt(),
    "sin": lambda x, y, i, img: x.sin(),
    "cos": lambda x, y, i, img: x.cos(),
    "tan": lambda x, y, i, img: x.tan(),
    "tanh": lambda x, y, i, img: x.tanh(),
    "sinh": lambda x, y, i, img: x.sinh(),
    "cosh": lambda x, y, i, img: x.cosh(),
    "erf": lambda x, y, i, img: x.erf(),
    "erfc": lambda x, y, i, img: x.erfc(),
    "expm1": lambda x, y, i, img: (x * 0.01).expm1(),
    "exp2": lambda x, y, i, img: x.exp2(),
    "log1p": lambda x, y, i, img: (x.abs() * 1e-3).log1p(),
    "log2": lambda x, y, i, img: (x.abs() + 0.1).log2(),
    "log10": lambda x, y, i, img: (x.abs() + 0.1).log10(),
    "logit": lambda x, y, i, img: torch.logit(x.sigmoid(), eps=1e-3),
    "reciprocal": lambda x, y, i, img: (x.abs() + 0.1).reciprocal(),
    "square": lambda x, y, i, img: x.square(),
    "floor": lambda x, y, i, img: x.floor(),
    "ceil": lambda x, y, i, img: x.ceil(),
    "round": lambda x, y, i, img: (x * 2).round(),
    "trunc": lambda x, y, i, img: (x * 2).trunc(),
    "abs_int": lambda x, y, i, img: (i - 5).abs(),
    "neg": lambda x, y, i, img: -i,
    "sign": lambda x, y, i, img: x.sign(),
    "relu": lambda x, y, i, img: x.relu(),
    "relu6": lambda x, y, i, img: F.relu6(x * 5),
    "sigmoid": lambda x, y, i, img: x.sigmoid(),
    "silu": lambda x, y, i, img: F.silu(x),
    "gelu": lambda x, y, i, img: F.gelu(x),
    "gelu_tanh": lambda x, y, i, img: F.gelu(x, approximate="tanh"),
    "hardswish": lambda x, y, i, img: F.hardswish(x),
    "hardsigmoid": lambda x, y, i, img: F.hardsigmoid(x),
    "hardtanh": lambda x, y, i, img: F.hardtanh(x, -0.3, 0.4),
    "leaky_relu": lambda x, y, i, img: F.leaky_relu(x, 0.2),
    "prelu": lambda x, y, i, img: F.prelu(img, torch.tensor([0.1, 0.2, 0.3, 0.4])),
    "elu": lambda x, y, i, img: F.elu(x, 0.7),
    "selu": lambda x, y, i, img: F.selu(x),
    "celu": lambda x, y, i, img: F.celu(x, 1.3),
    "softplus": lambda x, y, i, img: F.softplus(x * 10, beta=1.5),
    "logsigmoid": lambda x, y, i, img: F.logsigmoid(x * 10),
    "mish": lambda x, y, i, img: F.mish(x),
    "softsign": lambda x, y, i, img: F.softsign(x),
    "tanhshrink": lambda x, y, i, img: F.tanhshrink(x),
    "hardshrink": lambda x, y, i, img: F.hardshrink(x),
    "softshrink": lambda x, y, i, img: F.softshrink(x),
    "threshold": lambda x, y, i, img: F.threshold(x, 0.1, -3.0),
    "glu": lambda x, y, i, img: F.glu(x, -1),
    "to_int": lambda x, y, i, img: (x * 3).to(torch.int64),
    "to_int32": lambda x, y, i, img: i.to(torch.int32) * 2,
    "to_bool": lambda x, y, i, img: i.bool(),
    "from_bool": lambda x, y, i, img: (x > 0).float(),
    "type_as": lambda x, y, i, img: i.type_as(x),
    "dropout": lambda x, y, i, img: F.dropout(x, 0.3, training=False),
    "clone": lambda x, y, i, img: x.clone().detach().contiguous(),
    "float64_scalar": lambda x, y, i, img: x * torch.tensor(0.5, dtype=torch.float64),
    "nan_to_num": lambda x, y, i, img: torch.nan_to_num(torch.where(x > 0, x, float("nan"))),
}

SHAPES: dict[str, Case] = {
    "view": lambda x, y, i, img: x.view(x.shape[0], -1, 4),
    "view_heads": lambda x, y, i, img: x.view(x.shape[0], x.shape[1], 2, 4).transpose(1, 2),
    "reshape_merge": lambda x, y, i, img: x.reshape(-1, 8),
    "flatten": lambda x, y, i, img: img.flatten(1),
    "unflatten": lambda x, y, i, img: x.unflatten(-1, (2, -1)),
    "squeeze": lambda x, y, i, img: x.unsqueeze(1).squeeze(1),
    "permute": lambda x, y, i, img: x.permute(2, 0, 1),
    "transpose": lambda x, y, i, img: x.mT,
    "movedim": lambda x, y, i, img: torch.movedim(img, 1, -1),
    "expand": lambda x, y, i, img: x[:, :1].expand(-1, 3, -1),
    "expand_as": lambda x, y, i, img: i[:, :, None].expand_as(x),
    "repeat": lambda x, y, i, img: x.repeat(1, 2, 3),
    "tile": lambda x, y, i, img: torch.tile(x, (2,)),
    "repeat_interleave": lambda x, y, i, img: x.repeat_interleave(2, dim=1),
    "slice": lambda x, y, i, img: x[:, :, 1:6],
    "slice_negative": lambda x, y, i, img: x[:, :, -3:],
    "slice_all_but_last": lambda x, y, i, img: x[:, :-1],
    "slice_step": lambda x, y, i, img: x[:, :, ::3],
    "slice_symbolic_step": lambda x, y, i, img: x[:, ::2],
    "select": lambda x, y, i, img: x[:, 0],
    "select_last": lambda x, y, i, img: x[:, -1],
    "narrow": lambda x, y, i, img: x.narrow(2, 1, 4),
    "split": lambda x, y, i, img: torch.cat([b * k for k, b in enumerate(x.split(3, dim=-1))], -1),
    "split_sizes": lambda x, y, i, img: x.split([2, 6], dim=-1)[1],
    "chunk": lambda x, y, i, img: x.chunk(2, dim=-1)[1],
    "unbind": lambda x, y, i, img: x.unbind(-1)[3],
    "cat": lambda x, y, i, img: torch.cat([x, y], 1),
    "cat_types": lambda x, y, i, img: torch.cat([x, i[:, :, None]], -1),
    "stack": lambda x, y, i, img: torch.stack([x, y], -1),
    "pad": lambda x, y, i, img: F.pad(x, (1, 2, 0, 3), value=1.5),
    "pad_cut": lambda x, y, i, img: F.pad(x, (-1, 2)),
    "flip": lambda x, y, i, img: x.flip(1, 2),
    "roll": lambda x, y, i, img: torch.roll(x, shifts=(1, -3), dims=(1, 2)),
    "roll_flat": lambda x, y, i, img: torch.roll(img, 7),
    "pixel_shuffle": lambda x, y, i, img: F.pixel_shuffle(img, 2),
    "pixel_unshuffle": lambda x, y, i, img: F.pixel_unshuffle(img[:, :, :8], 2),
    "channel_shuffle": lambda x, y, i, img: F.channel_shuffle(img, 2),
    "diagonal": lambda x, y, i, img: img.diagonal(offset=1, dim1=2, dim2=3),
    "diagonal_below": lambda x, y, i, img: img.diagonal(offset=-2, dim1=2, dim2=3),
    "tensor_split": lambda x, y, i, img: torch.tensor_split(x, 4, dim=-1)[2],
    "zeros": lambda x, y, i, img: torch.zeros(x.shape[0], 3) + 1,
    "ones_like": lambda x, y, i, img: torch.ones_like(x) * y,
    "full": lambda x, y, i, img: torch.full((x.shape[1], 2), 7),
    "new_full": lambda x, y, i, img: x.new_full((2, x.shape[1]), 0.5),
    "arange": lambda x, y, i, img: torch.arange(x.shape[1]),
    "arange_step": lambda x, y, i, img: torch.arange(0, 10, 3) * 2,
    "arange_float": lambda x, y, i, img: torch.arange(0.5, 4, 0.25),
    "arange_from": lambda x, y, i, img: torch.arange(x.shape[0], x.shape[0] + 3),
    "linspace": lambda x, y, i, img: torch.linspace(-1, 1, 7),
    "triu": lambda x, y, i, img: torch.triu(img, 1),
    "tril": lambda x, y, i, img: torch.tril(img),
    "causal_mask": lambda x, y, i, img: torch.tril(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)),
    "one_hot": lambda x, y, i, img: F.one_hot(i, 10),
    "eye": lambda x, y, i, img: x @ torch.eye(8),
    "size_scalar": lambda x, y, i, img: x.sum(1) / x.shape[1],
    "size_tensor": lambda x, y, i, img: torch.tensor(x.shape[1]) + i,
    "size_arithmetic": lambda x, y, i, img: x.reshape(x.shape[0], x.shape[1] * 2, x.shape[2] // 2),
    "einsum": lambda x, y, i, img: torch.einsum("btd,bsd->bts", x, y),
    "einsum_weight": lambda x, y, i, img: torch.einsum("btd,nd->btn", x, W),
    "meshgrid": lambda x, y, i, img: torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")[0] * 2,
}

REDUCTIONS: dict[str, Case] = {
    "sum": lambda x, y, i, img: x.sum(),
    "sum_dim": lambda x, y, i, img: x.sum(-1),
    "sum_dims": lambda x, y, i, img: img.sum((2, 3), keepdim=True),
    "sum_bool": lambda x, y, i, img: (i > 3).sum(1),
    "mean": lambda x, y, i, img: x.mean(1),
    "mean_all": lambda x, y, i, img: x.mean(),
    "prod": lambda x, y, i, img: x.prod(-1),
    "amax": lambda x, y, i, img: x.amax((1, 2)),
    "amin": lambda x, y, i, img: x.amin(-1, keepdim=True),
    "max_all": lambda x, y, i, img: x.max(),
    "max_dim": lambda x, y, i, img: x.max(-1).values,
    "min_dim_index": lambda x, y, i, img: x.min(-1).indices,
    "argmax": lambda x, y, i, img: x.argmax(-1),
    "argmax_all": lambda x, y, i, img: img.argmax(),
    "argmin": lambda x, y, i, img: x.argmin(1, keepdim=True),
    "any": lambda x, y, i, img: (i > 8).any(1),
    "all": lambda x, y, i, img: (i < 9).all(),
    "var": lambda x, y, i, img: x.var(-1),
    "var_biased": lambda x, y, i, img: x.var((1, 2), unbiased=False, keepdim=True),
    "std": lambda x, y, i, img: x.std(-1),
    "var_mean": lambda x, y, i, img: torch.var_mean(x, -1)[0] + torch.var_mean(x, -1)[1],
    "norm": lambda x, y, i, img: x.norm(dim=-1),
    "norm1": lambda x, y, i, img: x.norm(p=1, dim=-1),
    "norm3": lambda x, y, i, img: torch.linalg.vector_norm(x, 3, dim=-1),
    "norm_inf": lambda x, y, i, img: torch.linalg.vector_norm(x, float("inf"), dim=-1),
    "normalize": lambda x, y, i, img: F.normalize(x, dim=-1),
    "logsumexp": lambda x, y, i, img: x.logsumexp(-1),
    "cumsum": lambda x, y, i, img: x.cumsum(1),
    "cumsum_int": lambda x, y, i, img: (i > 2).cumsum(1),
    "sort": lambda x, y, i, img: x.sort(-1).values,
    "sort_stable": lambda x, y, i, img: torch.sort(x.round(), dim=1, descending=True, stable=True)[1],
    "sort_bool": lambda x, y, i, img: torch.sort(i > 4, dim=1, stable=True)[0],
    "msort": lambda x, y, i, img: torch.msort(x),
    "argsort": lambda x, y, i, img: torch.argsort(i, dim=1, stable=True),
    "argsort_first_axis": lambda x, y, i, img: x.argsort(0, descending=True),
    "topk": lambda x, y, i, img: img.topk(3).values,
    "topk_indices": lambda x, y, i, img: img.topk(4, dim=2).indices,
    "topk_smallest": lambda x, y, i, img: img.topk(2, dim=1, largest=False, sorted=True).values,
    "kthvalue": lambda x, y, i, img: x.kthvalue(3).values,
    "kthvalue_kept": lambda x, y, i, img: x.kthvalue(2, -1, keepdim=True).indices,
    "bucketize": lambda x, y, i, img: torch.bucketize(x.round(), torch.tensor([-1.0, 0.0, 1.0])),
    "bucketize_right": lambda x, y, i, img: torch.bucketize(i, torch.tensor([2, 4, 4, 7]), right=True, out_int32=True),
    "bucketize_nan": lambda x, y, i, img: torch.bucketize(x * float("nan"), torch.tensor([-1.0, 1.0])),
    "searchsorted": lambda x, y, i, img: torch.searchsorted(img[:, 0, 0].sort(-1).values, img[:, 0, 1], right=True),
    "searchsorted_one": lambda x, y, i, img: torch.searchsorted(torch.tensor([-1.0, 0.0, 2.0]), x, side="right"),
    "softmax": lambda x, y, i, img: x.softmax(-1),
    "softmax_axis": lambda x, y, i, img: x.softmax(1),
    "log_softmax": lambda x, y, i, img: x.log_softmax(-1),
    "count_nonzero": lambda x, y, i, img: torch.count_nonzero(i, dim=1),
    "cosine_similarity": lambda x, y, i, img: F.cosine_similarity(x, y, dim=-1),
    "pairwise": lambda x, y, i, img: F.pairwise_distance(x[:, 0], y[:, 0]),
}

LAYERS: dict[str, Case] = {
    "linear": lambda x, y, i, img: F.linear(x, W, B),
    "linear_no_bias": lambda x, y, i, img: F.linear(x, W),
    "matmul_weight": lambda x, y, i, img: x @ W.T,
    "addmm": lambda x, y, i, img: torch.addmm(B, x[:, 0], W.T),
    "addmm_scaled": lambda x, y, i, img: torch.addmm(B, x[:, 0], W.T, beta=0.5, alpha=2),
    "mm": lambda x, y, i, img: x[:, 0] @ y[:, 0].T,
    "bmm": lambda x, y, i, img: torch.bmm(x, y.transpose(1, 2)),
    "baddbmm": lambda x, y, i, img: torch.baddbmm(x[:, :1, :1], x, y.transpose(1, 2), beta=0.5, alpha=0.1),
    "matmul_vector": lambda x, y, i, img: x @ TABLE[:8, 0],
    "vector_matmul": lambda x, y, i, img: B @ W,
    "dot": lambda x, y, i, img: torch.dot(B, B) * x,
    "outer": lambda x, y, i, img: torch.outer(B, B),
    "matmul_batched": lambda x, y, i, img: img @ img.transpose(-1, -2),
    "embedding": lambda x, y, i, img: F.embedding(i, TABLE),
    "conv2d": lambda x, y, i, img: F.conv2d(img, K2, torch.arange(6.0), padding=1),
    "conv2d_stride": lambda x, y, i, img: F.conv2d(img, K2, stride=2, padding=(1, 0), dilation=(1, 2)),
    "conv2d_same": lambda x, y, i, img: F.conv2d(img, K2, padding="same"),
    "depthwise": lambda x, y, i, img: F.conv2d(img, DW, groups=4),
    "conv1d": lambda x, y, i, img: F.conv1d(x.transpose(1, 2), K1, padding=1),
    "conv1d_stride": lambda x, y, i, img: F.conv1d(x.transpose(1, 2), K1, stride=2, padding=1),
    "max_pool2d": lambda x, y, i, img: F.max_pool2d(img, 3, 2, 1),
    "max_pool2d_ceil": lambda x, y, i, img: F.max_pool2d(img, 2, ceil_mode=True),
    "max_pool1d": lambda x, y, i, img: F.max_pool1d(img[:, 0], 2),
    "avg_pool2d": lambda x, y, i, img: F.avg_pool2d(img, 3, 2, 1, count_include_pad=False),
    "avg_pool1d": lambda x, y, i, img: F.avg_pool1d(img[:, 0], 3, 1, 1),
    "upsample_nearest": lambda x, y, i, img: F.interpolate(img, scale_factor=2.0),
    "upsample_to": lambda x, y, i, img: F.interpolate(img, size=(18, 30)),
    "upsample_1d": lambda x, y, i, img: F.interpolate(x, scale_factor=3.0),
    "adaptive_one": lambda x, y, i, img: F.adaptive_avg_pool2d(img, 1),
    "adaptive_even": lambda x, y, i, img: F.adaptive_avg_pool2d(img, (3, 5)),
    "adaptive_odd": lambda x, y, i, img: F.adaptive_avg_pool2d(img, (4, 3)),
    "adaptive_max": lambda x, y, i, img: F.adaptive_max_pool2d(img, (3, 2)),
    "layer_norm": lambda x, y, i, img: F.layer_norm(x, (8,), y[0, 0], y[0, 0]),
    "layer_norm_plain": lambda x, y, i, img: F.layer_norm(x, (8,)),
    "layer_norm_two_axes": lambda x, y, i, img: F.layer_norm(img, (9, 10)),
    "rms_norm": lambda x, y, i, img: F.rms_norm(x, (8,), torch.arange(8.0), 1e-6),
    "group_norm": lambda x, y, i, img: F.group_norm(img, 2, torch.arange(4.0), torch.ones(4)),
    "instance_norm": lambda x, y, i, img: F.instance_norm(img),
    "batch_norm": lambda x, y, i, img: F.batch_norm(
        img, torch.arange(4.0), torch.arange(1.0, 5.0), torch.ones(4), torch.zeros(4)
    ),
    "sdpa": lambda x, y, i, img: _attend(x, y, x),
    "sdpa_rank3": lambda x, y, i, img: F.scaled_dot_product_attention(x, y, y),
    "sdpa_causal": lambda x, y, i, img: F.scaled_dot_product_attention(x, y, y, is_causal=True, scale=0.2),
    "sdpa_key_mask": lambda x, y, i, img: _attend(
        x, y, x, attn_mask=(i >= 0)[:, None, None, :] & (i < 8)[:, None, None]
    ),
    "sdpa_full_mask": lambda x, y, i, img: F.scaled_dot_product_attention(
        x, y, y, attn_mask=torch.tril(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool))
    ),
    "sdpa_bias": lambda x, y, i, img: _attend(x, y, x, attn_mask=(x @ y.mT)[:, None]),
    "gather": lambda x, y, i, img: torch.gather(x, 2, i[:, :, None] % 8),
    "assign_first": lambda x, y, i, img: _put(x, (ALL, 0), 1.0),
    "assign_row": lambda x, y, i, img: _put(x, (ALL, -1), y[:, 0]),
    "assign_columns": lambda x, y, i, img: _put(x, (..., slice(2, 5)), y[..., :3] * 2),
    "assign_shifted": lambda x, y, i, img: _put(torch.zeros_like(i), (ALL, slice(1, None)), i[:, :-1]),
    "assign_last": lambda x, y, i, img: _put(x, (ALL, slice(-1, None)), y[:, :1]),
    "assign_all": lambda x, y, i, img: _put(x, ALL, y[:1]),
    "assign_nothing": lambda x, y, i, img: _put(img, (ALL, slice(4, 4)), 3.0),
    "assign_inside": lambda x, y, i, img: _put(img, (ALL, 1, slice(2, 4), slice(0, 3)), img[:, 0, :2, :3]),
    "assign_every_third": lambda x, y, i, img: _put(x, (..., slice(1, None, 3)), y[..., 2:5:2].mean(-1, keepdim=True)),
    "assign_every_other": lambda x, y, i, img: _put(img, (ALL, slice(0, 4, 2)), img[:, 1:3]),
    "pad_reflect": lambda x, y, i, img: F.pad(x, (2, 3), mode="reflect"),
    "pad_reflect_tokens": lambda x, y, i, img: F.pad(x.mT, (2, 1), mode="reflect"),
    "pad_reflect_two_axes": lambda x, y, i, img: F.pad(img, (2, 0, 1, 3), mode="reflect"),
    "pad_replicate": lambda x, y, i, img: F.pad(x.mT, (4, 1), mode="replicate"),
    "pad_circular": lambda x, y, i, img: F.pad(x, (3, 8), mode="circular"),
    "unfold": lambda x, y, i, img: x.unfold(2, 3, 1),
    "unfold_steps": lambda x, y, i, img: img.unfold(2, 4, 2).unfold(3, 3, 3),
    "cumprod": lambda x, y, i, img: x.cumprod(-1),
    "cumprod_ints": lambda x, y, i, img: (i[..., None] + torch.arange(3)).cumprod(-1),
    "scatter_value": lambda x, y, i, img: x.scatter(-1, _places(i), -2.0),
    "scatter_bool": lambda x, y, i, img: (x > 0).scatter(2, _places(i), True),
    "scatter_rows": lambda x, y, i, img: img.scatter(1, (img[:, :1] > 0).long() + 1, 5.0),
    "scatter_source": lambda x, y, i, img: x.scatter(2, _places(i), y),
    "scatter_few": lambda x, y, i, img: torch.zeros_like(img).scatter(1, img.argsort(1)[:, :2], img),
    "scatter_add": lambda x, y, i, img: x.scatter_add(2, _places(i), y),
    "scatter_add_ids": lambda x, y, i, img: torch.zeros_like(i).scatter_add(1, i.clamp(max=0), i + 1),
    "scatter_amax": lambda x, y, i, img: x.scatter_reduce(2, _places(i), y, "amax"),
    "scatter_amin": lambda x, y, i, img: x.scatter_reduce(2, _places(i), y, "amin", include_self=True),
    "scatter_mean": lambda x, y, i, img: x.scatter_reduce(2, _places(i), y, "mean"),
    "scatter_mean_alone": lambda x, y, i, img: x.scatter_reduce(2, _places(i), y, "mean", include_self=False),
    "scatter_amin_alone": lambda x, y, i, img: x.scatter_reduce(2, _places(i), y, "amin", include_self=False),
    "index_add": lambda x, y, i, img: img.index_add(1, torch.tensor([3, 0, 3]), img[:, :3]),
    "assign_places": lambda x, y, i, img: _put(img, (ALL, torch.tensor([-1, 0])), img[:, 1:3]),
    "assign_one_value": lambda x, y, i, img: _put(x, (ALL, ALL, torch.tensor([2, 5])), 7.0),
    "assign_by_mask": lambda x, y, i, img: _put(x, i > 4, -5.0),
    "assign_by_whole_mask": lambda x, y, i, img: _put(x, x > 0, torch.tensor(0.5)),
    "assign_int": lambda x, y, i, img: _put(i, (ALL, 0), x[:, 0, 0].round().long()),
    "index_select": lambda x, y, i, img: x.index_select(-1, torch.tensor([3, 0, 7])),
    "index": lambda x, y, i, img: TABLE[i],
    "index_negative": lambda x, y, i, img: TABLE[i - 10],
    "index_middle": lambda x, y, i, img: img[:, torch.tensor([2, 0])],
    "index_pair": lambda x, y, i, img: x[torch.arange(x.shape[0]), i[:, 0] * 0],
    "index_apart": lambda x, y, i, img: img[:, torch.tensor([0, 1]), :, torch.tensor([3, 4])],
}


class Group(nn.Module):
    """All cases of a group: outputs by name."""

    def __init__(self, cases: dict[str, Case]) -> None:
        super().__init__()
        self.cases = cases

    def forward(self, x: Tensor, y: Tensor, i: Tensor, img: Tensor) -> dict[str, Tensor]:
        return {name: case(x, y, i, img) for name, case in self.cases.items()}


GROUPS: dict[str, dict[str, Case]] = {
    "elementwise": ELEMENTWISE,
    "shapes": SHAPES,
    "reductions": REDUCTIONS,
    "layers": LAYERS,
}
