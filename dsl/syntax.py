"""The AST: what the grammar sees, with spans that take no part in equality.

File      = statements, and the comments beside them (comments are the formatter's)
Statement = word, groups of terms between commas, optional block
Term      = Atom (word, string, number, ratio, sizes, operator) | Call (`name(...)` or `name[...]`)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .span import Span


class Token(NamedTuple):
    """A lexed piece: `kind` is the terminal's name in `infer.lark`; `bad` marks one beside a repaired bracket."""

    kind: str
    text: str
    line: int
    col: int
    bad: bool = False

    @property
    def end(self) -> int:
        return self.col + len(self.text)


@dataclass(frozen=True, slots=True)
class Atom:
    """`kind` is WORD, STRING, NUMBER, RATIO, SIZES or OP; `text` as written (a string with its quotes)."""

    kind: str
    text: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`name(groups)` or `name[groups]`; `open` is the bracket."""

    name: Atom
    open: str
    groups: tuple[tuple[Term, ...], ...]
    span: Span = field(compare=False, repr=False)


Term = Atom | Call
Group = tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """`{ ... }`."""

    statements: tuple[Statement, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `bad`: something in it was already reported, so nothing more is said about it."""

    word: Atom
    groups: tuple[Group, ...] = ()
    block: Block | None = None
    bad: bool = field(default=False, compare=False)

    @property
    def span(self) -> Span:
        """From the word to the end of the last term on that line."""
        span = self.word.span
        for group in self.groups:
            span = span.to(group_span(group))
        return span


def group_span(group: Group) -> Span:
    """From the first term to the last one on the same line."""
    span = group[0].span
    for term in group[1:]:
        span = span.to(term.span)
    return span


def unquote(text: str) -> str:
    """The value of a string token: `\\"`, `\\\\` and `\\n` are the escapes."""
    if "\\" not in text:
        return text[1:-1]
    out: list[str] = []
    it = iter(text[1:-1])
    for ch in it:
        if ch == "\\":
            nxt = next(it)
            out.append("\n" if nxt == "n" else nxt)
        else:
            out.append(ch)
    return "".join(out)


def quote(value: str) -> str:
    """The string token for a value."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
