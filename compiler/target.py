"""What the compiler asks of a target, and how targets are found.

A target is a folder of `targets/` with a module `target.py` that has a constant `TARGET`. Nobody lists them: a new
folder is a new target. The compiler never names one.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Protocol, runtime_checkable

from .errors import InfcError


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of machine that a target builds for: an instruction set, an architecture of GPU.

    `missing` is why this machine cannot build for it ("" where it can), `unmeasured` why it cannot measure it ("" where
    it can), each in one line.
    """

    name: str
    missing: str = ""
    unmeasured: str = ""


@runtime_checkable
class Target(Protocol):
    """What `infc targets` and the driver need to know of every target; `name` is the word after `use`."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str:
        """One line for people."""
        ...

    def variants(self) -> tuple[Variant, ...]:
        """Every variant, whether this machine can build for it and whether it can measure it."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """What this machine is, as far as the target's measurements depend on it; JSON values."""
        ...


def discover() -> dict[str, Target]:
    """Every target by its name, sorted. Raises TypeError where a folder's TARGET is none."""
    found: dict[str, Target] = {}
    package = import_module("..targets", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg or not _has_target(list(package.__path__), module.name):
            continue
        target = import_module(f"{package.__name__}.{module.name}.target").TARGET
        if not isinstance(target, Target):
            raise TypeError(f"targets/{module.name}/target.py: TARGET lacks part of compiler.target.Target")
        found[target.name] = target
    return dict(sorted(found.items()))


def find_target(name: str) -> Target:
    """The target called `name`. Raises InfcError (exit 2) that lists the known ones."""
    targets = discover()
    if name in targets:
        return targets[name]
    near = get_close_matches(name, targets, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"the targets are {', '.join(targets)}"
    raise InfcError(f"there is no target {name!r}", hint=hint)


def _has_target(paths: list[str], folder: str) -> bool:
    return any(m.name == "target" for m in pkgutil.iter_modules([f"{path}/{folder}" for path in paths]))
