"""Dimensions: integers, or integer expressions over named symbols such as `batch` and `tokens`.

    Dim  := int | DimExpr
    DimExpr := sum of terms; term := coefficient * product of atoms
    Atom := Sym(name) | FloorDiv(DimExpr, int) | Mod(DimExpr, int)

Expressions are kept in one canonical form, so equal dimensions compare equal. A symbol has identity: two values
that both say `tokens` have the same length in every run. All sizes are counts of elements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, order=True)
class Sym:
    """A named dimension."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class FloorDiv:
    """`numerator // divisor`, rounding down; divisor > 0."""

    numerator: DimExpr
    divisor: int

    def __str__(self) -> str:
        return f"(({self.numerator})//{self.divisor})"


@dataclass(frozen=True)
class Mod:
    """`numerator % divisor`, in 0..divisor-1; divisor > 0."""

    numerator: DimExpr
    divisor: int

    def __str__(self) -> str:
        return f"(({self.numerator})%{self.divisor})"


Atom = Sym | FloorDiv | Mod
Monomial = tuple[Atom, ...]
Range = tuple[int, int]


@dataclass(frozen=True)
class DimExpr:
    """A canonical sum of terms (monomial, coefficient). Build with `sym` and Python operators, never directly."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        return _sum([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        return _sum([((*m, *n), a * b) for m, a in self.terms for n, b in _terms(other)])

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __floordiv__(self, divisor: int) -> Dim:
        return floordiv(self, divisor)

    def __mod__(self, divisor: int) -> Dim:
        return mod(self, divisor)

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [str(a) for a in monomial]
            if not factors or abs(coefficient) != 1:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+" if parts else ""
            parts.append(sign + "*".join(factors))
        return "".join(parts)


Dim = int | DimExpr


def sym(name: str) -> Dim:
    """The dimension called `name`."""
    return DimExpr((((Sym(name),), 1),))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, DimExpr):
        return dim.terms
    return (((), int(dim)),) if dim else ()


def _sum(terms: list[tuple[Monomial, int]]) -> Dim:
    totals: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        key = tuple(sorted(monomial, key=str))
        totals[key] = totals.get(key, 0) + coefficient
    kept = tuple(sorted(((m, c) for m, c in totals.items() if c), key=lambda t: (-len(t[0]), [str(a) for a in t[0]])))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return DimExpr(kept)


def recombined(value: Dim) -> Dim:
    """value with x//k*k + x%k written as x. Sums are not by themselves: a product of such parts could not be divided by them any
    more."""
    if isinstance(value, int):
        return value
    found = dict(value.terms)
    for monomial, coefficient in value.terms:
        for atom in monomial:
            if not isinstance(atom, Mod):
                continue
            rest = [a for a in monomial if a is not atom]
            whole = tuple(sorted([*rest, FloorDiv(atom.numerator, atom.divisor)], key=str))
            if found.get(whole) == coefficient * atom.divisor:
                scale = DimExpr(((tuple(rest), coefficient),)) if rest else coefficient
                left = {m: c for m, c in found.items() if m not in (whole, monomial)}
                return recombined(_sum(list(left.items())) + scale * atom.numerator)
    return value


def product(dims: tuple[Dim, ...] | list[Dim]) -> Dim:
    """The product of dims; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def floordiv(dim: Dim, divisor: int) -> Dim:
    """`dim // divisor`, rounding down. Whole multiples of the divisor leave the division and common factors cancel:
    (5t+7)//4 = t+1+(t+3)//4, (2t+1)//4 = t//2. Divisions of divisions are one: (t//5+2)//3 = (t+10)//15."""
    if divisor <= 0:
        raise ValueError(f"dimension {dim} divided by {divisor}: the divisor must be positive")
    if isinstance(dim, int):
        return dim // divisor
    whole: list[tuple[Monomial, int]] = [(m, c // divisor) for m, c in dim.terms]
    rest, _, left, _ = _reduce(dim, divisor)
    return _sum([*whole, *_terms(_quotient(rest, left))])


def _quotient(rest: Dim, divisor: int) -> Dim:
    """`rest // divisor` of what `_reduce` left."""
    if isinstance(rest, int):
        return rest // divisor
    for monomial, coefficient in rest.terms:
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], FloorDiv):
            inner = monomial[0]
            beside = rest - DimExpr(((monomial, 1),))
            return floordiv(inner.numerator + beside * inner.divisor, inner.divisor * divisor)
    return DimExpr((((FloorDiv(rest, divisor),), 1),))


def mod(dim: Dim, divisor: int) -> Dim:
    """`dim % divisor`, never negative; (6t+1) % 4 = 2*(t%2)+1."""
    if divisor <= 0:
        raise ValueError(f"dimension {dim} modulo {divisor}: the divisor must be positive")
    if isinstance(dim, int):
        return dim % divisor
    rest, common, left, over = _reduce(dim, divisor)
    remainder = rest % left if isinstance(rest, int) else DimExpr((((Mod(rest, left),), 1),))
    return remainder * common + over


