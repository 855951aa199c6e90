"""Files of a model folder beside its weights: which there may be, what they say, and keys that are not known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import FrontendError
from .files import read_json_file

TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
    "sentencepiece.model", "spm.model", "tokenizer.model", "tokenizer.model.v3", "tiktoken.model", "tekken.json",
)  # fmt: skip
"""Files that transformers makes a tokenizer of, in the order in which it looks. Without any it may make an empty one."""
ANY: tuple[Any, ...] = ()
"""Of a key whose value is checked elsewhere."""
Known = Mapping[str, tuple[Any, ...]]
"""Keys, and the values that each may have."""


def module_config(folder: Path, path: str, files: list[Path]) -> tuple[Path, dict[str, Any]]:
    """config.json of the module in folder/path, noted in `files`, and what it says. Raises FrontendError where there is none."""
    config = folder / path / "config.json"
    if not os.path.isfile(config):  # Path.is_file raises for a name that is too long
        raise FrontendError(f"{folder.name}/modules.json names {path[:120]}/config.json, which is missing")
    files.append(config)
    return config, read_json_file(config, dict)


def said_in(folder: Path, name: str, files: list[Path], known: Known) -> dict[str, Any] | None:
    """What a settings file of the folder says, checked, and noted in `files`; None where there is none. Raises
    FrontendError."""
    path = folder / name
    if not path.is_file():
        return None
    files.append(path)
    said = read_json_file(path, dict)
    check_known(folder, path, said, known)
    return said


def shown(folder: Path, file: Path) -> str:
    """A file of the folder, for messages."""
    return f"{folder.name}/{file.relative_to(folder).as_posix()[:120]}"


def check_known(folder: Path, file: Path, said: Mapping[str, Any], known: Known) -> None:
    """Raises FrontendError for a key that is not known, and for a value that is honoured by sentence-transformers alone."""
    where = shown(folder, file)
    for key, value in said.items():
        allowed = known.get(key)
        if allowed is None:
            raise FrontendError(f"{where} has {key[:80]!r}, which is not known", hint=f"known are {', '.join(known)}")
        if allowed and not any(type(value) is type(v) and value == v for v in allowed):
            raise FrontendError(f"{where}: {key} is {value!r:.80}, which is not supported")
