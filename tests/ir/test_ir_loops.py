"""Loop forms: the index expressions that reshape gives, bounds under guards, and what is malformed."""

from __future__ import annotations

import numpy as np
import pytest

from infc.compiler.ir.building import reshape_index
from infc.compiler.ir.dims import Dim, sym
from infc.compiler.ir.evaluate import LoopError, check_loop, evaluate_loop
from infc.compiler.ir.loops import Axis, Expr, Literal, Load, Loop, Prim, Reduce, Size, axes, loads, substitute_axes
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.pad import Pad
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.types import TensorType, parse_type

B, T = sym("batch"), sym("tokens")
LINE = TensorType("float32", (5,))


def show(expr: Expr) -> str:
    """An index as people write it."""
    match expr:
        case Axis(number):
            return f"i{number}"
        case Size(dim):
            return str(dim)
        case Literal(value):
            return str(value)
        case Prim(name, (a, b)):
            return f"({show(a)} {name} {show(b)})"
        case _:
            raise AssertionError(expr)


@pytest.mark.parametrize(
    ("source", "target", "index"),
    [
        ((B, T, 384), (B, T, 12, 32), ["i0", "i1", "((i2 mul 32) add i3)"]),
        ((B, T, 12, 32), (B, T, 384), ["i0", "i1", "(i2 floordiv 32)", "(i2 mod 32)"]),
        ((B, T, 384), (B * T, 384), ["(i0 floordiv tokens)", "(i0 mod tokens)", "i1"]),
        ((B * T, 384), (B, T, 384), ["((i0 mul tokens) add i1)", "i2"]),
        ((B, 1, T), (B, T, 1), ["i0", "0", "i1"]),
        ((4, 6), (6, 4), ["(((i0 mul 4) add i1) floordiv 6)", "(((i0 mul 4) add i1) mod 6)"]),
        ((B, 2, 3, 4), (B, 24), ["i0", "(i1 floordiv 12)", "((i1 floordiv 4) mod 3)", "(i1 mod 4)"]),
        ((), (1, 1), []),
    ],
)
def test_reshape_indexes_group_by_group(source: tuple[Dim, ...], target: tuple[Dim, ...], index: list[str]) -> None:
    assert [show(e) for e in reshape_index(source, target, axes(len(target)))] == index


def test_a_load_out_of_bounds_is_an_error_unless_a_guard_is_false() -> None:
    beyond = Prim("add", (Axis(0), Literal(1, "int64")), "int64")
    bare = Load(0, (beyond,), "float32")
    x = np.arange(5, dtype=np.float32)
    with pytest.raises(IndexError, match=r"operand 0: index 5 of axis 0 is not in 0\.\.4"):
        evaluate_loop(Loop(LINE, bare), {}, [x])
    guard = Prim("lt", (beyond, Literal(5, "int64")), "bool")
    kept = Prim("where", (guard, bare, Literal(-1.0, "float32")), "float32")
    assert evaluate_loop(Loop(LINE, kept), {}, [x]).tolist() == [1, 2, 3, 4, -1]


def test_guards_of_pad_and_concat_keep_indices_inside() -> None:
    x, y = np.ones((2, 3)), np.zeros((2, 0))
    op = Concat(1)
    types = [parse_type("f32[2,3]"), parse_type("f32[2,0]")]
    assert evaluate_loop(op.loop(op.infer(*types), *types), {}, [x, y]).tolist() == x.tolist()
    pad = Pad((1, 0), (0, 2), 7.0)
    loop = pad.loop(pad.infer(types[0]), types[0])
    assert evaluate_loop(loop, {}, [x]).tolist() == pad.reference({}, x).tolist()


def test_empty_reductions_give_the_identity() -> None:
    out = TensorType("float32", ())
    for kind, identity in (("sum", 0.0), ("prod", 1.0), ("max", -np.inf), ("min", np.inf)):
        body = Reduce(kind, ((0, 0),), Load(0, (Axis(0),), "float32"), "float32")
        assert evaluate_loop(Loop(out, body), {}, [np.zeros(0, dtype=np.float32)]) == identity


def test_symbols_are_values_in_loops() -> None:
    out = TensorType("int64", (T,))
    body = Prim("sub", (Size(T), Axis(0)), "int64")
    assert evaluate_loop(Loop(out, body), {"tokens": 3}, []).tolist() == [3, 2, 1]


def test_float64_operands_give_float64() -> None:
    op, type_ = Softmax(0), parse_type("f32[5]")
    loop = op.loop(type_, type_)
    assert evaluate_loop(loop, {}, [np.zeros(5)]).dtype == np.float64
    assert evaluate_loop(loop, {}, [np.zeros(5, dtype=np.float32)]).dtype == np.float32


def test_axes_are_substituted_in_every_load() -> None:
    loop = Softmax(1).loop(parse_type("f32[4,5]"), parse_type("f32[4,5]"))
    moved = substitute_axes(loop.body, {0: Literal(3, "int64")})
    assert {load.index[0] for load in loads(moved)} == {Literal(3, "int64")}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Load(0, (Axis(1),), "float32"), "axis 1 is not bound here; bound are [0]"),
        (Load(1, (Axis(0),), "float32"), "operand 1 is read, but there are 1"),
        (Load(0, (), "float32"), "operand 0 f32[5] is read as float32 with 0 indices"),
        (Load(0, (Axis(0),), "int64"), "operand 0 f32[5] is read as int64 with 1 indices"),
        (Load(0, (Literal(1, "int32"),), "float32"), "operand 0 is indexed by int32; it must be int64"),
        (Literal(1, "int64"), "the body is int64, the output f32[5]"),
        (Prim("exp", (Literal(1.0, "float32"),), "bool"), "exp gives float32, not bool"),
        (Prim("cast", (), "float32"), "cast has 0 arguments"),
        (Reduce("sum", ((0, 3),), Literal(1.0, "float32"), "float32"), "reduction axes [0] are bound already"),
        (Reduce("mean", ((1, 3),), Literal(1.0, "float32"), "float32"), "a reduction mean of float32 gives no float32"),
        (Reduce("sum", ((1, 3),), Literal(1.0, "float32"), "int64"), "a reduction sum of float32 gives no int64"),
    ],
)
def test_malformed_loops_are_refused(body: Expr, message: str) -> None:
    with pytest.raises(LoopError) as caught:
        check_loop(Loop(LINE, body), [LINE])
    assert message in str(caught.value)


def test_operands_of_other_dtypes_are_refused() -> None:
    with pytest.raises(LoopError, match="an operand is int8"):
        evaluate_loop(Loop(LINE, Load(0, (Axis(0),), "float32")), {}, [np.zeros(5, dtype=np.int8)])
