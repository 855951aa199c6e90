"""What has to be measured before a target can be decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ...dsl.spec import ColdStartTarget, CostTarget, LatencyTarget, MemoryTarget, Target, ThroughputTarget
from ..statistics.decide import decide
from .judge import COLD_START_QUANTILE, Evidence, Terms, falls_behind, judge
from .ledger import Bounds
from .loads import Load, affordable_rate, bare_latencies, declared_load, load_of, saturating

FASTEST = 20_000.0
"""Requests a second that the generator is not asked to send: it is one thread."""
ENOUGH = 2
"""Looks at a load with which the server does not keep up: more of them decide nothing."""
LONGEST, ANY = 0.99, 0.5
"""The quantiles by which runs are planned that are asked for none: the longest latency; memory and cost."""


@dataclass(frozen=True)
class Need:
    """A further run: `what` of load (`repeat`: after a miss), timed starts, or the queue full. `quantile` says how many
    requests it takes."""

    what: Literal["load", "warm starts", "cold starts", "fill"]
    load: Load | None = None
    repeat: bool = False
    quantile: float = ANY


def needs(target: Target, evidence: Evidence, terms: Terms) -> list[Need]:
    """The runs that may decide the target; none where it is decided, or where no run here can decide it."""
    if judge(target, evidence, terms).verdict != "not proved":
        return []
    found = _needs(target, evidence, terms)
    return [need for need in found if not evidence.misfit or not _seen(need, evidence)]


def _seen(need: Need, evidence: Evidence) -> bool:
    """Whether there is a value already: on a machine that is not the declared one, one run shows it."""
    if need.what == "load":
        return need.load is not None and bool(evidence.ledger(need.load).looks)
    return bool(evidence.fills) if need.what == "fill" else bool(evidence.starts[need.what == "cold starts"])


def _needs(target: Target, evidence: Evidence, terms: Terms) -> list[Need]:
    declared = declared_load(terms.model.traffic)
    if isinstance(target, LatencyTarget):
        load = load_of(target, terms.model, terms.price)
        assert load is not None
        ledger = evidence.ledger(load)
        if len(ledger.cleaned()) >= ENOUGH and falls_behind(ledger, load):
            return []
        return [_for_latency(target, load, evidence, terms)]
    if isinstance(target, ThroughputTarget):
        return _for_rate(target, target.bound, target.unit == "items/s", evidence, terms)
    if isinstance(target, CostTarget):
        if terms.price is None or target.per == "tokens":
            return []
        if terms.model.traffic.rate is not None:
            seen = evidence.ledger(declared)
            return [] if len(seen.cleaned()) >= ENOUGH else [Need("load", declared)]
        rate = affordable_rate(target, terms.price)
        return [] if rate is None else _for_rate(target, rate, False, evidence, terms)
    if isinstance(target, MemoryTarget):
        blocks = evidence.ledger(declared).blocks()
        loaded = any(block.peak_rss_bytes is not None for block in blocks)
        return [*([] if loaded else [Need("load", declared)]), *([] if evidence.fills else [Need("fill")])]
    assert isinstance(target, ColdStartTarget)
    runs = evidence.starts[target.cold]
    if target.cold and any(start.pages_left != 0 for run in runs[-1:] for start in run.starts):
        return []
    return [Need("cold starts" if target.cold else "warm starts", quantile=COLD_START_QUANTILE)]


def _for_latency(target: LatencyTarget, load: Load, evidence: Evidence, terms: Terms) -> Need:
    ledger = evidence.ledger(load)
    if target.quantile >= 1:
        longest, count = ledger.largest()
        return Need("load", load, bool(count) and longest > target.bound, LONGEST)
    bounds = ledger.quantile(target.quantile, terms.confidence, terms.claims)
    return Need("load", load, _missed(bounds, target.bound, "<="), target.quantile)


def _for_rate(
    target: ThroughputTarget | CostTarget, bound: float, rows: bool, evidence: Evidence, terms: Terms
) -> list[Need]:
    """Where latency targets must hold, the rate itself; without any, and where the rate is more than can be sent, what a
    closed loop is answered at most."""
    busy = saturating(terms.model)
    most = evidence.ledger(busy)
    bounds = most.capacity(terms.confidence, terms.claims, rows=rows)
    if _missed(bounds, bound, ">="):
        return [Need("load", busy, repeat=True)]
    latencies = bare_latencies(terms.model)
    load = load_of(target, terms.model, terms.price)
    assert load is not None
    too_fast = load.rate is not None and load.rate > FASTEST
    late = bool(evidence.ledger(load).void or falls_behind(evidence.ledger(load), load))
    if not latencies or ((too_fast or late) and not most.cleaned()):
        return [Need("load", busy)]
    if too_fast:
        return []
    return [_for_latency(t, load, evidence, terms) for t in latencies]


def _missed(bounds: Bounds, bound: float, op: Literal["<=", ">="]) -> bool:
    return not math.isnan(bounds.value) and decide(bounds.low, bounds.high, bound, op) == "missed"
