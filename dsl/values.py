"""The value types of the table: how each is read from terms, and what is said when it is something else.

`read(cursor, name)` reads one value of type `name` and gives a `Captured`, or reports and gives None. Types are
quantities (a number with the right dimension), choices between words, calls (keywords.CALLS), and a few of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .diagnostics import Diagnostic, Label
from .paths import PathValue, Roots
from .span import Span
from .spec import CPU_ISAS, DTYPES
from .suggest import hint, listed, nearest
from .syntax import Atom, Call, Term, quote, unquote
from .units import UNITS, in_base, parse_number
from .write import describe, join, write_term

LARGEST = 2**63 - 1


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


def _moved(term: Term, span: Span) -> Term:
    if isinstance(term, Atom):
        return Atom(term.kind, term.text, span)
    groups = tuple(tuple(_moved(t, span) for t in group) for group in term.groups)
    return Call(Atom(term.name.kind, term.name.text, span), term.open, groups, span)


# ── quantities ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a dimension. `dimensions` "" is a plain number; `sample` the unit that a hint shows."""

    article: str
    expected: str
    dimensions: tuple[str, ...]
    sample: str = ""
    whole: bool = False
    low: float = 0.0
    high: float = float(LARGEST)
    positive: bool = True


_TIME = "ns, us, ms, s or min"
QUANTITIES: dict[str, Quantity] = {
    "time": Quantity("a time", _TIME, ("time",), "ms", high=366 * 86400.0),
    "wait": Quantity("a time", _TIME, ("time",), "ms", positive=False, high=3600.0),
    "size": Quantity("a size", "B, KiB, MiB, GiB, KB, MB or GB", ("size",), "MiB", whole=True),
    "rate": Quantity("a rate", "req/s, items/s, img/s or tok/s", ("rate",), "req/s", high=1e12),
    "share": Quantity("a share", "%", ("share",), "%", high=1.0),
    "confidence": Quantity("a share", "%", ("share",), "%", low=0.5, high=0.9999, positive=False),
    "factor": Quantity("a factor", "a number and x, as in 4x", ("factor",), "x", high=1e6),
    "money": Quantity("an amount of money", "USD", ("money",), "USD", high=1e12),
    "price": Quantity("a price", "USD/h", ("price",), "USD/h", high=1e9, positive=False),
    "count": Quantity("a whole number", "a whole number of at least 1", ("",), whole=True),
    "index": Quantity("a whole number", "a whole number of at least 0", ("",), whole=True, positive=False),
    "number": Quantity("a number", "a number", ("",), positive=False, low=-float("inf"), high=float("inf")),
    "ratio": Quantity("a number", "a number, or a share in %", ("", "share"), positive=False, low=-1e300, high=1e300),
    "requests": Quantity("a number of requests", "requests", ("requests",), "requests", whole=True, high=1e9),
    "events": Quantity("a number of events", "requests or tokens", ("requests", "tokens"), "requests", high=1e18),
    "limit": Quantity("a limit", "tokens, or a size", ("tokens", "size"), "tokens", whole=True),
    "bandwidth": Quantity("a bandwidth", "GB/s or TB/s", ("bandwidth",), "GB/s", high=1e18),
    "speed": Quantity("a speed", "GFLOP/s, TFLOP/s or TOP/s", ("speed",), "TFLOP/s", high=1e24),
}  # fmt: skip


def _read_quantity(cursor: Cursor, kind: Quantity) -> Captured | None:
    part = _read_number(cursor, kind)
    if part is None:
        return None
    number, unit, span, text = part
    value = _in_base(cursor, kind, number, unit, span, text)
    return None if value is None else Captured(value, span, unit)


