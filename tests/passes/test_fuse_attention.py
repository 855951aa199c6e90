"""Attention in place of a written-out chain: the same answer for rows of which some keys, or none, are kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pass_models import B, T, f32, i64, node, op
from ragged_cases import eager, heads, key_mask, text_input, unite

from infc.compiler.ir.graph import Array, Graph, Node
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.passes.pipeline import default_passes, run_passes

LEAST = float(np.finfo(np.float32).min)
Hide = Callable[[Node, Node], Node]


def multiplied(fill: float) -> Hide:
    def hide(scores: Node, keep: Node) -> Node:
        hidden = op("sub", f32(1.0), node(Cast("float32"), key_mask(keep)))
        return op("add", scores, op("mul", hidden, f32(fill)))

    return hide


def chosen(fill: float) -> Hide:
    return lambda scores, keep: op("add", scores, op("where", key_mask(keep), f32(0.0), f32(fill)))


def replaced(fill: float) -> Hide:
    return lambda scores, keep: op("where", key_mask(keep), scores, f32(fill))


def attention_of(graph: Graph) -> Attention | None:
    found = [n.op for n in graph.nodes() if isinstance(n.op, Attention)]
    assert len(found) <= 1
    return found[0] if found else None


def answers(graph: Graph, words: float) -> dict[str, Array]:
    """Rows with some keys, none, and a gap; scores of the size of words²."""
    rng = np.random.default_rng(3)
    inputs: dict[str, Array] = {
        "ids": rng.integers(0, 10, (3, 5)),
        "attention_mask": np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1]]),
    }
    scaled = {
        n: type(w)(w.type, lambda w=w, n=n: w.load() * np.float32(words if n == "words" else 1))
        for n, w in graph.weights.items()
    }
    return run(graph.replace(weights=scaled), inputs)


CASES = [
    (multiplied, -1e9, "low"),
    (multiplied, LEAST, "low"),
    (chosen, -1e9, "low"),
    (chosen, LEAST, "low"),
    (chosen, -np.inf, "zeros"),
    (replaced, -1e9, "mean"),
    (replaced, LEAST, "mean"),
    (replaced, -np.inf, "zeros"),
]


@pytest.mark.parametrize("position_bias", [False, True])
@pytest.mark.parametrize(("way", "fill", "empty"), CASES)
def test_a_row_without_any_key(way: Callable[[float], Hide], fill: float, empty: str, position_bias: bool) -> None:
    graph = eager(way(fill), position_bias)
    after = run_passes(graph, default_passes())
    whole = attention_of(after)
    assert whole is not None
    assert (whole.mask, whole.bias, whole.empty) == (True, position_bias, empty)
    for words in (1.0, 30.0):  # the larger scores leave a trace in -1e9, whose neighbours are 64 apart
        want, got = answers(graph, words)["out"], answers(after, words)["out"]
        np.testing.assert_allclose(got, want, atol=2e-5 * float(np.abs(want).max()), rtol=0)


def two_masks(fills: tuple[float, float]) -> Graph:
    b, x, keep = text_input()
    other = op("lt", b.input("ids2", B, T, dtype="int64", minimum=0, maximum=9), i64(5))
    q, k, v = (heads(b.linear(x, n, 8)) for n in "qkv")
    scores = node(Matmul(transpose_b=True), q, k)
    for fill, mask in zip(fills, (keep, other), strict=True):
        scores = replaced(fill)(scores, mask)
    return b.graph("tokens", out=unite(node(Matmul(), node(Softmax(3), scores), v)))


@pytest.mark.parametrize(
    ("fills", "whole"), [((-np.inf, -np.inf), True), ((-1e9, LEAST), False), ((-np.inf, -1e9), False)]
)
def test_two_masks_that_hide_to_different_depths_are_left_as_they_are(fills: tuple[float, float], whole: bool) -> None:
    assert (attention_of(run_passes(two_masks(fills), default_passes())) is not None) is whole


def behind_the_mask(step: str, number: float, fill: float) -> Graph:
    b, x, keep = text_input()
    q, k, v = (heads(b.linear(x, n, 8)) for n in "qkv")
    scores = op(step, multiplied(fill)(node(Matmul(transpose_b=True), q, k), keep), f32(number))
    return b.graph("tokens", out=unite(node(Matmul(), node(Softmax(3), scores), v)))


@pytest.mark.parametrize(("fill", "mask"), [(-1e9, False), (LEAST, True)])
def test_what_is_added_or_multiplied_behind_a_number_that_leaves_a_trace(fill: float, mask: bool) -> None:
    """softmax((s - 1e9) / 3) is not softmax(s / 3 - 1e9 / 3) where the sum was rounded."""
    for step, number in (("mul", 0.3), ("add", 1.5)):
        graph = behind_the_mask(step, number, fill)
        after = run_passes(graph, default_passes())
        whole = attention_of(after)
        assert (whole is not None and whole.mask) is mask
        want, got = answers(graph, 30.0)["out"], answers(after, 30.0)["out"]
        np.testing.assert_allclose(got, want, atol=2e-5 * float(np.abs(want).max()), rtol=0)
