"""Where a piece of text stands: one `Span` goes from token to Spec field to IR node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line.

    `file` is the name to show (a path as the user gave it, `<stdin>`, `--set` or a catalogue file), `line` and `col`
    count from 1 in characters, `end` is the column after the last character. A construct of several lines has the
    span of its first line.
    """

    file: str
    line: int
    col: int
    end: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}"

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of `other`, where both are on one line; this span elsewhere."""
        if other.file != self.file or other.line != self.line or other.end < self.end:
            return self
        return Span(self.file, self.line, self.col, other.end)