def _read_range(cursor: Cursor, kind: Quantity) -> Captured | None:
    """`lo..hi`, the unit after the range (or after each end); a single value is a range of one."""
    lo = _read_number(cursor, kind, in_range=True)
    if lo is None:
        return None
    dots = cursor.peek()
    if not (isinstance(dots, Atom) and dots.text == ".."):
        single = _in_base(cursor, kind, lo[0], lo[1], lo[2], lo[3])
        return None if single is None else Captured((single, single), lo[2], lo[1])
    cursor.at += 1
    hi = _read_number(cursor, kind)
    if hi is None:
        return None
    if not hi[1] and not lo[1] and "" not in kind.dimensions:  # one mistake: the unit after the range
        _in_base(cursor, kind, hi[0], "", lo[2].to(hi[2]), f"{lo[3]}..{hi[3]}")
        return None
    lo_value = _in_base(cursor, kind, lo[0], lo[1] or hi[1], lo[2], lo[3])
    hi_value = _in_base(cursor, kind, hi[0], hi[1], hi[2], hi[3])
    if lo_value is None or hi_value is None:
        return None
    span = lo[2].to(hi[2])
    if lo_value > hi_value:
        cursor.error(
            "E0207", f"this range ends before it begins: {lo[3]} is more than {hi[3]}", span,
            "expected the smaller end first",
            (f"did you mean `{join([hi[3].split()[0], '..', lo[3].split()[0], *([hi[1]] if hi[1] else [])])}`?",),
        )  # fmt: skip
        return None
    return Captured((lo_value, hi_value), span, hi[1])


def _read_number(cursor: Cursor, kind: Quantity, in_range: bool = False) -> tuple[float | int, str, Span, str] | None:
    """A number and its unit (not yet judged): value as written, unit or "", span, text."""
    cursor.expand()
    term = cursor.peek()
    if term is None:
        cursor.error("E0201", f"{cursor.subject} needs {kind.article}", None, f"expected {kind.expected}")
        return None
    if not isinstance(term, Atom) or term.kind != "NUMBER":
        _wrong_kind(cursor, term, kind)
        return None
    try:
        number = parse_number(term.text)
    except (ValueError, OverflowError):
        cursor.error("E0206", f"{_shorten(term.text)} is too large a number", term.span)
        return None
    cursor.at += 1
    following = cursor.peek()
    unit, span = "", term.span
    if isinstance(following, Atom) and following.text in UNITS:
        unit = following.text
        span = span.to(following.span)
        cursor.at += 1
    elif isinstance(following, Atom) and following.kind in ("WORD", "RATIO") and kind.dimensions != ("",):
        glued = following.span.col == term.span.end and following.span.line == term.span.line
        known = [u for u, d in UNITS.items() if d.dimension in kind.dimensions]
        if glued or (nearest(following.text, known) is not None and not in_range):
            cursor.error(
                "E0202", f"`{following.text}` is not a unit", following.span, f"expected {kind.expected}",
                hint(following.text, known, "units"),
            )  # fmt: skip
            return None
    elif (
        isinstance(following, Atom) and following.kind == "WORD" and following.span.col == term.span.end
        and following.span.line == term.span.line
    ):  # fmt: skip
        cursor.error("E0202", f"`{following.text}` is not a unit", following.span, f"expected {kind.expected}")
        return None
    return number, unit, span, join([term.text, unit] if unit else [term.text])


def _in_base(cursor: Cursor, kind: Quantity, number: float, unit: str, span: Span, text: str) -> float | int | None:
    """The value in base units, where dimension and bounds allow it."""
    subject, shown = cursor.subject, _shorten(text)
    sample = f"{_shorten(text.split()[0])} {kind.sample}".rstrip()
    sample = sample.replace(" x", "x")
    dimension = UNITS[unit].dimension if unit else ""
    if dimension not in kind.dimensions:
        if not unit:
            if kind.dimensions == ("share",) and 0 < number <= 1:
                sample = f"{number * 100:.6g} %"
            cursor.error(
                "E0204", f"{subject} needs {kind.article}, and {shown} has no unit", span,
                f"expected {kind.expected}", (f"did you mean `{sample}`?",),
            )  # fmt: skip
            return None
        what = describe(Atom("NUMBER", text.split()[0], span), Atom("WORD", unit, span))[1]
        cursor.error(
            "E0203", f"{subject} needs {kind.article}, and {shown} is {what}", span,
            f"expected {kind.expected}", (f"did you mean `{sample}`?",),
        )  # fmt: skip
        return None
    try:
        value: float | int = in_base(number, unit) if unit else number
    except OverflowError:
        value = float("inf")
    if value in (float("inf"), -float("inf")):
        cursor.error("E0206", f"{shown} is too large for {subject}", span)
        return None
    if kind.whole:
        if value != int(value):
            why = "a whole number of bytes" if dimension == "size" else "a whole number"
            cursor.error("E0205", f"{subject} needs {why}, and this is {shown}", span, f"expected {kind.expected}")
            return None
        value = int(value)
    if value < kind.low or value > kind.high or (kind.positive and value <= 0):
        if value > kind.high and kind.high > 1e6:
            cursor.error("E0206", f"{shown} is too large for {subject}", span)
        else:
            cursor.error("E0205", f"{shown} is out of range for {subject}", span, _bounds(kind))
        return None
    return value


