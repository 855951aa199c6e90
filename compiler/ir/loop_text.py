"""Expressions of loop forms as text, and back.

    expr := i3                                   Axis(3)
          | {tokens*2}                           Size
          | 5 | f32(0.5) | b1(true) | i32(7)     Literal (a bare integer is int64)
          | x0:f32[i0, i1]                       Load of operand 0
          | add:f32(expr, expr)                  Prim
          | sum:f32(i3 < tokens, i4 < 8; expr)   Reduce

Parsing a printed expression gives an equal one.
"""

from __future__ import annotations

import re

from .dims import Dim, parse_dim
from .loops import Axis, Expr, Literal, Load, Prim, Reduce, Size
from .types import LONG, SHORT, DType


def print_expr(expr: Expr) -> str:
    """expr as text, on one line."""
    match expr:
        case Axis(number):
            return f"i{number}"
        case Size(dim):
            return f"{{{dim}}}"
        case Literal(value, dtype):
            if dtype == "int64":
                return str(int(value))
            text = str(bool(value)).lower() if dtype == "bool" else repr(float(value))
            return f"{SHORT[dtype]}({int(value) if dtype == 'int32' else text})"
        case Load(operand, index, dtype):
            return f"x{operand}:{SHORT[dtype]}[{', '.join(print_expr(e) for e in index)}]"
        case Prim(name, args, dtype):
            return f"{name}:{SHORT[dtype]}({', '.join(print_expr(a) for a in args)})"
        case Reduce(kind, axes, body, dtype):
            over = ", ".join(f"i{number} < {extent}" for number, extent in axes)
            return f"{kind}:{SHORT[dtype]}({over}; {print_expr(body)})"


def parse_expr(text: str) -> Expr:
    """The expression that `print_expr` printed. Raises ValueError with the part that does not fit."""
    reader = _Reader(text)
    expr = reader.expr()
    reader.end()
    return expr


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def expr(self) -> Expr:
        if self.take("{"):
            return Size(self.dim("}"))
        if found := self.match(r"(f32|i32|b1)\(([^()]*)\)"):
            return self.literal(LONG[found[1]], found[2])
        if found := self.match(r"i(\d+)(?![\w:])"):
            return Axis(int(found[1]))
        if found := self.match(r"-?\d+(?![\w.])"):
            return Literal(int(found[0].strip()), "int64")
        if found := self.match(r"x(\d+):(\w+)\["):
            return Load(int(found[1]), self.list("]"), self.dtype(found[2]))
        if found := self.match(r"(\w+):(\w+)\("):
            name, dtype = found[1], self.dtype(found[2])
            axes = self.axes()
            if axes:
                body = self.expr()
                self.need(")")
                return Reduce(name, axes, body, dtype)
            return Prim(name, self.list(")"), dtype)
        raise self.error("an expression")

    def axes(self) -> tuple[tuple[int, Dim], ...]:
        """`i3 < tokens, i4 < 8;` or nothing."""
        found: list[tuple[int, Dim]] = []
        while axis := self.match(r"i(\d+) < "):
            rest = re.compile(r"[^,;]*").match(self.text, self.at)
            assert rest is not None
            self.at = rest.end()
            found.append((int(axis[1]), parse_dim(rest[0])))
            if self.take(";"):
                return tuple(found)
            self.need(",")
        if found:
            raise self.error("another axis")
        return ()

    def literal(self, dtype: DType, text: str) -> Literal:
        if dtype == "bool":
            if text not in ("true", "false"):
                raise self.error("true or false")
            return Literal(text == "true", dtype)
        return Literal(int(text) if dtype == "int32" else float(text), dtype)

    def list(self, close: str) -> tuple[Expr, ...]:
        found: list[Expr] = []
        while not self.take(close):
            if found:
                self.need(",")
            found.append(self.expr())
        return tuple(found)

    def dim(self, close: str) -> Dim:
        end = self.text.find(close, self.at)
        if end < 0:
            raise self.error(close)
        dim = parse_dim(self.text[self.at : end])
        self.at = end + 1
        return dim

    def dtype(self, short: str) -> DType:
        if short not in LONG:
            raise self.error(f"one of {', '.join(LONG)} before")
        return LONG[short]

    def match(self, pattern: str) -> re.Match[str] | None:
        found = re.compile(r"\s*" + pattern).match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found

    def take(self, token: str) -> bool:
        return self.match(re.escape(token)) is not None

    def need(self, token: str) -> None:
        if not self.take(token):
            raise self.error(repr(token))

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self.error("the end")

    def error(self, expected: str) -> ValueError:
        return ValueError(f"loop {self.text!r}: expected {expected} at {self.text[self.at : self.at + 24]!r}")
