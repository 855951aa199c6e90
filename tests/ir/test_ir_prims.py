"""The table of primitives: expansions equal their NumPy functions, dtype rules, special values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infc.compiler.ir.evaluate import evaluate_loop
from infc.compiler.ir.graph import Array, OpError
from infc.compiler.ir.loops import Axis, Literal, Load, Loop, Prim
from infc.compiler.ir.prims import (
    ACTIVATIONS,
    ROWS,
    TABLE,
    apply,
    apply_activation,
    erf,
    expand,
    expand_to,
    prim,
    result_dtype,
)
from infc.compiler.ir.types import DTYPES, DType, TensorType

BASE = {name for name, row in TABLE.items() if row.expand is None}


def values(dtype: DType, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return np.round(rng.uniform(-6, 6, 64) * 16) / 16 + 1 / 32  # never an integer or a half: no ambiguous rounding
    return rng.integers(1, 9, 64).astype("bool" if dtype == "bool" else dtype)


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.expand is not None and row.name != "pow"])
def test_expansion_equals_the_primitive(name: str) -> None:
    row = TABLE[name]
    for dtype in DTYPES:
        try:
            out = result_dtype(name, (dtype,) * row.arity)
        except OpError:
            continue
        loads = tuple(Load(k, (Axis(0),), dtype) for k in range(row.arity))
        whole = Prim(name, loads, out)
        simpler = expand(whole)
        if simpler is None:
            continue
        assert expand_to(whole, BASE | {name}) == whole
        arrays = [np.abs(values(dtype, k)) if name == "rsqrt" else values(dtype, k) for k in range(row.arity)]
        loop = Loop(TensorType(out, (64,)), expand_to(whole, BASE))
        np.testing.assert_allclose(evaluate_loop(loop, {}, arrays), apply(name, *arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0, 0.5, -0.5])
def test_powers_of_small_literals_expand(exponent: float) -> None:
    whole = prim("pow", Load(0, (Axis(0),), "float32"), Literal(exponent, "float32"))
    loop = Loop(TensorType("float32", (64,)), expand_to(whole, BASE - {"pow"}))
    x = np.abs(values("float32", 3))
    np.testing.assert_allclose(evaluate_loop(loop, {}, [x]), x**exponent, rtol=1e-12)


def test_a_primitive_without_expansion_is_named() -> None:
    with pytest.raises(OpError, match="primitive pow on float32 has no expansion"):
        expand_to(prim("pow", Literal(2.0, "float32"), Literal(2.5, "float32")), {"mul"})


def test_erf_is_accurate_everywhere() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.0, -0.0, 1e-300, 5.999, 6.001, np.inf, -np.inf]])
    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(erf(x), exact, rtol=1e-15, atol=0)
    assert erf(np.array([0.5], dtype=np.float32)).dtype == np.float32
    assert np.isnan(erf(np.array([np.nan])))[0]


def test_integer_division_rounds_down_and_by_zero_gives_zero() -> None:
    a, b = np.array([-7, 7, -7, 7, 5]), np.array([2, 2, -2, -2, 0])
    assert apply("floordiv", a, b).tolist() == [-4, 3, 3, -4, 0]
    assert apply("mod", a, b).tolist() == [1, 1, -1, -1, 0]


def test_special_values() -> None:
    nan = np.array([np.nan, 1.0])
    one = np.array([1.0, np.nan])
    assert np.isnan(apply("min", nan, one)).all()
    assert np.isnan(apply("max", nan, one)).all()
    assert apply("sign", np.array([np.nan, -0.0, 3.0])).tolist() == [0.0, 0.0, 1.0]
    assert apply("round", np.array([0.5, 1.5, -2.5])).tolist() == [0.0, 2.0, -2.0]
    assert apply("cast", np.array([-1.7, 1.7]), dtype="int32").tolist() == [-1, 1]
    assert apply("cast", np.array([-1.7, 0.0, np.nan]), dtype="bool").tolist() == [True, False, True]


def test_integer_arithmetic_wraps_around() -> None:
    assert apply("add", np.array([2**31 - 1], dtype=np.int32), np.array([1], dtype=np.int32))[0] == -(2**31)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_the_dtype(name: str) -> None:
    for dtype in (np.float32, np.float64):
        assert apply_activation(name, np.array([[-300.0, 0.0, 300.0]], dtype=dtype)).dtype == dtype
        assert np.isfinite(apply_activation(name, np.array([-300.0, 300.0], dtype=dtype))).all()


@pytest.mark.parametrize(
    ("name", "dtypes", "message"),
    [
        ("nothing", ("float32",), "no primitive is called 'nothing'; known: add, sub"),
        ("add", ("float32",), "add takes 2 operands, not 1"),
        ("add", ("float32", "int64"), "add takes operands of one dtype, not float32, int64; cast them first"),
        ("add", ("bool", "bool"), "add takes float32 or int64 or int32, not bool, bool"),
        ("div", ("int64", "int64"), "div takes float32, not int64, int64"),
        ("and", ("int64", "int64"), "and takes bool, not int64, int64"),
        ("bitor", ("bool", "bool"), "bitor takes int64 or int32, not bool, bool"),
        ("where", ("int64", "int64", "int64"), "where takes a bool condition, not int64"),
        ("where", ("bool", "int64", "int32"), "where takes operands of one dtype, not int64, int32"),
        ("cast", ("int64",), "cast carries its own dtype"),
        ("eq", ("bool", "int32"), "eq takes operands of one dtype"),
    ],
)
def test_dtype_rules_refuse(name: str, dtypes: tuple[DType, ...], message: str) -> None:
    with pytest.raises(OpError) as caught:
        result_dtype(name, dtypes)
    assert message in str(caught.value)


def test_an_unknown_activation_lists_the_known() -> None:
    with pytest.raises(OpError, match="no activation is called 'swish'; known: relu, gelu"):
        apply_activation("swish", np.zeros(2))


def test_a_cast_needs_a_dtype() -> None:
    with pytest.raises(ValueError, match="cast needs a dtype"):
        apply("cast", np.zeros(2))
