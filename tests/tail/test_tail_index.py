"""Index arithmetic: simplification keeps every value, and gets rid of what it should."""

from __future__ import annotations

import itertools
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from infc.compiler.ir.dims import Dim, parse_dim, sym
from infc.targets.cpu.tail import polynomial
from infc.targets.cpu.tail.index import Values
from infc.targets.cpu.tail.polynomial import Poly

EXTENTS: tuple[Dim, ...] = (5, 12, sym("n"))
RANGES = {"n": (1, 7)}


def table() -> tuple[Values, list[int]]:
    """Values with three axes of extents 5, 12 and n."""
    values = Values(RANGES)
    return values, [values.axis(k, values.of_dim(e)) for k, e in enumerate(EXTENTS)]


def value_of(values: Values, number: int, at: dict[int, int], n: int) -> int:
    """The value at axes `at` with n = n, computed from the simplified form."""
    value = values[number]
    if value.op == "axis":
        return at[value.data]
    if value.op == "size":
        return n
    if value.op == "literal":
        return int(value.data[1])
    if value.op == "poly":
        return poly_value(values, value.data, at, n)
    args = [value_of(values, a, at, n) for a in value.args]
    return python(value.data, args)


def poly_value(values: Values, poly: Poly, at: dict[int, int], n: int) -> int:
    total = 0
    for monomial, coefficient in poly:
        term = coefficient
        for atom in monomial:
            term *= value_of(values, atom, at, n)
        total += term
    return total


def python(name: str, args: list[int]) -> int:
    """What a primitive means."""
    a, b = args[0], args[1] if len(args) > 1 else 0
    match name:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv":
            return a // b if b else 0
        case "mod":
            return a % b if b else 0
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
        case "lt":
            return int(a < b)
        case "le":
            return int(a <= b)
        case "ge":
            return int(a >= b)
        case "eq":
            return int(a == b)
        case "and":
            return int(bool(a) and bool(b))
        case "not":
            return int(not a)
        case "where":
            return args[1] if a else args[2]
        case _:
            raise AssertionError(name)


Tree = tuple[object, ...]
LEAVES = st.one_of(
    st.tuples(st.just("axis"), st.integers(0, 2)),
    st.tuples(st.just("number"), st.integers(-20, 40)),
    st.tuples(st.just("n")),
)


def _branch(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    divisors = st.one_of(st.tuples(st.just("number"), st.integers(1, 24)), st.tuples(st.just("n")))
    return st.one_of(
        st.tuples(st.sampled_from(["add", "sub", "mul", "min", "max"]), inner, inner),
        st.tuples(st.sampled_from(["floordiv", "mod"]), inner, divisors),
        st.tuples(st.just("where"), st.tuples(st.sampled_from(["lt", "le", "ge", "eq"]), inner, inner), inner, inner),
    )


TREES: st.SearchStrategy[Tree] = st.recursive(LEAVES, _branch, max_leaves=8)
BOOLS = ("lt", "le", "ge", "eq")


def subtrees(tree: Tree) -> list[Tree]:
    """The operands of an operation."""
    return [cast(Tree, t) for t in tree[1:] if isinstance(t, tuple)]


def build(values: Values, axes: list[int], tree: Tree) -> int:
    """tree through the simplifying constructors."""
    name = tree[0]
    if name == "axis":
        return axes[int(str(tree[1]))]
    if name == "number":
        return values.literal(int(str(tree[1])), "int64")
    if name == "n":
        return values.size("n")
    args = [build(values, axes, t) for t in subtrees(tree)]
    return values.prim(str(name), "bool" if name in BOOLS else "int64", *args)


def plain(tree: Tree, at: dict[int, int], n: int) -> int:
    """tree's value, nothing simplified."""
    name = tree[0]
    if name == "axis":
        return at[int(str(tree[1]))]
    if name == "number":
        return int(str(tree[1]))
    if name == "n":
        return n
    return python(str(name), [plain(t, at, n) for t in subtrees(tree)])


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_simplification_keeps_every_value_and_bounds_hold(tree: Tree) -> None:
    values, axes = table()
    number = build(values, axes, tree)
    low, high = values.bounds(number)
    is_nonnegative = values.nonnegative(values.poly(number))
    for n in (1, 2, 7):
        for i, j, k in itertools.product(range(5), range(12), range(n)):
            at = {0: i, 1: j, 2: k}
            want = plain(tree, at, n)
            assert value_of(values, number, at, n) == want
            assert low is None or low <= want
            assert high is None or high >= want
            assert want >= 0 or not is_nonnegative


def test_divisions_of_a_flattened_index_go_away() -> None:
    values, (i, j, k) = table()
    extents = [values.of_dim(e) for e in EXTENTS]
    flat = values.of_poly(
        polynomial.add(
            polynomial.mul(values.poly(i), polynomial.mul(extents[1], extents[2])),
            polynomial.mul(values.poly(j), extents[2]),
            values.poly(k),
        )
    )
    n = values.of_poly(extents[2])
    inner = values.of_poly(polynomial.mul(extents[1], extents[2]))
    assert values.divide("mod", flat, n) == k
    assert values.divide("floordiv", flat, inner) == i
    assert values.divide("mod", values.divide("floordiv", flat, n), values.literal(12, "int64")) == j


def test_a_symbolic_bound_decides_a_comparison() -> None:
    values, (_, _, k) = table()
    n = values.size("n")
    assert values.truth(values.prim("lt", "bool", k, n)) is True
    assert values.truth(values.prim("ge", "bool", k, n)) is False
    one_more = values.prim("add", "int64", k, values.literal(1, "int64"))
    assert values.truth(values.prim("le", "bool", one_more, n)) is True
    assert values.truth(values.prim("lt", "bool", one_more, n)) is None


def test_data_is_not_taken_for_bounded() -> None:
    values, _ = table()
    loaded = values.prim("cast", "int64", values.literal(2, "int32"))
    doubled = values.prim("mul", "int64", loaded, values.literal(2, "int64"))
    halved = values.divide("floordiv", doubled, values.literal(2, "int64"))
    assert halved != loaded, "x*2 may wrap around, so x*2//2 is not x"


def test_equal_values_have_one_number() -> None:
    values, (i, j, _) = table()
    a = values.prim("add", "int64", i, j)
    assert a == values.prim("add", "int64", j, i)
    assert values.prim("sub", "int64", a, j) == i


def test_exact_division_of_polynomials() -> None:
    values = Values(RANGES)
    whole = values.of_dim(parse_dim("n*12+24"))
    assert polynomial.exact_div(whole, values.of_dim(12)) == values.of_dim(parse_dim("n+2"))
    assert polynomial.exact_div(whole, values.of_dim(sym("n"))) is None
    assert polynomial.exact_div(whole, whole) == polynomial.ONE
