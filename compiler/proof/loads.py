"""Which load each target of a spec speaks of. What a spec does not declare is what `check --explain` names, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...dsl.spec import (
    Arrival,
    Burst,
    CostTarget,
    Hardware,
    LatencyTarget,
    MemoryTarget,
    Model,
    Rate,
    Target,
    ThroughputTarget,
    Traffic,
)

SATURATING = 64
"""Connections of the closed loop that keeps a server busy."""


@dataclass(frozen=True)
class Load:
    """How a server is asked: in an open loop at `rate` requests a second, or (None) on `connections`, each of which sends its
    next request when the last is answered. `burst`: factor, seconds, and the period in seconds; `items`: least and most
    rows of a request."""

    rate: float | None = None
    connections: int = 1
    arrival: Arrival = "poisson"
    burst: tuple[float, float, float] | None = None
    items: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        rows = "" if self.items == (1, 1) else f", {self.items[0]} to {self.items[1]} rows each"
        if self.rate is None:
            return f"{'one request' if self.connections == 1 else f'{self.connections} requests'} at a time{rows}"
        burst = ""
        if self.burst is not None:
            factor, duration, every = self.burst
            burst = f", {factor:g} times that for {duration:g} s every {every:g} s"
        steady = ", steady" if self.arrival == "steady" else ""
        return f"{self.rate:g} req/s{steady}{burst}{rows}"

    @property
    def rows(self) -> float:
        """The mean rows of a request."""
        return sum(self.items) / 2

    @property
    def mean_rate(self) -> float | None:
        """Requests a second over a whole period; None in a closed loop."""
        if self.rate is None or self.burst is None:
            return self.rate
        factor, duration, every = self.burst
        return self.rate * (factor * duration + every - duration) / every

    def arguments(self) -> list[str]:
        """Of `serve prove`."""
        items = ["--items", f"{self.items[0]}..{self.items[1]}"]
        if self.rate is None:
            return ["--closed", str(self.connections), *items]
        burst = [] if self.burst is None else ["--burst", ":".join(f"{part:.17g}" for part in self.burst)]
        return ["--rate", f"{self.rate:.17g}", "--arrival", self.arrival, *burst, *items]


def declared_load(traffic: Traffic) -> Load:
    """The load that a spec declares: its rate; else batch work keeps the server busy; else one request at a time."""
    items = traffic.items
    if traffic.rate is not None:
        return Load(per_second(traffic.rate, items), 1, traffic.arrival, _burst(traffic.burst), items)
    return Load(connections=SATURATING if traffic.offline else 1, items=items)


def per_second(rate: Rate, items: tuple[int, int]) -> float:
    """A rate in requests a second."""
    return rate.value / (sum(items) / 2) if rate.unit == "items/s" else rate.value


def bare_latencies(model: Model) -> list[LatencyTarget]:
    """The latency targets without a rate of their own: those that hold while a throughput does."""
    return [t for t in model.targets.items if isinstance(t, LatencyTarget) and t.at_rate is None]


def load_of(target: Target, model: Model, price: float | None) -> Load | None:
    """The load under which a target is measured; None where it needs none. `price`: USD an hour of the machine."""
    declared = declared_load(model.traffic)
    if isinstance(target, LatencyTarget):
        if target.at_rate is None:
            return declared
        arrival = target.arrival or model.traffic.arrival
        return Load(per_second(target.at_rate, declared.items), 1, arrival, None, declared.items)
    if isinstance(target, MemoryTarget):
        return declared
    if isinstance(target, ThroughputTarget):
        return _at(target_rate(target, declared), model)
    if isinstance(target, CostTarget):
        if model.traffic.rate is not None:
            return declared
        rate = affordable_rate(target, price)
        return None if rate is None else _at(rate, model)
    return None


def target_rate(target: ThroughputTarget, declared: Load) -> float:
    """A throughput target's bound in requests a second."""
    return target.bound / declared.rows if target.unit == "items/s" else target.bound


def affordable_rate(target: CostTarget, price: float | None) -> float | None:
    """The rate in requests a second from which on a machine costs no more than the target's bound; None without a price."""
    if price is None or target.per == "tokens":
        return None
    return price / 3600 * target.count / target.bound if target.bound > 0 else None


def saturating(model: Model) -> Load:
    """The closed loop that finds the most that a server answers."""
    return Load(connections=SATURATING, items=model.traffic.items)


def _at(rate: float, model: Model) -> Load:
    """The load on which a rate is proved: open where latency targets must hold at it, else as much as the server takes."""
    if not bare_latencies(model):
        return saturating(model)
    return replace(Load(rate, 1, model.traffic.arrival), items=model.traffic.items)


def price_of(hardware: Hardware) -> float | None:
    """USD an hour of one machine; None where neither the spec nor the catalogue says it."""
    if hardware.price_usd_per_h is not None or hardware.machine is None:
        return hardware.price_usd_per_h
    return hardware.machine.price_usd_per_h


def tightest(targets: Sequence[Target], load: Load, model: Model) -> float | None:
    """The least latency bound in seconds that is judged on `load`; None where there is none."""
    bounds = [t.bound for t in targets if isinstance(t, LatencyTarget) and load_of(t, model, None) == load]
    if any(isinstance(t, ThroughputTarget | CostTarget) for t in targets) and load.rate is not None:
        bounds += [t.bound for t in bare_latencies(model)]
    return min(bounds, default=None)


def _burst(burst: Burst | None) -> tuple[float, float, float] | None:
    return None if burst is None else (burst.factor, burst.duration_s, burst.every_s)
