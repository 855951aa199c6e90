"""torch.max_pool1d while it is traced: its own code makes an integer of the length, and that of two dimensions does not."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
from typing import Any

import torch

from .replaced import replaced


def _flat_pool(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> torch.Tensor:
    """torch.max_pool1d over input [..., L], as a pooling over one line."""
    kernel, every, edge, apart = (_one(v) for v in (kernel_size, stride or kernel_size, padding, dilation))
    line = torch.max_pool2d(input.unsqueeze(-2), (1, kernel), (1, every), (0, edge), (1, apart), ceil_mode)
    return line.squeeze(-2)


def _one(value: Any) -> int:
    return int(value[0]) if isinstance(value, tuple | list) else int(value)


def pools_of_any_length() -> contextlib.AbstractContextManager[None]:
    """torch.max_pool1d, which nn.MaxPool1d calls, takes any length for the while."""
    return replaced([torch], "max_pool1d", _flat_pool)
