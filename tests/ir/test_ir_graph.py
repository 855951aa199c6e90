"""The printer, the verifier, the interpreter and the key of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Array, Graph, InputSpec, Node, Origin, Weight, make, rewrite
from infc.compiler.ir.interpret import InputError, run
from infc.compiler.ir.ops.argsort import Argsort
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.leaf import Constant, Input, constant, input_node, weight_node
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.printer import graph_key, parse_graph, print_graph, weight_digest
from infc.compiler.ir.types import DType, TensorType
from infc.compiler.ir.verify import VerifyError, verify

B, T = sym("batch"), sym("tokens")

TEXT = """\
graph tiny {batch_dim=batch, length_dim=tokens}
dims batch=1..4, tokens=1..8
%0: i64[batch,tokens] = input() {input=input_ids, minimum=0, maximum=9}
%1: b1[batch,tokens] = input() {input=mask, default=true, mask=true}
%2: f32[batch,tokens,24] = embedding(@"odd name", %0)  # words (aten.embedding at bert.py:57)
%3: f32[batch,tokens,3,8] = reshape(%2) {shape=[batch, tokens, 3, 8]}
%4: f32[batch,tokens,3,8] = attention(%3, %3, %3, %1) {scale=0.25, window=[2, 2], mask=true}
%5: f32[batch,tokens,24] = reshape(%4) {shape=[batch, tokens, 24]}
%6: f32[tokens,24] = slice(@positions) {axis=0, start=0, stop=tokens}
%7: f32[batch,tokens,24] = add(%5, %6)
%8: f32[batch,tokens,24] = mul(%7, f32(0.5))
output "the sum" = %8
output attended = %5
"""


def weights() -> dict[str, Weight]:
    rng = np.random.default_rng(0)
    arrays = {"odd name": rng.normal(size=(10, 24)), "positions": rng.normal(size=(8, 24))}

    def weight(array: Array) -> Weight:
        single = array.astype(np.float32)
        return Weight(TensorType("float32", single.shape), lambda: single)

    return {name: weight(array) for name, array in arrays.items()}


def tiny() -> Graph:
    return parse_graph(TEXT, weights())


def uncommented(text: str) -> str:
    return "".join(line.split("  #")[0] + "\n" for line in text.splitlines())


def test_a_graph_prints_as_it_was_read() -> None:
    assert print_graph(verify(tiny())) == uncommented(TEXT)


def test_origins_are_comments() -> None:
    ids = input_node("x", TensorType("float32", (B,)))
    node = make(Map("exp"), ids, origin=Origin("block\n1", "a.py:3", "aten.exp"))
    graph = Graph("g", {"batch": (1, 2)}, (ids,), (("y", node),))
    assert "= exp(%0)  # block 1 (aten.exp at a.py:3)\n" in print_graph(graph)
    assert "#" not in print_graph(graph, comments=False)
    plain = rewrite(graph, lambda n: Node(n.op, n.operands, n.type))
    assert graph_key(plain) == graph_key(graph)


@pytest.mark.parametrize("value", [0.1, 1e-12, -3.0, float("inf"), float("-inf"), 1e30])
def test_constants_keep_their_value(value: float) -> None:
    x = input_node("x", TensorType("float32", (B,)))
    graph = Graph("g", {"batch": (1, 2)}, (x,), (("y", make(Map("add"), x, constant(value, "float32"))),))
    again = parse_graph(print_graph(graph), {})
    assert print_graph(again) == print_graph(graph)
    leaf = again.outputs[0][1].operands[1].op
    assert isinstance(leaf, Constant)
    assert leaf.value == value


def test_strings_that_look_like_something_else_keep_their_type() -> None:
    for name in ("none", "true", "12", "inf", 'a "b", c} # d', "ünï"):
        x = input_node(name, TensorType("float32", (B,)))
        graph = Graph(name, {"batch": (1, 2)}, (x,), ((name, x),))
        again = parse_graph(print_graph(graph), {})
        assert print_graph(again) == print_graph(graph)
        assert (again.name, again.outputs[0][0]) == (name, name)
        assert again.inputs[0].op == x.op


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("graph tiny", "grape tiny", "line 1: a line begins with graph, dims, output or %N, not 'grape'"),
        ("batch=1..4", "batch=1-4", "line 2: expected NAME=LOW..HIGH, not 'batch=1-4'"),
        ("%7: f32", "%5: f32", "line 10: %5 is defined twice"),
        ("add(%5, %6)", "add(%5, %9)", "line 10: %9 is not defined above"),
        ("add(%5, %6)", "plus(%5, %6)", "line 10: no op is called 'plus'; known: argmax"),
        ("add(%5, %6)", "add(%5, %6) {axis=1}", "line 10: add takes no attributes, not axis"),
        ("add(%5, %6)", "add(%5, %6", "line 10: the list of operands is not closed"),
        ("add(%5, %6)", "add %5", "line 10: expected `%N: TYPE = OP(OPERANDS) {ATTRIBUTES}`"),
        ("add(%5, %6)", "add(%5, 3)", "line 10: expected an operand such as %3, @name or f32(0.5), not '3'"),
        ("@positions", "@position", "line 9: there is no weight @position"),
        (
            "stop=tokens}",
            "stop=tokens, speed=1}",
            "line 9: slice has no attribute speed; it has axis, start, step, stop",
        ),
        ("stop=tokens}", "stop=tokens, speed}", "line 9: expected NAME=VALUE, not 'speed'"),
        ("stop=tokens}", "stop=tokens+}", "line 9: dimension 'tokens+': unexpected ''"),
        ("start=0, stop=tokens}", "start=0", "line 9: the attributes are not closed"),
        ("{shape=[batch, tokens, 24]}", "{shape=[batch, tokens}", "line 8: "),
        ("window=[2, 2]", "window=2 2", "line 7: '2 2' is no value"),
        ("%7: f32[batch,tokens,24]", "%7: f32[batch,tokens,23]", "line 10: add gives f32[batch,tokens,24], not"),
        ("add(%5, %6)", "add(%5, %0)", "line 10: add takes operands of one dtype"),
        ('output "the sum" = %8', "output sum", "line 12: expected `output NAME = %N`"),
        ("graph tiny {batch_dim=batch, length_dim=tokens}\n", "", "the text has no line `graph NAME`"),
    ],
)
def test_text_that_is_no_graph_is_refused_by_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ValueError) as caught:
        parse_graph(TEXT.replace(old, new), weights())
    assert message in str(caught.value)


def test_the_key_follows_structure_attributes_and_weights() -> None:
    graph = tiny()
    key = graph_key(graph)
    assert graph_key(tiny()) == key
    assert graph_key(parse_graph(TEXT.replace("0.25", "0.5"), weights())) != key
    changed = dict(graph.weights)
    array = changed["positions"].load() + 1
    changed["positions"] = replace(changed["positions"], load=lambda: array)
    assert graph_key(graph.replace(weights=changed)) != key
    known = {name: replace(w, digest=weight_digest(w)) for name, w in graph.weights.items()}
    assert graph_key(graph.replace(weights=known)) == key


# The verifier.


def small(node: Callable[[Node], Node] = lambda x: x, **changes: object) -> Graph:
    x = input_node("x", TensorType("float32", (B, 3)))
    return Graph("g", {"batch": (1, 4)}, (x,), (("y", node(x)),)).replace(**changes)


def mistyped(x: Node) -> Node:
    return Node(Map("exp"), (x,), TensorType("float32", (B, 4)))


def bare(op: Constant, dtype: DType) -> Callable[[Node], Node]:
    return lambda x: Node(op, (), TensorType(dtype, ()))


LIST: Any = [1]
X = input_node("x", TensorType("float32", (B, 3)))

BROKEN: list[tuple[Callable[[], Graph], str]] = [
    (lambda: small(outputs=()), "outputs are named: there is no output"),
    (
        lambda: small(outputs=(("y", X), ("y", X)), inputs=(X,)),
        "outputs are named: outputs ['y', 'y'] need a name each",
    ),
    (lambda: small(inputs=(X, X)), "inputs are named: inputs ['x', 'x'] need a name each, all different"),
    (lambda: small(inputs=(constant(1, "int64"),)), "inputs are named: constant stands among the inputs"),
    (lambda: small(input_specs={"z": InputSpec()}), "input specs name inputs: there is no input z"),
    (lambda: small(dims={"batch": (4, 1)}), "bounds are ordered: batch has bounds 4..1"),
    (lambda: small(length_dim="tokens"), "batch and length are dimensions: tokens is not among the dimensions batch"),
    (lambda: small(dims={"batch": (1, 4), "tokens": (1, 2)}), "inputs give every symbol: no input has tokens"),
    (lambda: small(inputs=(X,)), "inputs are listed: this input is not among the graph's"),
    (
        lambda: small(lambda x: Node(Slice(0, 0, LIST), (x,), x.type)),
        "attributes are plain values: attribute stop is list",
    ),
    (lambda: small(bare(Constant(1, "int8"), "int8")), "dtypes are known: dtype 'int8'"),  # pyright: ignore[reportArgumentType]
    (
        lambda: small(lambda x: make(Slice(0, 0, T), x)),
        "symbols are bounded: dimension tokens has no bounds for tokens",
    ),
    (lambda: small(mistyped), "types infer: the op gives f32[batch,3]\n  %1: f32[batch,4] = exp(%0)"),
    (lambda: small(lambda x: Node(Map("and"), (x, x), x.type)), "types infer: and takes bool, not float32, float32"),
    (lambda: small(lambda x: weight_node("w", TensorType("float32", (3,)))), "weights exist and fit: there is no such"),
    (lambda: small(lambda x: weight_node("positions", TensorType("float32", (3,))), weights=weights()), "is f32[8,24]"),
    (lambda: small(bare(Constant(1, "float32"), "float32")), "constants fit their dtype: 1 is no float"),
    (lambda: small(bare(Constant(1, "bool"), "bool")), "constants fit their dtype: 1 is no bool"),
    (
        lambda: small(bare(Constant(2**31, "int32"), "int32")),
        "constants fit their dtype: 2147483648 does not fit int32",
    ),
    (lambda: small(lambda x: make(Slice(0, 2, B), x)), "dimensions are not negative: dimension batch-2 can be -1"),
    (lambda: small(lambda x: make(Slice(0, 0, 2 * B), x)), "slices are inside: 0:2*batch can have its stop beyond the"),
    (
        lambda: small(lambda x: make(Argsort(0, 2 * B), x)),
        "sorted axes have as many: the first 2*batch can be more than the extent batch",
    ),
    (
        lambda: small(lambda x: make(Slice(0, B - 2, B), x)),
        "slices are inside: batch-2:batch can have its start below 0, by 1",
    ),
]


@pytest.mark.parametrize(
    ("graph", "message"), BROKEN, ids=[m.split(":")[0] + f"-{k}" for k, (_, m) in enumerate(BROKEN)]
)
def test_the_verifier_names_what_does_not_hold(graph: Callable[[], Graph], message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(graph(), "fuse")
    assert str(caught.value).startswith("after fuse: ")
    assert message in str(caught.value)


def test_the_verifier_gives_the_graph_back() -> None:
    graph = tiny()
    assert verify(graph) is graph


# The interpreter.


def ids(rows: int = 2, tokens: int = 5) -> dict[str, Array]:
    return {"input_ids": np.arange(rows * tokens).reshape(rows, tokens) % 10}


def test_defaults_fill_inputs_left_out_and_kept_nodes_come_back() -> None:
    graph = tiny()
    ones = {**ids(), "mask": np.ones((2, 5), dtype=bool)}
    short, long = run(graph, ids()), run(graph, ones, keep=graph.nodes())
    np.testing.assert_array_equal(short["the sum"], long["the sum"])
    assert long["%4"].shape == (2, 5, 3, 8)
    assert long["the sum"].dtype == np.float32
    assert run(graph, ids(), double=True)["the sum"].dtype == np.float64
    np.testing.assert_allclose(run(graph, ids(), loops=True)["the sum"], long["the sum"], rtol=1e-5, atol=1e-6)


def test_a_query_that_keeps_no_key_gives_zeros() -> None:
    mask = np.ones((2, 5), dtype=bool)
    mask[1] = False
    assert not run(tiny(), {**ids(), "mask": mask})["attended"][1].any()


def test_causal_attention_counts_from_the_first_key_as_torch_does() -> None:
    assert Attention(1.0, causal=True).kept(2, 3).tolist() == [[True, False, False], [True, True, False]]


def test_embedding_and_reshape_of_no_rows() -> None:
    graph = tiny().replace(dims={"batch": (0, 4), "tokens": (1, 8)})
    assert run(graph, ids(rows=0))["the sum"].shape == (0, 5, 24)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros(2)}, "no input is called x; the inputs are input_ids, mask"),
        ({}, "no given input says how long batch is"),
        ({"mask": np.ones((2, 5), dtype=bool)}, "input input_ids i64[batch,tokens] is missing and has no default"),
        ({"input_ids": np.zeros(5, dtype=np.int64)}, "input input_ids: shape [5] is given for i64[batch,tokens]"),
        (ids() | {"mask": np.ones((3, 5), dtype=bool)}, "input mask: batch is 3 here and 2 in another input"),
        (ids(tokens=9), "tokens is 9; it must be in 1..8"),
        ({"input_ids": np.zeros((2, 5))}, "input input_ids: dtype float64 is given, it must be int64"),
        ({"input_ids": np.full((2, 5), 10)}, "input input_ids has 10; the largest allowed is 9"),
        ({"input_ids": np.full((2, 5), -1)}, "input input_ids has -1; the least allowed is 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run(tiny(), inputs)
    assert message in str(caught.value)


def test_nan_is_refused_unless_allowed_and_fixed_extents_are_checked() -> None:
    graph = small(lambda x: make(Map("exp"), x))
    nan = np.full((2, 3), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match="input x has a NaN"):
        run(graph, {"x": nan})
    assert np.isnan(run(graph.replace(input_specs={"x": InputSpec(nan=True)}), {"x": nan})["y"]).all()
    with pytest.raises(InputError, match=r"input x: shape \[2, 4\] is given, f32\[batch,3\] is \[2, 3\] here"):
        run(graph, {"x": np.zeros((2, 4), dtype=np.float32)})


def test_an_op_that_breaks_its_own_shape_rule_is_caught() -> None:
    graph = small(mistyped)
    with pytest.raises(AssertionError, match="exp gave float32"):
        run(graph, {"x": np.zeros((2, 3), dtype=np.float32)})


def test_rewriting_changes_users_and_leaves_the_rest() -> None:
    graph = tiny()
    halved = rewrite(graph, lambda n: n.operands[0] if isinstance(n.op, Map) and n.op.fn == "mul" else n)
    assert len(halved.nodes()) == len(graph.nodes()) - 2
    assert halved.inputs == graph.inputs
    assert [type(n.op) for n in halved.inputs] == [Input, Input]
    assert any(isinstance(n.op, Embedding) for n in halved.nodes())
    assert any(isinstance(n.op, Reshape) for n in halved.nodes())
