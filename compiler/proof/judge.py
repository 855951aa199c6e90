"""Claims on times, rates, memory and money against their evidence: met, missed, or not proved and what would prove it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...dsl.spec import ColdStartTarget, CostTarget, LatencyTarget, MemoryTarget, Model, Target, ThroughputTarget
from ..errors import Exit, InfcError
from ..statistics.binomial import share
from ..statistics.decide import decide
from ..statistics.extremes import share_excluded
from ..statistics.looks import requests_to_prove
from .document import Run
from .ledger import Bounds, Ledger, over_looks, quantile_of
from .loads import Load, affordable_rate, bare_latencies, declared_load, load_of, saturating, target_rate
from .noise import void_starts
from .verdict import Verdict, Word, noted, show, verdict_of, worst

COLD_START_QUANTILE = 0.95
KEEPS_UP = 0.95
"""The share of an open load's rate that is answered while it lasts where the queue is stable."""


@dataclass
class Evidence:
    """What is known of one bundle on one machine. `loads`: a ledger a load; `starts`: runs of starts alone, warm and cold;
    `fills`: runs with the queue full. `misfit`: why none of it speaks of the declared machine, or ""."""

    loads: dict[Load, Ledger] = field(default_factory=dict[Load, Ledger])
    starts: dict[bool, list[Run]] = field(default_factory=lambda: {False: [], True: []})
    fills: list[Run] = field(default_factory=list[Run])
    misfit: str = ""

    def ledger(self, load: Load) -> Ledger:
        """What was measured under a load; an empty one where nothing was."""
        return self.loads.get(load, Ledger(None))


@dataclass(frozen=True)
class Terms:
    """What claims are judged by: `claims` statistical targets hold together at `confidence`; `price` in USD an hour."""

    model: Model
    confidence: float
    claims: int
    price: float | None
    ceiling: int


def judge(target: Target, evidence: Evidence, terms: Terms) -> Verdict:
    """The verdict on one target of time, rate, memory or cost. Raises InfcError (exit 1) where the server took more than
    the ceiling that it promises."""
    if isinstance(target, LatencyTarget):
        load = load_of(target, terms.model, terms.price)
        assert load is not None
        return _elsewhere(latency(target, evidence.ledger(load), load, terms), evidence)
    if isinstance(target, ThroughputTarget):
        declared = declared_load(terms.model.traffic)
        rate = target_rate(target, declared)
        return _elsewhere(throughput(target, rate, evidence, terms), evidence)
    if isinstance(target, CostTarget):
        return cost(target, evidence, terms)
    if isinstance(target, MemoryTarget):
        return memory(target, evidence, terms)
    assert isinstance(target, ColdStartTarget)
    return _elsewhere(cold_start(target, evidence.starts[target.cold], terms), evidence)


def latency(target: LatencyTarget, ledger: Ledger, load: Load, terms: Terms) -> Verdict:
    """A percentile: its bounds over all looks; `max`: of the requests seen."""
    if target.quantile >= 1:
        found = _longest(target, ledger, terms)
    else:
        bounds = ledger.quantile(target.quantile, terms.confidence, terms.claims)
        word = decide(bounds.low, bounds.high, target.bound, target.op)
        if word == "missed":
            again = ledger.quantile(target.quantile, terms.confidence, terms.claims, repeat=True)
            word, note = repeated(decide(again.low, again.high, target.bound, target.op), ledger)
        else:
            note = "" if word == "met" else enough(target.quantile, bounds, load, ledger, terms)
        found = _verdict(target, word, bounds, terms, _note(f"{bounds.samples:,} requests at {load}", note))
    behind = falls_behind(ledger, load)
    if found.verdict == "met" and behind:
        found = noted(replace(found, verdict="not proved"), behind)
    if found.verdict == "not proved" and target.bound < ledger.least() < math.inf:
        least = show(target, ledger.least())
        return verdict_of(
            target, "missed", confidence=terms.confidence, value=found.value, low=ledger.least(),
            high=found.high, samples=found.samples, note=f"no request was answered within {least}",
        )  # fmt: skip
    return found