def _bounds(kind: Quantity) -> str:
    if kind.dimensions == ("share",):
        least = "more than" if kind.positive else "at least"
        return f"expected {least} {kind.low * 100:.6g} % and at most {kind.high * 100:.6g} %"
    if kind.high <= 1e6:
        return f"expected more than {kind.low:.6g} and at most {kind.high:.6g}"
    return "expected more than 0" if kind.positive else f"expected at least {kind.low:.6g}"


def _wrong_kind(cursor: Cursor, term: Term, kind: Quantity) -> None:
    text, what = describe(term, cursor.peek(1))
    if isinstance(term, Atom) and term.kind == "WORD":
        help = hint(term.text, cursor.context.lets) if cursor.context.lets else ()
        help = help if help and help[0].startswith("did you mean") else ()
        cursor.error(
            "E0217", f"{cursor.subject} needs {kind.article}, and `{_shorten(text)}` is not the name of a `let`", term.span,
            f"expected {kind.expected}", help,
        )  # fmt: skip
        return
    cursor.error(
        "E0201", f"{cursor.subject} needs {kind.article}, and {_shorten(text)} is {what}", term.span,
        f"expected {kind.expected}",
    )  # fmt: skip


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


# ── words, strings ───────────────────────────────────────────────────────────────────────────────────────────────────


def _read_choice(cursor: Cursor, choices: list[str]) -> Captured | None:
    term = cursor.peek()
    if isinstance(term, Atom) and term.kind == "WORD" and term.text not in choices:
        cursor.expand()
        term = cursor.peek()
    expected = f"expected {listed(choices)}"
    if not isinstance(term, Atom) or term.kind != "WORD":
        _not_a(cursor, "a word", expected)
        return None
    if term.text not in choices:
        help = hint(term.text, choices, "known")
        cursor.error("E0208", f"{cursor.subject} has no `{term.text}`", term.span, expected, help[:1])
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _not_a(cursor: Cursor, article: str, expected: str = "") -> None:
    term = cursor.peek()
    if term is None:
        cursor.error("E0201", f"{cursor.subject} needs {article}", None, expected)
    else:
        text, what = describe(term, cursor.peek(1))
        cursor.error("E0201", f"{cursor.subject} needs {article}, and {_shorten(text)} is {what}", term.span, expected)


def _read_string_atom(cursor: Cursor, article: str = "a string") -> Atom | None:
    cursor.expand()
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "STRING":
        help = ""
        if isinstance(term, Atom) and term.kind == "WORD":
            help = f'expected quotes, as in "{term.text}"'
        _not_a(cursor, article, help or "expected a string in quotes")
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
            cursor.error(
                "E0219", f"{cursor.subject} cannot be {_shorten(atom.text)}", atom.span, f"expected {expected}"
            )
            return None
        return Captured(value, atom.span)

    return read_it


