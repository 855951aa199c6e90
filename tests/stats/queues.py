"""Latencies whose true percentiles are known: independent ones, AR(1), and those of a queue with one server."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter  # pyright: ignore[reportUnknownVariableType]
from scipy.special import log_ndtr

from infc.compiler.statistics.looks import BLOCKS, WARM_UP, requests_at, share_of_alpha
from infc.compiler.statistics.order import percentile

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Floats]
"""Latencies [runs, blocks, length], blocks independent."""
SIGMA = 1.0
"""Of the logarithm of a lognormal service time: its p99 is ten times its median."""
START = 0.05
"""The standard deviation of the logarithm of the factor that each start of the server has."""
CHUNK = 4_000_000


@dataclass(frozen=True)
class Scenario:
    """A distribution of latencies; service times have mean 1."""

    name: str
    draw: Draw
    cdf: Callable[[Floats], Floats]

    def true(self, q: float, start: bool) -> float:
        """The q-quantile, over all starts."""
        at, weights = np.polynomial.hermite_e.hermegauss(41)
        factors = np.exp(START * at) if start else np.ones(1)
        weights = weights / weights.sum() if start else np.ones(1)
        low, high = 0.0, 1e4
        for _ in range(100):
            middle = (low + high) / 2
            below = float(weights @ self.cdf(middle / factors))
            low, high = (middle, high) if below < q else (low, middle)
        return high


def independent() -> Scenario:
    """Exponential."""
    return Scenario("independent", lambda rng, shape: rng.standard_exponential(shape), lambda t: -np.expm1(-t))


def ar1(phi: float) -> Scenario:
    """Exponential, by transform of a Gaussian AR(1) that starts in its stationary distribution."""

    def draw(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
        noise = rng.standard_normal(shape)
        noise[..., 1:] *= math.sqrt(1 - phi**2)
        series: Floats = np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=-1))
        return -log_ndtr(-series)

    return Scenario(f"AR(1) {phi}", draw, lambda t: -np.expm1(-t))


def queue(load: float, service: str, warm_up: int = WARM_UP) -> Scenario:
    """Time in an M/G/1 queue: Lindley's recursion from an empty queue, without the first `warm_up` requests."""

    def draw(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
        longer = (*shape[:2], shape[2] + warm_up)
        times = rng.standard_exponential(longer) if service == "exponential" else _lognormal(rng, longer)
        walk = np.empty(longer)
        walk[..., 0] = 0
        np.subtract(times[..., :-1], rng.standard_exponential(longer)[..., 1:] / load, out=walk[..., 1:])
        np.cumsum(walk, axis=-1, out=walk)
        walk -= np.minimum.accumulate(walk, axis=-1)
        walk += times
        return walk[..., warm_up:]

    def cdf(t: Floats) -> Floats:
        return -np.expm1(-(1 - load) * t) if service == "exponential" else np.interp(t, *_sojourn(load))

    return Scenario(f"M/G/1 {load} {service}", draw, cdf)


SCENARIOS = (
    independent(),
    *(ar1(phi) for phi in (0.5, 0.9)),
    *(queue(load, service) for load in (0.3, 0.5, 0.8) for service in ("exponential", "lognormal")),
)


def verdicts(
    scenario: Scenario, start: bool, q: float, times: float, looks: Sequence[int], runs: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The shares of runs whose true q-quantile comes out met, and missed, at any of `looks`, for a bound of `times` it."""
    rng = np.random.default_rng([runs, int(1000 * q), sum(scenario.name.encode()), start])
    bound = scenario.true(q, start) * times
    plan = [requests_at(look, q, confidence) for look in range(1, max(looks) + 1)]
    size = max(1, CHUNK // plan[-1].requests)
    met = missed = 0
    for at in range(0, runs, size):
        count = min(size, runs - at)
        was_met, was_missed = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        blocks: list[list[Floats]] = [[] for _ in range(count)]
        for look, step in enumerate(plan, 1):
            drawn = scenario.draw(rng, (count, BLOCKS, step.length))
            if start:
                drawn *= np.exp(START * rng.standard_normal((count, BLOCKS, 1)))
            for run in range(count):
                blocks[run].extend(drawn[run])
                if look in looks:
                    alpha = (1 - confidence) * share_of_alpha(look)
                    found = percentile(blocks[run], q, alpha, alpha)
                    was_met[run] |= found.high <= bound
                    was_missed[run] |= found.low > bound
        met, missed = met + int(was_met.sum()), missed + int(was_missed.sum())
    return met / runs, missed / runs


def _lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    drawn = rng.standard_normal(shape)
    drawn *= SIGMA
    drawn -= SIGMA**2 / 2
    return np.exp(drawn, out=drawn)


@cache
def _sojourn(load: float) -> tuple[Floats, Floats]:
    """Times and the cdf of the time in a queue with lognormal service: Pollaczek and Khinchine's formula, by Fourier
    transform of the distribution on a grid (Gruebel 1991, Applied Statistics 40, 355-365)."""
    step, size = 0.004, 1 << 20
    edges = step * (np.arange(size + 1) - 0.5)
    cdf = np.exp(log_ndtr((np.log(np.maximum(edges, 1e-300)) + SIGMA**2 / 2) / SIGMA))
    cdf[0] = 0
    service = np.diff(cdf)
    residual = step * (1 - cdf[1:])  # its density is 1 - cdf, the mean being 1
    residual[0] /= 2
    residual /= residual.sum()
    waits = (1 - load) / (1 - load * np.fft.rfft(residual))
    times: Floats = step * (np.arange(size, dtype=np.float64) + 0.5)
    return times, np.cumsum(np.fft.irfft(waits * np.fft.rfft(service), size))
