"""The quantize pass and the decisions behind it: what is reduced, what stays, and why; as text and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pass_models import optimized, takes_all

from infc.compiler.decisions import decide, layers_text, matches, narrowest
from infc.compiler.errors import InfcError
from infc.compiler.ir.graph import Graph, Op, Weight
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.quantize import Quantize as QuantizeOp
from infc.compiler.ir.printer import graph_key
from infc.compiler.ir.reduced import reduce_to
from infc.compiler.ir.types import TensorType
from infc.compiler.ir.verify import verify
from infc.compiler.passes.pipeline import parse_passes, print_passes, run_passes
from infc.compiler.passes.quantize import Quantize, layer_name, parse_layers, print_layers
from infc.dsl.spec import Keep, Precision, Search
from tests.spine.models import encoder, images, mlp


def search(precision: str, **keep: str) -> Search:
    kept = tuple(Keep(pattern=p.replace("_", "."), precision=Precision(kind=k)) for p, k in keep.items())
    return Search(precisions=(Precision(kind=precision),), keep=kept)


def quantized(graph: Graph, wanted: Search) -> Graph:
    return verify(Quantize(layers_text(decide(graph, wanted, takes_all))).apply(graph))


def linears(graph: Graph) -> dict[str, tuple[str, str]]:
    return {layer_name(n): (n.op.precision, n.op.out) for n in graph.nodes() if isinstance(n.op, Linear)}


def test_float32_decides_nothing() -> None:
    assert decide(optimized(mlp()), search("float32"), takes_all) == ()


def test_an_encoder_in_int8() -> None:
    graph = quantized(optimized(encoder()), search("int8"))
    found = linears(graph)
    assert {precision for precision, _ in found.values()} == {"q8"}
    (attention,) = (n for n in graph.nodes() if isinstance(n.op, Attention))
    assert [o.type.dtype for o in attention.operands[:3]] == ["bfloat16"] * 3
    assert attention.type.dtype == "bfloat16", "only quantize reads it"
    assert found["up.weight"] == ("q8", "bfloat16")
    assert found["down.weight"] == ("q8", "float32"), "its residual and its readers are float32"
    assert not any(isinstance(n.op, QuantizeOp) and n.op.dtype == "bfloat16" for n in graph.nodes())


def test_bfloat16_casts_what_nobody_writes_in_it() -> None:
    graph = quantized(optimized(encoder()), search("bfloat16"))
    casts = [n for n in graph.nodes() if isinstance(n.op, QuantizeOp)]
    assert {n.operands[0].type.dtype for n in casts} == {"float32"}
    assert len(casts) == len(set(casts)) == len({n.operands[0] for n in casts}), "one for all readers"


def test_kept_layers_stay_and_say_so() -> None:
    graph = optimized(mlp())
    decisions = decide(graph, search("int8", a_weight="float32", b_weight="bfloat16"), takes_all)
    assert [(d.layer, d.precision, d.reason) for d in decisions] == [
        ("a.weight", "float32", "keep 'a.weight'"),
        ("b.weight", "bfloat16", "keep 'b.weight'"),
        ("c.weight", "int8", ""),
    ]
    assert [p for p, _ in linears(Quantize(layers_text(decisions)).apply(graph)).values()] == [
        "float32", "bfloat16", "q8",
    ]  # fmt: skip


def test_a_keep_that_names_nothing_is_refused_with_the_names() -> None:
    with pytest.raises(InfcError, match=r"keep. 'nothing' names no layer") as caught:
        decide(optimized(mlp()), search("int8", nothing="float32"), takes_all)
    assert "a.weight, b.weight, c.weight" in str(caught.value.hint)


def test_layers_without_a_kernel_stay_in_float32_with_the_reason() -> None:
    def odd(op: Op, operands: Sequence[TensorType]) -> str:
        return "K is odd" if operands[1].shape[0] == 1 else ""

    decisions = decide(optimized(mlp()), search("int8"), odd)
    assert [(d.precision, d.reason) for d in decisions] == [("int8", ""), ("int8", ""), ("float32", "K is odd")]
    with pytest.raises(InfcError, match="no layer of the model can be computed in int8: there is none"):
        decide(optimized(mlp()), search("int8"), lambda op, operands: "there is none")


def test_a_model_of_convolutions_keeps_them() -> None:
    graph = quantized(optimized(images()), search("int8"))
    assert linears(graph) == {"fc.weight": ("q8", "float32")}


def test_a_graph_is_as_exact_as_its_narrowest_layer() -> None:
    graph = optimized(encoder())
    assert narrowest(graph) == "float32"
    assert narrowest(quantized(graph, search("bfloat16"))) == "bfloat16"
    assert narrowest(quantized(graph, search("float32", up_weight="int8"))) == "int8"


def test_joined_layers_go_by_each_of_their_names() -> None:
    assert matches("0.attention.query+key", "0.attention.key")
    assert matches("0.attention.query+key", "0.*")
    assert not matches("0.attention.query+key", "0.attention.value")


def test_decisions_are_text_and_back() -> None:
    graph = optimized(encoder())
    passes = (Quantize(layers_text(decide(graph, search("int8", down_weight="bfloat16"), takes_all))),)
    again = parse_passes(print_passes(passes))
    assert again == passes
    assert graph_key(run_passes(graph, again)) == graph_key(run_passes(graph, passes))
    odd = {"a,b{c}": "int8", "d;e=f": "bfloat16", "ü": "int8"}
    assert parse_layers(print_layers(odd)) == {"a,b{c}": "q8", "d;e=f": "bfloat16", "ü": "q8"}
    assert parse_passes(print_passes((Quantize(print_layers(odd)),)))[0] == Quantize(print_layers(odd))


@pytest.mark.parametrize("text", ["a", "a=int4", "=", "a=int8;;"])
def test_text_that_is_no_decision_is_refused(text: str) -> None:
    with pytest.raises(InfcError, match="is no decision"):
        parse_layers(text)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(InfcError, match="no layer is called 'x'"):
        Quantize("x=int8").apply(optimized(mlp()))


def test_factors_of_a_scale_migration_go_from_x_into_the_weight() -> None:
    """All 4: the scale of each row is 4 times as large, that of each column a quarter, and no integer is another."""
    graph = optimized(mlp())
    factors = np.full(64, 4, np.float32)
    smooth = {"smooth:a.weight": Weight(TensorType("float32", (64,)), lambda: factors)}
    plain, moved = (quantized(g, search("int8")) for g in (graph, graph.replace(weights={**graph.weights, **smooth})))
    (factored,) = (n for n in moved.nodes() if isinstance(n.op, QuantizeOp) and n.op.smooth)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(moved, {"features": x})["score"], run(plain, {"features": x})["score"])
    np.testing.assert_allclose(factored.op.reference({}, x, factors), 4 * reduce_to("q8", x), rtol=1e-6)
