"""A source's files, links followed: all of them regular, and none outside of the trees that a spec may read.

Checked before a worker is started, because the worker may then open what is found here and nothing else.

    trees = the spec's folder, --allow-path, the source itself, and a hub repository that the source is a snapshot of
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...dsl.load import outside
from ...dsl.paths import Roots
from ...dsl.spec import Source
from ..errors import diagnosed
from .errors import FrontendError
from .files import kind_of

MOST_FILES = 100_000
_FILES = (".json", ".safetensors", ".bin", ".pt2")
"""What a folder may not be called: a loader would take it for a file."""


@dataclass(frozen=True)
class Tree:
    """`paths`: the source, and where links in it lead (all resolved); `size`: bytes of its files."""

    paths: tuple[str, ...]
    size: int


def check_tree(source: Source, spec: Path, allowed: tuple[str, ...] = ()) -> Tree:
    """The tree of a source of the spec in folder `spec`; `allowed` are the folders of --allow-path.

    Raises InfcError (E0402) for a link that leads out of it, and FrontendError for one that leads nowhere and for what is
    neither file nor folder. Hidden folders and Python environments are passed over: nothing in them is part of a model.
    """
    path = os.path.abspath(source.path or "")
    if not os.path.lexists(path):
        return Tree((path,), 0)  # its loader says what is missing
    given = source.written or source.hub or os.path.basename(path)
    roots = Roots(str(spec), str(spec), (*allowed, path, *_repository(path)))
    found = {path, os.path.realpath(path)}
    size = count = 0
    for place, status in _walk(path, given):
        count += 1
        if count > MOST_FILES:
            raise FrontendError(
                f"{given} holds more than {MOST_FILES:,} files", hint="name the folder that holds the model alone"
            )
        link = os.path.islink(place)
        shown = _shown(path, place, given)
        if link and place != path:
            if not roots.holds(place):
                raise diagnosed(outside(shown, source.at("path"), place))
            found.add(os.path.realpath(place))
        if isinstance(status, OSError):
            what = f"is a link to {_text(_target(place))}, " if link else ""
            raise FrontendError(f"{shown} {what}{'which ' if link else ''}cannot be opened: {status.strerror}")
        if stat.S_ISREG(status.st_mode):
            size += status.st_size
            continue
        folder = stat.S_ISDIR(status.st_mode)
        wanted = place != path or source.kind == "huggingface"
        if not folder or not wanted or (place != path and place.endswith(_FILES)):
            raise FrontendError(f"{shown} is {kind_of(status.st_mode)}, and a file is needed")
    return Tree(tuple(sorted(found)), size)


def _walk(path: str, given: str) -> Iterator[tuple[str, os.stat_result | OSError]]:
    """Every entry at and below path with its status, folders that links lead to as well, each folder once."""
    todo, seen = [path], set[tuple[int, int]]()
    while todo:
        place = todo.pop()
        try:
            status = os.stat(place)
        except OSError as error:
            yield place, error
            continue
        yield place, status
        if not stat.S_ISDIR(status.st_mode) or (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            names = sorted(os.listdir(place), reverse=True)
        except OSError as error:
            raise FrontendError(f"{_shown(path, place, given)} cannot be read: {error.strerror}") from None
        if "pyvenv.cfg" not in names:
            below = (os.path.join(place, name) for name in names)
            todo += (p for p in below if not (os.path.basename(p).startswith(".") and os.path.isdir(p)))


def _repository(path: str) -> tuple[str, ...]:
    """The repository in a hub's cache that path is (in) a snapshot of: models--org--name/snapshots/<revision>."""
    parts = Path(os.path.realpath(path)).parts
    for at in range(len(parts) - 2, 0, -1):
        if parts[at] == "snapshots" and parts[at - 1].startswith("models--"):
            return (os.path.join(*parts[:at]),)
    return ()


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return "?"


def _shown(path: str, place: str, given: str) -> str:
    return _text(given if place == path else os.path.join(given, os.path.relpath(place, path)))


def _text(path: str) -> str:
    """path for messages, whatever bytes it has."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)
