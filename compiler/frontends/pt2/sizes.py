"""Size expressions of an exported program, read by a grammar of ours; sympy never sees their text.

    Size := "Symbol(" name {"," assumption "=True"} ")" | "Integer(" n ")" | "Float(" text "," "precision=" n ")"
          | "true" | "false" | Function "(" Size {"," Size} ")"

This is what `sympy.srepr` prints, which torch's serializer uses. Symbols are s0, s1, ... (sizes of inputs) and u0, u1, ...
(sizes that depend on values).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .refused import Refused, shown

MAX_TEXT = 4096
MAX_DEPTH = 24
MAX_PARTS = 128
"""Symbols, numbers and functions of one expression."""
MAX_POWER = 8
ASSUMPTIONS = ("integer", "positive", "nonnegative", "real")
SYMBOL = re.compile(r"[su]\d{1,9}")
_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)|('[A-Za-z0-9_.+\-]*')|(-?\d+)|([(),=]))")

FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "Add": (2, 64), "Mul": (2, 64), "Pow": (2, 2), "PowByNatural": (2, 2), "Max": (1, 16), "Min": (1, 16),
    "FloorDiv": (2, 2), "CleanDiv": (2, 2), "CeilDiv": (2, 2), "Mod": (2, 2), "PythonMod": (2, 2), "Where": (3, 3),
    "ModularIndexing": (3, 3), "Identity": (1, 1), "ToFloat": (1, 1), "FloatTrueDiv": (2, 2), "IntTrueDiv": (2, 2),
    "CeilToInt": (1, 1), "FloorToInt": (1, 1), "TruncToInt": (1, 1), "TruncToFloat": (1, 1), "RoundToInt": (1, 1),
    "Equality": (2, 2), "Unequality": (2, 2), "LessThan": (2, 2), "StrictLessThan": (2, 2), "GreaterThan": (2, 2),
    "StrictGreaterThan": (2, 2), "And": (1, 16), "Or": (1, 16), "Not": (1, 1),
}  # fmt: skip
"""Functions with the least and the largest number of their arguments."""


@dataclass(frozen=True)
class Size:
    """A node: `head` is a function, "Symbol", "Integer", "Float" or "Boolean"; `value` is a leaf's name or number;
    `flags` are a symbol's assumptions."""

    head: str
    value: str | int | float | bool = 0
    flags: tuple[str, ...] = ()
    parts: tuple[Size, ...] = ()


def parse_size(text: str) -> Size:
    """The expression of `expr_str`. Raises Refused."""
    if len(text) > MAX_TEXT:
        raise Refused(f"a size expression has {len(text)} characters, and {MAX_TEXT} are read at most")
    reader = _Reader(text)
    size = reader.size(0)
    reader.end()
    return size


def symbols_of(size: Size) -> set[str]:
    """Names of the symbols in size."""
    if size.head == "Symbol":
        return {str(size.value)}
    return {s for part in size.parts for s in symbols_of(part)}


class _Reader:
    """Tokens of one text, read once from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.parts = 0

    def size(self, depth: int) -> Size:
        self.parts += 1
        if depth > MAX_DEPTH or self.parts > MAX_PARTS:
            raise Refused(f"the size expression {shown(self.text)} is too large")
        head = self.word()
        if head in ("true", "false"):
            return Size("Boolean", head == "true")
        self.mark("(")
        if head == "Symbol":
            return self.symbol()
        if head == "Integer":
            value = self.integer()
            self.mark(")")
            return Size("Integer", value)
        if head == "Float":
            return self.real()
        least, most = FUNCTIONS.get(head, (0, 0))
        if not most:
            raise Refused(f"the size expression {shown(self.text)} has the unknown function {shown(head)}")
        parts = [self.size(depth + 1)]
        while self.mark(",", ")") == ",":
            parts.append(self.size(depth + 1))
        if not least <= len(parts) <= most:
            raise self.broken()
        if head in ("Pow", "PowByNatural"):
            self.power(parts)
        return Size(head, parts=tuple(parts))

    def power(self, parts: list[Size]) -> None:
        """Powers are small and not of powers: their value is bounded by the length of the text."""
        exponent = parts[1]
        small = exponent.head == "Integer" and isinstance(exponent.value, int) and 0 <= exponent.value <= MAX_POWER
        if not small or _has_power(parts[0]):
            raise Refused(f"the size expression {shown(self.text)} has a power that is not computed")

    def symbol(self) -> Size:
        name = self.quoted()
        if not SYMBOL.fullmatch(name):
            raise Refused(f"{shown(name)} is no symbol of a size")
        flags: list[str] = []
        while self.mark(",", ")") == ",":
            flag = self.word()
            self.mark("=")
            if flag not in ASSUMPTIONS or flag in flags or self.word() != "True":
                raise self.broken()
            flags.append(flag)
        return Size("Symbol", name, tuple(sorted(flags)))

    def real(self) -> Size:
        text = self.quoted()
        self.mark(",")
        if self.word() != "precision" or not self.mark("=") or self.integer() != 53:
            raise self.broken()
        self.mark(")")
        try:
            value = float(text[:40])
        except ValueError:
            raise self.broken() from None
        if not abs(value) < 1e300 or len(text) > 40:
            raise self.broken()
        return Size("Float", value)

    def next(self) -> re.Match[str]:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise self.broken()
        self.at = found.end()
        return found

    def word(self) -> str:
        found = self.next()[1]
        if found is None:
            raise self.broken()
        return found

    def quoted(self) -> str:
        found = self.next()[2]
        if found is None:
            raise self.broken()
        return found[1:-1]

    def integer(self) -> int:
        found = self.next()[3]
        if found is None or len(found) > 20 or not -(1 << 63) <= int(found) < 1 << 63:
            raise self.broken()
        return int(found)

    def mark(self, *wanted: str) -> str:
        found = self.next()[4]
        if found not in wanted:
            raise self.broken()
        return str(found)

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self.broken()

    def broken(self) -> Refused:
        return Refused(f"{shown(self.text)} is no size expression")


def _has_power(size: Size) -> bool:
    return size.head.startswith("Pow") or any(_has_power(p) for p in size.parts)
