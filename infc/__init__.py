"""infc, a declarative inference compiler: a `.infer` file in, a self-contained serving bundle out.

`infc.build(spec, ...)` builds a bundle, `infc.load(bundle, ...)` runs one in Python; see also `infc --help`.
Importing this package is cheap: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.api import build as build
    from .runtime import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "build", "load"]

_HOME = {"build": ".compiler.api", "load": ".runtime"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'infc' has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
