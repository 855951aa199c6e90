"""What each layer of a torch module computes: recorded while it runs, for `infc compare`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from ..ir.graph import Array


@contextmanager
def recorded(module: Any) -> Generator[dict[str, Array]]:
    """Fills the dict with the output of every module without children, by its path, while `module` runs. One that is called
    more than once (shared layers), or gives no tensor, is left out."""
    values: dict[str, Array] = {}
    calls: dict[str, int] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(output, torch.Tensor):
                values[name] = output.detach().numpy().copy()

        return hook

    leaves = [(name, m) for name, m in module.named_modules() if name and not list(m.children())]
    handles = [m.register_forward_hook(keep(name)) for name, m in leaves]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()
        for name in [n for n, count in calls.items() if count > 1]:
            values.pop(name, None)
