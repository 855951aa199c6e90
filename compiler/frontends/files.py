"""Files that others wrote: opened only where they are regular and within bounds, JSON read strictly.

Whatever a model folder holds goes through here first: a FIFO or device does not hang, a huge or deeply nested file
does not exhaust memory, and what two readers could understand differently (keys twice, NaN, half a character) is refused.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from .errors import FrontendError

JSON_BYTES = 16 << 20
"""The most that a settings file may have; tokenizers and checkpoint indexes state their own bounds."""
JSON_DEPTH = 64
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))


def kind_of(mode: int) -> str:
    """What an entry is that is no regular file, by its st_mode."""
    return next((name for test, name in _KINDS if test(mode)), "a device")


def open_regular(path: Path) -> int:
    """A descriptor of path for reading, which never waits. Raises FrontendError where it is no regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise FrontendError(f"{shown(path)} cannot be opened: {said}") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    raise FrontendError(f"{shown(path)} is {kind_of(mode)}, and a file is needed")


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """All of a regular file of at most limit bytes. Raises FrontendError."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise FrontendError(f"{shown(path)} has {size:,} bytes, and at most {limit:,} are read")
        return file.read(limit + 1)[:limit]


def read_json_file(path: Path, kind: type, limit: int = JSON_BYTES) -> Any:
    """The JSON object (kind dict) or list in a file. Raises FrontendError naming the file and what is wrong."""
    value = parse_json(read_bytes(path, limit), shown(path))
    if not isinstance(value, kind):
        raise FrontendError(f"{shown(path)} should hold a JSON {'list' if kind is list else 'object'}")
    return value


def parse_json(data: bytes, where: str, depth: int = JSON_DEPTH) -> Any:
    """data as JSON of at most `depth` levels, keys once, every number finite. Raises FrontendError that begins with where."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrontendError(f"{where} is not UTF-8 at byte {error.start}") from None
    try:
        value: Any = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise FrontendError(f"{where} is nested deeper than {depth} levels") from None
    except ValueError as error:
        raise FrontendError(f"{where} cannot be read as JSON: {error}") from None
    _check_values(value, where, depth)
    return value


def path_of(keys: Sequence[str | int]) -> str:
    """`text_config.depths[2]`, for messages."""
    out = ""
    for key in keys:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else key
    return out[:200].encode("utf-8", "backslashreplace").decode()


def shown(path: Path) -> str:
    """`folder/file` for messages, whatever bytes the name has."""
    return f"{path.parent.name}/{path.name}".encode("utf-8", "backslashreplace").decode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} stands twice in one object")
            seen.add(key)
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _check_values(value: Any, where: str, depth: int) -> None:
    """Level by level, so that no nesting can exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                pairs = cast(dict[str, Any], item)
                for key in pairs:
                    _check_text(key, where)
                below.extend(pairs.values())
            elif isinstance(item, list):
                below.extend(cast(list[Any], item))
            elif isinstance(item, str):
                _check_text(item, where)
            elif isinstance(item, float) and not math.isfinite(item):
                raise FrontendError(f"{where} has a number that is too large for 64 bits")
        if not below:
            return
        level = below
    if any(isinstance(item, (dict, list)) for item in level):
        raise FrontendError(f"{where} is nested deeper than {depth} levels")


def _check_text(text: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise FrontendError(f"{where} has half a character (a lone surrogate) in {text[:40]!a}") from None