def falls_behind(ledger: Ledger, load: Load) -> str:
    """Why the server does not keep up with an open load, so that latencies grow for as long as it lasts; "" where it does."""
    rate, answered = load.mean_rate, ledger.answered()
    if rate is None or answered >= KEEPS_UP * rate:
        return ""
    return f"the server does not keep up: of {rate:.4g} requests a second it answers {answered:.4g}; a lower rate would be decided"


def _longest(target: LatencyTarget, ledger: Ledger, terms: Terms) -> Verdict:
    value, count = ledger.largest()
    if not count:
        return _verdict(
            target, "not proved", Bounds(math.nan, -math.inf, math.inf, 0), terms, ledger.void or "not measured"
        )
    word: Word = "met" if value <= target.bound else "missed"
    note = f"the longest of {count:,} requests"
    if word == "missed":
        again, more = ledger.largest(repeat=True)
        word, said = repeated("missed" if again > target.bound else "met" if more else "not proved", ledger)
        note = _note(note, said)
    share_over = share_excluded(count, terms.confidence)
    note += f"; at {terms.confidence:.4g} confidence fewer than {share_over:.2%} are longer"
    return _verdict(target, word, Bounds(value, value, value, count), terms, note)


def repeated(again: Word, ledger: Ledger) -> tuple[Word, str]:
    """A miss, after what fresh load said of it: missed once more, or else not proved; never met."""
    if again == "missed":
        return "missed", "missed again on fresh load"
    if not ledger.repeats:
        return "not proved", "missed, and not measured again"
    return "not proved", "missed, and on fresh load " + ("met" if again == "met" else ledger.void or "not missed again")


def throughput(target: ThroughputTarget, rate: float, evidence: Evidence, terms: Terms) -> Verdict:
    """A rate: the latency targets that have no rate of their own hold at it; without any, what a closed loop is answered."""
    rows = target.unit == "items/s"
    busy = saturating(terms.model)
    most = evidence.ledger(busy)
    bounds = most.capacity(terms.confidence, terms.claims, rows=rows)
    latencies = bare_latencies(terms.model)
    word = decide(bounds.low, bounds.high, target.bound, target.op)
    if word == "missed":
        again = most.capacity(terms.confidence, terms.claims, rows=rows, repeat=True)
        word, note = repeated(decide(again.low, again.high, target.bound, target.op), most)
        return _verdict(target, word, bounds, terms, _note(f"the most that {busy} were answered", note))
    if not latencies:
        note = f"{bounds.samples} blocks of {busy}"
        return _verdict(target, word, bounds, terms, _note(note, most.void if word == "not proved" else ""))
    return at_rate(target, rate, evidence, terms)


def at_rate(target: ThroughputTarget | CostTarget, rate: float, evidence: Evidence, terms: Terms) -> Verdict:
    """Whether each latency target without a rate of its own holds at `rate` requests a second."""
    load = load_of(target, terms.model, terms.price)
    assert load is not None
    ledger = evidence.ledger(load)
    found = [latency(t, ledger, load, terms) for t in bare_latencies(terms.model)]
    words: list[Word] = [v.verdict for v in found]
    word = worst(words)
    binds = found[words.index(word)]
    blocks = [block for run in ledger.cleaned() for block in run.blocks]
    sent = sum(block.sent for block in blocks)
    rows = isinstance(target, ThroughputTarget) and target.unit == "items/s"
    answered = rate * sum(block.rows if rows else block.ok for block in blocks) / sent if sent else None
    note = f"at {rate:g} req/s {binds.target} is {word}: {binds.note}"
    return verdict_of(target, word, confidence=terms.confidence, value=answered, samples=sent, note=note)


