"""The `search` block → `Search`, and the top-level `serve` block → `Serve`."""

from __future__ import annotations

from typing import Any

from .cursor import Captured
from .entries import Entry
from .make_targets import quantile_of
from .making import Making, spans_of, value_of
from .spec import Cache, Degrade, Goal, Keep, Precision, Queue, Rate, Search, Serve, Tenants

_MORE_IS_BETTER = ("throughput", "accuracy")


def make_search(making: Making, model: str) -> Search:
    """What the search of a model may choose between."""

    def word(name: str) -> Entry | None:
        return making.one(model, "search", name)

    def bounds(name: str) -> Any:
        entry = word(name)
        return None if entry is None else entry.match.captures["range"].value

    precision, fusion, prune = word("precision"), word("fusion"), word("prune")
    budget, seed = word("budget"), word("seed")
    span = making.collected.blocks.get((model, "search")) or making.collected.blocks.get((None, "search"))
    names = ("precision", "fusion", "batch", "wait", "instances", "threads", "prune", "objective", "budget", "seed")
    fields = {"precision": "precisions", "wait": "wait_s", "budget": "budget_s"}
    written = [(name, word(name)) for name in names]
    return Search(
        precisions=(Precision(),) if precision is None else _precisions(making, precision),
        fusion="auto" if fusion is None else fusion.match.captures["fusion"].value,
        batch=bounds("batch"),
        wait_s=bounds("wait"),
        instances=bounds("instances"),
        threads=bounds("threads"),
        keep=tuple(_keep(e) for e in making.all(model, "search", "keep")),
        prune=None if prune is None else prune.match.captures["share"].value,
        objective=_objective(making, word("objective")),
        budget_s=300.0 if budget is None else float(budget.match.captures["budget"].value),
        seed=0 if seed is None else seed.match.captures["seed"].value,
        span=span,
        spans=tuple((fields.get(name, name), entry.span) for name, entry in written if entry is not None),
    )


def _precision(captured: Captured) -> Precision:
    call = captured.value
    return Precision(
        kind=call.name, group=value_of(call.args, "group"), span=captured.span, spans=spans_of(call.args, group="group")
    )


def _precisions(making: Making, entry: Entry) -> tuple[Precision, ...]:
    out: list[Precision] = []
    for item in entry.match.items:
        precision = _precision(item["precision"])
        if precision in out:
            making.error("E0212", f"`{precision.kind}` is given twice", precision.span, "expected it once")
        out.append(precision)
    return tuple(out)


def _keep(entry: Entry) -> Keep:
    captures = entry.match.captures
    spans = spans_of(captures, pattern="pattern", precision="precision")
    return Keep(
        pattern=captures["pattern"].value, precision=_precision(captures["precision"]), span=entry.span, spans=spans
    )


def _objective(making: Making, entry: Entry | None) -> tuple[Goal, ...]:
    if entry is None:
        return ()
    captures = entry.match.captures
    prefixes = ["", *sorted({k.split(".")[0] + "." for k in captures if k.startswith("then")})]
    return tuple(_goal(making, captures, prefix) for prefix in prefixes)


def _goal(making: Making, captures: dict[str, Captured], prefix: str) -> Goal:
    quantity = captures[f"{prefix}quantity"]
    sense, stat = captures.get(f"{prefix}sense"), captures.get(f"{prefix}stat")
    best: Any = "maximize" if quantity.value in _MORE_IS_BETTER else "minimize"
    if sense is not None and sense.value != best:
        making.error("E0512", f"nobody wants to {sense.value} {quantity.value}", sense.span, f"expected {best}")
    takes_stat = quantity.value in ("latency", "ttft", "itl")
    if stat is not None and not takes_stat:
        making.error("E0512", f"{quantity.value} has no percentiles", stat.span, "expected nothing here")
    if stat is None and takes_stat:
        title = f"which percentile of {quantity.value}?"
        making.error("E0512", title, quantity.span, "expected a percentile after this, as in latency p99")
    if stat is not None:
        quantile_of(stat.value)
    return Goal(sense=best, quantity=quantity.value, statistic=None if stat is None else stat.value, span=quantity.span)


def make_serve(making: Making) -> Serve:
    """How the server answers."""

    def word(name: str) -> Entry | None:
        return making.one(None, "serve", name)

    default = Serve()
    protocols, queue, cache, tenants = word("protocols"), word("queue"), word("cache"), word("tenants")
    chosen: Any = default.protocols if protocols is None else tuple(i["protocol"].value for i in protocols.match.items)
    if protocols is not None and len(set(chosen)) != len(chosen):
        making.error("E0212", "a protocol is given twice", protocols.span, "expected each once")
    written = [(name, word(name)) for name in ("protocols", "queue", "cache", "degrade", "tenants")]
    return Serve(
        protocols=chosen,
        queue=default.queue if queue is None else _queue(queue),
        cache=None if cache is None else _cache(making, cache),
        degrade=_degrade(making, word("degrade")),
        tenants=None if tenants is None else _tenants(tenants),
        span=making.collected.blocks.get((None, "serve")),
        spans=tuple((name, entry.span) for name, entry in written if entry is not None),
    )


def _queue(entry: Entry) -> Queue:
    captures = entry.match.captures
    deadline = value_of(captures, "deadline")
    return Queue(
        requests=captures["size"].value,
        deadline_s=None if deadline is None else float(deadline),
        span=entry.span,
        spans=spans_of(captures, requests="size", deadline_s="deadline"),
    )


def _cache(making: Making, entry: Entry) -> Cache | None:
    captures = entry.match.captures
    if "size" not in captures:
        making.error("E0214", "a cache needs its size", entry.span, "expected a size, as in cache exact, 64 MiB")
        return None
    ttl = value_of(captures, "ttl")
    return Cache(
        size_bytes=captures["size"].value,
        ttl_s=None if ttl is None else float(ttl),
        span=entry.span,
        spans=spans_of(captures, size_bytes="size", ttl_s="ttl"),
    )


def _degrade(making: Making, entry: Entry | None) -> Degrade | None:
    if entry is None or not entry.inner:
        return None
    inner = entry.inner[0]
    captures = inner.match.captures
    if "below" not in captures:
        making.error(
            "E0214", "degrade needs the way back", inner.span, "expected `, back below 10 % for 30 s` after this"
        )
        return None
    if captures["below"].value >= captures["above"].value:
        making.error(
            "E0513",
            "the way back is below the condition",
            captures["below"].span,
            f"expected less than {captures['above'].value * 100:g} %",
            ("otherwise the server would go back and forth",),
        )
    return Degrade(
        variant=captures["variant"].value,
        above=captures["above"].value,
        above_s=float(captures["above_for"].value),
        below=captures["below"].value,
        below_s=float(captures["below_for"].value),
        span=entry.span,
        spans=spans_of(
            captures, variant="variant", above="above", above_s="above_for", below="below", below_s="below_for"
        ),
    )


def _tenants(entry: Entry) -> Tenants:
    captures = entry.match.captures
    limit = captures.get("limit")
    unit: Any = None if limit is None else "items/s" if limit.unit == "img/s" else limit.unit
    return Tenants(
        header=captures["header"].value,
        limit=None if limit is None else Rate(value=float(limit.value), unit=unit, span=limit.span),
        span=entry.span,
        spans=spans_of(captures, header="header", limit="limit"),
    )
