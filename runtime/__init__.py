"""The Python loader of bundles: `infc.runtime.load("fraud.bundle").run(features=x)`."""

from __future__ import annotations

from .errors import InferError
from .loader import Model, TensorInfo, load

__all__ = ["InferError", "Model", "TensorInfo", "load"]
