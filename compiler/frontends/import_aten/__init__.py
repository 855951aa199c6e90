"""aten → Graph: one table from op name to handler. Each file of this folder registers its rows with `@aten(...)`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from .scope import Handler, handlers


@cache
def _loaded() -> dict[str, Handler]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return handlers()


def handler_of(name: str) -> Handler | None:
    """The handler of an op such as `aten.linear`, or None."""
    return _loaded().get(name)


def known() -> tuple[str, ...]:
    """Names of every op that has a row, sorted."""
    return tuple(sorted(_loaded()))
