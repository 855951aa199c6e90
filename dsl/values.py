"""The value types of the table, and how each is read.

`read(cursor, name)` reads one value of type `name` and gives a `Captured`, or reports and gives None. Types are
quantities, choices between words, calls (keywords.CALLS), tensor types, and the strings and words below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .cursor import Captured, Context, Cursor, read_name
from .paths import PathValue
from .quantities import QUANTITIES, read_quantity, read_range
from .spec import CPU_ISAS
from .suggest import hint, listed
from .syntax import Atom, Call, Term, quote, unquote
from .tensors import read_input, read_tensor
from .write import shorten, write_term


def _read_choice(cursor: Cursor, choices: list[str]) -> Captured | None:
    term = cursor.peek()
    if isinstance(term, Atom) and term.kind == "WORD" and term.text not in choices:
        cursor.expand()
        term = cursor.peek()
    expected = f"expected {listed(choices)}"
    if not isinstance(term, Atom) or term.kind != "WORD":
        cursor.not_a("a word", expected)
        return None
    if term.text not in choices:
        help = hint(term.text, choices, "known")
        cursor.error("E0208", f"{cursor.subject} has no `{term.text}`", term.span, expected, help[:1])
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_string_atom(cursor: Cursor, article: str = "a string") -> Atom | None:
    cursor.expand()
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "STRING":
        help = ""
        if isinstance(term, Atom) and term.kind == "WORD":
            help = f'expected quotes, as in "{term.text}"'
        cursor.not_a(article, help or "expected a string in quotes")
        return None
    cursor.at += 1
    return term


def _read_string(cursor: Cursor) -> Captured | None:
    atom = _read_string_atom(cursor)
    if atom is None:
        return None
    value = unquote(atom.text)
    if not value or "\0" in value or any(ord(c) < 32 for c in value if c != "\n"):
        cursor.error(
            "E0219", f"{cursor.subject} needs a string that is not empty and has no control characters", atom.span
        )
        return None
    return Captured(value, atom.span)


def _read_path(cursor: Cursor) -> Captured | None:
    atom = _read_string_atom(cursor, "a path")
    return None if atom is None else _path(cursor, atom, unquote(atom.text), None)


def _read_entry(cursor: Cursor) -> Captured | None:
    """`"file.py:function"`."""
    atom = _read_string_atom(cursor, "a file and a function")
    if atom is None:
        return None
    path, colon, function = unquote(atom.text).rpartition(":")
    if not colon or not path or not function.isidentifier():
        cursor.error(
            "E0219", f"{cursor.subject} needs a file and a function in it", atom.span, 'expected "file.py:function"'
        )  # fmt: skip
        return None
    return _path(cursor, atom, path, function)


def _path(cursor: Cursor, atom: Atom, written: str, entry: str | None) -> Captured | None:
    if not written or "\0" in written or any(ord(c) < 32 for c in written):
        cursor.error("E0219", f"{cursor.subject} needs a path, and this string is none", atom.span)
        return None
    value: PathValue = cursor.context.roots.resolve(written, entry)
    if value.written != written:  # an included file in another folder: the resolved text names the path from the spec
        text = value.written if entry is None else f"{value.written}:{entry}"
        cursor.terms[cursor.at - 1] = Atom("STRING", quote(text), atom.span)
    return Captured(value, atom.span)


def _matching(pattern: str, expected: str) -> Callable[[Cursor], Captured | None]:
    compiled = re.compile(pattern)

    def read_it(cursor: Cursor) -> Captured | None:
        atom = _read_string_atom(cursor)
        if atom is None:
            return None
        value = unquote(atom.text)
        if not compiled.fullmatch(value):
            cursor.error("E0219", f"{cursor.subject} cannot be {shorten(atom.text)}", atom.span, f"expected {expected}")
            return None
        return Captured(value, atom.span)

    return read_it


def _read_stat(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "WORD":
        cursor.not_a("a percentile", "expected p50, p99, p99.9 or max")
        return None
    if term.text != "max" and not re.fullmatch(r"p\d{1,2}(\.\d{1,4})?", term.text):
        cursor.error(
            "E0218", f"`{shorten(term.text)}` is not a percentile", term.span, "expected p50, p99, p99.9 or max"
        )
        return None
    if term.text != "max" and not 0 < float(term.text[1:]) < 100:
        cursor.error(
            "E0218", f"`{term.text}` is not a percentile", term.span, "expected between p1 and p99.9999, or max"
        )
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_compare(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.text not in ("<=", ">="):
        text = "" if term is None else f", and this is `{shorten(write_term(term))}`"
        cursor.error("E0216", f"{cursor.subject} needs a bound{text}", None, "expected >= or <=")
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_shape(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "SIZES":
        cursor.not_a("a shape", "expected a shape such as 2x2")
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_any(cursor: Cursor) -> Captured | None:
    if cursor.peek() is None:
        cursor.not_a("a value")
        return None
    start = cursor.at
    span = cursor.here()
    cursor.at = len(cursor.terms)
    for term in cursor.terms[start:]:
        span = span.to(term.span)
    return Captured(tuple(cursor.terms[start:]), span)


# ── the way in ───────────────────────────────────────────────────────────────────────────────────────────────────────

_OWN: dict[str, Callable[[Cursor], Captured | None]] = {
    "string": _read_string,
    "path": _read_path,
    "entry": _read_entry,
    "hub": _matching(r"[\w.-]+/[\w.-]+", "org/name"),
    "revision": _matching(r"[0-9a-f]{40}", "40 hex digits"),
    "version": _matching(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", "at most 64 letters, digits, . _ + -"),
    "alias": _matching(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}", "at most 128 letters, digits, . _ / : -"),
    "header": _matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", "the name of an HTTP header"),
    "date": _matching(r"\d{4}-\d{2}-\d{2}", "YYYY-MM-DD"),
    "name": read_name,
    "stat": _read_stat,
    "compare": _read_compare,
    "shape": _read_shape,
    "any": _read_any,
    "input": read_input,
    "tensor": read_tensor,
}
_CHOICES: dict[str, list[str]] = {
    "isa": list(CPU_ISAS),
    "quantity": ["latency", "ttft", "itl", "throughput", "accuracy", "cost", "memory", "cold_start", "bundle_size"],
}


def choices_of(type: str) -> list[str] | None:
    """The words of a choice type (`a|b`, `isa`, a single word); None for any other type."""
    if type in _CHOICES:
        return _CHOICES[type]
    if type in _OWN or type in QUANTITIES or type.removesuffix("..") in QUANTITIES or type == "arch":
        return None
    from .keywords import CALLS

    return None if type in CALLS else type.split("|")


def read(cursor: Cursor, type: str) -> Captured | None:
    """Reads one value of `type` at the cursor; None when it was something else, which is then reported."""
    start = cursor.at
    captured = _read(cursor, type)
    return None if captured is None else replace(captured, where=(cursor.group, start, cursor.at))


def _read(cursor: Cursor, type: str) -> Captured | None:
    if type in QUANTITIES:
        return read_quantity(cursor, QUANTITIES[type])
    if type.endswith(".."):
        return read_range(cursor, QUANTITIES[type[:-2]])
    if type in _OWN:
        return _OWN[type](cursor)
    if type == "arch":
        return read_name(cursor)
    choices = choices_of(type)
    if choices is not None:
        return _read_choice(cursor, choices)
    from .calls import read_call

    return read_call(cursor, type)


def starts(type: str, term: Term | None, context: Context) -> bool:
    """Whether a value of `type` may begin with this term: decides whether an optional part is there."""
    if term is None:
        return False
    if isinstance(term, Atom) and term.kind == "WORD":
        choices = choices_of(type)
        if choices is not None and term.text in choices:
            return True
        if term.text in context.lets:
            first = context.lets[term.text][0]
            return starts(type, first, context) if first != term else False
        return type in ("stat", "name", "arch")
    if isinstance(term, Call):
        return (
            type in ("any", "input", "tensor")
            or choices_of(type) is None
            and type not in _OWN
            and type not in QUANTITIES
        )
    if term.kind == "STRING":
        return type in ("string", "path", "entry", "hub", "revision", "version", "alias", "header", "date", "any")
    if term.kind == "NUMBER":
        return type in QUANTITIES or type.removesuffix("..") in QUANTITIES or type == "any"
    return term.kind == "SIZES" and type == "shape"
