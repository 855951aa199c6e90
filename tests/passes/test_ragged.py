"""The ragged analysis against a ragged interpreter: each row alone, at its kept length."""

from __future__ import annotations

import numpy as np
import pytest
from pass_models import Array, B, Builder, T, bert, has, i64, node, op, random_inputs
from ragged_cases import CASES, Case, deberta, eager, selecting, text_input

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Graph
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.leaf import Input
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.passes.pipeline import default_passes, run_passes
from infc.compiler.passes.ragged import Place, Placement, analyse, explain

LENGTHS = (5, 1, 3, 5)
LEAVES = ("input", "weight", "constant")


def rows_alone(graph: Graph, inputs: dict[str, Array], lengths: tuple[int, ...]) -> list[dict[str, Array]]:
    """The outputs of each row run on its own, the length cut to lengths[r]."""
    found: list[dict[str, Array]] = []
    for r, kept in enumerate(lengths):
        row = {n.op.input: inputs[n.op.input][r : r + 1] for n in graph.inputs if isinstance(n.op, Input)}
        for leaf in graph.inputs:
            assert isinstance(leaf.op, Input)
            for axis, dim in enumerate(leaf.type.shape):
                if has(dim, graph.length_dim):
                    row[leaf.op.input] = np.take(row[leaf.op.input], range(kept), axis)
        found.append(run(graph, row, double=True))
    return found


def assert_rows_agree(graph: Graph, lengths: tuple[int, ...], seed: int) -> None:
    """The run over all rows, padded to the longest, equals the rows run alone where the mask keeps."""
    inputs = random_inputs(graph, seed, LENGTHS)
    together = run(graph, inputs, double=True)
    for r, alone in enumerate(rows_alone(graph, inputs, lengths)):
        for name, out in graph.outputs:
            per_row = alone[name].shape[0]
            got, want = together[name][r * per_row : (r + 1) * per_row], alone[name]
            for axis, dim in enumerate(out.type.shape):
                if has(dim, graph.length_dim):
                    got, want = (np.take(a, range(min(LENGTHS[r], a.shape[axis])), axis) for a in (got, want))
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9, err_msg=f"{name} of row {r}")


