"""The lock: what decided a build's bytes, one decision a line, TOML, sorted.

`infc build` writes it beside the spec and into the bundle; `--locked` refuses to build with other inputs or tools.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ..errors import InfcError
from ..temporary import sweep, temporary_folder

FORMAT = 1

Sections = Mapping[str, Mapping[str, object]]


def lock_text(sections: Sections) -> str:
    """The lock's text; values are strings, numbers, booleans or lists of strings."""
    lines = [f"format = {FORMAT}"]
    for section in sorted(sections):
        lines += ["", f"[{'.'.join(_key(part) for part in section.split('.'))}]"]
        lines += [f"{_key(key)} = {_value(value)}" for key, value in sorted(sections[section].items())]
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    plain = text.replace("-", "").replace("_", "")
    return text if plain.isascii() and plain.isalnum() else json.dumps(text)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in cast(list[object], value))}]"
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value))


def lock_beside(spec: Path) -> Path:
    """Where the lock of a spec lies."""
    return spec.with_name(f"{spec.name}.lock")


def write_lock(path: Path, text: str) -> None:
    """Replaces the lock at path at once: a full disk leaves the old one. Raises OSError."""
    path = path.resolve()  # where a link leads, as a plain write would
    prefix = f".{path.name}.tmp-"
    sweep(path.parent, prefix)
    with temporary_folder(path.parent, prefix) as folder:
        (folder / path.name).write_text(text, encoding="utf-8")
        os.replace(folder / path.name, path)


def read_lock(path: Path, command: str) -> Mapping[str, object]:
    """The lock at `path`. Raises InfcError (exit 2) that names the command that writes it where there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InfcError(f"--locked needs {path}, which does not exist", hint=f"{command} writes it") from None
    except ValueError as error:
        raise InfcError(f"{path} is no lock: {error}", hint=f"{command} writes a new one") from None


def check_lock(path: Path, sections: Sections, command: str) -> None:
    """Compares the lock at `path` with this build's. Raises InfcError (exit 2) that names each input or tool that is not the
    locked one, and the command that writes a new lock."""
    locked = read_lock(path, command)
    now = tomllib.loads(lock_text(sections))
    differences = [
        f"{section}: {key} was {_at(locked, section).get(key)!r} and is {_at(now, section).get(key)!r}"
        for section in sorted(sections)
        for key in sorted({*_at(now, section), *_at(locked, section)})
        if _at(locked, section).get(key) != _at(now, section).get(key)
    ]
    if differences:
        shown = "\n  ".join(differences[:10])
        raise InfcError(
            f"{path} was written with other inputs or tools:\n  {shown}", hint=f"{command} writes a new lock"
        )


def locked_choices(spec: Path, model: str) -> dict[str, str]:
    """What the lock beside spec says of how kernels of the model are made. Raises InfcError (exit 2) as `read_lock` does."""
    lock = read_lock(lock_beside(spec), f"infc build {spec}")
    return {key: str(value) for key, value in _at(lock, f"tuning.{model}.0").items()}


def _at(document: Mapping[str, object], section: str) -> Mapping[str, object]:
    here: object = document
    for part in section.split("."):
        here = cast(Mapping[str, object], here).get(part, {}) if isinstance(here, dict) else {}
    return cast(Mapping[str, object], here) if isinstance(here, dict) else {}
