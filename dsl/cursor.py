"""A place among the terms of a statement, and what reading a value there gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .diagnostics import Diagnostic
from .paths import Roots
from .span import Span
from .syntax import Atom, Call, Term
from .write import describe, shorten


@dataclass(frozen=True, slots=True)
class Captured:
    """A value read from a statement: in base units, with the unit it was written in and the terms it came from."""

    value: Any
    span: Span
    unit: str = ""
    where: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class CallValue:
    """A call that was read: its name and arguments."""

    name: str
    args: Mapping[str, Captured]
    span: Span


@dataclass(frozen=True, slots=True)
class TypeValue:
    """The type of an input or output: `string`, `image(jpeg, png)` or `float32[batch, 64]`."""

    kind: str
    dtype: str | None = None
    dims: tuple[int | str, ...] = ()
    formats: tuple[str, ...] = ()
    symbols: tuple[tuple[str, Span], ...] = ()


@dataclass(slots=True)
class Context:
    """What reading needs to know: the `let` values, where paths start, and where to report."""

    lets: Mapping[str, tuple[Term, ...]]
    found: list[Diagnostic]
    roots: Roots
    used: set[str] = field(default_factory=set[str])


@dataclass(slots=True)
class Cursor:
    """A place among the terms of one group. `subject` is the word that a message begins with."""

    terms: list[Term]
    end: Span
    context: Context
    subject: str
    group: int = 0
    at: int = 0

    def peek(self, ahead: int = 0) -> Term | None:
        i = self.at + ahead
        return self.terms[i] if i < len(self.terms) else None

    def here(self) -> Span:
        """The span of the next term, or the place after the last one."""
        term = self.peek()
        return term.span if term is not None else self.end

    def error(
        self, code: str, title: str, span: Span | None = None, label: str = "", help: tuple[str, ...] = ()
    ) -> None:
        self.context.found.append(Diagnostic(code, title, span or self.here(), label, (), help))

    def expand(self) -> None:
        """Puts the value of a `let` in the place of its name, when the next term is one."""
        for _ in range(len(self.context.lets) + 1):
            term = self.peek()
            if not isinstance(term, Atom) or term.kind != "WORD" or term.text not in self.context.lets:
                return
            self.context.used.add(term.text)
            value = [_moved(t, term.span) for t in self.context.lets[term.text]]
            self.terms[self.at : self.at + 1] = value
            if not value:
                return

    def not_a(self, article: str, expected: str = "") -> None:
        """Reports that the next term (or the end) is not `article`."""
        term = self.peek()
        if term is None:
            self.error("E0201", f"{self.subject} needs {article}", None, expected)
            return
        text, what = describe(term, self.peek(1))
        self.error("E0201", f"{self.subject} needs {article}, and {shorten(text)} is {what}", term.span, expected)


def _moved(term: Term, span: Span) -> Term:
    if isinstance(term, Atom):
        return Atom(term.kind, term.text, span)
    groups = tuple(tuple(_moved(t, span) for t in group) for group in term.groups)
    return Call(Atom(term.name.kind, term.name.text, span), term.open, groups, span)


def read_name(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "WORD":
        cursor.not_a("a name", "expected letters, digits, _ and -")
        return None
    if "." in term.text or len(term.text) > 64:
        cursor.error(
            "E0219", f"`{shorten(term.text)}` is not a name", term.span, "expected at most 64 letters, digits, _ and -"
        )
        return None
    cursor.at += 1
    return Captured(term.text, term.span)
