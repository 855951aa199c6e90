"""Verdicts as text: statements that a spec takes, on the side on which they hold; what binds; exit codes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infc.compiler.errors import Exit
from infc.compiler.proof.verdict import Verdict, binding, exit_code, factor, interval, overall, verdict_of, written
from infc.dsl import check_text
from infc.dsl.spec import (
    AccuracyTarget,
    BundleSizeTarget,
    ColdStartTarget,
    CostTarget,
    LatencyTarget,
    MemoryTarget,
    Rate,
    Target,
    ThroughputTarget,
)

SPEC = """infer 1
model m {
  source torch("m.py:f")
  input x: float32[batch, 4]
}
data { evaluate npz("e.npz") }
targets { STATEMENT }
hardware { use cpu { price 1 USD/h } }
"""
P99 = LatencyTarget(statistic="p99", quantile=0.99, bound=0.02)
TARGETS: list[Target] = [
    P99,
    LatencyTarget(
        statistic="p99.9", quantile=0.999, bound=1e-6, at_rate=Rate(value=40, unit="items/s"), arrival="steady"
    ),
    LatencyTarget(statistic="max", quantile=1.0, bound=100.0),
    ThroughputTarget(bound=120.0),
    ThroughputTarget(bound=12.5, unit="items/s"),
    AccuracyTarget(metric="cosine", op=">=", bound=0.999999, versus="float32"),
    AccuracyTarget(metric="mse", op="<=", bound=1e-9, versus="labels"),
    AccuracyTarget(metric="max_abs_error", op="<=", bound=1e-5, versus="float32"),
    CostTarget(bound=0.6, count=1e6),
    MemoryTarget(bound=512 << 20),
    ColdStartTarget(bound=0.1),
    ColdStartTarget(bound=0.1, cold=True),
    BundleSizeTarget(bound=20_000_000),
]


def parsed(text: str) -> Target:
    result = check_text(SPEC.replace("STATEMENT", text))
    assert result.spec is not None, (text, result.errors)
    return result.spec.model.targets.items[0]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.kind}-{t.bound}")
def test_a_target_is_written_as_the_spec_writes_it(target: Target) -> None:
    again = parsed(written(target, float(target.bound)))
    assert again.bound == pytest.approx(float(target.bound), rel=1e-12)
    assert type(again) is type(target)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TARGETS), st.floats(1e-9, 1e7))
def test_a_relaxed_target_pasted_back_holds(target: Target, value: float) -> None:
    if isinstance(target, AccuracyTarget):
        value = min(value, 0.9999999) if target.metric == "cosine" else value
    if isinstance(target, MemoryTarget | BundleSizeTarget):
        value = float(math.ceil(value))
    again = parsed(written(target, value, safe=True))
    near = 1e-9 * abs(value)
    assert again.bound >= value - near if target.op == "<=" else again.bound <= value + near
    size = 1 - value if isinstance(target, AccuracyTarget) and target.metric == "cosine" and value > 0.9 else value
    assert abs(again.bound - value) <= max(1.01e-3 * abs(size), 1.0 if isinstance(target, MemoryTarget) else 0) + near


def test_an_interval_is_rounded_outwards() -> None:
    found = verdict_of(P99, "met", confidence=0.95, value=0.0031239, low=0.00301239, high=0.00391231, samples=9)
    assert interval(found) == "3.124 ms (3.012 ms..3.913 ms)"
    assert interval(verdict_of(P99, "not proved", confidence=0.95)) == "not measured"
    assert interval(verdict_of(P99, "not proved", confidence=0.95, value=math.inf, samples=3)) == "no answer"
    one = verdict_of(TARGETS[5], "met", confidence=0.95, value=1 - 1e-14, low=1 - 3e-14, high=1.0, samples=9)
    assert interval(one) == "1 (0.999999999999..1)"
    open_end = verdict_of(P99, "not proved", confidence=0.95, value=0.003, low=0.002, high=math.inf, samples=9)
    assert (interval(open_end), open_end.high, open_end.relaxed) == ("3 ms (2 ms..)", None, "")


def missed(target: Target, value: float) -> Verdict:
    return verdict_of(target, "missed", confidence=0.95, value=value)


def test_what_binds_is_missed_by_the_largest_factor() -> None:
    twice = missed(P99, 0.04)
    cosine = missed(AccuracyTarget(metric="cosine", op=">=", bound=0.999, versus="float32"), 0.99)
    rate = missed(ThroughputTarget(bound=120.0), 100.0)
    held = verdict_of(P99, "met", confidence=0.95, value=0.01)
    assert [factor(v) for v in (twice, cosine, rate)] == pytest.approx([2, 10, 1.2])
    assert binding([rate, held, twice, cosine]) == [cosine, twice, rate]
    assert factor(missed(P99, math.inf)) == math.inf


def test_exit_codes() -> None:
    met, open_, lost = (verdict_of(P99, word, confidence=0.95) for word in ("met", "not proved", "missed"))
    other = verdict_of(MemoryTarget(bound=1), "not proved", confidence=0.95)
    assert [exit_code(overall(v)) for v in ([], [met], [met, open_], [open_, lost])] == [
        Exit.OK, Exit.OK, Exit.UNPROVED, Exit.UNMET,
    ]  # fmt: skip
    assert overall([met, open_], frozenset({"latency"})) == "met"
    assert overall([open_, other], frozenset({"latency"})) == "not proved"
    assert overall([lost], frozenset({"latency"})) == "missed"