def cost(target: CostTarget, evidence: Evidence, terms: Terms) -> Verdict:
    """Price over the rate that is answered: of the declared one what is answered well, else the rate that the bound takes."""
    if target.per == "tokens":
        return _unknown(target, terms, "a cost per token is for models that generate")
    if terms.price is None:
        return _unknown(target, terms, "the hardware has no price: write `price 0.10 USD/h` behind `use`")
    load = load_of(target, terms.model, terms.price)
    assert load is not None
    hourly = terms.price / 3600 * target.count
    if terms.model.traffic.rate is None:
        rate = affordable_rate(target, terms.price)
        assert rate is not None
        return _elsewhere(_cost_of_most(target, rate, hourly, evidence, terms), evidence)
    rate = load.mean_rate
    assert rate is not None
    least = hourly / rate
    note = f"{terms.price:g} USD/h at {rate:g} req/s"
    if least > target.bound:
        return verdict_of(target, "missed", confidence=1.0, value=least, low=least, high=None, note=note)
    blocks = evidence.ledger(load).blocks()
    sent, ok = sum(block.sent for block in blocks), sum(block.ok for block in blocks)
    if not sent:
        return _elsewhere(_unknown(target, terms, "the declared load was not run"), evidence)
    alpha = 1 - terms.confidence
    answered = share(ok, sent, alpha / terms.claims, alpha)
    high = least if ok == sent else least / answered.low if answered.low > 0 else math.inf
    bounds = Bounds(least / answered.value if ok else math.inf, least, high, sent)
    behind = falls_behind(evidence.ledger(load), load)
    if behind:
        return _elsewhere(_verdict(target, "not proved", bounds, terms, _note(note, behind)), evidence)
    word = decide(bounds.low if ok == sent else least / answered.high, bounds.high, target.bound, target.op)
    return _elsewhere(_verdict(target, word, bounds, terms, f"{note}, {ok:,} of {sent:,} answered"), evidence)


def _cost_of_most(target: CostTarget, rate: float, hourly: float, evidence: Evidence, terms: Terms) -> Verdict:
    as_rate = ThroughputTarget(bound=rate, unit="req/s")
    found = throughput(as_rate, rate, evidence, terms)
    over = {
        name: hourly / x if x else None
        for name, x in (("value", found.value), ("low", found.high), ("high", found.low))
    }
    if bare_latencies(terms.model) and found.verdict == "met":
        over["high"] = target.bound
    return verdict_of(
        target, found.verdict, confidence=terms.confidence, samples=found.samples, **over,
        note=f"it takes {rate:.4g} req/s: {found.note}",
    )  # fmt: skip


def memory(target: MemoryTarget, evidence: Evidence, terms: Terms) -> Verdict:
    """The larger of the peak under the declared load and that with the queue full of the largest requests."""
    ledger = evidence.ledger(declared_load(terms.model.traffic))
    loaded = [block.peak_rss_bytes for block in ledger.blocks() if block.peak_rss_bytes is not None]
    fills = [run.fill for run in evidence.fills if run.fill is not None]
    filled = [fill.peak_rss_bytes for fill in fills if fill.peak_rss_bytes is not None]
    if not loaded or not filled:
        return _elsewhere(_unknown(target, terms, "not measured"), evidence)
    value = max(*loaded, *filled)
    if value > terms.ceiling:
        raise InfcError(
            f"the server took {value >> 20} MiB, and the bundle promises that it takes at most {terms.ceiling >> 20} MiB",
            exit_code=Exit.INTERNAL,
            hint="this is a fault of infc: please report it with the spec and the model, if you can",
        )
    note = f"peak resident set: {max(loaded) >> 20} MiB under load, {max(filled) >> 20} MiB with the queue full"
    word: Word = "met" if value <= target.bound else "missed"
    bounds = Bounds(value, value, value, len(loaded) + len(filled))
    return _elsewhere(_verdict(target, word, bounds, terms, note), evidence)