def _reduce(dim: DimExpr, divisor: int) -> tuple[Dim, int, int, int]:
    """(rest, common, left, over) with divisor = common * left and dim = common * rest + over modulo divisor, all
    coefficients of rest in 0..left-1 and 0 <= over < common."""
    terms = [(m, c % divisor) for m, c in dim.terms if c % divisor]
    common = gcd(divisor, *(c for m, c in terms if m))
    constant = sum(c for m, c in terms if not m)
    rest = _sum([(m, c // common) for m, c in terms])
    return rest, common, divisor // common, constant % common


def exact_div(dim: Dim, divisor: Dim) -> Dim | None:
    """dim / divisor where the division leaves nothing, else None. Long division of polynomials in the atoms."""
    if dim == divisor:
        return 1
    if divisor == 0:
        return None
    lead, factor = _terms(divisor)[0]
    quotient: Dim = 0
    while dim != 0:
        monomial, coefficient = _terms(dim)[0]
        left = list(monomial)
        for atom in lead:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % factor:
            return None
        term = _sum([(tuple(left), coefficient // factor)])
        quotient, dim = quotient + term, dim - term * divisor
    return quotient


def symbols(dim: Dim) -> frozenset[str]:
    """Names of the symbols in dim."""
    found: set[str] = set()
    for monomial, _ in _terms(dim):
        for atom in monomial:
            found |= {atom.name} if isinstance(atom, Sym) else symbols(atom.numerator)
    return frozenset(found)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """dim with each named symbol replaced; symbols not named stay."""
    total: Dim = 0
    for monomial, coefficient in _terms(dim):
        term: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, Sym):
                term = term * values.get(atom.name, sym(atom.name))
            else:
                inner = substitute(atom.numerator, values)
                term = term * (floordiv if isinstance(atom, FloorDiv) else mod)(inner, atom.divisor)
        total = total + term
    return total


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """dim as an integer. Raises KeyError naming a symbol without a value."""
    if isinstance(dim, int):
        return dim
    missing = symbols(dim) - set(values)
    if missing:
        raise KeyError(f"dimension {dim}: no value for {', '.join(sorted(missing))}")
    result = substitute(dim, values)
    assert isinstance(result, int)
    return result


def bounds(dim: Dim, ranges: Mapping[str, Range]) -> Range:
    """An interval that holds dim for all values of its symbols within `ranges` (exact for one-symbol affine forms)."""
    low = high = 0
    for monomial, coefficient in _terms(dim):
        lo, hi = coefficient, coefficient
        for atom in monomial:
            if isinstance(atom, Sym):
                a, b = ranges[atom.name]
            elif isinstance(atom, FloorDiv):
                a, b = (v // atom.divisor for v in bounds(atom.numerator, ranges))
            else:
                a, b = 0, atom.divisor - 1
            corners = (lo * a, lo * b, hi * a, hi * b)
            lo, hi = min(corners), max(corners)
        low, high = low + lo, high + hi
    return low, high


MOST_TERMS = 256
"""Of a dimension that is read from text."""
_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_][A-Za-z0-9_]*|//|[-+*%()])")


def parse_dim(text: str) -> Dim:
    """The dimension that `str` printed. Raises ValueError with the text that does not fit."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"dimension {text!r}: unexpected {text[at:]!r}")
        tokens.append(match[1])
        at = match.end()
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1] if position <= len(tokens) else ""

    def primary() -> Dim:
        token = take()
        if token == "(":
            inner = total()
            if take() != ")":
                raise ValueError(f"dimension {text!r}: a closing parenthesis is missing")
            return inner
        if token == "-":
            return primary() * -1
        if token.isdigit():
            return int(token)
        if token and (token[0].isalpha() or token[0] == "_"):
            return sym(token)
        raise ValueError(f"dimension {text!r}: unexpected {token!r}")

    def term() -> Dim:
        value = primary()
        while peek() in ("*", "//", "%"):
            operator, right = take(), primary()
            if operator == "*":
                if len(_terms(value)) * len(_terms(right)) > MOST_TERMS:
                    raise ValueError(f"dimension {text!r} has more than {MOST_TERMS} terms when multiplied out")
                value = value * right
            elif isinstance(right, int):
                value = floordiv(value, right) if operator == "//" else mod(value, right)
            else:
                raise ValueError(f"dimension {text!r}: only an integer can divide")
        return value

    def total() -> Dim:
        value = term()
        while peek() in ("+", "-"):
            value = value + term() if take() == "+" else value - term()
        return value

    result = total()
    if position != len(tokens):
        raise ValueError(f"dimension {text!r}: unexpected {tokens[position]!r}")
    return result
