"""Level and power: how often a verdict on a percentile is wrong, and how often there is one, over simulated builds.

`make test` takes 1,000 builds a scenario and allows three standard errors for them; `make test-all` takes 10,000 and none.
"""

from __future__ import annotations

import math

import pytest

from infc.compiler.statistics.looks import requests_at

from .queues import SCENARIOS, Scenario, ar1, independent, queue, verdicts

JUST_OVER = 1 - 1e-9
"""A bound a billionth under the true percentile, so that "met" is wrong. One a billionth over it would make "missed" wrong,
and no run tells the two apart, so both are counted at this one."""
MARGIN = 1 / 0.8
"""A true percentile 20 % under the bound."""
EXTRA = 0.005
LOOKS_TO_PROVE = {
    "AR(1) 0.5": 3,
    "AR(1) 0.9": 5,
    "M/G/1 0.3 exponential": 4,
    "M/G/1 0.3 lognormal": 7,
    "M/G/1 0.5 exponential": 6,
    "M/G/1 0.5 lognormal": 8,
    "M/G/1 0.8 exponential": 9,
    "M/G/1 0.8 lognormal": 10,
}
"""The looks of what the docstring of requests_at says for p99."""
LIGHT = [name for name, look in LOOKS_TO_PROVE.items() if look <= 6]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
OTHER = [
    *((0.5, 0.95, scenario) for scenario in (independent(), ar1(0.9), queue(0.5, "lognormal"))),
    *((0.95, 0.95, scenario) for scenario in (independent(), queue(0.5, "lognormal"), queue(0.8, "exponential"))),
    *((0.99, confidence, queue(0.3, "lognormal")) for confidence in (0.9, 0.99)),
    (0.5, 0.95, queue(0.8, "lognormal", warm_up=300)),
]


def check_level(
    scenario: Scenario, start: bool, q: float, confidence: float, looks: int, runs: int, sigmas: float
) -> None:
    """Neither verdict comes out more often, over all looks, than 1 - confidence + 0.5 %."""
    met, missed = verdicts(scenario, start, q, JUST_OVER, range(1, looks + 1), runs, confidence)
    alpha = 1 - confidence
    allowed = alpha + EXTRA + sigmas * math.sqrt(alpha * confidence / runs)
    assert met <= allowed, f"met in {met:.2%} of {runs} builds, {allowed:.2%} are allowed"
    assert missed <= allowed, f"missed in {missed:.2%} of {runs} builds, {allowed:.2%} are allowed"


def check_power(scenario: Scenario, start: bool, q: float, look: int, runs: int, sigmas: float) -> None:
    """A margin of 20 % is met at this look alone, so by it and all before it, in nine builds of ten."""
    met, missed = verdicts(scenario, start, q, MARGIN, [look], runs)
    asked = 0.9 - sigmas * math.sqrt(0.09 / runs)
    assert met >= asked, f"met in {met:.2%} of {runs} builds with {requests_at(look, q, 0.95).requests} requests"
    assert missed <= 0.001


@pytest.mark.parametrize("start", [False, True], ids=["", "starts differ"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_p99_at_its_bound_is_rarely_decided(scenario: Scenario, start: bool) -> None:
    check_level(scenario, start, 0.99, 0.95, looks=3, runs=1000, sigmas=3)


@pytest.mark.full
@pytest.mark.parametrize("start", [False, True], ids=["", "starts differ"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_p99_at_its_bound_is_rarely_decided_in_10000_builds(scenario: Scenario, start: bool) -> None:
    check_level(scenario, start, 0.99, 0.95, looks=5, runs=10_000, sigmas=0)


@pytest.mark.parametrize(
    ("q", "confidence", "scenario"), OTHER, ids=lambda v: v.name if isinstance(v, Scenario) else str(v)
)
def test_other_percentiles_and_confidences_are_as_rarely_decided(
    q: float, confidence: float, scenario: Scenario
) -> None:
    check_level(scenario, True, q, confidence, looks=3, runs=1000, sigmas=3)


def test_a_p999_at_its_bound_is_rarely_decided() -> None:
    check_level(queue(0.5, "exponential"), True, 0.999, 0.95, looks=2, runs=300, sigmas=3)


def test_2000_independent_requests_prove_a_margin_of_a_fifth() -> None:
    assert requests_at(1, 0.99, 0.95).requests <= 2000
    check_power(independent(), False, 0.99, look=1, runs=10_000, sigmas=0)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.999])
def test_the_first_look_proves_independent_requests_at_every_percentile(q: float) -> None:
    check_power(independent(), False, q, look=1, runs=200 if q == 0.999 else 1000, sigmas=3)


@pytest.mark.parametrize("name", LIGHT)
def test_the_documented_requests_prove_a_margin_of_a_fifth(name: str) -> None:
    check_power(BY_NAME[name], True, 0.99, LOOKS_TO_PROVE[name], runs=1000, sigmas=3)


@pytest.mark.parametrize("name", [name for name in LOOKS_TO_PROVE if name not in LIGHT])
def test_the_documented_requests_prove_it_of_a_busy_queue(name: str) -> None:
    check_power(BY_NAME[name], True, 0.99, LOOKS_TO_PROVE[name], runs=30, sigmas=3)


def test_two_looks_prove_independent_requests_of_starts_that_differ() -> None:
    check_power(independent(), True, 0.99, look=2, runs=1000, sigmas=0)


@pytest.mark.full
@pytest.mark.parametrize("start", [False, True], ids=["", "starts differ"])
@pytest.mark.parametrize("name", LOOKS_TO_PROVE)
def test_the_documented_requests_prove_a_margin_of_a_fifth_in_many_builds(name: str, start: bool) -> None:
    check_power(BY_NAME[name], start, 0.99, LOOKS_TO_PROVE[name], runs=10_000 if name in LIGHT else 1000, sigmas=0)
