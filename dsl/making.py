"""What every `make_*` module needs: the merged entries by place, and reading their captures."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .cursor import CallValue, Captured
from .diagnostics import Diagnostic, Label
from .entries import Collected, Entry
from .load import near_files, outside
from .paths import PathValue, Roots
from .span import Span


@dataclass(slots=True)
class Making:
    """The entries that hold, where to report, and whether files must exist."""

    entries: list[Entry]
    collected: Collected
    found: list[Diagnostic]
    roots: Roots
    need_files: bool
    by_word: dict[tuple[str | None, str, str], list[Entry]] = field(
        default_factory=dict[tuple[str | None, str, str], list[Entry]]
    )

    def __post_init__(self) -> None:
        for entry in self.entries:
            self.by_word.setdefault((entry.model, entry.block, entry.word), []).append(entry)

    def all(self, model: str | None, block: str, word: str) -> list[Entry]:
        return self.by_word.get((model, block, word), [])

    def one(self, model: str | None, block: str, word: str) -> Entry | None:
        entries = self.all(model, block, word)
        return entries[0] if entries else None

    def doubtful(self, model: str | None, *words: str) -> bool:
        """Whether a statement of one of these words was not understood, for the model or at top level."""
        return any((owner, word) in self.collected.bad for word in words for owner in (model, None))

    def error(
        self, code: str, title: str, span: Span | None, label: str = "", help: tuple[str, ...] = (),
        labels: tuple[Label, ...] = (),
    ) -> None:  # fmt: skip
        self.found.append(Diagnostic(code, title, span, label, labels, help))

    def path(self, captured: Captured, folder: bool = False) -> str:
        """The absolute path of a captured path; reports one that leaves the spec's tree or is not there."""
        value: PathValue = captured.value
        if not self.roots.holds(value.absolute):
            self.found.append(outside(value.written, captured.span, value.absolute))
            return value.absolute
        if self.need_files:
            if not os.path.exists(value.absolute):
                what = "folder" if folder else "file"
                self.error(
                    "E0401", f"there is no {what} {value.written}", captured.span, "",
                    near_files(value.absolute, value.written, folder=folder),
                )  # fmt: skip
            elif os.path.isdir(value.absolute) != folder:
                what, other = ("a folder", "a file") if folder else ("a file", "a folder")
                self.error("E0403", f"{value.written} is {other}", captured.span, f"expected {what}")
            elif not folder and not os.path.isfile(value.absolute):
                self.error("E0403", f"{value.written} is {_kind(value.absolute)}", captured.span, "expected a file")
        return value.absolute


def _kind(path: str) -> str:
    """What stands at path that is neither file nor folder."""
    mode = os.stat(path).st_mode
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def spans_of(captures: Mapping[str, Captured], **names: str) -> tuple[tuple[str, Span], ...]:
    """Field name → span, for `field="capture"` pairs whose capture is there."""
    return tuple((name, captures[capture].span) for name, capture in names.items() if capture in captures)


def value_of(captures: Mapping[str, Captured], name: str, default: Any = None) -> Any:
    """The value of a capture, or the default."""
    captured = captures.get(name)
    return default if captured is None else captured.value


def call_of(entry: Entry, name: str) -> CallValue:
    """A captured call."""
    value = entry.match.captures[name].value
    assert isinstance(value, CallValue)
    return value
