"""Values of a loop body, hash-consed, with integer index arithmetic kept as polynomials and simplified on the way in.

    Value := axis(k) | size(symbol) | literal | poly | load(operand; offset[, guard]) | prim(name; args...) | reduce(kind, axes; body)
    Poly  := sum of (product of value ids, integer coefficient); always int64

Every constructor of `Values` returns the id of a simplified value; equal values have equal ids. With the ranges of axes
and symbols known, `(i*c + j)//c` with `0 <= j < c` becomes `i`, comparisons that always hold become literals, and
min/max choose a side. Wrap-around: sums and products of 64-bit integers are a ring, so polynomials are exact; what needs
order (division, comparison) is simplified only where every part has a known range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import gcd, isnan
from typing import Any

from ....compiler.ir.dims import Dim, FloorDiv, Range, Sym
from ....compiler.ir.dims import DimExpr as _DimExpr
from ....compiler.ir.types import DType
from .polynomial import (
    ONE,
    ZERO,
    Poly,
    add,
    as_constant,
    coefficient_of,
    constant,
    divide_term,
    exact_div,
    mul,
    product,
    scale,
    sub,
    without,
)

Bound = tuple[int | None, int | None]

MOST_VARIABLES = 12
"""A proof tries both ends of each variable's range; beyond this many it is given up."""
DEFAULT_RANGE: Range = (1, 2**31 - 1)


@dataclass(frozen=True)
class Value:
    """One value. `data` says which: axis number, symbol, literal, Poly, operand, primitive's name, (kind, axes, order)."""

    op: str
    dtype: DType
    args: tuple[int, ...] = ()
    data: Any = None


