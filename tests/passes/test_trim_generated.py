"""Random graphs over tokens and a mask: whatever is proved of rows and of trimming holds, before and after the passes."""

from __future__ import annotations

import random

import pytest
from pass_models import B, Builder, T, f32, i64, node, op
from ragged_cases import LOWEST
from test_ragged import LENGTHS, assert_rows_agree, well_formed

from infc.compiler.ir.graph import Graph, Node
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.flip import Flip
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.reduce import Reduce
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.passes.pipeline import default_passes, run_passes
from infc.compiler.passes.ragged import Place, analyse, explain

SAMPLE = 120
WIDTH = 4


class Draft:
    """A graph that grows by steps, each from token vectors [B, T, WIDTH] to token vectors."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.b = Builder(seed)
        self.x = self.b.input("x", B, T, WIDTH)
        mask = self.b.mask()
        self.keep = op("ne", mask, i64(0))
        self.count = 0

    def number(self) -> Node:
        """The mask as 0.0 and 1.0, [B, T, 1]."""
        return node(Reshape((B, T, 1)), node(Cast("float32"), self.keep))

    def name(self) -> str:
        self.count += 1
        return f"w{self.count}"

    def spread(self, row: Node) -> Node:
        """[B, WIDTH] at every token."""
        return node(Expand((B, T, WIDTH)), node(Reshape((B, 1, WIDTH)), row))

    def position(self, x: Node) -> Node:
        line = node(Reshape((T, 1)), node(Iota((T,), 0, dtype="float32")))
        return op("add", x, op(self.rng.choice(("sin", "cos")), line))

    def masked(self, x: Node) -> Node:
        keep = node(Reshape((B, T, 1)), self.keep)
        forms = (
            lambda: op("mul", x, self.number()),
            lambda: op("where", keep, x, f32(0.0)),
            lambda: op("where", op("not", keep), f32(0.0), x),
            lambda: op("where", keep, x, f32(LOWEST)),
            lambda: op("add", x, op("mul", op("sub", f32(1.0), self.number()), f32(LOWEST))),
        )
        return self.rng.choice(forms)()

    def summed(self, x: Node) -> Node:
        kind = self.rng.choice(("sum", "max", "mean"))
        source = self.masked(x) if self.rng.random() < 0.8 else x
        return self.spread(op("tanh", node(Reduce(kind, (1,)), source)))

    def softmaxed(self, x: Node) -> Node:
        return node(Softmax(1), self.masked(x) if self.rng.random() < 0.8 else x)

    def attended(self, x: Node) -> Node:
        q, k, v = (node(Reshape((B, T, 2, 2)), self.b.linear(x, self.name(), WIDTH)) for _ in range(3))
        masked, causal = self.rng.random() < 0.7, self.rng.random() < 0.3
        y = node(Attention(0.5, causal=causal, mask=masked), q, k, v, *([self.keep] if masked else []))
        return node(Reshape((B, T, WIDTH)), y)

    def eager(self, x: Node) -> Node:
        scores = node(Matmul(transpose_b=True), x, x)
        keys = node(Reshape((B, 1, T)), self.keep)
        if self.rng.random() < 0.5:
            scores = op("where", keys, scores, f32(self.rng.choice((LOWEST, LOWEST, -1.0))))
        else:
            hidden = op("sub", f32(1.0), node(Cast("float32"), keys))
            scores = op("add", scores, op("mul", hidden, f32(self.rng.choice((LOWEST, LOWEST, -3.0)))))
        return node(Matmul(), node(Softmax(2), scores), x)

    def convolved(self, x: Node) -> Node:
        y = node(Permute((0, 2, 1)), self.masked(x))
        y = node(Conv((1,), ((1, 1),), (1,)), y, self.b.weight(self.name(), WIDTH, WIDTH, 3))
        return op("tanh", node(Permute((0, 2, 1)), y))

    def moved(self, x: Node) -> Node:
        return self.rng.choice(
            (
                lambda: node(Flip((1,)), x),
                lambda: node(Cumsum(1), x),
                lambda: self.spread(node(Reshape((B, WIDTH)), node(Slice(1, 0, 1), x))),
                lambda: self.spread(node(Reshape((B, WIDTH)), node(Slice(1, T - 1, T), x))),
                lambda: node(Reshape((B, T, WIDTH)), op("tanh", node(Reshape((B * T, WIDTH)), x))),
                lambda: self.spread(node(MaskedMean(), x, self.keep)),
            )
        )()

    def step(self, x: Node) -> Node:
        forms = (
            lambda: op("tanh", self.b.linear(x, self.name(), WIDTH)),
            lambda: self.b.norm(x, self.name()),
            lambda: op("add", x, self.x),
            lambda: self.position(x),
            lambda: self.masked(x),
            lambda: self.summed(x),
            lambda: self.softmaxed(x),
            lambda: self.attended(x),
            lambda: self.eager(x),
            lambda: self.convolved(x),
            lambda: self.moved(x),
        )
        return self.rng.choice(forms)()


def draw(seed: int) -> Graph:
    draft = Draft(seed)
    x = draft.x
    for _ in range(draft.rng.randint(1, 5)):
        x = op("tanh", draft.step(x))
    if draft.rng.random() < 0.5:
        return draft.b.graph("tokens", out=node(MaskedMean(), x, draft.keep))
    return draft.b.graph("tokens", out=x)


def check(graph: Graph, seed: int) -> bool:
    placement = analyse(graph)
    well_formed(graph, placement)
    assert placement.batchable, explain(placement, graph)
    assert_rows_agree(graph, (max(LENGTHS),) * len(LENGTHS), seed)
    if placement.trim:
        assert_rows_agree(graph, LENGTHS, seed)
    return placement.trim


@pytest.mark.parametrize("start", range(0, SAMPLE, 20))
def test_what_is_proved_holds(start: int) -> None:
    proved = [check(draw(seed), seed) for seed in range(start, start + 20)]
    assert any(proved)
    assert not all(proved)


@pytest.mark.parametrize("start", range(0, SAMPLE, 20))
def test_what_is_proved_after_the_passes_holds(start: int) -> None:
    for seed in range(start, start + 20):
        before = draw(seed)
        after = run_passes(before, default_passes())
        assert check(after, seed) >= analyse(before).trim
        linears = [n for n in after.nodes() if n.op.mnemonic == "linear"]
        placement = analyse(after)
        assert all(placement.flat[n] for n in linears if placement.place[n] is Place.TOKEN)


@pytest.mark.full
def test_what_is_proved_of_many_graphs_holds() -> None:
    for seed in range(SAMPLE, 1000):
        check(draw(seed), seed)
        check(run_passes(draw(seed), default_passes()), seed)
