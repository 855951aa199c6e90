"""Shares, means and extremes against exact values."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from infc.compiler.statistics.binomial import lower_share, rows_to_decide, share, upper_share
from infc.compiler.statistics.decide import decide
from infc.compiler.statistics.extremes import requests_to_exclude, share_excluded
from infc.compiler.statistics.means import mean
from infc.compiler.statistics.special import beta_cdf, beta_quantile, normal_quantile, t_quantile

special: Any = import_module("scipy.special")
stats: Any = import_module("scipy.stats")


@pytest.mark.parametrize("a", [0.5, 1.0, 13.7, 1e3, 4e5])
@pytest.mark.parametrize("b", [0.5, 2.0, 31.4, 2e4])
@pytest.mark.parametrize("p", [1e-6, 0.0025, 0.05, 0.5, 0.95, 0.9999])
def test_the_beta_distribution_agrees_with_scipy(a: float, b: float, p: float) -> None:
    x = float(special.betaincinv(a, b, p))
    assert beta_quantile(a, b, p) == pytest.approx(x, rel=1e-9)
    assert beta_cdf(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-7)


def test_the_beta_distribution_ends_at_0_and_1() -> None:
    assert [beta_cdf(2, 3, x) for x in (-1.0, 0.0, 1.0, 2.0)] == [0, 0, 1, 1]
    assert [beta_quantile(2, 3, p) for p in (0.0, 1.0)] == [0, 1]


@pytest.mark.parametrize("freedom", [0.7, 1.0, 7.0, 19.0, 43.2, 1e5])
@pytest.mark.parametrize("p", [1e-5, 0.05, 0.4, 0.5, 0.7, 0.965, 0.99999])
def test_students_t_agrees_with_scipy(freedom: float, p: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(float(stats.t.ppf(p, freedom)), rel=1e-7)


def test_the_normal_quantile_is_infinite_at_its_ends() -> None:
    assert (normal_quantile(0), normal_quantile(1)) == (-math.inf, math.inf)
    assert normal_quantile(0.975) == pytest.approx(1.959963984540054)


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (1, 10), (7, 10), (10, 10), (1980, 2000)])
def test_a_share_has_the_bounds_of_clopper_and_pearson(hits: int, rows: int) -> None:
    found = share(hits, rows, 0.05, 0.01)
    exact = stats.binomtest(hits, rows, alternative="greater").proportion_ci(0.95)
    assert (found.value, found.low, found.samples) == (hits / rows, pytest.approx(float(exact.low), rel=1e-9), rows)
    exact = stats.binomtest(hits, rows, alternative="less").proportion_ci(0.99)
    assert found.high == pytest.approx(float(exact.high), rel=1e-9)


def test_a_share_of_no_rows_is_not_known_and_more_hits_than_rows_are_refused() -> None:
    found = share(0, 0, 0.05, 0.05)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0, 1)
    with pytest.raises(ValueError, match="11 hits of 10 rows"):
        share(11, 10, 0.05, 0.05)


@pytest.mark.parametrize(("seen", "bound"), [(0.95, 0.9), (0.9, 0.95), (1.0, 0.99), (0.0, 0.01), (0.993, 0.99)])
def test_rows_to_decide_is_the_least_that_does(seen: float, bound: float) -> None:
    rows = rows_to_decide(seen, bound, 0.05)
    assert rows is not None

    def decided(n: int) -> bool:
        return lower_share(seen * n, n, 0.05) >= bound if seen > bound else upper_share(seen * n, n, 0.05) < bound

    assert decided(rows)
    assert not decided(rows - 1)


def test_no_rows_decide_a_share_at_its_bound_or_a_bound_that_nothing_passes() -> None:
    assert rows_to_decide(0.9, 0.9, 0.05) is None
    assert rows_to_decide(0.9, 1.0, 0.05) is not None  # it is missed
    assert rows_to_decide(1.0, 1.0, 0.05) is None


@pytest.mark.parametrize("n", [1, 58, 59, 10_000])
def test_the_share_that_n_exclude_would_be_seen_among_n_at_the_confidence(n: int) -> None:
    assert 1 - (1 - share_excluded(n, 0.95)) ** n == pytest.approx(0.95)
    assert share_excluded(59, 0.95) < 0.05 < share_excluded(58, 0.95)


def test_requests_to_exclude_is_the_least_that_does() -> None:
    assert requests_to_exclude(0.05, 0.95) == 59
    assert requests_to_exclude(0.001, 0.95) == 2995
    assert requests_to_exclude(0.999, 0.5) == 1
    assert share_excluded(0, 0.95) == 1


def test_a_mean_of_blocks_has_students_interval() -> None:
    blocks = [101.0, 99.5, 103.2, 98.9, 100.4, 97.7, 102.1, 100.0]
    found = mean(blocks, 0.05, 0.01)
    assert found.low == pytest.approx(stats.ttest_1samp(blocks, 0, alternative="greater").confidence_interval(0.95).low)
    assert found.high == pytest.approx(stats.ttest_1samp(blocks, 0, alternative="less").confidence_interval(0.99).high)
    assert found.value == pytest.approx(np.mean(blocks))


@pytest.mark.parametrize("blocks", [[], [3.0], [3.0, math.inf], [3.0, math.nan]])
def test_a_mean_that_cannot_be_bounded_has_no_bounds(blocks: list[float]) -> None:
    found = mean(blocks, 0.05, 0.05)
    assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("low", "high", "op", "verdict"),
    [
        (1, 2, "<=", "met"),
        (1, 2.1, "<=", "not proved"),
        (2, 3, "<=", "not proved"),
        (2.1, 3, "<=", "missed"),
        (2, 3, ">=", "met"),
        (1.9, 3, ">=", "not proved"),
        (1, 2, ">=", "not proved"),
        (1, 1.9, ">=", "missed"),
        (0, math.inf, "<=", "not proved"),
        (math.inf, math.inf, "<=", "missed"),
        (math.nan, math.nan, "<=", "not proved"),
        (math.nan, math.nan, ">=", "not proved"),
    ],
)
def test_a_bound_is_met_missed_or_neither_and_itself_within(low: float, high: float, op: str, verdict: str) -> None:
    assert decide(low, high, 2.0, "<=" if op == "<=" else ">=") == verdict
