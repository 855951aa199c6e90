"""Temporary folders that the next build removes where their process was killed.

A folder is locked (flock on the folder itself) as long as its process lives; the kernel frees the lock however the
process ends. `sweep` removes folders of the same prefix whose lock is free: this user's own, never through a link.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

WORK = "infc-work-"
"""Prefix of work folders in the system's folder for temporary files."""
_RANDOM = r"[a-z0-9_]{8}"
_TRIES = 100


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Generator[Path]:
    """An empty folder `prefix` + 8 characters in `parent`, locked, and removed at the end unless it was renamed. Raises
    OSError where the disk refuses."""
    path, lock = _make(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def work_folder() -> Generator[Path]:
    """A temporary folder for a build's work; what killed builds left is removed first. Raises OSError."""
    parent = Path(tempfile.gettempdir())
    sweep(parent, WORK)
    with temporary_folder(parent, WORK) as path:
        yield path


def sweep(parent: Path, prefix: str) -> None:
    """Removes the folders `prefix` + 8 characters in `parent` that no process holds. What cannot be removed stays."""
    for path in stale(parent, prefix):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def stale(parent: Path, prefix: str) -> list[Path]:
    """Folders in `parent` of such a name and this user's, held or not."""
    name = re.compile(re.escape(prefix) + _RANDOM)
    try:
        with os.scandir(parent) as entries:
            return [Path(e.path) for e in entries if name.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # nothing can be listed, so nothing is removed


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = _lock(path)
        if lock is not None:
            return path, lock
    raise OSError(f"no temporary folder could be locked in {parent}")


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a folder of this user's; None where another holds it or it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    mine = False
    with suppress(OSError):  # held by another, or gone
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, there = os.fstat(handle), os.lstat(path)
        mine = held.st_uid == os.geteuid() and (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    if mine:
        return handle
    os.close(handle)
    return None
