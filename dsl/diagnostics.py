"""One `Diagnostic` type for everything that is said about a spec."""

from __future__ import annotations

from dataclasses import dataclass, field

from .span import Span


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that matters, with a few words about it."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error (`E…`) or a warning (`W…`).

    `title` says what is wrong, `span` where (None: nowhere in a text, an argument say), `label` what was expected
    there, `labels` other places, `help` what would be right.
    """

    code: str
    title: str
    span: Span | None = None
    label: str = ""
    labels: tuple[Label, ...] = field(default=())
    help: tuple[str, ...] = field(default=())

    @property
    def severity(self) -> str:
        """`error` or `warning`, by the code's letter."""
        return "warning" if self.code.startswith("W") else "error"

    @property
    def is_error(self) -> bool:
        """Whether this makes the spec unusable."""
        return self.severity == "error"


def sort_diagnostics(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """By file (in order of first mention), line and column; without span last; equal ones once."""
    files: dict[str, int] = {}
    for d in diagnostics:
        if d.span is not None:
            files.setdefault(d.span.file, len(files))
    far = (1 << 30, 0, 0)

    def place(d: Diagnostic) -> tuple[int, int, int]:
        return far if d.span is None else (files[d.span.file], d.span.line, d.span.col)

    return tuple(sorted(dict.fromkeys(diagnostics), key=place))
