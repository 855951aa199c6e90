"""AST → text, one way: the spacing that the formatter and `--resolved` share."""

from __future__ import annotations

from collections.abc import Iterable

from .syntax import Atom, Block, Call, Group, Statement, Term
from .units import DIMENSIONS, UNITS

_NO_SPACE_BEFORE = frozenset({",", ";", ")", "]", "(", "[", ":"})
_NO_SPACE_AFTER = frozenset({"(", "["})


def spaced(before: str, after: str) -> bool:
    """Whether a space stands between two neighbouring tokens of one statement."""
    if after in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER:
        return False
    if before == ".." or after == "..":
        return False
    return not (after == "x" and before[-1:].isdigit() and before.lstrip("-")[:1].isdigit() and "x" not in before)


def join(tokens: Iterable[str]) -> str:
    """Tokens of one statement as one line."""
    out = ""
    last = ""
    for token in tokens:
        out += " " + token if last and spaced(last, token) else token
        last = token
    return out


def term_tokens(term: Term) -> list[str]:
    """The tokens of a term."""
    if isinstance(term, Atom):
        return [term.text]
    out = [term.name.text, term.open]
    for n, group in enumerate(term.groups):
        out += [","] if n else []
        out += group_tokens(group)
    return [*out, ")" if term.open == "(" else "]"]


def group_tokens(group: Iterable[Term]) -> list[str]:
    """The tokens of the terms between two commas."""
    return [text for term in group for text in term_tokens(term)]


def write_term(term: Term) -> str:
    """A term as text."""
    return join(term_tokens(term))


def write_group(group: Iterable[Term]) -> str:
    """The terms between two commas as text."""
    return join(group_tokens(group))


def write_groups(groups: Iterable[Group]) -> str:
    """Everything after a statement's word, but for its block."""
    return ", ".join(write_group(group) for group in groups)


def write_statement(statement: Statement) -> str:
    """A statement, with its block on the same line."""
    text = f"{statement.word.text} {write_groups(statement.groups)}".rstrip()
    return text if statement.block is None else f"{text} {write_inline(statement.block)}"


def write_inline(block: Block) -> str:
    """A block on one line."""
    inner = "; ".join(write_statement(s) for s in block.statements)
    return f"{{ {inner} }}" if inner else "{}"


def describe(term: Term, following: Term | None = None) -> tuple[str, str]:
    """A term as a person would point at it: its text (a quantity with its unit), and what it is."""
    text = write_term(term)
    if isinstance(term, Call):
        return text, "a call" if term.open == "(" else "a tensor type"
    if term.kind == "NUMBER":
        if isinstance(following, Atom) and following.text in UNITS:
            return join([text, following.text]), DIMENSIONS[UNITS[following.text].dimension]
        return text, "a number"
    names = {"STRING": "a string", "WORD": "a word", "OP": "an operator", "RATIO": "a unit", "SIZES": "a shape"}
    return text, names[term.kind]


def shorten(text: str) -> str:
    """At most 40 characters, for a message."""
    return text if len(text) <= 40 else text[:37] + "..."
