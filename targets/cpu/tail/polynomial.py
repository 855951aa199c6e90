"""Polynomials with integer coefficients over atoms that are known by number.

    Poly := sum of (product of atoms, coefficient), in one canonical form, so that equal polynomials compare equal

Unlike `compiler.ir.dims`, which knows symbols only, an atom here is any value of a loop body (see index.py).
"""

from __future__ import annotations

from collections.abc import Iterable

Poly = tuple[tuple[tuple[int, ...], int], ...]

ZERO: Poly = ()
ONE: Poly = (((), 1),)


def constant(value: int) -> Poly:
    """value as a polynomial."""
    return (((), value),) if value else ()


def as_constant(poly: Poly) -> int | None:
    """The integer that poly is, or None."""
    if not poly:
        return 0
    return poly[0][1] if len(poly) == 1 and poly[0][0] == () else None


def add(*polys: Poly) -> Poly:
    """The sum."""
    totals: dict[tuple[int, ...], int] = {}
    for poly in polys:
        for monomial, coefficient in poly:
            totals[monomial] = totals.get(monomial, 0) + coefficient
    return tuple(sorted((m, c) for m, c in totals.items() if c))


def mul(a: Poly, b: Poly) -> Poly:
    """The product."""
    return add(*(((tuple(sorted(m + n)), c * d),) for m, c in a for n, d in b))


def scale(poly: Poly, factor: int) -> Poly:
    """poly * factor."""
    return tuple((m, c * factor) for m, c in poly) if factor else ()


def sub(a: Poly, b: Poly) -> Poly:
    """a - b."""
    return add(a, scale(b, -1))


def product(polys: Iterable[Poly]) -> Poly:
    """The product of all; 1 for none."""
    total = ONE
    for poly in polys:
        total = mul(total, poly)
    return total


def exact_div(poly: Poly, divisor: Poly) -> Poly | None:
    """poly / divisor where nothing is left, for a divisor of one term (or poly itself); else None."""
    if poly == divisor:
        return ONE
    if len(divisor) != 1:
        return None
    out: list[tuple[tuple[int, ...], int]] = []
    for monomial, coefficient in poly:
        rest = divide_term(monomial, coefficient, divisor)
        if rest is None:
            return None
        out.append(rest)
    return tuple(sorted(out))


def divide_term(monomial: tuple[int, ...], coefficient: int, divisor: Poly) -> tuple[tuple[int, ...], int] | None:
    """One term divided by a one-term divisor, or None."""
    factors, by = divisor[0]
    left = list(monomial)
    for factor in factors:
        if factor not in left:
            return None
        left.remove(factor)
    return None if coefficient % by else (tuple(left), coefficient // by)


def coefficient_of(poly: Poly, atom: int) -> Poly | None:
    """c where poly = c * atom + rest with atom in neither; None where atom appears to a higher power."""
    out: list[tuple[tuple[int, ...], int]] = []
    for monomial, coefficient in poly:
        count = monomial.count(atom)
        if count > 1:
            return None
        if count:
            left = list(monomial)
            left.remove(atom)
            out.append((tuple(left), coefficient))
    return tuple(sorted(out))


def without(poly: Poly, atom: int) -> Poly:
    """The terms of poly that do not hold atom."""
    return tuple(t for t in poly if atom not in t[0])