def cold_start(target: ColdStartTarget, runs: Sequence[Run], terms: Terms) -> Verdict:
    """The p95 of starts."""
    faults = [void_starts(run) for run in runs]
    quiet = [run for run, fault in zip(runs, faults, strict=True) if not fault]
    void = next((fault for fault in reversed(faults) if fault), "")
    least = min((start.s for run in runs for start in run.starts), default=math.inf)
    if target.bound < least < math.inf:
        return verdict_of(
            target, "missed", confidence=terms.confidence, value=least, low=least,
            samples=sum(len(run.starts) for run in runs), note=f"no start was within {show(target, least)}",
        )  # fmt: skip
    starts = [start for run in quiet for start in run.starts]
    stayed = [start for run in quiet[-1:] for start in run.starts if target.cold and start.pages_left != 0]
    if stayed:
        return _unknown(
            target, terms,
            "pages of the bundle stay in the page cache (another process holds them, or it is a tmpfs): "
            "put the bundle on a disk and build again",
        )  # fmt: skip
    bounds = start_bounds(quiet, terms)
    word = decide(bounds.low, bounds.high, target.bound, target.op)
    note = f"p95 of {len(starts)} starts, page cache {'dropped' if target.cold else 'warm'}"
    if word == "missed":
        last = start_bounds(quiet[-1:], terms)
        again = decide(last.low, last.high, target.bound, target.op) if len(quiet) > 1 else "not proved"
        word = "missed" if again == "missed" else "not proved"
        note += "; missed once more" if word == "missed" else "; missed, and not missed once more"
        return _verdict(target, word, bounds, terms, note)
    if word == "not proved":
        many = requests_to_prove(COLD_START_QUANTILE, terms.confidence)
        wanted = f"{void}: a quieter machine" if void and not starts else f"{many} starts, none of them late,"
        note += f"; {wanted} would decide it"
    return _verdict(target, word, bounds, terms, note)


def start_bounds(runs: Sequence[Run], terms: Terms) -> Bounds:
    """The p95 of starts, which are independent: each is a block of one."""
    looks = [[[start.s] for start in run.starts] for run in runs]
    return over_looks(
        looks, lambda b, low, high: quantile_of(b, COLD_START_QUANTILE, low, high), terms.confidence, terms.claims
    )


def enough(q: float, bounds: Bounds, load: Load, ledger: Ledger, terms: Terms) -> str:
    """What would decide a percentile that is not proved."""
    if ledger.void:
        return (
            f"{ledger.void}: {'a lower rate' if 'connection' in ledger.void else 'a quieter machine'} would decide it"
        )
    least = requests_to_prove(q, terms.confidence)
    wanted = least if bounds.samples < least else 4 * bounds.samples
    rate = load.mean_rate
    seconds = f" ({wanted / rate:,.0f} s at {rate:g} req/s)" if rate else ""
    many = "at least" if bounds.samples < least else "some"
    return f"{many} {wanted:,} requests would decide it{seconds}: raise `budget` in `search`"


def _elsewhere(verdict: Verdict, evidence: Evidence) -> Verdict:
    """On another machine than the declared one a measurement decides nothing."""
    if not evidence.misfit or verdict.verdict == "not proved":
        return verdict if not evidence.misfit else noted(verdict, evidence.misfit)
    return noted(replace(verdict, verdict="not proved"), evidence.misfit)


def _verdict(target: Target, word: Word, bounds: Bounds, terms: Terms, note: str) -> Verdict:
    return verdict_of(
        target, word, confidence=terms.confidence, value=bounds.value, low=bounds.low, high=bounds.high,
        samples=bounds.samples, note=note,
    )  # fmt: skip


def _unknown(target: Target, terms: Terms, note: str) -> Verdict:
    return verdict_of(target, "not proved", confidence=terms.confidence, note=note)


def _note(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def statistical(targets: Sequence[Target]) -> int:
    """How many of the targets are statements at the declared confidence."""
    exact: Mapping[str, None] = dict.fromkeys(("memory", "bundle_size"))
    return max(1, sum(t.kind not in exact for t in targets))
