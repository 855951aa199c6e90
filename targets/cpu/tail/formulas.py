"""The straight-line functions of prelude.h, read back from its text, so that other printers compute the same bits.

    Function  := INFC_FN type name(type x, ...) { Statement... }
    Statement := type x = Expr, ...; | x = Expr; | return Expr;
    Expr      := C's ?: || && | == != < > <= >= | & | << >> | + - * / | unary - | casts to float and int32_t | calls

A function with anything else in it (branches, tables, doubles) is not read: `formulas` leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ..isa import Isa
from ..kernels.prelude import prelude


@dataclass(frozen=True)
class Number:
    """A literal; `type` is float or int32_t."""

    value: float | int
    type: str


@dataclass(frozen=True)
class Name:
    """A parameter or local variable."""

    name: str


@dataclass(frozen=True)
class Operation:
    """An operator (`+`, `?:`, `neg`, ...) or a function's name over arguments; `cast float` is an operator as well."""

    name: str
    args: tuple[Formula, ...]


Formula = Number | Name | Operation


@dataclass(frozen=True)
class Assignment:
    """`name = value`, of the given C type; the last one of a function is called `return`."""

    name: str
    type: str
    value: Formula


@dataclass(frozen=True)
class Function:
    """Parameters, then statements in order; the last gives the result."""

    name: str
    parameters: tuple[str, ...]
    statements: tuple[Assignment, ...]


_FUNCTION = re.compile(r"^INFC_FN (float|int32_t) (infc_\w+)\(([^)]*)\)\s*\{(.*?)\}\s*$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(
    r"\s*(0x[0-9a-fA-F]+|\d+\.\d*(?:e[-+]?\d+)?f?|\d+|[A-Za-z_]\w*|<<|>>|<=|>=|==|!=|&&|\|\||\"\"|[-+*/<>=?:(),;&!])"
)
_TYPES = ("float", "int32_t")
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",), ("&&",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("<<", ">>"), ("+", "-"), ("*", "/"),
)  # fmt: skip


class _Unreadable(Exception):
    """The text is outside the grammar above."""


@cache
def formulas(isa: Isa) -> Mapping[str, Function]:
    """The readable functions over floats of isa's prelude, by name."""
    text = re.sub(r"/\*.*?\*/", " ", prelude(isa), flags=re.DOTALL)
    found: dict[str, Function] = {}
    for match in _FUNCTION.finditer(text):
        _, name, parameters, body = match.groups()
        try:
            found[name] = _Reader(body).function(name, tuple(p.split()[-1] for p in parameters.split(",")))
        except _Unreadable:
            continue
    return found


class _Reader:
    """Recursive descent over one function's body."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _Unreadable(text[at:])
            self.tokens.append(match[1])
            at = match.end()
        self.at = 0

    def function(self, name: str, parameters: tuple[str, ...]) -> Function:
        statements: list[Assignment] = []
        types: dict[str, str] = {}
        while self.at < len(self.tokens):
            if self.take("return"):
                statements.append(Assignment("return", "", self.formula()))
            elif self.peek() in _TYPES:
                type_ = self.next()
                while True:
                    local = self.next()
                    self.expect("=")
                    types[local] = type_
                    statements.append(Assignment(local, type_, self.formula()))
                    if not self.take(","):
                        break
            else:
                local = self.next()
                if local not in types:
                    raise _Unreadable(local)
                self.expect("=")
                statements.append(Assignment(local, types[local], self.formula()))
            self.expect(";")
        if not statements or statements[-1].name != "return":
            raise _Unreadable(name)
        return Function(name, parameters, tuple(statements))

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def take(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self.at += 1
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise _Unreadable(f"{token} expected, not {self.peek()}")

    def formula(self) -> Formula:
        condition = self.binary(0)
        if not self.take("?"):
            return condition
        yes = self.formula()
        self.expect(":")
        return Operation("?:", (condition, yes, self.formula()))

    def binary(self, level: int) -> Formula:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            left = Operation(self.next(), (left, self.binary(level + 1)))
        return left

    def unary(self) -> Formula:
        if self.take("-"):
            inner = self.unary()
            return Number(-inner.value, inner.type) if isinstance(inner, Number) else Operation("neg", (inner,))
        if self.peek() == "(" and self.tokens[self.at + 1] in _TYPES:
            self.at += 1
            type_ = self.next()
            self.expect(")")
            return Operation(f"cast {type_}", (self.unary(),))
        return self.primary()

    def primary(self) -> Formula:
        token = self.next()
        if token == "(":
            inner = self.formula()
            self.expect(")")
            return inner
        if re.fullmatch(r"0x[0-9a-fA-F]+|\d+", token):
            return Number(int(token, 0), "int32_t")
        if token[:1].isdigit():
            return Number(float(token.rstrip("f")), "float")
        if not re.fullmatch(r"[A-Za-z_]\w*", token):
            raise _Unreadable(token)
        if not self.take("("):
            return Name(token)
        if token in ("__builtin_inff", "__builtin_nanf"):
            self.take('""')
            self.expect(")")
            return Number(float(token[len("__builtin_") : -1]), "float")
        args = [self.formula()]
        while self.take(","):
            args.append(self.formula())
        self.expect(")")
        return Operation(token, tuple(args))
