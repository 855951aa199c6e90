"""torch.compile: inductor with frozen weights and its autotuner."""

# pyright: basic

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch._inductor.config as inductor

from ..cases import Case
from ..reference import Embedder, tensors
from . import Call

VERSION_OF = "torch"
SETTINGS = {"": "torch.compile, freezing, max-autotune, static shapes, inference mode"}


def open_case(case: Case, folder: Path, threads: int, variant: str) -> tuple[Call, str]:
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    inductor.freezing = True
    arguments = tensors(case)
    compiled = torch.compile(Embedder("sdpa").eval(), mode="max-autotune", dynamic=False)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return compiled(*arguments).numpy()

    call()
    return call, ""
