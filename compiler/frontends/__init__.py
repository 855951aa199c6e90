"""Frontends: a model source → Graph.

    source → nn.Module + inputs → torch.export (symbolic dimensions) → MLIR `torch` dialect → Graph

Weights stay where they are (mapped from the checkpoint) and are references in MLIR and in the Graph. A new source is
one file and one row of `LOADERS`. torch and transformers are imported when a source is loaded, never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from ...dsl.spec import Model
from ..errors import missing_module
from .errors import FrontendError
from .imported import Imported, Options, Reference, TextTask

__all__ = ["FrontendError", "Imported", "Options", "Reference", "TextTask", "load", "load_here"]

LOADERS: dict[str, str] = {
    "huggingface": "huggingface",
    "torch": "torch_factory",
    "export": "exported",
}
"""Source kind → module with `load(model, folder, options) -> Imported`."""
CONFINED = ("huggingface", "export")
"""Kinds that people did not write themselves: their module runs in a locked-in worker."""


def load(model: Model, folder: Path, *, options: Options | None = None) -> Imported:
    """The model that `model` names, imported. `folder` is what source lines are shown relative to (the spec's).

    Raises FrontendError (exit 2) for a source that is missing, malformed or not supported, and InfcError (exit 6)
    where torch, torch-mlir or transformers are not installed.
    """
    if model.source.kind in CONFINED:
        from . import confined

        return confined.load(model, folder, options or Options())
    return load_here(model, folder, options)


def load_here(model: Model, folder: Path, options: Options | None = None) -> Imported:
    """The same, in this process: what the worker calls."""
    module = LOADERS.get(model.source.kind)
    if module is None:
        known = ", ".join(LOADERS)
        raise FrontendError(f"sources of kind {model.source.kind!r} are not supported yet; known: {known}")
    try:
        loader: Callable[[Model, Path, Options], Imported] = importlib.import_module(f".{module}", __name__).load
    except ModuleNotFoundError as error:
        raise missing_module(error) from error
    return loader(model, folder, options or Options())
