"""Index expressions as polynomials, so that what an index depends on can be read off, and divisions disappear.

An int64 expression of a loop form becomes a `Dim` over these symbols:

    tokens, batch, …    dimensions, as everywhere
    #k                  Axis(k), in 0..extent-1
    ?n                  anything else (an element that was loaded, a division that does not simplify): `Indices.opaque`

`(i0*T*384 + i1*384 + i2) // 384 % T` becomes `#1` where the extents say that 0 <= i1 < T and 0 <= i2 < 384. Every rule is
an identity of integer division for the given extents; nothing is assumed about dimensions but that they are at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd

from ..ir.dims import (
    Dim,
    DimExpr,
    FloorDiv,
    Mod,
    Monomial,
    Sym,
    exact_div,
    floordiv,
    mod,
    recombined,
    substitute,
    sym,
    symbols,
)
from ..ir.loops import Axis, Expr, Literal, Load, Prim, Reduce, Size, map_children

_MOST_DIVISIONS = 32  # terms that one division may take; what is left stays a rest, which is never wrong


def axis_symbol(number: int) -> str:
    """The symbol of Axis(number)."""
    return f"#{number}"


@dataclass
class Indices:
    """Converts expressions of one loop. `extents` bounds axes (exclusive); `values` replaces some axes by polynomials
    (over symbols that then need an entry in `extents` under their own name)."""

    extents: dict[str, Dim]
    values: Mapping[int, Dim] = field(default_factory=dict[int, Dim])
    opaque: dict[str, Expr] = field(default_factory=dict[str, Expr])
    _names: dict[Expr, str] = field(default_factory=dict[Expr, str])

    def polynomial(self, expr: Expr) -> Dim:
        """expr, of an integer dtype, as a polynomial."""
        if isinstance(expr, Axis):
            alone = 0 if self.extents.get(axis_symbol(expr.number)) == 1 else sym(axis_symbol(expr.number))
            return self.values.get(expr.number, alone)
        if isinstance(expr, Size):
            return expr.dim
        if isinstance(expr, Literal) and isinstance(expr.value, int):
            return int(expr.value)
        if isinstance(expr, Prim) and expr.dtype == "int64":
            args = expr.args
            if expr.name in ("add", "sub", "mul", "floordiv", "mod"):
                left, right = self.polynomial(args[0]), self.polynomial(args[1])
                if expr.name == "add":
                    return recombined(left + right)
                if expr.name == "sub":
                    return left - right
                if expr.name == "mul":
                    return left * right
                divided = self.divide(left, right)
                if divided is not None:
                    return divided[0] if expr.name == "floordiv" else divided[1]
            elif expr.name == "neg":
                return -self.polynomial(args[0])
            elif expr.name == "cast" and _is_int64(args[0]):
                return self.polynomial(args[0])
        return self._opaque(expr)

    def divide(self, dividend: Dim, divisor: Dim) -> tuple[Dim, Dim] | None:
        """(dividend // divisor, dividend % divisor), or None where neither is a polynomial."""
        if isinstance(divisor, int) and divisor <= 0 or not self.nonnegative(divisor - 1):
            return None
        if divisor == 1:
            return dividend, 0
        quotient, rest = _split(dividend, divisor)
        if self._within(rest, divisor):
            return quotient, rest
        for factor in _common_factors(rest, divisor):
            count = exact_div(divisor, factor)
            above, below = _split(rest, factor)
            if count is None or count == 1 or not self._within(below, factor):
                continue
            inner = self.divide(above, count)
            if inner is not None:
                return quotient + inner[0], inner[1] * factor + below
        if isinstance(divisor, int):
            return quotient + floordiv(rest, divisor), mod(rest, divisor)
        return None

    def nonnegative(self, value: Dim) -> bool:
        """True where value >= 0 is proved for all axes within their extents and all dimensions >= 1."""
        if isinstance(value, int):
            return value >= 0
        low: Dim = 0
        for monomial, coefficient in value.terms:
            term: Dim = coefficient
            loose = [a for a in monomial if not isinstance(a, Sym) or _bounded(a.name)]
            if coefficient > 0 and loose:
                if not all(self._atom_nonnegative(a) for a in loose):
                    return False
                continue
            for atom in monomial:
                if isinstance(atom, Sym) and not _bounded(atom.name):
                    term = term * sym(atom.name)
                else:
                    top = self._top(atom)
                    if top is None:
                        return False
                    term = term * top
            low = low + term
        names = symbols(low)
        if any(_bounded(name) for name in names):
            return False
        if not isinstance(low, int):
            low = substitute(low, {name: sym(name) + 1 for name in names})
        return low >= 0 if isinstance(low, int) else all(c >= 0 and _plain(m) for m, c in low.terms)

    def expression(self, value: Dim) -> Expr:
        """The expression of a polynomial: the inverse of `polynomial`."""
        if isinstance(value, int):
            return Literal(value, "int64")
        if not any(_bounded(name) for name in symbols(value)):
            return Size(value)
        total: Expr | None = None
        for monomial, coefficient in value.terms:
            bound = [a for a in monomial if not _is_dimension(a)]
            scale = DimExpr(((tuple(a for a in monomial if _is_dimension(a)), abs(coefficient)),))
            term: Expr | None = None
            for atom in bound:
                factor = self._atom_expression(atom)
                term = factor if term is None else Prim("mul", (term, factor), "int64")
            size: Expr = Literal(abs(coefficient), "int64") if scale.terms[0][0] == () else Size(scale)
            if term is None:
                term = size
            elif scale.terms != (((), 1),):
                term = Prim("mul", (term, size), "int64")
            if total is None:
                total = term if coefficient > 0 else Prim("neg", (term,), "int64")
            else:
                total = Prim("add" if coefficient > 0 else "sub", (total, term), "int64")
        assert total is not None
        return total

    def _atom_expression(self, atom: Sym | FloorDiv | Mod) -> Expr:
        if isinstance(atom, Sym):
            if atom.name.startswith("#"):
                return Axis(int(atom.name[1:]))
            return self.opaque.get(atom.name, Size(sym(atom.name)))
        name = "floordiv" if isinstance(atom, FloorDiv) else "mod"
        return Prim(name, (self.expression(atom.numerator), Literal(atom.divisor, "int64")), "int64")

    def _within(self, value: Dim, bound: Dim) -> bool:
        return self.nonnegative(value) and self.nonnegative(bound - 1 - value)

    def _top(self, atom: Sym | FloorDiv | Mod) -> Dim | None:
        if isinstance(atom, Mod):
            return atom.divisor - 1
        if isinstance(atom, Sym) and atom.name in self.extents:
            return self.extents[atom.name] - 1
        return None

    def _atom_nonnegative(self, atom: Sym | FloorDiv | Mod) -> bool:
        if isinstance(atom, FloorDiv):
            return self.nonnegative(atom.numerator)
        return isinstance(atom, Mod) or atom.name in self.extents

    def _opaque(self, expr: Expr) -> Dim:
        name = self._names.setdefault(expr, f"?{len(self._names)}")
        self.opaque[name] = expr
        return sym(name)


def extents_of(shape: tuple[Dim, ...], body: Expr) -> dict[str, Dim]:
    """The exclusive bound of every axis of a loop: the output's, then those of its reductions."""
    found = {axis_symbol(k): dim for k, dim in enumerate(shape)}

    def visit(expr: Expr) -> None:
        if isinstance(expr, Reduce):
            found.update({axis_symbol(number): extent for number, extent in expr.axes})
        for child in _children(expr):
            visit(child)

    visit(body)
    return found


def simplify_indices(shape: tuple[Dim, ...], body: Expr) -> Expr:
    """body with every index of every Load, and every integer division, in its simplest form."""
    indices = Indices(extents_of(shape, body))

    def visit(expr: Expr) -> Expr:
        expr = map_children(expr, visit)
        if isinstance(expr, Load):
            return Load(expr.operand, tuple(indices.expression(indices.polynomial(e)) for e in expr.index), expr.dtype)
        if isinstance(expr, Prim) and expr.dtype == "int64" and expr.name in ("floordiv", "mod"):
            return indices.expression(indices.polynomial(expr))
        return expr

    return visit(body)


def _is_int64(expr: Expr) -> bool:
    return expr.dtype == "int64"


def _children(expr: Expr) -> tuple[Expr, ...]:
    if isinstance(expr, Load):
        return expr.index
    if isinstance(expr, Prim):
        return expr.args
    return (expr.body,) if isinstance(expr, Reduce) else ()


def _bounded(name: str) -> bool:
    return not (name[0].isalpha() or name[0] == "_")


def _plain(monomial: Monomial) -> bool:
    return all(isinstance(a, Sym) for a in monomial)


def _is_dimension(atom: Sym | FloorDiv | Mod) -> bool:
    names = {atom.name} if isinstance(atom, Sym) else symbols(atom.numerator)
    return not any(_bounded(name) for name in names)


def _split(dividend: Dim, divisor: Dim) -> tuple[Dim, Dim]:
    """(q, r) with dividend = q * divisor + r: polynomial division by the divisor's leading term."""
    lead: Dim = DimExpr(divisor.terms[:1]) if isinstance(divisor, DimExpr) else divisor
    quotient: Dim = 0
    rest = dividend
    for _ in range(_MOST_DIVISIONS):
        terms = rest.terms if isinstance(rest, DimExpr) else (((), rest),) if rest else ()
        for monomial, coefficient in terms:
            divided = exact_div(DimExpr(((monomial, coefficient),)) if monomial else coefficient, lead)
            if divided is not None:
                quotient = quotient + divided
                rest = rest - divided * divisor
                break
        else:
            break
    return quotient, rest


def _common_factors(rest: Dim, divisor: Dim) -> list[Dim]:
    """Proper common factors of divisor (of one term) and a term of rest, largest first."""
    if isinstance(rest, int) or (isinstance(divisor, DimExpr) and len(divisor.terms) != 1):
        return []
    monomial, coefficient = divisor.terms[0] if isinstance(divisor, DimExpr) else ((), divisor)
    found: list[tuple[int, int, Dim]] = []
    for term_monomial, term_coefficient in rest.terms:
        shared: list[Sym | FloorDiv | Mod] = []
        left = list(monomial)
        for atom in term_monomial:
            if atom in left:
                left.remove(atom)
                shared.append(atom)
        number = gcd(term_coefficient, coefficient)
        factor: Dim = number
        for atom in shared:
            factor = factor * DimExpr((((atom,), 1),))
        if factor not in (1, divisor):
            found.append((len(shared), number, factor))
    return [factor for _, _, factor in sorted(found, key=lambda f: (-f[0], -f[1]))]
