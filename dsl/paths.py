"""Paths in a spec: relative to the file that writes them, and never outside the spec's folder tree."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathValue:
    """A path: `written` as seen from the spec, `absolute` (with `..` resolved, links not), `entry` a function in it."""

    written: str
    absolute: str
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Roots:
    """`spec`: the spec's folder; `file`: that of the file being read; `allowed`: other trees (--allow-path)."""

    spec: str
    file: str
    allowed: tuple[str, ...] = ()

    def resolve(self, written: str, entry: str | None) -> PathValue:
        """The path as the spec would write it, and where that is."""
        absolute = os.path.normpath(os.path.join(self.file, written))
        if self.file != self.spec and not os.path.isabs(written):
            written = os.path.relpath(absolute, self.spec).replace(os.sep, "/")
        return PathValue(written, absolute, entry)

    def holds(self, absolute: str) -> bool:
        """Whether a path lies in the spec's tree or in an allowed one, links followed."""
        real = os.path.realpath(absolute)
        return any(_inside(real, os.path.realpath(root)) for root in (self.spec, *self.allowed))


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
