"""Bounds by resampling: against SciPy's BCa, how often they hold, and what has no bounds."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.statistics.bootstrap import (
    LEAST_ROWS,
    Sides,
    equal_rows_to_decide,
    mean_bounds,
    rows_to_decide,
    statistic_bounds,
)
from infc.compiler.statistics.extremes import share_excluded
from infc.compiler.statistics.interval import Interval
from infc.compiler.statistics.metrics import auc, f1

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
BOTH = Sides(0.05, 0.05)
stats: Any = import_module("scipy.stats")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def skewed(rows: int, seed: int = 0) -> Floats:
    """Like cosines: near 1, with a tail down."""
    return 1 - 0.001 * rng(seed).lognormal(0, 0.8, rows)


@pytest.mark.parametrize("rows", [40, 500])
def test_a_mean_has_the_bca_bounds_of_scipy(rows: int) -> None:
    scores = skewed(rows)
    found = mean_bounds(scores, BOTH, rng())
    theirs = stats.bootstrap(
        (scores,), np.mean, confidence_level=0.9, n_resamples=40_000, rng=rng(1)
    ).confidence_interval
    width = float(theirs.high - theirs.low)
    assert found.low == pytest.approx(theirs.low, abs=0.05 * width)  # the spread of a quantile of 4,000 resamples
    assert found.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_a_mean_is_a_statistic_like_others() -> None:
    scores = skewed(60)
    one, other = mean_bounds(scores, BOTH, rng()), statistic_bounds(lambda r: float(scores[r].mean()), 60, BOTH, rng(1))
    assert other.value == one.value
    assert other.low == pytest.approx(one.low, abs=0.05 * (one.high - one.low))
    assert other.high == pytest.approx(one.high, abs=0.05 * (one.high - one.low))


def test_the_bounds_of_a_skewed_mean_hold_as_often_as_they_say() -> None:
    true, runs = 1 - 0.001 * math.exp(0.32), 400
    found = [mean_bounds(skewed(200, seed), BOTH, rng(seed)) for seed in range(1, runs + 1)]
    low, high = np.mean([f.low > true for f in found]), np.mean([f.high < true for f in found])
    allowed = 0.05 + 0.02 + 3 * math.sqrt(0.05 * 0.95 / runs)  # BCa's own error at 200 rows, and that of 400 runs
    assert low <= allowed
    assert high <= allowed


def test_the_same_seed_gives_the_same_bounds() -> None:
    assert mean_bounds(skewed(100), BOTH, rng(3)) == mean_bounds(skewed(100), BOTH, rng(3))


def test_a_smaller_alpha_gives_a_wider_interval() -> None:
    wide, narrow = (mean_bounds(skewed(100), Sides(a, a), rng()) for a in (0.005, 0.1))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_more_rows_than_one_array_holds_are_resampled_in_parts() -> None:
    scores = skewed(30_000)
    found = mean_bounds(scores, BOTH, rng())
    error = 1.645 * float(scores.std()) / math.sqrt(len(scores))
    assert found.value - found.low == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("noise", [0, 1e-15])
def test_equal_scores_have_the_exact_bounds_for_their_number(noise: float) -> None:
    scores = 0.5 + noise * rng().standard_normal(100)
    other = share_excluded(100, 0.95)
    found = mean_bounds(scores, Sides(0.05, 0.05, least=-1, most=1), rng())
    assert found.low == pytest.approx((1 - other) * 0.5 - other)
    assert found.high == pytest.approx((1 - other) * 0.5 + other)
    found = mean_bounds(scores, BOTH, rng())
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_scores_that_are_all_0_have_the_exact_bounds_too() -> None:
    found = mean_bounds(np.zeros(1000), Sides(0.05, 0.05, least=0), rng())
    assert (found.value, found.low, found.high) == (0, 0, math.inf)


@pytest.mark.parametrize("scores", [skewed(LEAST_ROWS - 1), np.empty(0), np.append(skewed(50), math.nan)])
def test_too_few_rows_or_an_undefined_score_has_no_bounds(scores: Floats) -> None:
    found = mean_bounds(scores, Sides(0.05, 0.05, least=-1, most=1), rng())
    assert (found.low, found.high, found.samples) == (-math.inf, math.inf, len(scores))


def labelled(rows: int, positive: int, seed: int = 0) -> tuple[Floats, Rows]:
    labels = (np.arange(rows) < positive).astype(np.intp)
    return (rng(seed).standard_normal(rows) + labels)[:, None], labels


def test_auc_is_resampled_within_classes_and_never_without_one() -> None:
    scores, labels = labelled(200, 4)
    counts: set[int] = set()

    def statistic(rows: Rows) -> float:
        counts.add(int(labels[rows].sum()))
        return auc(scores[rows], labels[rows])

    found = statistic_bounds(statistic, 200, BOTH, rng(), strata=labels)
    assert counts == {3, 4}  # 3 in the jackknife
    assert 0 < found.low < found.value < found.high <= 1


def test_a_statistic_of_many_rows_leaves_out_groups_not_rows() -> None:
    scores, labels = labelled(5000, 1000)
    calls = 0

    def statistic(rows: Rows) -> float:
        nonlocal calls
        calls += 1
        return auc(scores[rows], labels[rows])

    found = statistic_bounds(statistic, 5000, BOTH, rng(), strata=labels)
    assert calls == 1 + 200 + 4000
    assert found.low == pytest.approx(found.value - 1.645 * 0.0084, abs=0.003)  # Hanley and McNeil's standard error


def test_resamples_in_which_a_statistic_is_undefined_count_against_both_bounds() -> None:
    scores, labels = labelled(40, 3)

    def statistic(rows: Rows) -> float:
        return auc(scores[rows], labels[rows])  # not stratified: one resample of twenty has no positive row

    found = statistic_bounds(statistic, 40, Sides(0.01, 0.01), rng())
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_statistic_that_is_undefined_or_becomes_so_without_a_row_has_no_bounds() -> None:
    scores, labels = labelled(40, 1)
    found = statistic_bounds(lambda rows: auc(scores[rows], labels[rows]), 40, BOTH, rng(), strata=labels)
    assert math.isfinite(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)
    found = statistic_bounds(lambda rows: math.nan, 40, BOTH, rng())
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_perfect_score_is_bounded_by_the_rarest_class() -> None:
    labels = (np.arange(1000) < 100).astype(np.intp)
    sides = Sides(0.05, 0.05, least=0, most=1)
    found = statistic_bounds(lambda rows: f1(labels[rows], labels[rows], 2), 1000, sides, rng(), strata=labels)
    other = share_excluded(100, 0.975)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(1 - 2 * other)
    wrong = math.ceil(100 * other)  # what the classes could hide: as many rows of each
    classes = labels.copy()
    classes[:wrong], classes[-wrong:] = 0, 1
    assert f1(classes, labels, 2) > found.low


def test_rows_to_decide_scales_with_the_root_of_the_rows() -> None:
    assert rows_to_decide(Interval(0.99, 0.97, 1.0, 100), 0.98) == 400
    assert rows_to_decide(Interval(0.97, 0.95, 0.98, 100), 0.975) == 400
    assert rows_to_decide(Interval(0.99, -math.inf, math.inf, 8), 0.98) == LEAST_ROWS
    assert rows_to_decide(Interval(0.99, -math.inf, math.inf, 80), 0.98) is None
    assert rows_to_decide(Interval(0.99, 0.98, 1.0, 80), 0.99) is None


def test_rows_to_decide_of_equal_rows_do_decide_and_one_less_does_not() -> None:
    rows = equal_rows_to_decide(1.0, 0.999, -1.0, 0.05)
    assert rows == 5990
    sides = Sides(0.05, 0.05, least=-1)
    assert mean_bounds(np.ones(rows), sides, rng()).low >= 0.999 > mean_bounds(np.ones(rows - 1), sides, rng()).low
    assert equal_rows_to_decide(1.0, 1.0, -1.0, 0.05) is None
    assert equal_rows_to_decide(0.5, 0.9, -1.0, 0.05) == LEAST_ROWS
