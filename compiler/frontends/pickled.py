"""Tensors of `.bin` checkpoints, by a reader that allows tensors only: no pickle is executed."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import torch

from .checkpoint import Checkpoint, check_unpacked
from .errors import FrontendError, first_line


def read_bin(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's `.bin` files. Raises FrontendError."""
    state: dict[str, torch.Tensor] = {}
    for file in checkpoint.files:
        if file.suffix != ".bin":
            continue
        try:
            check_unpacked(file)
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # noqa: BLE001 - whatever torch says of a file, it is the file's
            raise FrontendError(
                f"{file.name} is no checkpoint of tensors alone ({first_line(error)}), and no pickle is executed",
                hint="save it with `model.save_pretrained(folder, safe_serialization=True)`",
            ) from None
        state.update({k: v for k, v in found.items() if isinstance(v, torch.Tensor)})
    return state
