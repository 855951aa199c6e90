"""Index polynomials: simplified expressions equal what they were made from, at every index and size."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from infc.compiler.ir.building import reshape_index
from infc.compiler.ir.dims import Dim, evaluate, sym
from infc.compiler.ir.evaluate import evaluate_loop
from infc.compiler.ir.loops import Axis, Expr, Literal, Load, Loop, Prim, Size, axes
from infc.compiler.ir.types import TensorType
from infc.compiler.passes.indices import Indices, extents_of, simplify_indices

B, T = sym("batch"), sym("tokens")
I0, I1, I2 = (Axis(k) for k in range(3))


def i(value: int) -> Literal:
    return Literal(value, "int64")


def prim(name: str, a: Expr, b: Expr) -> Prim:
    return Prim(name, (a, b), "int64")


def random_index(rng: random.Random, depth: int) -> Expr:
    """An int64 expression over three axes; divisors are positive."""
    if depth == 0:
        return rng.choice([I0, I1, I2, i(rng.randrange(5)), Size(T), Size(B * 3)])
    name = rng.choice(["add", "mul", "sub", "floordiv", "mod"])
    left = random_index(rng, depth - 1)
    if name in ("floordiv", "mod"):
        return prim(name, left, rng.choice([i(rng.randrange(1, 9)), Size(T), Size(T * 3), Size(B * T)]))
    return prim(name, left, random_index(rng, depth - 1))


@pytest.mark.parametrize("seed", range(150))
def test_a_simplified_index_has_the_same_value_everywhere(seed: int) -> None:
    rng = random.Random(seed)
    expr = random_index(rng, 4)
    shape: tuple[Dim, ...] = (B, T, 3)
    indices = Indices(extents_of(shape, expr))
    simple = indices.expression(indices.polynomial(expr))
    out = TensorType("int64", shape)
    for env in ({"batch": 1, "tokens": 1}, {"batch": 2, "tokens": 5}, {"batch": 4, "tokens": 3}):
        np.testing.assert_array_equal(
            evaluate_loop(Loop(out, simple), env, []), evaluate_loop(Loop(out, expr), env, []), err_msg=str(expr)
        )


SHAPES: list[tuple[tuple[Dim, ...], tuple[Dim, ...]]] = [
    ((B, T, 12), (B, T, 3, 4)),
    ((B, T, 3, 4), (B, T, 12)),
    ((B, 3, T, 4), (B * 3, T, 4)),
    ((B * 3, T, 4), (B, 3, T, 4)),
    ((B, T, 6), (B * T, 6)),
    ((B, T + 1, 6), (B, T + 1, 2, 3)),
    ((B, 4, 6), (B, 24)),
]


@pytest.mark.parametrize(("source", "target"), SHAPES, ids=str)
def test_reshapes_there_and_back_are_the_identity(source: tuple[Dim, ...], target: tuple[Dim, ...]) -> None:
    """The index of a reshape, put through the reshape back, is Axis(k) for each k again."""
    there = reshape_index(target, source, axes(len(source)))
    back = [_substitute(e, there) for e in reshape_index(source, target, axes(len(target)))]
    body = Load(0, tuple(back), "float32")
    assert simplify_indices(source, body) == Load(0, axes(len(source)), "float32")


def test_a_flattened_index_comes_apart() -> None:
    """((i0*T + i1)*12 + i2) // 12 % T is i1."""
    flat = prim("add", prim("mul", prim("add", prim("mul", I0, Size(T)), I1), i(12)), I2)
    indices = Indices(extents_of((B, T, 12), flat))
    assert indices.polynomial(prim("mod", prim("floordiv", flat, i(12)), Size(T))) == sym("#1")
    assert indices.polynomial(prim("floordiv", flat, Size(T * 12))) == sym("#0")


def test_an_axis_of_one_element_is_zero() -> None:
    assert Indices(extents_of((B, 1), I1)).polynomial(I1) == 0


def test_what_is_not_proved_is_not_simplified() -> None:
    """i1 may be as large as T - 1, which may be 7 or more."""
    indices = Indices(extents_of((B, T), I1))
    assert indices.polynomial(prim("mod", I1, i(7))) != sym("#1")
    assert not indices.nonnegative(sym("#1") - 1)
    assert not indices.nonnegative(T - 2)
    assert indices.nonnegative(T - 1 - sym("#1"))


def _substitute(expr: Expr, values: tuple[Expr, ...]) -> Expr:
    if isinstance(expr, Axis):
        return values[expr.number]
    if isinstance(expr, Prim):
        return Prim(expr.name, tuple(_substitute(a, values) for a in expr.args), expr.dtype)
    return expr


def test_bounds_hold_at_every_corner() -> None:
    """nonnegative never says yes of a value that is negative somewhere."""
    rng = random.Random(0)
    symbols = [sym("#0"), sym("#1"), B, T]
    for _ in range(300):
        value: Dim = rng.randrange(-3, 4)
        for s in symbols:
            value = value + s * rng.randrange(-2, 3)
        value = value + sym("#1") * T * rng.randrange(-1, 2)
        if not Indices({"#0": B, "#1": T}).nonnegative(value):
            continue
        for b, t in product((1, 2, 5), (1, 3)):
            for i0, i1 in product(range(b), range(t)):
                assert evaluate(value, {"batch": b, "tokens": t, "#0": i0, "#1": i1}) >= 0, str(value)
