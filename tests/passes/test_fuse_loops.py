"""fuse_loops: what is merged, what is not, and that every bit stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pass_models import B, Builder, T, f32, i64, node, op, random_inputs, same_bits
from ragged_cases import CASES, Case, text_input
from test_fuse_rules import check, ops_of

from infc.compiler.ir.graph import Graph, Node, OpError, make
from infc.compiler.ir.interpret import run
from infc.compiler.ir.loop_text import parse_expr, print_expr
from infc.compiler.ir.loops import Axis, Expr, Literal, Load, Prim, Reduce, Size
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.fused import Fused
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.reduce import Reduce as ReduceOp
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.printer import parse_graph, print_graph
from infc.compiler.passes.fuse_loops import FuseLoops
from infc.compiler.passes.ragged import Place, analyse


def rows(change: Callable[[Builder, Node], Node]) -> Graph:
    b = Builder()
    return b.graph(out=change(b, b.input("x", B, 6)))


def bodies(graph: Graph) -> list[str]:
    return [n.op.body for n in graph.nodes() if isinstance(n.op, Fused)]


def test_a_chain_becomes_one_loop() -> None:
    graph = check(rows(lambda b, x: op("add", op("exp", op("mul", x, f32(2.0))), b.weight("v", 6))), FuseLoops())
    assert bodies(graph) == ["add:f32(exp:f32(mul:f32(x0:f32[i0, i1], f32(2.0))), x1:f32[i1])"]
    assert ops_of(graph) == ["fused"]


def test_a_fused_node_says_what_it_was_made_of() -> None:
    graph = check(rows(lambda b, x: op("tanh", op("neg", x))), FuseLoops())
    assert graph.outputs[0][1].origin.imported == "neg+tanh"


def test_views_between_elementwise_ops_become_indices() -> None:
    def change(b: Builder, x: Node) -> Node:
        y = node(Permute((0, 2, 1)), node(Reshape((B, 2, 3)), op("exp", x)))
        return op("neg", node(Slice(1, 1, 3), y))

    graph = check(rows(change), FuseLoops())
    assert bodies(graph) == ["neg:f32(exp:f32(x0:f32[i0, add:i64(add:i64(i1, mul:i64(i2, 3)), 1)]))"]


def test_an_expensive_value_is_not_computed_again_for_another_reader() -> None:
    graph = rows(lambda b, x: b.norm(op("add", y := op("exp", x), b.norm(y, "one")), "two"))
    assert "exp" in ops_of(check(graph, FuseLoops()))


def test_an_expensive_value_is_not_computed_again_along_a_broadcast() -> None:
    def change(b: Builder, x: Node) -> Node:
        column = op("exp", node(Reshape((B, 1, 6)), x))
        return op("add", node(Expand((B, 9, 6)), column), b.weight("w", 9, 6))

    assert ops_of(check(rows(change), FuseLoops()))[-1] == "fused"
    assert not any("exp" in body and "x1" in body for body in bodies(check(rows(change), FuseLoops())))


def test_a_table_of_positions_is_not_computed_again_for_every_row() -> None:
    """Four integer primitives a position, once a run; a view and a cast may go along."""
    b, x, _ = text_input()
    line = node(Iota((T,), 0))
    for k in range(4):
        line = op("add", op("mul", line, i64(3)), i64(k))
    graph = b.graph("tokens", out=op("mul", x, node(Cast("float32"), node(Reshape((T, 1)), line))))
    graph = check(graph, FuseLoops())
    assert ops_of(graph) == ["embedding", "fused", "fused"]
    assert "cast" in bodies(graph)[-1]
    assert analyse(graph).place[next(n for n in graph.nodes() if isinstance(n.op, Fused))] is Place.PREFIX


def test_a_diamond_inside_one_loop_is_merged() -> None:
    graph = check(rows(lambda b, x: op("add", y := op("mul", x, f32(3.0)), op("neg", y))), FuseLoops())
    assert ops_of(graph) == ["fused"]


def test_a_reduction_is_not_computed_again_under_another() -> None:
    def change(b: Builder, x: Node) -> Node:
        mean = node(ReduceOp("mean", (1,), keepdims=True), x)
        return node(ReduceOp("sum", (1,)), op("mul", y := op("sub", x, mean), y))

    graph = check(rows(change), FuseLoops())
    assert len(ops_of(graph)) == 2
    assert all(body.count("sum:") == 1 for body in bodies(graph))


def test_elementwise_goes_into_a_reduction_and_behind_it() -> None:
    def change(b: Builder, x: Node) -> Node:
        return op("sqrt", node(ReduceOp("sum", (1,)), op("mul", x, x)))

    assert ops_of(check(rows(change), FuseLoops())) == ["fused"]


def test_wholes_stay() -> None:
    graph = check(rows(lambda b, x: op("exp", b.norm(op("neg", x), "n"))), FuseLoops())
    assert ops_of(graph) == ["neg", "layer_norm", "exp"]


def test_a_value_that_is_an_output_stays() -> None:
    b = Builder()
    y = op("exp", b.input("x", B, 6))
    assert ops_of(check(b.graph(y=y, z=op("neg", y)), FuseLoops())) == ["exp", "neg"]


def test_what_was_flat_stays_flat() -> None:
    """x - x[:, :1]: the first token's row would be read out of place in a loop over tokens."""
    b, x, _ = text_input()
    first = node(Slice(1, 0, 1), op("neg", x))
    graph = b.graph("tokens", out=op("exp", op("sub", x, first)))
    assert not analyse(graph).islands
    after = check(graph, FuseLoops())
    assert not analyse(after).islands
    assert "fused" in ops_of(after)