def _read_name(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "WORD":
        _not_a(cursor, "a name", "expected letters, digits, _ and -")
        return None
    if "." in term.text or len(term.text) > 64:
        cursor.error(
            "E0219", f"`{_shorten(term.text)}` is not a name", term.span, "expected at most 64 letters, digits, _ and -"
        )
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_stat(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "WORD":
        _not_a(cursor, "a percentile", "expected p50, p99, p99.9 or max")
        return None
    if term.text != "max" and not re.fullmatch(r"p\d{1,2}(\.\d{1,4})?", term.text):
        cursor.error(
            "E0218", f"`{_shorten(term.text)}` is not a percentile", term.span, "expected p50, p99, p99.9 or max"
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
        text = "" if term is None else f", and this is `{_shorten(write_term(term))}`"
        cursor.error("E0216", f"{cursor.subject} needs a bound{text}", None, "expected >= or <=")
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_shape(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if not isinstance(term, Atom) or term.kind != "SIZES":
        _not_a(cursor, "a shape", "expected a shape such as 2x2")
        return None
    cursor.at += 1
    return Captured(term.text, term.span)


def _read_any(cursor: Cursor) -> Captured | None:
    if cursor.peek() is None:
        _not_a(cursor, "a value")
        return None
    start = cursor.at
    span = cursor.here()
    cursor.at = len(cursor.terms)
    for term in cursor.terms[start:]:
        span = span.to(term.span)
    return Captured(tuple(cursor.terms[start:]), span)


# ── tensor types ─────────────────────────────────────────────────────────────────────────────────────────────────────

_ALIASES = {
    "float": "float32", "f32": "float32", "fp32": "float32", "single": "float32", "double": "float64", "f64": "float64",
    "half": "float16", "f16": "float16", "fp16": "float16", "bf16": "bfloat16", "int": "int64", "long": "int64",
    "i64": "int64", "i32": "int32", "i8": "int8", "u8": "uint8", "byte": "uint8", "boolean": "bool",
    "str": "string", "text": "string",
}  # fmt: skip
IMAGE_FORMATS = ("jpeg", "png")


def _read_input(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if isinstance(term, Atom) and term.text == "string":
        cursor.at += 1
        return Captured(TypeValue("text"), term.span)
    if isinstance(term, Call) and term.name.text == "image" and term.open == "(":
        formats: list[str] = []
        for group in term.groups:
            atom = group[0]
            if len(group) != 1 or not isinstance(atom, Atom) or atom.text not in IMAGE_FORMATS or atom.text in formats:
                cursor.error("E0208", f"image has no `{_shorten(write_term(atom))}`", atom.span, "expected jpeg, png")
                return None
            formats.append(atom.text)
        cursor.at += 1
        return Captured(TypeValue("image", formats=tuple(formats) or IMAGE_FORMATS), term.span)
    return _read_tensor(cursor, ("string", "image(jpeg, png)"))


def _read_tensor(cursor: Cursor, others: tuple[str, ...] = ()) -> Captured | None:
    term = cursor.peek()
    expected = listed(["a tensor such as float32[batch, 64]", *others])
    if (
        term is None
        or (isinstance(term, Atom) and term.kind != "WORD")
        or (isinstance(term, Call) and term.open == "(")
    ):
        _not_a(cursor, "a type", f"expected {expected}")
        return None
    name = term if isinstance(term, Atom) else term.name
    if name.text not in DTYPES:
        known = [*DTYPES, *(o.split("(")[0] for o in others)]
        alias = _ALIASES.get(name.text)
        help = (f"did you mean `{alias}`?",) if alias in known else hint(name.text, known, "types")
        cursor.error("E0208", f"there is no type `{_shorten(name.text)}`", name.span, f"expected {expected}", help)
        return None
    dims: list[int | str] = []
    symbols: list[tuple[str, Span]] = []
    groups: list[tuple[Term, ...]] = []
    for group in () if isinstance(term, Atom) else term.groups:
        part = Cursor(list(group), term.span, cursor.context, "a dimension")
        part.expand()
        atom = part.peek()
        if not isinstance(atom, Atom) or len(part.terms) != 1 or atom.kind not in ("NUMBER", "WORD"):
            at = group[0].span.to(group[-1].span)
            cursor.error("E0201", "a dimension is a whole number or a name", at, "expected 64, or batch")
            return None
        if atom.kind == "NUMBER":
            extent = _read_quantity(part, QUANTITIES["count"])
            if extent is None:
                return None
            dims.append(extent.value)
        else:
            symbol = _read_name(part)
            if symbol is None:
                return None
            dims.append(symbol.value)
            symbols.append((symbol.value, symbol.span))
        groups.append(tuple(part.terms))
    if isinstance(term, Call):
        if len(dims) > 8:
            cursor.error("E0205", f"a tensor has at most 8 dimensions, and this one has {len(dims)}", term.span)
            return None
        cursor.terms[cursor.at] = replace(term, groups=tuple(groups))
    cursor.at += 1
    return Captured(TypeValue("tensor", name.text, tuple(dims), symbols=tuple(symbols)), term.span)


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
    "name": _read_name,
    "stat": _read_stat,
    "compare": _read_compare,
    "shape": _read_shape,
    "any": _read_any,
    "input": _read_input,
    "tensor": _read_tensor,
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
        return _read_quantity(cursor, QUANTITIES[type])
    if type.endswith(".."):
        return _read_range(cursor, QUANTITIES[type[:-2]])
    if type in _OWN:
        return _OWN[type](cursor)
    if type == "arch":
        return _read_name(cursor)
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


__all__ = ["CallValue", "Captured", "Context", "Cursor", "Label", "TypeValue", "choices_of", "read", "starts"]
