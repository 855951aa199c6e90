"""Matches a statement with its form in the table, and says where and how they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .cursor import Captured, Context, Cursor
from .keywords import Keyword, homes_of, words_of
from .span import Span
from .suggest import hint, listed, nearest
from .syntax import Atom, Group, Statement, Term, group_span
from .values import choices_of, read, starts
from .write import describe, write_term


@dataclass(frozen=True, slots=True)
class Part:
    """One element of a pattern: a literal, a captured value, or an optional sequence."""

    literal: str = ""
    name: str = ""
    type: str = ""
    optional: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """What a statement's form captured. With `each`, `items` has one dictionary an item, and `captures` is the first.

    `groups` is the statement with the values of `let` in place and paths seen from the spec; `given` the properties
    that were written, by their first word.
    """

    captures: dict[str, Captured]
    items: tuple[dict[str, Captured], ...]
    groups: tuple[Group, ...]
    given: dict[str, Span]


@cache
def parse_pattern(pattern: str) -> tuple[Part, ...]:
    """`stat:stat <= bound:time [at rate:rate]` → its parts."""
    words = pattern.replace("[", " [ ").replace("]", " ] ").split()
    return _parse_parts(iter(words), False)


def _parse_parts(words: Iterator[str], inside: bool) -> tuple[Part, ...]:
    out: list[Part] = []
    for word in words:
        if word == "]" and inside:
            break
        if word == "[":
            out.append(Part(optional=_parse_parts(words, True)))
        elif ":" in word and word != ":":
            name, type = word.split(":", 1)
            out.append(Part(name=name, type=type))
        else:
            out.append(Part(literal=word))
    return tuple(out)


def match_statement(keyword: Keyword, statement: Statement, context: Context, block: str) -> Match | None:
    """The captures of a statement, or None with the reason reported."""
    groups = [list(group) for group in statement.groups]
    word = statement.word
    if keyword.each:
        return _match_each(keyword, statement, context, block)
    before = len(context.found)
    captures: dict[str, Captured] = {}
    head = Cursor(groups[0] if groups else [], _after(statement, 0), context, word.text)
    fine = _match(head, parse_pattern(keyword.head), captures)
    if fine and head.peek() is not None:
        _too_much(head, keyword, block)
    given: dict[str, Span] = {}
    for n, group in enumerate(groups[1:], 1):
        _match_property(Cursor(group, _after(statement, n), context, word.text, n), keyword, captures, given, block)
    if len(context.found) > before:
        return None
    return Match(captures, (captures,), tuple(tuple(g) for g in groups), given)


def _match_each(keyword: Keyword, statement: Statement, context: Context, block: str) -> Match | None:
    before = len(context.found)
    items: list[dict[str, Captured]] = []
    groups: list[Group] = []
    if not statement.groups:
        _match(Cursor([], _after(statement, 0), context, statement.word.text), parse_pattern(keyword.head), {})
    for n, group in enumerate(statement.groups):
        cursor = Cursor(list(group), _after(statement, n), context, statement.word.text, n)
        captures: dict[str, Captured] = {}
        first = group[0]
        if n and isinstance(first, Atom) and len(group) > 1 and _begins_statement(first, keyword, block):
            _missing_semicolon(cursor, first, block)
        elif _match(cursor, parse_pattern(keyword.head), captures) and cursor.peek() is not None:
            _too_much(cursor, keyword, block)
        items.append(captures)
        groups.append(tuple(cursor.terms))
    if len(context.found) > before:
        return None
    return Match(items[0], tuple(items), tuple(groups), {})


def _match(cursor: Cursor, parts: tuple[Part, ...], captures: dict[str, Captured]) -> bool:
    for n, part in enumerate(parts):
        if part.optional:
            if _begins(cursor, part.optional, parts[n + 1 :]) and not _match(cursor, part.optional, captures):
                return False
        elif part.literal:
            if not _match_literal(cursor, part.literal, parts[n + 1 :]):
                return False
        else:
            captured = read(cursor, part.type)
            if captured is None:
                return False
            captures[part.name] = captured
    return True


def _begins(cursor: Cursor, parts: tuple[Part, ...], rest: tuple[Part, ...]) -> bool:
    """Whether an optional sequence is there: its first part fits. A misspelt choice counts when nothing else fits."""
    term = cursor.peek()
    if term is None:
        return False
    first = parts[0]
    if first.literal:
        return isinstance(term, Atom) and term.text == first.literal
    if starts(first.type, term, cursor.context):
        return True
    choices = choices_of(first.type)
    if choices is None or not isinstance(term, Atom) or term.kind != "WORD":
        return False
    following = rest[0] if rest else Part()
    if following.optional:
        following = following.optional[0]
    if following.literal:
        return term.text != following.literal
    return not (following.type and starts(following.type, term, cursor.context))


def _match_literal(cursor: Cursor, literal: str, rest: tuple[Part, ...]) -> bool:
    term = cursor.peek()
    if isinstance(term, Atom) and term.text == literal:
        cursor.at += 1
        return True
    subject = cursor.subject
    if literal in ("<=", ">=", ">"):
        if isinstance(term, Atom) and term.kind == "OP" and term.text in ("<", ">", "=", "<=", ">="):
            side = "from below" if literal == ">=" else "from above"
            title = f"{subject} is bounded {side}, with {literal}"
            cursor.error("E0216", title, term.span, f"expected {literal}")
        else:
            shown = "" if term is None else f", and `{write_term(term)[:40]}` stands in its place"
            cursor.error("E0216", f"{subject} needs {literal} before its bound{shown}", None, f"expected {literal}")
        return False
    if term is None:
        cursor.error("E0201", f"{subject} goes on with `{literal}`", None, f"expected `{literal}`")
        return False
    text, what = describe(term, cursor.peek(1))
    help = ()
    if isinstance(term, Atom) and nearest(term.text, [literal]):
        help = (f"did you mean `{literal}`?",)
    cursor.error(
        "E0201",
        f"{subject} goes on with `{literal}`, and {text[:40]} is {what}",
        term.span,
        f"expected `{literal}`",
        help,
    )
    return False


def _too_much(cursor: Cursor, keyword: Keyword, block: str) -> None:
    """Terms are left after the head: a comma or a `;` is missing, or they do not belong."""
    term = cursor.peek()
    assert term is not None
    shown = write_term(term)[:40]
    if isinstance(term, Atom) and _property_of(term, keyword, cursor.context):
        cursor.error("E0209", f"a comma is missing before `{shown}`", term.span, "expected `,` before this")
        return
    if isinstance(term, Atom) and _begins_statement(term, keyword, block) and cursor.peek(1) is not None:
        _missing_semicolon(cursor, term, block)
        return
    cursor.error(
        "E0209", f"`{shown}` does not belong to {keyword.word}", group_span(tuple(cursor.terms[cursor.at :])),
        "expected the end of the statement", (f"write: {usage(keyword)}",),
    )  # fmt: skip


def _begins_statement(term: Atom, keyword: Keyword, block: str) -> bool:
    return term.kind == "WORD" and term.text in words_of(block) and term.text != keyword.word


def _missing_semicolon(cursor: Cursor, term: Atom, block: str) -> None:
    if block == "use":
        cursor.error("E0209", f"a comma is missing before `{term.text}`", term.span, "expected `,` before this")
        return
    cursor.error(
        "E0210", f"`{term.text}` begins a statement of its own", term.span, "expected `;` or a newline before this",
        ("a comma separates values of one statement, `;` separates statements",),
    )  # fmt: skip


def _property_of(term: Term, keyword: Keyword, context: Context) -> str | None:
    """The property pattern that begins with this term."""
    for pattern in keyword.properties:
        first = parse_pattern(pattern)[0]
        if first.literal:
            if isinstance(term, Atom) and term.text == first.literal:
                return pattern
        elif starts(first.type, term, context):
            return pattern
    return None


def _match_property(
    cursor: Cursor, keyword: Keyword, captures: dict[str, Captured], given: dict[str, Span], block: str
) -> None:
    term = cursor.peek()
    assert term is not None
    pattern = _property_of(term, keyword, cursor.context)
    if pattern is None:
        _unknown_property(cursor, keyword, term, block)
        return
    parts = parse_pattern(pattern)
    repeats = parts[0].literal == "then"
    name = parts[0].literal or parts[0].name
    if name in given and not repeats:
        cursor.error("E0212", f"`{name}` is given twice", term.span, f"it already stands in column {given[name].col}")
        return
    if repeats:
        name = f"then{len(given)}"
    given[name] = group_span(tuple(cursor.terms))
    if parts[0].literal and not repeats and len(parts) > 1:
        cursor.subject = parts[0].literal if parts[0].literal != "up" else cursor.subject
    own: dict[str, Captured] = {}
    if _match(cursor, parts, own) and cursor.peek() is not None:
        left = group_span(tuple(cursor.terms[cursor.at :]))
        first = cursor.terms[cursor.at]
        if isinstance(first, Atom) and _property_of(first, keyword, cursor.context) and not isinstance(term, str):
            cursor.error("E0209", f"a comma is missing before `{first.text}`", first.span, "expected `,` before this")
        else:
            cursor.error("E0209", f"`{write_term(first)[:40]}` does not belong here", left, "expected `,` or a newline")
    captures.update({f"{name}.{k}" if repeats else k: v for k, v in own.items()})


def _unknown_property(cursor: Cursor, keyword: Keyword, term: Term, block: str) -> None:
    shown = write_term(term)[:40]
    known: list[str] = []
    for pattern in keyword.properties:
        first = parse_pattern(pattern)[0]
        known += [first.literal] if first.literal else choices_of(first.type) or []
    if isinstance(term, Atom) and nearest(shown, known) is None and _begins_statement(term, keyword, block):
        _missing_semicolon(cursor, term, block)
        return
    if isinstance(term, Atom) and term.kind == "WORD" and homes_of(shown) and nearest(shown, known) is None:
        where = listed(f"`{home}`" for home in homes_of(shown))
        cursor.error(
            "E0211",
            f"{keyword.word} has no property `{shown}`",
            term.span,
            "",
            (f"`{shown}` is a statement of {where}",),
        )
        return
    if not keyword.properties:
        cursor.error("E0211", f"{keyword.word} takes one value", term.span, "", (f"write: {usage(keyword)}",))
        return
    help = hint(shown, known, "properties") if known else (f"write: {usage(keyword)}",)
    cursor.error("E0211", f"{keyword.word} has no property `{shown}`", term.span, "", help)


def usage(keyword: Keyword) -> str:
    """How a statement is written, for people: `latency <percentile> <= <time> [at <rate>]`."""
    parts = [keyword.word, _show(parse_pattern(keyword.head))]
    text = " ".join(p for p in parts if p)
    if keyword.each:
        text += ", ..."
    for pattern in keyword.properties:
        text += f" [, {_show(parse_pattern(pattern))}]"
    return text + (" { ... }" if keyword.opens else "")


_SHOWN = {
    "stat": "<percentile>", "compare": "<= or >=", "any": "<value>", "entry": "<file.py:function>", "input": "<type>",
    "tensor": "<type>", "string": "<string>", "version": "<string>", "alias": "<string>", "header": "<string>",
    "dataset": "<data set>", "events": "<count> requests", "ratio": "<number>", "confidence": "<share>",
    "requests": "<count> requests",
}  # fmt: skip


def _show(parts: tuple[Part, ...]) -> str:
    out: list[str] = []
    for part in parts:
        if part.optional:
            out.append(f"[{_show(part.optional)}]")
        elif part.literal:
            out.append(part.literal)
        elif part.type.endswith(".."):
            out.append(f"<{part.type[:-2]}>..<{part.type[:-2]}>")
        else:
            choices = choices_of(part.type)
            short = choices is not None and len(choices) <= 4
            out.append("|".join(choices or ()) if short else _SHOWN.get(part.type, f"<{part.type}>"))
    return " ".join(out)


def _after(statement: Statement, group: int) -> Span:
    """The place after the last term of a group, or after the word."""
    span = statement.groups[group][-1].span if group < len(statement.groups) else statement.word.span
    return Span(span.file, span.line, span.end, span.end + 1)