def well_formed(graph: Graph, placement: Placement) -> None:
    """What whoever compiles a placement relies on."""
    place, flat = placement.place, placement.flat
    nodes = graph.nodes()
    assert set(place) == set(flat) == set(nodes)
    for n in nodes:
        dims = n.type.shape
        if place[n] is Place.ROW:
            assert dims[0] == B
            assert not any(has(d, "tokens") for d in dims)
        if place[n] is Place.TOKEN:
            assert dims[:2] == (B, T)
            assert not any(has(d, "tokens") for d in dims[2:])
        if place[n] in (Place.SHARED, Place.PREFIX):
            assert flat[n]
            assert all(place[o] in (Place.SHARED, Place.PREFIX) for o in n.operands)
        if flat[n]:
            assert place[n] is not Place.LOCAL
            assert all(place[o] is not Place.LOCAL for o in n.operands)
        else:
            assert placement.reasons[n]
    done = {n for n in nodes if n.op.mnemonic in LEAVES}
    islands = list(placement.islands)
    waiting = [n for n in nodes if flat[n] and n not in done]
    while islands or waiting:
        ready = [n for n in waiting if all(o in done for o in n.operands)]
        done.update(ready)
        waiting = [n for n in waiting if n not in done]
        if ready:
            continue
        assert islands, "flat nodes wait for each other"
        group, inside = islands.pop(0), set[object]()
        for n in group:
            assert not flat[n]
            for o in n.operands:
                assert o in inside or (o in done and (place[o] is not Place.LOCAL or o.op.mnemonic in LEAVES))
            inside.add(n)
        done.update(n for n in group if place[n] is not Place.LOCAL)
    computed = {n for group in placement.islands for n in group}
    assert computed == {n for n in nodes if not flat[n] and n.op.mnemonic not in LEAVES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_is_proved_and_denied(case: Case) -> None:
    graph = case.make()
    placement = analyse(graph)
    well_formed(graph, placement)
    assert (placement.batchable, placement.trim) == (case.batchable, case.trim), explain(placement, graph)
    assert case.why in (placement.batchable_reason or placement.trim_reason)
    assert case.islands is None or len(placement.islands) <= case.islands, explain(placement, graph)


@pytest.mark.parametrize("case", [c for c in CASES if c.batchable], ids=lambda c: c.name)
def test_rows_that_are_batchable_are_independent(case: Case) -> None:
    graph = case.make()
    for seed in range(2):
        assert_rows_agree(graph, (max(LENGTHS),) * len(LENGTHS), seed)


@pytest.mark.parametrize("case", [c for c in CASES if c.trim], ids=lambda c: c.name)
def test_rows_that_may_be_trimmed_give_the_same_at_their_kept_length(case: Case) -> None:
    graph = case.make()
    for seed in range(2):
        assert_rows_agree(graph, LENGTHS, seed)


@pytest.mark.parametrize("case", [c for c in CASES if not c.batchable and "output" not in c.name], ids=lambda c: c.name)
def test_denied_rows_do_depend_on_each_other(case: Case) -> None:
    """The negative cases are real: but for a view that comes back in order, a row alone gives something else."""
    if case.name in ("time major", "rows times rows"):
        return
    with pytest.raises(AssertionError):
        assert_rows_agree(case.make(), (max(LENGTHS),) * len(LENGTHS), 0)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_default_passes_lose_no_proof_and_add_no_island(case: Case) -> None:
    graph = case.make()
    before = analyse(graph)
    graph = run_passes(graph, default_passes())
    after = analyse(graph)
    well_formed(graph, after)
    assert (after.batchable, after.trim) >= (before.batchable, before.trim)
    assert len(after.islands) <= len(before.islands), explain(after, graph)


def test_bert_is_flat_after_canonicalize_and_fuse() -> None:
    graph = run_passes(bert(2), default_passes())
    placement = analyse(graph)
    assert not placement.islands
    assert placement.output_places == {"embedding": Place.ROW}


def test_a_relative_position_bias_is_a_prefix_with_two_lengths() -> None:
    graph = run_passes(eager(selecting, position_bias=True), default_passes())
    placement = analyse(graph)
    attention = next(n for n in graph.nodes() if n.op.mnemonic == "attention")
    assert placement.place[attention.operands[4]] is Place.PREFIX
    assert not placement.islands


def test_deberta_keeps_its_linears_flat() -> None:
    graph = run_passes(deberta(), default_passes())
    placement = analyse(graph)
    assert placement.trim
    assert len(placement.islands) == 1
    assert all(placement.flat[n] for n in graph.nodes() if n.op.mnemonic == "linear")


def test_flattened_tokens_are_flat_and_trimmed_after_canonicalize() -> None:
    graph = next(c for c in CASES if c.name == "flattened tokens").make()
    placement = analyse(run_passes(graph, default_passes()))
    assert placement.trim
    assert not placement.islands


def test_a_whole_request_is_one_island_where_rows_mix() -> None:
    graph = next(c for c in CASES if c.name == "centred over rows").make()
    placement = analyse(graph)
    assert {placement.place[n] for n in graph.nodes()} == {Place.LOCAL}
    assert placement.islands == (tuple(n for n in graph.nodes() if n.op.mnemonic != "input"),)


def test_a_dimension_that_is_neither_batch_nor_length_is_named() -> None:
    b = Builder()
    graph = b.graph(out=op("tanh", b.input("x", B, sym("points"))))
    placement = analyse(graph.replace(dims={**graph.dims, "points": (1, 9)}))
    assert not placement.batchable
    assert "'points'" in placement.batchable_reason


@pytest.mark.parametrize("shape", [(), (3,), (3, B), (B * 2,)])
def test_an_input_without_the_batch_in_front_is_named(shape: tuple[object, ...]) -> None:
    b = Builder()
    x = b.input("x", B, 3)
    y = b.input("odd", *shape)  # type: ignore[arg-type]
    placement = analyse(b.graph(out=op("tanh", x), other=op("exp", y)))
    assert not placement.batchable
    assert "'odd'" in placement.batchable_reason


def test_tokens_read_out_of_their_order_are_an_island() -> None:
    graph = next(c for c in CASES if c.name == "tokens in another order").make()
    placement = analyse(graph)
    gather = graph.outputs[0][1]
    assert not placement.flat[gather]
    assert placement.reasons[gather] == "it reads other positions than its own"


def test_attention_with_a_bias_of_each_row_is_an_island() -> None:
    b, x, keep = text_input()
    bias = node(Reshape((B, 2, 1, 1)), b.input("bias", B, 2))
    q = node(Reshape((B, T, 2, 4)), x)
    graph = b.graph("tokens", out=node(Attention(0.5, mask=True, bias=True), q, q, q, keep, bias))
    placement = analyse(graph)
    well_formed(graph, placement)
    assert placement.reasons[graph.outputs[0][1]] == "its bias differs from row to row"


def test_a_text_model_without_a_mask_input_is_not_trimmed() -> None:
    b = Builder()
    ids = b.input("ids", B, T, dtype="int64", minimum=0, maximum=9)
    placement = analyse(b.graph("tokens", out=node(Embedding(), b.weight("w", 10, 4), ids)))
    assert placement.batchable
    assert placement.trim_reason == "no input is a mask over the positions"


def test_a_model_without_a_batch_dimension_is_one_island() -> None:
    b = Builder()
    graph = b.graph(out=op("add", b.input("x", 4, 3), op("exp", b.weight("w", 3)))).replace(batch_dim=None, dims={})
    placement = analyse(graph)
    assert not placement.batchable
    assert [len(group) for group in placement.islands] == [1]


def test_explain_names_every_node_its_place_and_the_reason() -> None:
    graph = next(c for c in CASES if c.name == "unmasked mean").make()
    text = explain(analyse(graph), graph)
    assert "batchable: yes" in text
    assert "trim: no, reduce" in text
    assert "row    reduce f32[batch,8]  island: the length is used as a value or summed over" in text
    assert "island 0:" in text


def test_a_shifted_mask_excludes_other_positions() -> None:
    b = Builder()
    x, mask = b.input("x", B, T, 4), b.mask()
    one = node(Expand((B, 1)), i64(1))
    shifted = node(Concat(1), node(Slice(1, 1, T), mask), one)
    assert analyse(b.graph("tokens", out=node(MaskedMean(), x, op("ne", mask, i64(0))))).trim
    assert not analyse(b.graph("tokens", out=node(MaskedMean(), x, op("ne", shifted, i64(0))))).trim
