"""Mixtures of experts of Hugging Face models, traced without a choice that depends on data.

transformers sorts tokens by the experts that the router chose. In a program whose shapes are fixed each token goes through every
expert instead, and counts with its weight where the expert was chosen, with zero elsewhere: the same sums, and as many
times the work as there are experts for each one that is chosen.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from .replaced import replaced

NAME = "infc"


def experts_function(module: Any, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """transformers' interface for experts: hidden [tokens, H], chosen and weights [tokens, k] -> [tokens, H]."""
    total = torch.zeros_like(hidden)
    first = "gate_up_proj" if module.has_gate else "up_proj"
    for number in range(int(module.num_experts)):
        here = chosen == number
        x = _project(module, first, number, hidden)
        x = module._apply_gate(x) if module.has_gate else module.act_fn(x)
        x = _project(module, "down_proj", number, x)
        if module.has_post_expert_norm:
            x = module.post_expert_norm(x)
        share = torch.where(here, weights, torch.zeros((), dtype=weights.dtype)).sum(-1, keepdim=True)
        # What was not chosen is not even multiplied by zero: it may be infinite.
        total = total + torch.where(here.any(-1, keepdim=True), x * share, torch.zeros((), dtype=x.dtype))
    return total


def _project(module: Any, name: str, number: int, x: torch.Tensor) -> torch.Tensor:
    weight = getattr(module, name)[number]
    bias = getattr(module, f"{name}_bias")[number] if module.has_bias else None
    return torch.nn.functional.linear(x, weight.transpose(0, 1) if module.is_transposed else weight, bias)


ALL_EXPERTS_FUNCTIONS.register(NAME, experts_function)


@contextlib.contextmanager
def all_experts(model: Any) -> Generator[int]:
    """model with this way through its experts for the while; gives how many experts its widest layer has, or 0."""
    experts = [m for m in model.modules() if hasattr(m, "_apply_gate") and hasattr(m, "has_gate")]
    with replaced([m.config for m in experts], "_experts_implementation", NAME):
        yield max((int(getattr(m, "num_experts", 1)) for m in experts), default=0)
