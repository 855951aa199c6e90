"""What the readers of this folder raise, and how they show a file's own text."""

from __future__ import annotations

from typing import Any

SAVE = "save it again with `torch.export.save(program, file)`"
TENSORS_ONLY = "export a module of plain tensors: no custom classes, no tensor subclasses"


class Refused(ValueError):
    """An archive is not what torch.export.save writes, or holds what is not read: what, and what would be right."""

    def __init__(self, message: str, hint: str = SAVE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def pickled(entry: str) -> Refused:
    """The refusal of an entry that only a pickle's reader could read."""
    return Refused(f"the entry {shown(entry)} holds pickled objects, and no pickle is executed", TENSORS_ONLY)


def shown(value: Any) -> str:
    """value for a message: quoted, escaped, of bounded length."""
    text = ascii(value if not isinstance(value, str) else value[:100])
    return text if len(text) <= 100 else f"{text[:96]}...{text[0]}"
