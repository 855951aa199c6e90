"""fuse, fold, cse and dead_code: what they make of small graphs, and that results stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pass_models import B, Builder, T, bert, f32, i64, mlp, node, op, random_inputs, same_bits
from ragged_cases import additive, eager, heads, selecting, softly, text_input, unite

from infc.compiler.ir.graph import Array, Graph, Node, Weight
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.leaf import Constant
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.verify import verify
from infc.compiler.passes.canonicalize import Canonicalize
from infc.compiler.passes.cse import Cse
from infc.compiler.passes.dead_code import DeadCode
from infc.compiler.passes.fold import Fold
from infc.compiler.passes.fuse import Fuse
from infc.compiler.passes.pipeline import Pass, default_passes, run_passes

LEAVES = ("input", "weight", "constant")


def ops_of(graph: Graph) -> list[str]:
    """The names of all ops but leaves, in order."""
    return [n.op.name for n in graph.nodes() if n.op.mnemonic not in LEAVES]


def only(graph: Graph, mnemonic: str) -> Node:
    found = [n for n in graph.nodes() if n.op.mnemonic == mnemonic]
    assert len(found) == 1, ops_of(graph)
    return found[0]


def check(graph: Graph, *passes: Pass, bits: bool = True, tolerance: float = 1e-5) -> Graph:
    """graph after passes; verified, and with equal results."""
    after = verify(run_passes(graph, passes))
    for seed in range(2):
        inputs = random_inputs(graph, seed)
        want, got = run(graph, inputs), run(after, inputs)
        for name in want:
            if bits:
                assert same_bits(want[name], got[name]), name
            else:
                scale = max(1.0, float(np.abs(want[name]).max()))
                np.testing.assert_allclose(got[name], want[name], atol=tolerance * scale, rtol=0)
    return after


def dense(b: Builder, x: Node, bias: bool = True) -> Node:
    weight = b.weight("w", 6, 6)
    return node(Linear(bias), x, weight, b.weight("b", 6)) if bias else node(Linear(), x, weight)


def features(change: Callable[[Builder, Node], Node]) -> Graph:
    b = Builder()
    return b.graph(out=change(b, b.input("x", B, 6)))


def test_linear_takes_a_fixed_vector_as_its_bias() -> None:
    graph = check(features(lambda b, x: op("add", dense(b, x, bias=False), b.weight("late", 6))), Fuse())
    assert ops_of(graph) == ["linear"]


def test_linear_takes_an_activation() -> None:
    graph = check(features(lambda b, x: op("gelu", dense(b, x))), Fuse())
    assert only(graph, "linear").op == Linear(bias=True, activation="gelu")


def test_linear_takes_a_residual_behind_its_activation() -> None:
    graph = check(features(lambda b, x: op("add", x, op("relu", dense(b, x)))), Fuse())
    assert only(graph, "linear").op == Linear(bias=True, residual=True, activation="relu")


def test_an_activation_behind_a_residual_stays_outside_of_linear() -> None:
    graph = check(features(lambda b, x: op("relu", op("add", x, dense(b, x)))), Fuse())
    assert ops_of(graph) == ["linear", "relu"]


def test_a_product_that_two_read_keeps_its_epilogue_outside() -> None:
    graph = check(features(lambda b, x: op("mul", op("gelu", y := dense(b, x)), y)), Fuse())
    assert ops_of(graph) == ["linear", "gelu", "mul"]


def test_a_product_that_is_an_output_keeps_its_epilogue_outside() -> None:
    b = Builder()
    y = dense(b, b.input("x", B, 6))
    assert ops_of(check(b.graph(y=y, z=op("relu", y)), Fuse())) == ["linear", "relu"]


def test_a_residual_of_another_shape_stays() -> None:
    graph = check(features(lambda b, x: op("add", dense(b, x), node(Reshape((B, 1, 6)), x))), Fuse())
    assert ops_of(graph) == ["linear", "reshape", "add"]


def test_layer_norm_takes_a_residual_where_no_linear_does() -> None:
    graph = check(features(lambda b, x: b.norm(op("add", x, op("tanh", x)), "n")), Fuse())
    assert ops_of(graph) == ["tanh", "layer_norm"]
    graph = check(features(lambda b, x: b.norm(op("add", dense(b, x), x), "n")), Fuse())
    assert ops_of(graph) == ["linear", "layer_norm"]


def test_layer_norm_of_a_sum_that_others_read_stays() -> None:
    graph = check(features(lambda b, x: op("add", b.norm(s := op("add", x, op("tanh", x)), "n"), s)), Fuse())
    assert ops_of(graph) == ["tanh", "add", "layer_norm", "add"]


def image(b: Builder) -> Node:
    x = b.input("x", B, 3, 5, 5)
    return node(Conv((1, 1), ((1, 1), (1, 1)), (1, 1)), x, b.weight("k", 4, 3, 3, 3))


def test_batch_norm_goes_into_conv_and_relu_behind_the_residual() -> None:
    """relu(bn(conv(x)) + y), as in ResNet."""
    b = Builder()
    mean, scale, shift = (b.weight(n, 4) for n in ("mean", "scale", "shift"))

    def column(v: Node) -> Node:
        return node(Reshape((4, 1, 1)), v)

    y = op("sub", image(b), column(mean))
    y = op("add", op("mul", y, column(scale)), column(shift))
    y = op("relu", op("add", y, b.input("y", B, 4, 5, 5)))
    graph = check(b.graph(out=y), Fuse(), Fold(), DeadCode(), bits=False)
    assert ops_of(graph) == ["conv"]
    conv = only(graph, "conv").op
    assert isinstance(conv, Conv)
    assert (conv.bias, conv.residual, conv.activation) == (True, True, "relu")


def test_a_factor_a_feature_goes_into_linear_but_one_a_row_does_not() -> None:
    graph = check(features(lambda b, x: op("mul", dense(b, x), b.weight("g", 6))), Fuse(), Fold(), bits=False)
    assert ops_of(graph) == ["linear"]
    b = Builder()
    graph = b.graph(out=op("mul", dense(b, b.input("x", B, 6)), b.input("row", B, 1)))
    assert ops_of(check(graph, Fuse())) == ["linear", "mul"]


def test_scales_can_be_turned_off() -> None:
    graph = features(lambda b, x: op("mul", dense(b, x), f32(0.5)))
    assert ops_of(check(graph, Fuse(scales=False))) == ["linear", "mul"]


def test_queries_keys_and_values_become_one_linear() -> None:
    graph = check(bert(1), Canonicalize(), Fuse(), Fold(), DeadCode())
    joint = [n for n in graph.nodes() if n.op.mnemonic == "linear" and n.type.shape[-1] == 48]
    assert [n.origin.name for n in joint] == ["0.query+key+value"]
    assert ops_of(graph).count("slice") == 3
    assert not any("query.weight" in name and "concat" not in name for name in graph.weights)


def test_qkv_can_be_turned_off() -> None:
    graph = check(bert(1), Canonicalize(), Fuse(qkv=False))
    assert "slice" not in ops_of(graph)


def test_keys_of_another_source_stay_apart() -> None:
    b, x, keep = text_input()
    other = op("tanh", x)
    q = node(Reshape((B, T, 2, 4)), b.linear(x, "q", 8))
    k, v = (node(Reshape((B, T, 2, 4)), b.linear(other, n, 8)) for n in "kv")
    graph = b.graph("tokens", out=node(Attention(0.5, mask=True), q, k, v, keep))
    widths = [n.type.shape[-1] for n in check(graph, Fuse(), Fold()).nodes() if n.op.mnemonic == "linear"]
    assert widths == [8, 16]


@pytest.mark.parametrize("hide", [additive, selecting], ids=["additive", "where"])
@pytest.mark.parametrize("position_bias", [False, True])
def test_attention_written_out_is_recognized(hide: Callable[[Node, Node], Node], position_bias: bool) -> None:
    graph = check(eager(hide, position_bias), *default_passes(), bits=False)
    whole = only(graph, "attention").op
    assert isinstance(whole, Attention)
    assert (whole.scale, whole.mask, whole.bias) == (0.5, True, position_bias)
    assert "softmax" not in ops_of(graph)
    assert "permute" not in ops_of(graph) or position_bias


def merged_heads() -> Graph:
    """Attention over [B * heads, T, D], as batched products of three axes are written."""
    b, x, keep = text_input()
    q, k, v = (node(Reshape((B * 2, T, 4)), heads(b.linear(x, n, 8))) for n in "qkv")
    scores = node(Matmul(), op("mul", q, f32(0.5)), node(Permute((0, 2, 1)), k))
    scores = additive(node(Reshape((B, 2, T, T)), scores), keep)
    probs = node(Softmax(2), node(Reshape((B * 2, T, T)), scores))
    y = node(Reshape((B, 2, T, 4)), node(Matmul(), probs, v))
    return b.graph("tokens", out=b.linear(unite(y), "o", 8))


def scaled_behind_a_bias() -> Graph:
    """softmax((q k + bias) / 2) v: the bias is scaled too, which attention has no word for."""
    b, x, keep = text_input()
    q, k, v = (heads(b.linear(x, n, 8)) for n in "qkv")
    scores = op("add", node(Matmul(transpose_b=True), q, k), b.weight("bias", 2, 1, 1))
    scores = additive(op("div", scores, f32(2.0)), keep)
    return b.graph("tokens", out=unite(node(Matmul(), node(Softmax(3), scores), v)))


def test_a_scale_behind_a_bias_is_not_taken_for_the_scale_of_the_product() -> None:
    assert "softmax" in ops_of(check(scaled_behind_a_bias(), *default_passes(), bits=False))


def test_attention_over_merged_heads_is_recognized() -> None:
    graph = check(merged_heads(), *default_passes(), bits=False)
    whole = only(graph, "attention").op
    assert isinstance(whole, Attention)
    assert (whole.scale, whole.mask, whole.bias) == (0.5, True, False)
    assert "softmax" not in ops_of(graph)


def test_attention_with_a_penalty_instead_of_a_mask_keeps_it_as_a_bias() -> None:
    graph = check(eager(softly), *default_passes(), bits=False)
    assert only(graph, "attention").op == Attention(scale=0.5, bias=True)


def test_scores_that_are_an_output_too_stay() -> None:
    graph = eager(selecting)
    scores = next(n for n in graph.nodes() if n.op.mnemonic == "softmax")
    graph = graph.replace(outputs=(*graph.outputs, ("scores", scores)))
    names = ops_of(check(graph, *default_passes(), bits=False))
    assert "softmax" in names
    assert "attention" not in names, "the product of queries and keys would be computed twice"


def test_fold_computes_what_is_fixed_and_leaves_what_would_grow() -> None:
    b = Builder()
    x = b.input("x", B, 600, 300)
    turned = node(Permute((1, 0)), b.weight("w", 300, 600))
    wide = node(Expand((600, 300)), op("exp", b.weight("v", 300)))
    scale = op("sqrt", f32(4.0))
    graph = check(b.graph(out=op("mul", op("mul", op("add", x, turned), wide), scale)), Fold(), DeadCode())
    assert ops_of(graph) == ["add", "exp", "expand", "mul", "mul"]
    assert [n.op.value for n in graph.nodes() if isinstance(n.op, Constant)] == [2.0]
    assert sorted(graph.weights)[1].startswith("w.permute.")


def test_fold_names_weights_alike_in_every_build() -> None:
    names = [sorted(check(bert(1), *default_passes()).weights) for _ in range(2)]
    assert names[0] == names[1]


def test_fold_loads_nothing_until_a_folded_weight_is_read() -> None:
    b = Builder()
    graph = b.graph(out=op("add", b.input("x", B, 3, 4), node(Permute((1, 0)), b.weight("w", 4, 3))))
    reads: list[str] = []

    def read() -> Array:
        reads.append("w")
        return np.ones((4, 3), np.float32)

    weights = {"w": Weight(graph.weights["w"].type, read)}
    folded = Fold().apply(graph.replace(weights=weights))
    assert not reads
    name = next(n for n in folded.weights if n.startswith("w.permute"))
    assert folded.weights[name].load().shape == (3, 4)
    folded.weights[name].load()
    assert reads == ["w"]


def test_fold_leaves_what_depends_on_the_length() -> None:
    b, x, _ = text_input()
    line = node(Iota((T,), 0, dtype="float32"))
    graph = check(b.graph("tokens", out=op("mul", x, node(Reshape((T, 1)), line))), Fold())
    assert "iota" in ops_of(graph)


def test_equal_nodes_become_one_but_zeros_of_two_signs_do_not() -> None:
    b = Builder()
    x = b.input("x", B, 6)
    graph = check(b.graph(a=op("exp", x), b=op("exp", x)), Cse())
    assert ops_of(graph) == ["exp"]
    b = Builder()
    x = b.input("x", B, 6)
    signs = b.graph(a=op("div", x, f32(0.0)), b=op("div", x, f32(-0.0)))
    assert ops_of(check(signs, Cse())) == ["div", "div"]


def test_cse_sees_through_equal_operands() -> None:
    b = Builder()
    x = b.input("n", B, dtype="int64")
    twice = [op("mul", op("add", x, i64(1)), i64(2)) for _ in range(2)]
    assert ops_of(check(b.graph(out=node(Concat(0), *twice)), Cse())) == ["add", "mul", "concat"]


def test_dead_code_drops_weights_that_nothing_reads() -> None:
    graph = mlp()
    extra = graph.replace(weights={**graph.weights, "unused": graph.weights["first.weight"]})
    assert set(check(extra, DeadCode()).weights) == set(graph.weights)