@dataclass
class Values:
    """The table of one loop's values. `extents[k]` is the extent of axis k, `ranges` bounds symbols (inclusive)."""

    ranges: Mapping[str, Range] = field(default_factory=dict[str, Range])
    table: list[Value] = field(default_factory=list[Value])
    extents: dict[int, Poly] = field(default_factory=dict[int, Poly])
    _ids: dict[Value, int] = field(default_factory=dict[Value, int])
    _bounds: dict[int, Bound] = field(default_factory=dict[int, Bound])

    def __getitem__(self, number: int) -> Value:
        return self.table[number]

    def intern(self, value: Value) -> int:
        """The id of value."""
        number = self._ids.get(value)
        if number is None:
            number = self._ids[value] = len(self.table)
            self.table.append(value)
        return number

    # Leaves and polynomials.

    def literal(self, value: float | bool, dtype: DType) -> int:
        if dtype == "int64":
            return self.of_poly(constant(int(value)))
        # repr tells 0.0 from -0.0, and makes nan equal to itself
        return self.intern(Value("literal", dtype, (), ("nan", None) if isnan(value) else (repr(value), value)))

    def axis(self, number: int, extent: Poly) -> int:
        """Axis `number`, 0..extent-1; the literal 0 where extent is 1."""
        if extent == ONE:
            return self.of_poly(ZERO)
        self.extents[number] = extent
        return self.intern(Value("axis", "int64", (), number))

    def size(self, symbol: str, *, longest: bool = False) -> int:
        """A symbol's value; `longest`: the run's largest, where rows differ."""
        return self.intern(Value("size", "int64", (), (symbol, longest)))

    def of_poly(self, poly: Poly) -> int:
        """The value that poly is: a literal, a lone atom, or a poly."""
        if len(poly) == 1 and poly[0][1] == 1 and len(poly[0][0]) == 1:
            return poly[0][0][0]
        return self.intern(Value("poly", "int64", (), poly))

    def poly(self, number: int) -> Poly:
        """The int64 value as a polynomial."""
        value = self.table[number]
        return value.data if value.op == "poly" else (((number,), 1),)

    def of_dim(self, dim: Dim, *, longest: bool = False) -> Poly:
        """A dimension as a polynomial over sizes."""
        if isinstance(dim, int):
            return constant(dim)
        total = ZERO
        assert isinstance(dim, _DimExpr)
        for monomial, coefficient in dim.terms:
            term = constant(coefficient)
            for atom in monomial:
                if isinstance(atom, Sym):
                    factor = self.poly(self.size(atom.name, longest=longest))
                else:
                    inner = self.of_poly(self.of_dim(atom.numerator, longest=longest))
                    name = "floordiv" if isinstance(atom, FloorDiv) else "mod"
                    factor = self.poly(self.divide(name, inner, self.of_poly(constant(atom.divisor))))
                term = mul(term, factor)
            total = add(total, term)
        return total

    # Ranges.

    def bounds(self, number: int) -> Bound:
        """An interval that holds the int64 value; None where unbounded."""
        found = self._bounds.get(number)
        if found is None:
            found = self._bounds[number] = self._find_bounds(number)
        return found

    def _find_bounds(self, number: int) -> Bound:
        value = self.table[number]
        if value.op == "axis":
            return 0, _minus(self.poly_bounds(self.extents[value.data])[1], 1)
        if value.op == "size":
            return self.ranges.get(value.data[0], DEFAULT_RANGE)
        if value.op == "poly":
            return self.poly_bounds(value.data)
        if value.op == "prim" and value.dtype == "int64":
            return self._prim_bounds(value)
        return None, None

    def _prim_bounds(self, value: Value) -> Bound:
        pairs = [self.bounds(a) for a in value.args if self.table[a].dtype == "int64"]
        name = value.data
        if name in ("floordiv", "mod"):
            return _division_bounds(name, *pairs)
        if name == "where":
            return _least(p[0] for p in pairs), _most(p[1] for p in pairs)
        if name == "min":
            highs = [p[1] for p in pairs if p[1] is not None]
            return _least(p[0] for p in pairs), (min(highs) if highs else None)
        if name == "max":
            lows = [p[0] for p in pairs if p[0] is not None]
            return (max(lows) if lows else None), _most(p[1] for p in pairs)
        return None, None

    def poly_bounds(self, poly: Poly) -> Bound:
        """Interval arithmetic over poly's terms."""
        parts = [self._term_bounds(monomial, coefficient) for monomial, coefficient in poly]
        return _total(p[0] for p in parts), _total(p[1] for p in parts)

    def _term_bounds(self, monomial: tuple[int, ...], coefficient: int) -> Bound:
        low = high = coefficient
        for atom in monomial:
            least, most = self.bounds(atom)
            if least is None or most is None:
                return None, None
            corners = (low * least, low * most, high * least, high * most)
            low, high = min(corners), max(corners)
        return low, high

    def known(self, poly: Poly) -> bool:
        """Whether every atom of poly has a range, so that 64-bit arithmetic on it cannot wrap."""
        return all(None not in self.bounds(atom) for monomial, _ in poly for atom in monomial)

    def upper(self, atom: int) -> Poly | None:
        """A polynomial over sizes that atom never exceeds, or None."""
        value = self.table[atom]
        if value.op == "axis":
            return sub(self.extents[value.data], ONE)
        if value.op == "prim" and value.data == "mod":
            return sub(self.poly(value.args[1]), ONE)
        if value.op == "prim" and value.data == "floordiv":
            largest = self._largest(self.poly(value.args[0]))
            quotient = None if largest is None else exact_div(add(largest, ONE), self.poly(value.args[1]))
            if quotient is not None:
                return sub(quotient, ONE)
        high = self.bounds(atom)[1]
        return None if high is None else constant(high)

    def _largest(self, poly: Poly) -> Poly | None:
        """poly with each variable at its largest; None unless their coefficients are positive numbers or sizes."""
        for atom in sorted({a for m, _ in poly for a in m if self.table[a].op != "size"}, reverse=True):
            by, top = coefficient_of(poly, atom), self.upper(atom)
            if by is None or top is None or not self.nonnegative(by):
                return None
            poly = add(without(poly, atom), mul(by, top))
        return poly

    def nonnegative(self, poly: Poly) -> bool:
        """Whether poly >= 0 is proved for all values of axes and sizes."""
        if all(c >= 0 and all(_at_least_zero(self.bounds(a)) for a in m) for m, c in poly):
            return True
        variables = {a for m, _ in poly for a in m if self.table[a].op != "size"}
        if len(variables) > MOST_VARIABLES:
            return False
        if variables:
            atom = max(variables)
            by, low, top = coefficient_of(poly, atom), self.bounds(atom)[0], self.upper(atom)
            if by is None or low is None or top is None:
                return False
            rest = without(poly, atom)
            return self.nonnegative(add(rest, scale(by, low))) and self.nonnegative(add(rest, mul(by, top)))
        shifted = ZERO  # every size written as its least value plus something that is not negative
        for monomial, coefficient in poly:
            shifted = add(shifted, mul(constant(coefficient), product(self._above_least(atom) for atom in monomial)))
        if all(c >= 0 for _, c in shifted):
            return True
        low = self.poly_bounds(poly)[0]
        return low is not None and low >= 0

    def _above_least(self, atom: int) -> Poly:
        return add((((atom,), 1),), constant(self.bounds(atom)[0] or 0))

    # Primitives.

    def prim(self, name: str, dtype: DType, *args: int) -> int:
        """A primitive over values, simplified."""
        if name in ("and", "or", "not", "where"):
            found = self._logic(name, args)
            if found is not None:
                return found
        if args and all(self.table[a].dtype == "int64" for a in args):
            a = self.poly(args[0])
            if dtype == "int64" and name in ("add", "sub", "mul", "neg"):
                if name == "neg":
                    return self.of_poly(scale(a, -1))
                combine = {"add": add, "sub": sub, "mul": mul}[name]
                return self.of_poly(combine(a, self.poly(args[1])))
            if name in ("floordiv", "mod"):
                return self.divide(name, *args)
            if len(args) == 2:
                found = self._ordered(name, args[0], args[1])
                if found is not None:
                    return found
        return self.intern(Value("prim", dtype, args, name))

    def _logic(self, name: str, args: tuple[int, ...]) -> int | None:
        first = self.truth(args[0])
        if name == "not":
            return None if first is None else self.literal(not first, "bool")
        if name == "where":
            if first is not None:
                return args[1] if first else args[2]
            return args[1] if args[1] == args[2] else None
        second = self.truth(args[1])
        stops = name == "or"
        for known, other in ((first, args[1]), (second, args[0])):
            if known is not None:
                return self.literal(stops, "bool") if known == stops else other
        return args[0] if args[0] == args[1] else None

    def truth(self, number: int) -> bool | None:
        """The bool that the value is, or None."""
        value = self.table[number]
        return bool(value.data[1]) if value.op == "literal" and value.dtype == "bool" else None

    def _ordered(self, name: str, left: int, right: int) -> int | None:
        """Comparisons, min and max of int64 values that the ranges decide."""
        a, b = self.poly(left), self.poly(right)
        difference = sub(b, a)
        if name in ("eq", "ne") and as_constant(difference) is not None:
            return self.literal((as_constant(difference) == 0) == (name == "eq"), "bool")
        if not (self.known(a) and self.known(b)):
            return None
        if name in ("min", "max"):
            if self.nonnegative(difference):  # left <= right
                return left if name == "min" else right
            if self.nonnegative(scale(difference, -1)):
                return right if name == "min" else left
            return None
        le, lt = self.nonnegative(difference), self.nonnegative(sub(difference, ONE))
        ge, gt = self.nonnegative(scale(difference, -1)), self.nonnegative(sub(scale(difference, -1), ONE))
        decided: dict[str, tuple[bool, bool]] = {
            "lt": (lt, ge), "le": (le, gt), "gt": (gt, le), "ge": (ge, lt), "eq": (False, lt or gt), "ne": (lt or gt, False),
        }  # fmt: skip
        if name in decided and any(decided[name]):
            return self.literal(decided[name][0], "bool")
        return None

    def divide(self, name: str, numerator: int, divisor: int) -> int:
        """floordiv or mod of int64 values, rounding down."""
        whole = name == "floordiv"
        top, by = self.poly(numerator), self.poly(divisor)
        a, b = as_constant(top), as_constant(by)
        if a is not None and b is not None:
            return self.of_poly(constant(0 if b == 0 else a // b if whole else a % b))
        if b == 1:
            return numerator if whole else self.of_poly(ZERO)
        if len(by) == 1 and by[0][1] > 0 and self.known(top) and self.known(by) and self.nonnegative(sub(by, ONE)):
            found = self._divide_known(whole, top, by)
            if found is not None:
                return found
        elif len(by) > 1 and self.known(top) and self.known(by) and self._inside(top, by):
            return self.of_poly(ZERO) if whole else numerator
        return self.intern(Value("prim", "int64", (numerator, divisor), name))

    def _inside(self, poly: Poly, limit: Poly) -> bool:
        return self.nonnegative(poly) and self.nonnegative(sub(sub(limit, ONE), poly))

    def _divide_known(self, whole: bool, top: Poly, by: Poly) -> int | None:
        even: list[tuple[tuple[int, ...], int]] = []
        rest: list[tuple[tuple[int, ...], int]] = []
        for monomial, coefficient in top:
            quotient = divide_term(monomial, coefficient, by)
            if quotient is None:
                rest.append((monomial, coefficient))
            else:
                even.append(quotient)
        remainder, quotients = tuple(rest), tuple(sorted(even))
        divisor = self.of_poly(by)
        if self._inside(remainder, by):
            return self.of_poly(quotients if whole else remainder)
        if even:
            left = self.divide("floordiv" if whole else "mod", self.of_poly(remainder), divisor)
            return self.of_poly(add(quotients, self.poly(left))) if whole else left
        number = as_constant(by)
        if number is not None:
            for common in sorted({gcd(c, number) for _, c in remainder} - {1, number}, reverse=True):
                high = tuple((m, c // common) for m, c in remainder if c % common == 0)
                low = tuple((m, c) for m, c in remainder if c % common)
                if high and self._inside(low, constant(common)):
                    inner = self.divide(
                        "floordiv" if whole else "mod", self.of_poly(high), self.of_poly(constant(number // common))
                    )
                    return inner if whole else self.of_poly(add(scale(self.poly(inner), common), low))
            lone = self.table[self.of_poly(remainder)]
            if (
                whole
                and lone.op == "prim"
                and lone.data == "floordiv"
                and (as_constant(self.poly(lone.args[1])) or 0) > 0
            ):
                inner_by = as_constant(self.poly(lone.args[1])) or 1
                return self.divide("floordiv", lone.args[0], self.of_poly(constant(inner_by * number)))
        return None

    # Walking.

    def children(self, number: int) -> tuple[int, ...]:
        """Direct sub-values, a polynomial's atoms included."""
        value = self.table[number]
        if value.op == "poly":
            return tuple(sorted({a for m, _ in value.data for a in m}))
        return value.args

    def reachable(self, root: int) -> tuple[int, ...]:
        """root and everything it is made of, parts before wholes."""
        done: dict[int, None] = {}
        stack: list[tuple[int, bool]] = [(root, False)]
        while stack:
            number, ready = stack.pop()
            if ready:
                done[number] = None
            elif number not in done:
                stack.append((number, True))
                stack.extend((child, False) for child in self.children(number) if child not in done)
        return tuple(done)

    def replace_axes(self, root: int, by: Mapping[int, int], reduce_axes: Mapping[int, tuple[int, ...]]) -> int:
        """root with axes replaced by values, simplified anew; `reduce_axes[k]`: the axes a reduction over k has instead."""
        image: dict[int, int] = {}
        for number in self.reachable(root):
            value = self.table[number]
            if value.op == "axis":
                image[number] = by.get(value.data, number)
            elif value.op == "poly":
                terms = (mul(constant(c), product(self.poly(image[a]) for a in m)) for m, c in value.data)
                image[number] = self.of_poly(add(*terms))
            elif value.op == "prim":
                image[number] = self.prim(value.data, value.dtype, *(image[a] for a in value.args))
            elif value.op == "reduce":
                kind, axes, order = value.data
                axes = tuple(new for old in axes for new in reduce_axes.get(old, (old,)))
                image[number] = self.intern(Value("reduce", value.dtype, (image[value.args[0]],), (kind, axes, order)))
            else:
                args = tuple(image[a] for a in value.args)
                image[number] = self.intern(Value(value.op, value.dtype, args, value.data))
        return image[root]


def _division_bounds(name: str, top: Bound, by: Bound) -> Bound:
    """Of a quotient or remainder, rounding down; known only for positive divisors."""
    (low, high), (least, most) = top, by
    if least is None or least <= 0:
        return None, None
    if name == "mod":
        return 0, _minus(most, 1)
    if low is not None and low >= 0:
        return (0 if most is None else low // most), (None if high is None else high // least)
    if least == most:
        return (None if low is None else low // least), (None if high is None else high // least)
    return None, None


def _at_least_zero(bound: Bound) -> bool:
    return bound[0] is not None and bound[0] >= 0


def _minus(value: int | None, by: int) -> int | None:
    return None if value is None else value - by


def _total(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if any(v is None for v in found) else sum(v for v in found if v is not None)


def _least(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if any(v is None for v in found) else min(v for v in found if v is not None)


def _most(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if any(v is None for v in found) else max(v for v in found if v is not None)
