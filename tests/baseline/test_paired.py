"""Level and power of what two bundles are held against each other by, on simulated measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.proof.baseline_load import SPARE
from infc.compiler.proof.baseline_ops import ROUNDS
from infc.compiler.proof.comparison import CONFIDENCE, MARGIN, Pairs, claims_of, judge
from infc.compiler.statistics.paired import (
    can_exceed,
    differences_without,
    half_width,
    left_out_test,
    log_probabilities,
    mean_test,
    pairs_for,
    rank,
    ratio,
    ratios,
    sign_test,
    t_tail,
)

Floats = NDArray[np.float64]
BUILDS = 2000
ALPHA = (1 - CONFIDENCE) / 10
"""The level of one of ten claims."""


def noise(draw: np.random.Generator, size: int, scale: float) -> Floats:
    """Heavy-tailed (Student's t with 2 degrees of freedom), and now and then another program that takes half as much again."""
    found = scale * draw.standard_t(2, size)
    return np.exp(found + np.log(1.5) * (draw.random(size) < 0.03))


def worse(slower: float, scale: float, builds: int, seed: int) -> float:
    """The share of comparisons of ten claims of which one is called worse, the first `slower` times the other."""
    draw = np.random.default_rng(seed)
    found = 0
    for _ in range(builds):
        claims = [
            Pairs(
                f"op {i}", "s", tuple(noise(draw, ROUNDS, scale) * (slower if i == 0 else 1)),
                tuple(noise(draw, ROUNDS, scale)),
            )
            for i in range(10)
        ]  # fmt: skip
        alpha = (1 - CONFIDENCE) / claims_of(claims)
        found += any(judge(claim, alpha, MARGIN).worse for claim in claims)
    return found / builds


@pytest.mark.parametrize("scale", [0.02, 0.05, 0.1])
def test_equal_bundles_are_rarely_called_worse(scale: float) -> None:
    assert worse(1.0, scale, BUILDS, seed=round(scale * 100)) <= 0.002


def test_without_a_margin_the_level_is_what_it_says() -> None:
    """Of one claim at alpha 5 %: the sign test's own level just below it."""
    draw = np.random.default_rng(3)
    over = sum(
        ratio(noise(draw, ROUNDS, 0.05), noise(draw, ROUNDS, 0.05), 0.05).low > 1  # pyright: ignore[reportArgumentType]
        for _ in range(20_000)
    )
    exact = sum(math.comb(ROUNDS, k) for k in range(rank(ROUNDS, 0.05))) / 2**ROUNDS
    assert 0.02 < exact <= 0.05
    assert abs(over / 20_000 - exact) < 4 * math.sqrt(exact / 20_000)


@pytest.mark.parametrize(("scale", "share"), [(0.01, 0.99), (0.02, 0.97)])
def test_a_tenth_slower_is_found(scale: float, share: float) -> None:
    """The scale is that of one block's heavy tails: of a normal distribution it would be twice as much."""
    assert worse(1.1, scale, 500, seed=11) >= share


def test_the_margin_itself_is_not_worse() -> None:
    assert worse(1 + MARGIN, 0.02, 500, seed=12) <= 0.005


# ── ratios ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bounds_are_ratios_that_were_seen() -> None:
    found = ratio([1.1, 1.2, 1.3, 1.4, 1.5], [1.0] * 5, 0.05)
    assert (found.value, found.low, found.high) == (1.3, 1.1, 1.5)
    assert ratio([1.1] * 4, [1.0] * 4, 0.05).low == 0
    assert math.isnan(ratio([], [], 0.05).value)


def test_what_has_no_ratio_is_equal_or_beyond_all() -> None:
    inf = math.inf
    assert ratios([0, inf, inf, 1, 0], [0, inf, 1, 0, 1]).tolist() == [1, 1, inf, inf, 0]


@pytest.mark.parametrize("pairs", [1, 5, 18, 28, 100, 1000])
@pytest.mark.parametrize("alpha", [0.3, 0.05, 1e-3, 8e-5])
def test_the_rank_is_the_largest_that_the_level_allows(pairs: int, alpha: float) -> None:
    r = rank(pairs, alpha)
    at = [sum(math.comb(pairs, k) for k in range(n)) / 2**pairs for n in (r, r + 1)]
    assert at[0] <= alpha < at[1]


def test_as_many_pairs_as_it_takes() -> None:
    assert pairs_for(0.05) == 5
    assert pairs_for(0.001) == 10
    assert rank(pairs_for(ALPHA, 1), ALPHA) == 2
    assert rank(pairs_for(ALPHA, 1) - 1, ALPHA) == 1


def test_ending_early_changes_no_verdict() -> None:
    """Where it says that the bound cannot come out above the limit any more, it does not, whatever comes."""
    draw = np.random.default_rng(5)
    planned = pairs_for(ALPHA, SPARE)
    early = 0
    for _ in range(2000):
        seen = noise(draw, planned, 0.05) * draw.choice([1.0, 1.05, 1.1])
        ended = next((n for n in range(planned) if not can_exceed(seen[:n], planned, 1.02, ALPHA)), None)
        whole = ratio(seen.tolist(), [1.0] * planned, ALPHA).low > 1.02
        assert not (whole and ended is not None)
        assert whole or ended is not None or int(np.count_nonzero(seen <= 1.02)) >= rank(planned, ALPHA)
        early += ended is not None and ended < planned
    assert early > 1000


# ── differences ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sign_test_is_the_binomial_tail() -> None:
    for lost, gained in ((10, 0), (15, 3), (3, 15), (0, 4), (40, 30)):
        n = lost + gained
        exact = sum(math.comb(n, k) for k in range(lost, n + 1)) / 2**n
        assert sign_test(lost, gained) == pytest.approx(exact, rel=1e-9)
    assert sign_test(0, 0) == 1


def test_the_tail_of_t() -> None:
    """Values of R's pt(x, df, lower.tail = FALSE)."""
    assert t_tail(2.0, 10) == pytest.approx(0.036694017385370196, rel=1e-9)
    assert t_tail(-2.0, 10) == pytest.approx(0.9633059826146299, rel=1e-9)
    assert t_tail(0.0, 3) == pytest.approx(0.5)


def test_equal_scores_are_no_rise() -> None:
    assert mean_test(np.zeros(100)) == 1
    assert mean_test(np.full(100, 0.1)) == 0
    assert mean_test(np.full(10, 0.1)) == 1
    assert mean_test(np.array([math.nan] * 50)) == 1


@pytest.mark.parametrize("kind", ["normal", "few large", "skewed"])
def test_the_level_of_a_mean(kind: str) -> None:
    draw = np.random.default_rng(8)
    found = 0
    for _ in range(5000):
        if kind == "normal":
            rows = draw.normal(0, 1, 300)
        elif kind == "few large":
            rows = draw.choice([-1.0, 1.0], 300) * (draw.random(300) < 0.05)
        else:
            rows = draw.lognormal(0, 1, 300) - math.exp(0.5)
        found += mean_test(rows) <= 0.005
    assert found / 5000 <= 0.005 + 3 * math.sqrt(0.005 / 5000)


def test_the_jackknife_of_a_mean_is_the_test_of_a_mean() -> None:
    draw = np.random.default_rng(9)
    new, old = draw.normal(0.1, 1, 150), draw.normal(0, 1, 150)
    value, without = differences_without(
        lambda kept: float(new[kept].mean()), lambda kept: float(old[kept].mean()), 150, 1.0
    )
    assert left_out_test(value, without) == pytest.approx(mean_test(new - old), rel=1e-9)
    assert left_out_test(math.nan, without) == 1


def test_how_far_a_mean_may_lie() -> None:
    assert math.isinf(half_width(np.zeros(10), 0.001))
    assert 0 < half_width(np.random.default_rng(1).normal(size=400), 0.001) < 0.2


def test_probabilities_and_logits_are_told_apart() -> None:
    likely = np.array([[0.2, 0.8], [0.9, 0.1]])
    assert np.exp(log_probabilities(likely)) == pytest.approx(likely)
    assert np.exp(log_probabilities(np.log(likely) + 3)) == pytest.approx(likely)
    assert np.exp(log_probabilities(np.array([[0.8], [0.1]]))) == pytest.approx(np.array([[0.2, 0.8], [0.9, 0.1]]))
    both = np.exp(log_probabilities(np.array([[2.0], [-1.0]])))
    assert both[:, 1] == pytest.approx(1 / (1 + np.exp([-2.0, 1.0])))
    assert np.isfinite(log_probabilities(np.array([[1e9, -1e9], [0.0, 1.0]]))).all()
