"""Dimensions: their canonical form, text, value and bounds, as properties of random expressions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infc.compiler.ir.dims import (
    Dim,
    DimExpr,
    bounds,
    evaluate,
    exact_div,
    floordiv,
    mod,
    parse_dim,
    product,
    substitute,
    sym,
    symbols,
)
from infc.compiler.ir.shapes import match_groups
from infc.compiler.ir.types import TensorType, parse_type

B, T = sym("batch"), sym("tokens")
RANGES = {"batch": (0, 12), "tokens": (1, 40)}


def _extend(children: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    divisor = st.integers(1, 9)
    return st.one_of(
        st.tuples(children, children).map(lambda p: p[0] + p[1]),
        st.tuples(children, children).map(lambda p: p[0] - p[1]),
        st.tuples(children, children).map(lambda p: p[0] * p[1]),
        st.tuples(children, divisor).map(lambda p: floordiv(p[0], p[1])),
        st.tuples(children, divisor).map(lambda p: mod(p[0], p[1])),
    )


LEAVES: st.SearchStrategy[Dim] = st.one_of(st.integers(-9, 9), st.sampled_from([B, T]))
DIMS: st.SearchStrategy[Dim] = st.recursive(LEAVES, _extend, max_leaves=6)
VALUES = st.fixed_dictionaries({name: st.integers(low, high) for name, (low, high) in RANGES.items()})


@settings(max_examples=200, deadline=None)
@given(DIMS)
def test_text_parses_back(dim: Dim) -> None:
    assert parse_dim(str(dim)) == dim


@settings(max_examples=200, deadline=None)
@given(DIMS, DIMS, VALUES, st.integers(1, 9))
def test_arithmetic_agrees_with_integers(a: Dim, b: Dim, values: dict[str, int], k: int) -> None:
    x, y = evaluate(a, values), evaluate(b, values)
    assert evaluate(a + b, values) == x + y
    assert evaluate(a - b, values) == x - y
    assert evaluate(a * b, values) == x * y
    assert evaluate(floordiv(a, k), values) == x // k
    assert evaluate(mod(a, k), values) == x % k
    assert a - b + b == a
    assert floordiv(a, k) * k + mod(a, k) == a or evaluate(floordiv(a, k) * k + mod(a, k), values) == x


@settings(max_examples=200, deadline=None)
@given(DIMS, VALUES)
def test_bounds_hold_every_value(dim: Dim, values: dict[str, int]) -> None:
    low, high = bounds(dim, RANGES)
    assert low <= evaluate(dim, values) <= high


@settings(max_examples=200, deadline=None)
@given(DIMS, DIMS)
def test_exact_division_undoes_multiplication(a: Dim, b: Dim) -> None:
    if b != 0:
        assert exact_div(a * b, b) == a


@settings(max_examples=100, deadline=None)
@given(DIMS, VALUES)
def test_substitution_of_every_symbol_is_evaluation(dim: Dim, values: dict[str, int]) -> None:
    assert substitute(dim, dict(values)) == evaluate(dim, values)
    assert substitute(dim, {}) == dim


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (2 * T + 2 - T, "tokens+2"),
        (T * B, "batch*tokens"),
        (T - T, "0"),
        (floordiv(T - 1, 2) + 1, "((tokens+1)//2)"),
        (floordiv(4 * T + 4, 4), "tokens+1"),
        (floordiv(2 * T + 1, 4), "((tokens)//2)"),
        (floordiv(floordiv(T, 5) + 2, 3), "((tokens+10)//15)"),
        (floordiv(floordiv(floordiv(T - 10, 5) - 2, 2) + B, 2), "((10*batch+tokens)//20)-1"),
        (floordiv(2 * floordiv(T, 2) + floordiv(T + B, 3), 2), "((batch+tokens)//6)+((tokens)//2)"),
        (mod(4 * T + 5, 4), "1"),
        (mod(6 * T + 1, 4), "2*((tokens)%2)+1"),
        (product([B, 2, T]), "2*batch*tokens"),
    ],
)
def test_canonical_form(dim: Dim, text: str) -> None:
    assert str(dim) == text


def test_exact_division_that_leaves_something_is_none() -> None:
    assert exact_div(T * B + 1, T) is None
    assert exact_div(12, 5) is None
    assert exact_div(3 * T, 2) is None
    assert exact_div(T, 0) is None
    assert exact_div((T + 1) * (B + 3), T + 1) == B + 3


def test_symbols_are_found_inside_quotients() -> None:
    assert symbols(floordiv(T + B, 3) * 2) == {"tokens", "batch"}


def test_a_symbol_without_a_value_is_named() -> None:
    with pytest.raises(KeyError, match="no value for tokens"):
        evaluate(T + B, {"batch": 1})


@pytest.mark.parametrize("fn", [floordiv, mod])
def test_a_divisor_must_be_positive(fn: object) -> None:
    with pytest.raises(ValueError, match="divisor must be positive"):
        (floordiv if fn is floordiv else mod)(T, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2*", "unexpected ''"),
        ("(tokens", "closing parenthesis"),
        ("tokens//batch", "only an integer can divide"),
        ("tokens tokens", "unexpected 'tokens'"),
        ("tokens!", "unexpected '!'"),
    ],
)
def test_text_that_is_no_dimension_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_dim(text)
    assert message in str(caught.value)


def test_types_print_and_parse() -> None:
    for type_ in (TensorType("float32", (B, T, 384)), TensorType("bool", ()), TensorType("int32", (2 * T + 1,))):
        assert parse_type(str(type_)) == type_
    assert str(TensorType("float32", (B, T, 384))) == "f32[batch,tokens,384]"
    assert TensorType("int64", (B, 3)).bytes == 24 * B
    with pytest.raises(ValueError, match="expected one of f32, i64, i32, b1"):
        parse_type("f64[3]")


@pytest.mark.parametrize(
    ("source", "target", "groups"),
    [
        ((B, T, 384), (B, T, 12, 32), [([0], [0]), ([1], [1]), ([2], [2, 3])]),
        ((B, T, 12, 32), (B * T, 384), [([0, 1], [0]), ([2, 3], [1])]),
        ((B * T, 384), (B, T, 384), [([0], [0, 1]), ([1], [2])]),
        ((2 * T + 2, 5), (T + 1, 2, 5), [([0], [0, 1]), ([1], [2])]),
        ((1, B, 1), (B,), [([1], [0])]),
        ((4, 6), (6, 4), [([0, 1], [0, 1])]),
        ((B, T), (T, B), [([0, 1], [0, 1])]),
        ((2, 3, 4, T), (6, 4 * T), [([0, 1], [0]), ([2, 3], [1])]),
    ],
)
def test_reshape_groups_are_as_small_as_can_be(
    source: tuple[Dim, ...], target: tuple[Dim, ...], groups: list[tuple[list[int], list[int]]]
) -> None:
    assert match_groups(source, target) == groups


def test_dimensions_are_hashable_and_equal_by_value() -> None:
    assert {T + 1, 1 + T} == {T + 1}
    assert isinstance(T, DimExpr)
