"""Attention of Hugging Face models kept whole while they are traced.

An attention function and a mask function of ours stand in for sdpa's: `infc::attention` takes q, k, v and what
`infc::key_mask` made of the two-dimensional mask, so that one attention op per layer arrives and no mask arithmetic.
Where a model asks for more (biases, sinks, other patterns), PlainPath is raised and it is traced with its own.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from .replaced import replaced

NAME = "infc"
OWN = "infc_own"
"""For classes that compute attention themselves: only the mask is ours."""
HARMLESS = frozenset({"position_ids", "cache_position", "position_embeddings"})


class PlainPath(Exception):
    """The model's attention is more than q, k, v, a key mask and a window."""


@torch.library.custom_op("infc::key_mask", mutates_args=())
def key_mask(mask: torch.Tensor, left: int, right: int, causal: bool) -> torch.Tensor:
    """mask bool [B, S], marked with the distances (-1: any) that queries may look to each side."""
    return mask.clone()


@key_mask.register_fake
def _(mask: torch.Tensor, left: int, right: int, causal: bool) -> torch.Tensor:
    return torch.empty_like(mask)


@torch.library.custom_op("infc::attention", mutates_args=())
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float, causal: bool
) -> torch.Tensor:
    """q [B, Hq, T, D], k and v [B, Hk, S, D]; result [B, T, Hq, D]. Only ever traced."""
    raise NotImplementedError("infc::attention is for tracing; run the model with its own attention")


@attention.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float, causal: bool
) -> torch.Tensor:
    return q.new_empty((q.shape[0], q.shape[2], q.shape[1], v.shape[3]))


def attention_function(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, scaling: float | None = None, dropout: float = 0.0,
    is_causal: bool | None = None, **kwargs: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """transformers' attention interface over infc::attention."""
    for name, extra in kwargs.items():
        if name in HARMLESS:
            continue
        if isinstance(extra, torch.Tensor) or (name in ("softcap", "s_aux") and extra is not None):
            raise PlainPath(f"attention takes {name}")
    if dropout:
        raise PlainPath("attention drops out")
    if attention_mask is not None and attention_mask.ndim != 2:
        raise PlainPath("the attention mask has four axes")
    causal = False
    if attention_mask is None:
        causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    scale = 1.0 / math.sqrt(query.shape[-1]) if scaling is None else float(scaling)
    return attention(query, key, value, attention_mask, scale, causal), None


def mask_function(
    *, batch_size: int, kv_length: int, mask_function: Callable[..., torch.Tensor], q_offset: int = 0, kv_offset: int = 0,
    attention_mask: torch.Tensor | None = None, local_size: int | None = None, device: Any = None, **kwargs: Any,
) -> torch.Tensor | None:  # fmt: skip
    """transformers' mask interface: the two-dimensional mask, marked with what mask_function allows by position."""
    left, right, causal = pattern_of(mask_function, local_size)
    if attention_mask is None:
        if (left, right, causal) == (-1, -1, False):
            return None
        attention_mask = torch.ones((batch_size, kv_length), dtype=torch.bool, device=device)
    return key_mask(attention_mask, left, right, causal)


def pattern_of(allowed: Callable[..., torch.Tensor], local_size: int | None) -> tuple[int, int, bool]:
    """(left, right, causal) of a mask function, found by asking it for every pair of some positions."""
    count = 4 if local_size is None else 2 * int(local_size) + 4
    with _disable_current_modes():
        q, k = torch.arange(count)[:, None], torch.arange(count)[None, :]
        zero = torch.zeros((), dtype=torch.int64)
        seen = torch.as_tensor(allowed(zero, zero, q, k)).expand(count, count)
        if isinstance(seen, FakeTensor):
            raise PlainPath("the attention mask depends on values that the model computes")
        distance = k - q
        candidates: list[tuple[int, int, bool]] = [(-1, -1, False), (-1, -1, True)]
        if local_size is not None:
            w = int(local_size)
            candidates += [(w, w, False), (w - 1, w - 1, False), (w - 1, 0, True), (w, 0, True)]
        for left, right, causal in candidates:
            kept = torch.ones_like(seen)
            kept &= distance <= 0 if causal else True
            kept &= distance >= -left if left >= 0 else True
            kept &= distance <= right if right >= 0 else True
            if bool((kept == seen).all()):
                return left, right, causal
    raise PlainPath("the attention mask depends on more than positions and padding")


def no_attention(*arguments: Any, **named: Any) -> Any:
    """Stands for attention where a class is said to bring its own."""
    raise PlainPath("attention goes through the interface")


def additive_mask(
    *, mask_function: Callable[..., torch.Tensor], attention_mask: torch.Tensor | None = None,
    local_size: int | None = None, dtype: torch.dtype = torch.float32, **kwargs: Any,
) -> torch.Tensor | None:  # fmt: skip
    """transformers' mask interface for classes with attention of their own: [B, 1, 1, S], 0 or the least float, to be
    added to the scores."""
    if pattern_of(mask_function, local_size) != (-1, -1, False):
        raise PlainPath("the attention mask depends on positions")
    if attention_mask is None:
        return None
    least = torch.full((), torch.finfo(dtype).min, dtype=dtype)
    return torch.where(attention_mask[:, None, None, :], torch.zeros((), dtype=dtype), least)


AttentionInterface.register(NAME, attention_function)
AttentionMaskInterface.register(NAME, mask_function)
AttentionInterface.register(OWN, no_attention)
AttentionMaskInterface.register(OWN, additive_mask)


def attention_as(model: Any, implementation: str) -> contextlib.AbstractContextManager[None]:
    """model with another attention implementation for the while."""
    configs = [m.config for m in model.modules() if hasattr(m, "config")]
    return replaced(configs, "_attn_implementation", implementation)
