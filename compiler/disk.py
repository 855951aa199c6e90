"""A disk that takes no more: which errors say so, and the error that a user sees."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from .errors import Exit, InfcError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""No space, or no quota."""
LITTLE = 1 << 20
"""Bytes: a disk with less is taken for the full one of several."""
_SAID = re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written")
"""What the system and (of a write cut short) numpy say."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that a disk is full: libraries put that into errors of their own, with
    the system's words in their text."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, OSError) and at.errno in FULL:
            return True
        if _SAID.search(str(at)):
            return True
        at = at.__cause__ or at.__context__
    return False


def has_little(folder: str | Path) -> bool:
    """Whether the disk of a folder has less than LITTLE bytes or no file left for this user. Raises nothing: what cannot be
    asked has enough."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < LITTLE or (found.f_files > 0 and found.f_favail == 0)


def disk_full(*folders: str | Path) -> InfcError:
    """Exit 6: the disk of one of these folders is full, and it is named where that can be seen."""
    places = [str(f) for f in folders if has_little(f)][:1] or list(dict.fromkeys(map(str, folders)))
    return InfcError(
        f"the disk of {' or '.join(places)} is full",
        exit_code=Exit.MISSING,
        hint="free some disk space, choose another place with -o, or set TMPDIR",
    )