def test_the_size_is_bounded() -> None:
    def change(b: Builder, x: Node) -> Node:
        for _ in range(20):
            x = op("tanh", x)
        return x

    assert len(ops_of(check(rows(change), FuseLoops(max_prims=8)))) == 3


def test_flat_and_per_row_do_not_mix() -> None:
    b, x, _ = text_input()
    total = node(Expand((B, T, 8)), node(ReduceOp("sum", (1,), keepdims=True), op("tanh", x)))
    graph = check(b.graph("tokens", out=op("mul", op("tanh", x), total)), FuseLoops(), bits=False)
    placement = analyse(graph)
    for n in graph.nodes():
        if isinstance(n.op, Fused) and "sum:" not in n.op.body:
            assert placement.flat[n]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_bit_stays(case: Case) -> None:
    graph = case.make()
    inputs = random_inputs(graph)
    after = FuseLoops().apply(graph)
    for name, value in run(graph, inputs, loops=True).items():
        assert same_bits(value, run(after, inputs, loops=True)[name])


def test_fused_graphs_print_and_parse() -> None:
    graph = FuseLoops().apply(rows(lambda b, x: op("max", op("mul", x, f32(2.0)), f32(float("-inf")))))
    text = print_graph(graph, comments=False)
    assert print_graph(parse_graph(text, graph.weights), comments=False) == text


def test_positions_are_computed_where_they_are_used() -> None:
    b, x, _ = text_input()
    line = node(Reshape((T, 1)), op("mul", node(Iota((T,), 0, dtype="float32")), f32(0.5)))
    graph = check(b.graph("tokens", out=op("add", x, line)), FuseLoops())
    assert ops_of(graph) == ["embedding", "fused"]


EXPRESSIONS: list[Expr] = [
    Axis(3),
    Size(B * 2),
    Literal(-4, "int64"),
    Literal(0.1, "float32"),
    Literal(float("-inf"), "float32"),
    Literal(1e-30, "float32"),
    Literal(True, "bool"),
    Literal(7, "int32"),
    Load(2, (), "float32"),
    Load(0, (Axis(0), Prim("add", (Axis(1), Literal(1, "int64")), "int64")), "int32"),
    Prim("where", (Load(1, (Axis(0),), "bool"), Literal(1.0, "float32"), Literal(2.0, "float32")), "float32"),
    Reduce("sum", ((2, T), (3, 4)), Prim("exp", (Load(0, (Axis(2), Axis(3)), "float32"),), "float32"), "float32"),
    Reduce("max", ((2, (T + 3) // 2),), Load(0, (Axis(2),), "int64"), "int64"),
]


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=print_expr)
def test_expressions_print_and_parse(expr: Expr) -> None:
    assert parse_expr(print_expr(expr)) == expr


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("add:f32(i0", "','"),
        ("x0:f99[i0]", "one of"),
        ("b1(maybe)", "true or false"),
        ("i0 i1", "the end"),
        ("?", "an expression"),
        ("sum:f32(i3 < 4 i0)", "missing"),
        ("{tokens", "}"),
    ],
)
def test_a_broken_expression_is_named(text: str, part: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_expr(text)
    assert part in str(error.value) or "dimension" in str(error.value)


def test_a_fused_op_whose_body_does_not_fit_is_refused() -> None:
    b = Builder()
    x = b.input("x", B, 6)
    with pytest.raises(OpError, match="operand 1 is read"):
        make(Fused("float32", (B, 6), "x1:f32[i0, i1]"), x)
    with pytest.raises(OpError, match="the body is float32"):
        make(Fused("int64", (B, 6), "x0:f32[i0, i1]"), x)
    with pytest.raises(OpError, match="expected"):
        make(Fused("float32", (B, 6), "x0:f32[i0"), x)


def test_work_of_a_reduction_counts_its_steps() -> None:
    fused = Fused("float32", (5,), "sum:f32(i1 < 7; exp:f32(x0:f32[i0, i1]))")
    x = Builder().input("x", 5, 7)
    assert fused.flops(make(fused, x).type, x.type) == 5 * 7 * 2
    assert np.isclose(fused.reference({}, np.zeros((5, 7), np.float32)), 7).all()
