"""Quantities: a number with the right dimension, alone or as a range; and what is said when it is something else."""

from __future__ import annotations

from dataclasses import dataclass

from .cursor import Captured, Cursor
from .span import Span
from .suggest import hint, nearest
from .syntax import Atom, Term
from .units import UNITS, in_base, parse_number
from .write import describe, join, shorten

LARGEST = 2**63 - 1


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


def read_quantity(cursor: Cursor, kind: Quantity) -> Captured | None:
    part = _read_number(cursor, kind)
    if part is None:
        return None
    number, unit, span, text = part
    value = _in_base(cursor, kind, number, unit, span, text)
    return None if value is None else Captured(value, span, unit)


def read_range(cursor: Cursor, kind: Quantity) -> Captured | None:
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
        cursor.error("E0206", f"{shorten(term.text)} is too large a number", term.span)
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
    subject, shown = cursor.subject, shorten(text)
    sample = f"{shorten(text.split()[0])} {kind.sample}".rstrip()
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
            "E0217",
            f"{cursor.subject} needs {kind.article}, and `{shorten(text)}` is not the name of a `let`",
            term.span,
            f"expected {kind.expected}",
            help,
        )
        return
    cursor.error(
        "E0201", f"{cursor.subject} needs {kind.article}, and {shorten(text)} is {what}", term.span,
        f"expected {kind.expected}",
    )  # fmt: skip
