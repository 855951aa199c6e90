"""What is legal and probably wrong."""

from __future__ import annotations

import math

from .making import Making
from .spec import AccuracyTarget, CostTarget, LatencyTarget, Model, Spec, Targets

ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float8": 2.0**-4}
"""Relative rounding error of one number in each float format (half a unit in the last place)."""


FIRST_LOOK, FREEDOM = 0.7, 19
"""The first look's share of the level, and the degrees of freedom of its twenty blocks (the compiler's statistics)."""


def requests_to_prove(quantile: float, confidence: float) -> int:
    """How many requests, none of them late, prove a quantile at a confidence at the first look: the n with
    q**(n (z/t)**2) <= 0.7 (1 - c), z and t the normal's and Student's quantiles at that level.

    p99 at 95 % takes 375, p99.9 takes 3,763. t is Cornish and Fisher's expansion, within a few per mille.
    """
    from statistics import NormalDist

    alpha = (1.0 - confidence) * FIRST_LOOK
    z = NormalDist().inv_cdf(1.0 - alpha)
    n = FREEDOM
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return math.ceil(math.log(alpha) / math.log(quantile) * (t / z) ** 2 - 1e-9)


def warn_spec(making: Making, spec: Spec, used_lets: set[str]) -> None:
    """Reports every warning of a checked spec."""
    for model in spec.models:
        _warn_cost(making, spec, model.targets)
        _warn_percentiles(making, model, model.targets)
        _warn_accuracy(making, model)
    _warn_cost(making, spec, spec.bundle_targets)
    if spec.serve.degrade is not None:
        _warn_degrade(making, spec)


def _warn_cost(making: Making, spec: Spec, targets: Targets) -> None:
    for target in targets.items:
        if not isinstance(target, CostTarget):
            continue
        unpriced = [h for h in spec.hardware if h.price_usd_per_h is None]
        if unpriced:
            named = [f'"{h.name}"' if h.name else h.kind for h in unpriced if h.written]
            what = f"use {named[0]} has no price" if named else "this machine has no price"
            making.error(
                "W0101", f"the cost cannot be computed: {what}", target.span, "",
                ("add `price 0.10 USD/h` to the machine's properties",),
            )  # fmt: skip


def _warn_percentiles(making: Making, model: Model, targets: Targets) -> None:
    for target in targets.items:
        if not isinstance(target, LatencyTarget) or target.quantile >= 1.0:
            continue
        rate = target.at_rate or model.traffic.rate
        if rate is None or rate.unit != "req/s":
            continue
        needed = requests_to_prove(target.quantile, targets.confidence)
        sent = rate.value * model.search.budget_s
        if sent < needed:
            takes = needed / rate.value
            making.error(
                "W0102",
                f"{target.statistic} cannot be proved: {rate.value:g} req/s for {model.search.budget_s:g} s are "
                f"{sent:,.0f} requests",
                target.at("statistic"),
                f"needs {needed:,} requests at {targets.confidence * 100:g} %",
                (f"raise `budget` in `search` to {math.ceil(takes):,} s, or promise a lower percentile",),
            )


def _warn_accuracy(making: Making, model: Model) -> None:
    for target in model.targets.items:
        if not isinstance(target, AccuracyTarget) or target.versus != "float32":
            continue
        if target.metric == "cosine":
            known = all(p.kind in ROUNDING for p in model.search.precisions)
            loosest = max(model.search.precisions, key=lambda p: ROUNDING.get(p.kind, 0.0)).kind
            rounding = ROUNDING.get(loosest, 0.0)
            if known and 1 - target.bound > max(1e-3, 16 * rounding):
                making.error(
                    "W0103", f"this bound is far looser than {loosest} rounds: it would not notice a mistake",
                    target.at("bound"), f"rounding to {loosest} alone stays above {1 - 16 * rounding:.6g}",
                )  # fmt: skip
        elif target.metric in ("max_abs_error", "mse") and target.bound == 0:
            making.error("W0104", "no two ways of adding agree to the last bit: 0 will not be met", target.at("bound"))
        if target.metric in ("cosine", "top1") and target.bound == 1:
            making.error("W0104", "1 leaves no room for rounding: it will hardly be met", target.at("bound"))


def _warn_degrade(making: Making, spec: Spec) -> None:
    degrade = spec.serve.degrade
    assert degrade is not None
    kinds = {p.kind for m in spec.models for p in m.search.precisions}
    if degrade.variant not in kinds:
        making.error(
            "W0106", f"no model is built with precision {degrade.variant}", degrade.at("variant"),
            f"precision has {', '.join(sorted(kinds))}",
        )  # fmt: skip
