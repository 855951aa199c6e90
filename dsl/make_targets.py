"""The `targets` block → `Targets`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from .cursor import Captured
from .diagnostics import Label
from .entries import Entry
from .keywords import AGREEMENT_METRICS, ERROR_METRICS, LABEL_METRICS
from .making import Making, call_of, spans_of, value_of
from .paths import PathValue
from .spec import (
    AccuracyTarget,
    BundleSizeTarget,
    ColdStartTarget,
    CostTarget,
    LatencyTarget,
    MemoryTarget,
    Rate,
    Target,
    Targets,
    ThroughputTarget,
)
from .suggest import listed


def quantile_of(statistic: str) -> float:
    """`p99.9` → 0.999, `max` → 1.0; exact decimals."""
    return 1.0 if statistic == "max" else float(f"{statistic[1:]}e-2")


def make_targets(making: Making, model: str | None) -> Targets:
    """The targets of a model, or those of the bundle (None)."""
    items: list[Target] = []
    confidence: Entry | None = None
    for entry in making.entries:
        if entry.model != model or entry.block != "targets":
            continue
        if entry.word == "confidence":
            confidence = entry
        else:
            items.append(_target(making, entry))
    span = making.collected.blocks.get((model, "targets")) or making.collected.blocks.get((None, "targets"))
    targets = Targets(
        items=tuple(items),
        confidence=0.95 if confidence is None else confidence.match.captures["bound"].value,
        span=span,
        spans=() if confidence is None else (("confidence", confidence.span),),
    )
    _check_order(making, targets)
    return targets


def _target(making: Making, entry: Entry) -> Target:
    captures = entry.match.captures
    bound = captures["bound"]
    spans = spans_of(captures, bound="bound")
    if entry.word in ("latency", "ttft", "itl"):
        return _latency(making, entry)
    if entry.word == "throughput":
        unit: Any = "items/s" if bound.unit == "img/s" else bound.unit
        return ThroughputTarget(bound=float(bound.value), unit=unit, span=entry.span, spans=spans)
    if entry.word == "accuracy":
        return _accuracy(making, entry)
    if entry.word == "cost":
        count = captures["count"]
        per: Any = count.unit
        spans = spans_of(captures, bound="bound", per="count", count="count")
        return CostTarget(bound=float(bound.value), per=per, count=float(count.value), span=entry.span, spans=spans)
    if entry.word == "memory":
        place = value_of(captures, "place", "host")
        spans = spans_of(captures, bound="bound", place="place")
        return MemoryTarget(bound=bound.value, place=place, span=entry.span, spans=spans)
    if entry.word == "cold_start":
        return ColdStartTarget(bound=float(bound.value), cold="cold" in captures, span=entry.span, spans=spans)
    assert entry.word == "bundle_size"
    return BundleSizeTarget(bound=bound.value, span=entry.span, spans=spans)


def _latency(making: Making, entry: Entry) -> LatencyTarget:
    captures = entry.match.captures
    statistic = captures["stat"].value
    rate: Captured | None = captures.get("rate")
    unit: Any = None if rate is None else "items/s" if rate.unit == "img/s" else rate.unit
    arrival = captures.get("arrival")
    if arrival is not None and rate is None:
        making.error(
            "E0510",
            f"`{arrival.value}` says how requests arrive at a rate",
            arrival.span,
            "expected `at RATE` before this",
        )
    task = making.one(entry.model, "model", "task")
    if entry.word in ("ttft", "itl") and (making.by_word.get((entry.model, "model", "source")) is not None):
        kind = "tensor" if task is None else call_of(task, "task").name
        if kind != "generate":
            making.error(
                "E0507", f"`{entry.word}` is about tokens that a model generates, and this task is {kind}",
                entry.statement.word.span, "expected latency", ("`task generate` makes tokens",),
            )  # fmt: skip
    return LatencyTarget(
        kind=entry.word,  # pyright: ignore[reportArgumentType]
        statistic=statistic,
        quantile=quantile_of(statistic),
        bound=float(captures["bound"].value),
        at_rate=None if rate is None else Rate(value=float(rate.value), unit=unit, span=rate.span),
        arrival=value_of(captures, "arrival"),
        span=entry.span,
        spans=spans_of(captures, statistic="stat", bound="bound", at_rate="rate", arrival="arrival"),
    )


def _accuracy(making: Making, entry: Entry) -> AccuracyTarget:
    captures = entry.match.captures
    call = call_of(entry, "metric")
    op, bound, versus = captures["op"], captures["bound"], captures.get("versus")
    metric = call.name
    function = call.args.get("function")
    value: PathValue | None = None if function is None else function.value
    path = None if function is None else making.path(function)
    rise = "rise" in captures
    wanted = "<=" if metric in ERROR_METRICS or rise else ">="
    if metric != "metric":
        if op.value != wanted:
            side = "less is better" if wanted == "<=" else "more is better"
            making.error("E0216", f"accuracy {metric} is bounded with {wanted}: {side}", op.span, f"expected {wanted}")
        _check_versus(making, entry, metric, versus)
        if metric in ("cosine", "top1", "top5", "auc", "f1", "precision", "recall"):
            low = -1.0 if metric == "cosine" else 0.0
            if not low <= bound.value <= 1:
                making.error("E0205", f"{metric} lies between {low:g} and 1", bound.span, f"expected {low:g}..1")
        elif bound.value < 0:
            making.error("E0205", f"{metric} is never negative", bound.span, "expected at least 0")
        if rise and metric != "perplexity":
            making.error(
                "E0508", "only perplexity is bounded by its rise", captures["rise"].span, "expected a bound here"
            )
    elif versus is not None:
        making.error(
            "E0508", "a metric of your own takes outputs and labels itself", versus.span, "expected nothing here"
        )
    if making.one(entry.model, "data", "evaluate") is None and not making.doubtful(entry.model, "evaluate", "data"):
        making.error(
            "E0509", "accuracy is measured on `evaluate`, and this spec has none", entry.span, "",
            ('add `data { evaluate jsonl("data/evaluate.jsonl", field = "text") }`',),
        )  # fmt: skip
    return AccuracyTarget(
        metric=metric,
        op=op.value,
        bound=float(bound.value),
        versus=value_of(captures, "versus"),
        rise=rise,
        metric_path=path,
        metric_entry=None if value is None else value.entry,
        span=entry.span,
        spans=spans_of(captures, metric="metric", op="op", bound="bound", versus="versus", rise="rise"),
    )


def _check_versus(making: Making, entry: Entry, metric: str, versus: Captured | None) -> None:
    allowed = [v for v, metrics in (("float32", AGREEMENT_METRICS), ("labels", LABEL_METRICS)) if metric in metrics]
    if versus is None:
        span = entry.match.captures["bound"].span
        making.error(
            "E0508", f"accuracy {metric} needs what it is compared with", span,
            f"expected vs {listed(allowed)} after this",
        )  # fmt: skip
    elif versus.value not in allowed:
        making.error(
            "E0508", f"{metric} cannot be taken against {versus.value}", versus.span, f"expected {listed(allowed)}"
        )


def _check_order(making: Making, targets: Targets) -> None:
    """A higher percentile cannot be bounded more tightly than a lower one."""
    for kind in ("latency", "ttft", "itl"):
        own = sorted(
            (t for t in targets.items if isinstance(t, LatencyTarget) and t.kind == kind and t.at_rate is None),
            key=lambda t: t.quantile,
        )
        for low, high in pairwise(own):
            if high.bound < low.bound and high.span is not None and low.span is not None:
                making.error(
                    "W0105",
                    f"{high.statistic} is at least {low.statistic}, so this bound makes the other one idle",
                    high.at("bound"),
                    f"expected at least the bound of {low.statistic}",
                    (),
                    (Label(low.span, "the other"),),
                )
