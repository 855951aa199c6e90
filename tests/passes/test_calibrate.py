"""What calibration rows decide: factors of the scale migration, and which layers go back to a wider precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pass_models import optimized, takes_all

from infc.compiler.bundle.golden import random_inputs
from infc.compiler.calibrate import Outputs, channel_maxima, migrate_scales, widen_sensitive
from infc.compiler.decisions import Decision, decide, layers_text
from infc.compiler.ir.graph import Array, Graph, Op, Weight
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.types import TensorType
from infc.compiler.passes.quantize import SMOOTH, Quantize, layer_name
from infc.dsl.spec import Precision, Search
from tests.spine.models import encoder, mlp

INT8 = Search(precisions=(Precision(kind="int8"),))


def rows_of(graph: Graph, count: int) -> list[dict[str, Array]]:
    return [random_inputs(graph, {"batch": 1, "tokens": 3 + n}, n) for n in range(count)]


def with_outliers(graph: Graph) -> Graph:
    """Two channels behind the norm a hundred times as large as the others, as in trained encoders."""
    weight = graph.weights["norm.weight"].load().copy()
    weight[[3, 17]] *= 100
    return graph.replace(
        weights={**graph.weights, "norm.weight": Weight(TensorType("float32", weight.shape), lambda: weight)}
    )


def error(graph: Graph, exact: Graph, decisions: Sequence[Decision], rows: list[dict[str, Array]]) -> float:
    reduced = Quantize(layers_text(decisions)).apply(graph)
    return max(float(np.abs(run(reduced, r)["mean"] - run(exact, r)["mean"]).max()) for r in rows)


def test_maxima_are_those_of_all_rows() -> None:
    graph = optimized(mlp())
    first = next(n for n in graph.nodes() if isinstance(n.op, Linear))
    rows = rows_of(graph, 4)
    found = channel_maxima(graph, rows, [first.operands[0]])
    want = np.abs(np.concatenate([r["features"] for r in rows])).max(axis=0)
    np.testing.assert_array_equal(found[first.operands[0]], want)


def test_migration_takes_outliers_out_of_the_activations_behind_norms() -> None:
    graph = with_outliers(optimized(encoder()))
    decisions = decide(graph, INT8, takes_all)
    calibrated = migrate_scales(graph, rows_of(graph, 8), decisions)
    added = {name for name in calibrated.weights if name.startswith(SMOOTH)}
    assert added == {SMOOTH + "up.weight"}, "q, k and v read embeddings, out reads attention, down reads gelu"
    decisions = tuple(d for d in decisions if d.layer == "up.weight")
    others = [random_inputs(graph, {"batch": 2, "tokens": 9}, 100 + n) for n in range(4)]
    assert error(calibrated, graph, decisions, others) < 0.5 * error(graph, graph, decisions, others)


def test_nothing_is_migrated_for_layers_that_are_not_int8() -> None:
    graph = optimized(encoder())
    decisions = tuple(Decision(d.layer, "bfloat16") for d in decide(graph, INT8, takes_all))
    assert set(migrate_scales(graph, rows_of(graph, 2), decisions).weights) == set(graph.weights)


def test_layers_are_widened_most_sensitive_first_until_the_rows_meet_the_target() -> None:
    graph = with_outliers(optimized(encoder()))
    rows, decisions = rows_of(graph, 3), decide(graph, INT8, takes_all)

    def misses(bound: float) -> object:
        def ask(got: Sequence[Outputs], want: Sequence[Outputs]) -> str:
            worst = max(float(np.abs(g["mean"] - w["mean"]).max()) for g, w in zip(got, want, strict=True))
            return "" if worst <= bound else f"error {worst:.2g}"

        return ask

    plain = error(graph, graph, decisions, rows)
    assert widen_sensitive(graph, rows, decisions, misses(plain), takes_all) == decisions  # type: ignore[arg-type]
    some = widen_sensitive(graph, rows, decisions, misses(0.8 * plain), takes_all)  # type: ignore[arg-type]
    assert error(graph, graph, some, rows) <= 0.8 * plain
    changed = [d for d, before in zip(some, decisions, strict=True) if d != before]
    assert changed[0].precision == "bfloat16"
    assert "this layer alone moves the outputs by" in changed[0].reason
    assert 0 < len(changed) < sum(d.precision == "int8" for d in decisions)
    every = widen_sensitive(graph, rows, decisions, misses(0), takes_all)  # type: ignore[arg-type]
    assert not any(d.precision == "int8" for d in every)


def test_where_the_target_has_no_bfloat16_layers_go_back_to_float32() -> None:
    graph = optimized(mlp())

    def no_bfloat16(op: Op, operands: Sequence[TensorType]) -> str:
        return "no bfloat16" if operands[0].dtype == "bfloat16" else ""

    decisions = decide(graph, INT8, no_bfloat16)
    found = widen_sensitive(graph, rows_of(graph, 2), decisions, lambda got, want: "it", no_bfloat16)
    assert {d.precision for d in found} == {"float32"}
    assert [d.layer for d in found] == [layer_name(n) for n in graph.nodes() if isinstance(n.op, Linear)]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_no_rows_decide_nothing(precision: str) -> None:
    graph = optimized(encoder())
    decisions = decide(graph, Search(precisions=(Precision(kind=precision),)), takes_all)
    assert widen_sensitive(graph, rows_of(graph, 1), decisions, lambda got, want: "", takes_all) == decisions
