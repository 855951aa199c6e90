"""One file an op. `known()` finds them by folder; nothing is listed by hand."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ..graph import Op


@cache
def known() -> dict[str, type[Op]]:
    """Every op class by mnemonic."""
    found: dict[str, type[Op]] = {}
    for module in pkgutil.iter_modules(__path__):
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        for value in contents.values():
            if (
                isinstance(value, type)
                and issubclass(value, Op)
                and value.mnemonic
                and value.__module__.endswith(f".{module.name}")
            ):
                found[value.mnemonic] = value
    return dict(sorted(found.items()))
