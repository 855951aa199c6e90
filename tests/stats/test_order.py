"""Percentiles of blocks and the plan of looks, apart from level and power."""

from __future__ import annotations

import math
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.statistics.looks import BLOCKS, requests_at, requests_to_prove, share_of_alpha
from infc.compiler.statistics.order import LEAST_BLOCKS, least_late, most_late, percentile

Floats = NDArray[np.float64]
stats: Any = import_module("scipy.stats")


def blocks_of(count: int, length: int, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.standard_exponential(length) for _ in range(count)]


@pytest.mark.parametrize("n", [1, 2, 40, 333, 2000, 51_234])
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("alpha", [0.0005, 0.035, 0.2])
def test_late_requests_allowed_are_exactly_the_binomials(n: int, q: float, alpha: float) -> None:
    most, least = most_late(n, n, 1 - q, alpha), least_late(n, n, 1 - q, alpha)
    assert most < 0 or stats.binom.cdf(most, n, 1 - q) <= alpha * (1 + 1e-9)
    assert stats.binom.cdf(most + 1, n, 1 - q) > alpha
    assert least == n + 1 or stats.binom.sf(least - 1, n, 1 - q) <= alpha * (1 + 1e-9)
    assert stats.binom.sf(least - 2, n, 1 - q) > alpha


def test_the_bounds_are_latencies_with_exactly_the_late_ones_allowed() -> None:
    blocks = blocks_of(20, 100)
    found = percentile(blocks, 0.99, 0.05, 0.05)
    latencies = np.concatenate(blocks)
    over = int(np.sum(latencies > found.high))
    assert over == most_late(2000, found.effective, 0.01, 0.05)
    assert int(np.sum(latencies >= found.low)) == least_late(2000, found.effective, 0.01, 0.05)
    assert found.value == np.quantile(latencies, 0.99, method="inverted_cdf")
    assert found.low < found.value < found.high
    assert (found.samples, found.blocks, found.failed) == (2000, 20, 0)


def test_blocks_that_differ_widen_the_interval() -> None:
    alike = blocks_of(20, 100)
    unlike = [block * (2 if at % 5 == 0 else 1) for at, block in enumerate(alike)]
    assert percentile(alike, 0.99, 0.05, 0.05).spread < 2 < percentile(unlike, 0.99, 0.05, 0.05).spread


def test_equal_blocks_say_no_more_than_independent_requests() -> None:
    found = percentile([np.tile(np.arange(25.0), 4)] * 20, 0.95, 0.05, 0.05)
    assert found.spread == 1
    assert found.effective < 2000


def test_a_bunch_of_late_requests_widens_the_interval_where_blocks_are_alike() -> None:
    spread_out, bunched = np.tile(np.arange(25.0), 4), np.repeat(np.arange(25.0), 4)
    assert percentile([spread_out] * 20, 0.95, 0.05, 0.05).high < percentile([bunched] * 20, 0.95, 0.05, 0.05).high


def test_the_order_of_blocks_does_not_matter() -> None:
    blocks = blocks_of(20, 100)
    assert percentile(blocks, 0.99, 0.05, 0.05) == percentile(blocks[::-1], 0.99, 0.05, 0.05)


def test_blocks_of_unequal_length_count_as_fewer() -> None:
    equal = percentile(blocks_of(20, 100), 0.99, 0.05, 0.05)
    unequal = percentile([*blocks_of(10, 10), *blocks_of(10, 190, seed=1)], 0.99, 0.05, 0.05)
    assert unequal.samples == equal.samples
    assert unequal.effective * unequal.spread < equal.effective * equal.spread


def test_failed_requests_are_later_than_any_bound() -> None:
    blocks = blocks_of(20, 100)
    for block in blocks:
        block[:2] = math.inf
    found = percentile(blocks, 0.99, 0.05, 0.05)
    assert (found.value, found.low, found.high, found.failed) == (math.inf, math.inf, math.inf, 40)
    few = percentile(
        [np.append(b, math.inf if at == 0 else 0.0) for at, b in enumerate(blocks_of(20, 99))], 0.99, 0.05, 0.05
    )
    assert few.failed == 1
    assert math.isfinite(few.high)
    all_failed = percentile([np.full(100, math.inf)] * 20, 0.5, 0.05, 0.05)
    assert (all_failed.low, all_failed.failed) == (math.inf, 2000)


def test_too_little_evidence_has_no_bounds() -> None:
    few = percentile(blocks_of(LEAST_BLOCKS - 1, 1000), 0.5, 0.05, 0.05)
    assert (few.low, few.high, few.samples) == (0, math.inf, 7000)
    assert percentile(blocks_of(20, 10), 0.99, 0.05, 0.05).high == math.inf
    none = percentile([np.empty(0)] * 20, 0.99, 0.05, 0.05)
    assert math.isnan(none.value)
    assert (none.low, none.high, none.samples) == (0, math.inf, 0)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_requests_to_prove_are_the_least_that_give_a_bound_at_the_first_look(q: float, confidence: float) -> None:
    alpha = (1 - confidence) * share_of_alpha(1)
    needed = requests_to_prove(q, confidence)

    def high(n: int) -> float:
        parts = np.array_split(np.ones(n), BLOCKS)
        return percentile(parts, q, alpha, alpha).high

    assert high(math.ceil(needed / BLOCKS) * BLOCKS if needed >= BLOCKS else 400) == 1
    if needed > BLOCKS:
        assert high((needed - 1) // BLOCKS * BLOCKS) == math.inf


def test_the_documented_numbers_of_requests() -> None:
    assert [requests_to_prove(q, 0.95) for q in (0.5, 0.95, 0.99, 0.999)] == [6, 74, 375, 3763]
    firsts = [requests_at(1, q, 0.95) for q in (0.5, 0.9, 0.95, 0.99, 0.999)]
    assert [look.requests for look in firsts] == [1000, 1000, 1000, 2000, 20_000]
    assert {look.blocks for look in firsts} == {BLOCKS}


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_each_look_adds_blocks_that_double_the_requests(confidence: float) -> None:
    looks = [requests_at(look, 0.99, confidence) for look in range(1, 8)]
    for before, after in pairwise(looks):
        assert after.blocks - before.blocks == BLOCKS >= LEAST_BLOCKS
        assert after.requests - before.requests == BLOCKS * after.length == before.requests


def test_all_looks_together_spend_less_than_alpha() -> None:
    assert sum(share_of_alpha(look) for look in range(1, 100_000)) < 0.9 + 1e-9
    with pytest.raises(ValueError, match="counted from 1"):
        share_of_alpha(0)
