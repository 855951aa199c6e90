"""Embedding bags while they are traced: rows of places as what they mean, a lookup and a sum, mean or maximum over it.

torch flattens the places first and computes where each bag begins, and nothing shows in that form that bags are rows.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
import torch.nn.functional as F

from .replaced import replaced


def row_bags(
    places: torch.Tensor, weight: torch.Tensor, mode: str, scale: torch.Tensor | None, padding: int | None
) -> torch.Tensor:
    """F.embedding_bag over places [B, N] of weight [V, E]: [B, E]. Places that are `padding` do not count; a bag of nothing
    else is zeros. `scale` [B, N] multiplies what is summed."""
    found = F.embedding(places, weight)
    kept = None if padding is None else (places != padding % weight.shape[0])[..., None]
    if scale is not None:
        found = found * scale[..., None]
    if mode == "max":
        if kept is None:
            return found.amax(1)
        most = torch.where(kept, found, -math.inf).amax(1)
        return torch.where(kept.any(1), most, 0.0)
    if kept is None:
        return found.sum(1) if mode == "sum" else found.mean(1)
    total = torch.where(kept, found, 0.0).sum(1)
    return total if mode == "sum" else total / kept.sum(1).clamp(min=1)


def bags_of_rows() -> contextlib.AbstractContextManager[None]:
    """F.embedding_bag, which nn.EmbeddingBag calls, over rows is `row_bags` for the while; anything else is torch's."""
    torchs: Any = F.embedding_bag

    def embedding_bag(
        input: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None,
        max_norm: float | None = None, norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean",
        sparse: bool = False, per_sample_weights: torch.Tensor | None = None, include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        plain = (
            input.dim() == 2 and weight.dim() == 2 and not input.is_floating_point() and mode in ("sum", "mean", "max")
        )
        odd = offsets is not None or max_norm is not None or (per_sample_weights is not None and mode != "sum")
        outside = padding_idx is not None and not -len(weight) <= padding_idx < len(weight)
        if plain and not odd and not outside:
            return row_bags(input, weight, mode, per_sample_weights, padding_idx)
        return torchs(
            input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights,
            include_last_offset, padding_idx,
        )  # fmt: skip

    return replaced([F], "embedding_bag", embedding_bag)
