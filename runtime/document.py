"""manifest.json as every reader takes it: a regular file, equal to its digest in manifest.sha256, without a key twice."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, cast

FORMAT = 5
"""The format that is written and read; compiler/bundle/manifest.py says when it is raised."""
SUM = "manifest.sha256"
MOST_BYTES = 16 << 20
"""Most bytes of a manifest that is read; the server's bound, too."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading, without waiting and following no link at its end. Raises OSError."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    file = open(path, "rb", opener=opener)  # noqa: SIM115 - handed to the caller
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it must be a regular file", str(path))
    return cast(BinaryIO, file)


def manifest_sum(data: bytes) -> str:
    """The text of manifest.sha256 for the bytes of manifest.json: `sha256sum -c manifest.sha256` checks it."""
    return f"{hashlib.sha256(data).hexdigest()}  manifest.json\n"


def read_document(folder: Path) -> bytes:
    """The bytes of a bundle's manifest.json. Raises OSError, and ValueError where they are not those that manifest.sha256
    was written for."""
    data = _read(folder / "manifest.json", MOST_BYTES)
    found = _read(folder / SUM, 4096)
    if found != manifest_sum(data).encode():
        raise ValueError(f"manifest.json does not match {SUM}: one of the two has changed since the bundle was written")
    return data


def strict_json(data: bytes) -> Any:
    """The JSON document. Raises ValueError where it is none, or an object has a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
            raise ValueError(f"the key {twice!r} stands twice in one object")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    return json.loads(data, object_pairs_hook=unique, parse_constant=constant)


def _read(path: Path, most: int) -> bytes:
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most} bytes")
    return data
