"""Every number of a bundle's report, made from its evidence and manifest by arithmetic alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import (
    AccuracyTarget,
    ColdStartTarget,
    CostTarget,
    LatencyTarget,
    MemoryTarget,
    Target,
    ThroughputTarget,
)
from ..bundle.manifest import bundle_digest
from ..errors import Exit, InfcError
from ..proof.agreement import scores_for
from ..proof.answers import Answers
from ..proof.document import Run, machine_key
from ..proof.judge import COLD_START_QUANTILE
from ..proof.ledger import Ledger
from ..proof.loads import Load, bare_latencies, declared_load, load_of, price_of, saturating, tightest
from ..proof.noise import clean, fault, unknown
from ..proof.rejudge import REPEAT, Bundled, load_said, open_bundle, timed_targets
from ..proof.verdict import Verdict, Word, binding, overall, written
from .built import Built, built_of

Array = NDArray[np.float64]
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
LEAST_ABOVE = 1.0
"""A quantile is told where at least so many of the requests are expected above it."""
CURVE_POINTS = 300
"""Points of a drawn curve; all of the latest requests are among them."""


@dataclass(frozen=True)
class Claim:
    """A target: its verdict, the load it speaks of ("" where it needs none), and the documents that it rests on."""

    target: Target
    verdict: Verdict
    load: str
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """Times in seconds: [points] the share y of them that is longer than x; quantiles (None: too few to tell, inf: no answer
    came). `what`: those that are judged, those that repeated a miss, or all of a load whose every run is void."""

    what: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    samples: int
    failed: int
    quantiles: tuple[tuple[str, float | None], ...]
    longest: float


@dataclass(frozen=True)
class Mark:
    """A target's line: the bound in seconds on the quantile (1: the longest), and what its evidence leaves possible."""

    name: str
    quantile: float
    bound: float
    low: float | None
    high: float | None
    verdict: Word | None


@dataclass(frozen=True)
class LoadFigures:
    """All runs under one load on one machine (its place among `Figures.machines`). What is counted is of blocks that are not void (`void` of `blocks` are); of a load without
    any such block the times are of all blocks, and `judged` is false. Times in seconds, rates a second."""

    name: str
    machine: int
    documents: tuple[str, ...]
    blocks: int
    void: int
    judged: bool
    sent: int
    ok: int
    rows: int
    errors: Mapping[str, int]
    seconds: float
    wanted: float | None
    answered: float
    answered_rows: float
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...]
    peak_bytes: int | None


@dataclass(frozen=True)
class StartFigures:
    """Starts with the page cache warm or dropped. `pages_left`: the most of the bundle's pages that stayed; None: unknown."""

    cold: bool
    documents: tuple[str, ...]
    samples: int
    median: float
    p95: float
    longest: float
    pages_left: int | None
    curve: Curve
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class FillFigures:
    """The queue full of the largest requests."""

    document: str
    requests: int
    rows: int
    statuses: Mapping[str, int]
    open: int
    peak_bytes: int


@dataclass(frozen=True)
class MemoryFigures:
    """Peaks of the resident set by load, with the queue full, and what the manifest promises, bytes."""

    loads: tuple[tuple[str, int], ...]
    fills: tuple[FillFigures, ...]
    ceiling: int
    swapping: int
    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class NoiseFigures:
    """What the machine did to one run: before it, and the worst of its blocks. None: it cannot be read, or was not."""

    document: str
    kind: str
    load: str
    utc: str
    blocks: int
    faults: tuple[tuple[int, str], ...]
    void: str
    shared: bool
    jitter: float | None
    lag_p99: float | None
    lag_max: float | None
    steal: float | None
    foreign: float | None
    pressure: float | None
    server_cpu: float | None
    generator_cpu: float | None
    connections: int
    short: int
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class ScoreFigures:
    """One metric of one output on the rows of `evaluate`; least, mean and largest of a score a row, else None."""

    document: str
    metric: str
    versus: str
    output: str
    rows: int
    least: float | None
    mean: float | None
    largest: float | None
    problem: str


@dataclass(frozen=True)
class Machine:
    """A fingerprint, and the documents that were made on such a machine."""

    fingerprint: Mapping[str, Any]
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """The whole page."""

    bundled: Bundled
    built: Built
    digest: str
    verdict: Word
    words: Mapping[Word, int]
    binding: tuple[Verdict, ...]
    claims: tuple[Claim, ...]
    loads: tuple[LoadFigures, ...]
    starts: tuple[StartFigures, ...]
    memory: MemoryFigures
    noise: tuple[NoiseFigures, ...]
    scores: tuple[ScoreFigures, ...]
    machines: tuple[Machine, ...]
    times: tuple[str, ...]
    files: int
    content_bytes: int


Named = tuple[str, str, Run]
"""A document: its name, what it is for, and the run."""


def figures_of(folder: Path) -> Figures:
    """The figures of a bundle. Raises InfcError: exit 2 where folder is none, exit 7 where it is damaged."""
    bundled = open_bundle(folder)
    verdicts = bundled.stored or ()
    targets = bundled.targets if verdicts else ()
    if len(targets) != len(verdicts):
        raise InfcError(
            f"{folder} judges {len(verdicts)} targets, and its spec has {len(targets)}",
            exit_code=Exit.DAMAGED,
            hint="build it again",
        )
    numbers = [x for v in verdicts for x in (v.value, v.low, v.high, v.bound, v.confidence) if x is not None]
    if not all(map(math.isfinite, numbers)):
        raise InfcError(f"{folder} judges a target with a number that is not finite", exit_code=Exit.DAMAGED)
    files = bundled.manifest.files
    words = Counter(v.verdict for v in verdicts)
    pairs = list(zip(targets, verdicts, strict=True))
    return Figures(
        bundled=bundled,
        built=built_of(bundled.report),
        digest=bundle_digest(folder),
        verdict=overall(verdicts),
        words={word: words[word] for word in ("met", "missed", "not proved")},
        binding=tuple(binding(verdicts)),
        claims=tuple(_claim(bundled, target, verdict) for target, verdict in pairs),
        loads=tuple(_load(bundled, pairs, key, documents) for key, documents in by_load(bundled).items()),
        starts=tuple(s for cold in (False, True) if (s := _starts(bundled, pairs, cold)) is not None),
        memory=_memory(bundled),
        noise=tuple(_noise(bundled, document) for document in runs_of(bundled)),
        scores=tuple(_scores(bundled)),
        machines=tuple(_machines(bundled)),
        times=tuple(sorted(document.said.utc for document in bundled.documents)),
        files=len(files),
        content_bytes=sum(file.bytes for file in files),
    )


def runs_of(bundled: Bundled) -> list[Named]:
    """What `serve prove` recorded."""
    return [(d.name, d.kind, d.said) for d in bundled.documents if isinstance(d.said, Run)]


def by_load(bundled: Bundled) -> dict[tuple[Load, str], list[Named]]:
    """The runs with blocks, by load and machine: the declared load first, then in the order of the documents."""
    declared = declared_load(bundled.model.traffic)
    found: dict[tuple[Load, str], list[Named]] = {}
    for document in runs_of(bundled):
        if document[2].blocks:
            found.setdefault((load_said(document[2].load), machine_key(document[2].fingerprint)), []).append(document)
    return dict(sorted(found.items(), key=lambda item: item[0][0] != declared))


def _claim(bundled: Bundled, target: Target, verdict: Verdict) -> Claim:
    load = load_of(target, bundled.model, price_of(bundled.spec.hardware[0]))
    return Claim(target, verdict, "" if load is None else str(load), tuple(_rests_on(bundled, target, load)))


def _rests_on(bundled: Bundled, target: Target, load: Load | None) -> Iterable[str]:
    busy = saturating(bundled.model) if isinstance(target, ThroughputTarget | CostTarget) else None
    for document in bundled.documents:
        if isinstance(document.said, Answers):
            if isinstance(target, AccuracyTarget) and scores_for(target, document.said):
                yield document.name
            continue
        run = document.said
        loaded = run.blocks and load is not None and load_said(run.load) in (load, busy)
        filled = run.fill is not None and isinstance(target, MemoryTarget)
        started = isinstance(target, ColdStartTarget) and any(start.cold == target.cold for start in run.starts)
        if loaded or filled or started:
            yield document.name


def _load(
    bundled: Bundled, pairs: Sequence[tuple[Target, Verdict]], key: tuple[Load, str], documents: Sequence[Named]
) -> LoadFigures:
    load, machine = key
    ledger = Ledger(_tightest(bundled, load))
    for _, kind, run in documents:
        ledger.add(run, repeat=kind == REPEAT)
    blocks = ledger.blocks()
    good = [b for repeat in (False, True) for run in ledger.cleaned(repeat=repeat) for b in run.blocks]
    told = good or blocks
    seconds = sum(block.elapsed_s for block in told)
    errors: Counter[str] = Counter()
    for block in told:
        errors.update(block.errors)
    peaks = [block.peak_rss_bytes for block in blocks if block.peak_rss_bytes is not None]
    keys = list(dict.fromkeys(machine_key(run.fingerprint) for _, _, run in runs_of(bundled)))
    return LoadFigures(
        name=str(load),
        machine=keys.index(machine),
        documents=tuple(name for name, _, _ in documents),
        blocks=len(blocks),
        void=len(blocks) - len(good),
        judged=bool(good),
        sent=sum(block.sent for block in told),
        ok=sum(block.ok for block in told),
        rows=sum(block.rows for block in told),
        errors=dict(sorted(errors.items())),
        seconds=seconds,
        wanted=load.mean_rate,
        answered=sum(block.ok for block in told) / seconds if seconds else 0.0,
        answered_rows=sum(block.rows for block in told) / seconds if seconds else 0.0,
        curves=tuple(_curves(ledger)),
        marks=tuple(_latency_marks(bundled, pairs, load)),
        peak_bytes=max(peaks, default=None),
    )


def _tightest(bundled: Bundled, load: Load) -> float | None:
    return tightest(timed_targets(bundled.targets), load, bundled.model)


def quantile(values: Array, q: float) -> float | None:
    """The least value that a share q of the values does not exceed; inf: no answer came; None where they are too few."""
    n = len(values)
    if n * (1 - q) < LEAST_ABOVE * (1 - 1e-9):
        return None
    return float(np.sort(values)[math.ceil(q * n - 1e-9) - 1])


def _curves(ledger: Ledger) -> Iterable[Curve]:
    judged = [b for run in ledger.cleaned() for b in run.blocks]
    fresh = [b for run in ledger.cleaned(repeat=True) for b in run.blocks]
    void = [] if judged or fresh else ledger.blocks()
    for what, blocks in (("judged", judged), ("fresh load", fresh), ("void, not judged", void)):
        values = [np.asarray(block.latencies, np.float64) for block in blocks if block.sent]
        if values:
            yield curve_of(what, np.concatenate(values))


def curve_of(what: str, values: Array) -> Curve:
    """The share of values [n, at least one] above each of them, at most CURVE_POINTS: the largest third one by one, the rest
    by rank."""
    n = len(values)
    ranked = np.sort(values[np.isfinite(values)])
    above = np.arange(n - 1, n - 1 - len(ranked), -1)  # how many values are later than each
    kept: list[int] = list(range(len(ranked)))
    if len(kept) > CURVE_POINTS:
        tail = CURVE_POINTS // 3
        step = (len(kept) - tail - 1) / (CURVE_POINTS - tail - 1)
        kept = sorted({round(i * step) for i in range(CURVE_POINTS - tail)} | set(kept[-tail:]))
    x, y = ranked[kept], above[kept] / n
    told = tuple((name, quantile(values, q)) for name, q in QUANTILES)
    return Curve(what, tuple(x.tolist()), tuple(y.tolist()), n, n - len(ranked), told, float(values.max()))


def _latency_marks(bundled: Bundled, pairs: Sequence[tuple[Target, Verdict]], load: Load) -> Iterable[Mark]:
    """Lines of the latency targets judged on a load; on the load of a throughput those that must hold there, too."""
    price = price_of(bundled.spec.hardware[0])
    bare = bare_latencies(bundled.model)
    rates = [t for t, _ in pairs if isinstance(t, ThroughputTarget | CostTarget)]
    also = load.rate is not None and any(load_of(t, bundled.model, price) == load for t in rates)
    for target, verdict in pairs:
        if not isinstance(target, LatencyTarget):
            continue
        if load_of(target, bundled.model, price) == load:
            yield _mark(target, target.quantile, verdict)
        elif also and target in bare:
            yield _mark(target, target.quantile, None)


def _mark(target: LatencyTarget | ColdStartTarget, q: float, verdict: Verdict | None) -> Mark:
    text = written(target, target.bound).replace("<=", "≤").replace(" us", " µs")
    name = text.partition(" at ")[0].removeprefix("latency ")
    if verdict is None:
        return Mark(name, q, target.bound, None, None, None)
    return Mark(name, q, target.bound, verdict.low, verdict.high, verdict.verdict)


def _starts(bundled: Bundled, pairs: Sequence[tuple[Target, Verdict]], cold: bool) -> StartFigures | None:
    found = [(name, start) for name, _, run in runs_of(bundled) for start in run.starts if start.cold == cold]
    if not found:
        return None
    times = np.array([start.s for _, start in found])
    ranked = np.sort(times)
    left = [start.pages_left for _, start in found if start.pages_left is not None]
    marks = [
        _mark(target, COLD_START_QUANTILE, verdict)
        for target, verdict in pairs
        if isinstance(target, ColdStartTarget) and target.cold == cold
    ]
    return StartFigures(
        cold=cold,
        documents=tuple(dict.fromkeys(name for name, _ in found)),
        samples=len(ranked),
        median=float(ranked[math.ceil(0.5 * len(ranked)) - 1]),
        p95=float(ranked[math.ceil(COLD_START_QUANTILE * len(ranked) - 1e-9) - 1]),
        longest=float(ranked[-1]),
        pages_left=max(left) if cold and len(left) == len(found) else None,
        curve=curve_of("starts", times),
        marks=tuple(marks),
    )


def _memory(bundled: Bundled) -> MemoryFigures:
    loads: dict[str, int] = {}
    fills: list[FillFigures] = []
    for name, _, run in runs_of(bundled):
        for block in run.blocks:
            if block.peak_rss_bytes is not None:
                load = str(load_said(run.load))
                loads[load] = max(loads.get(load, 0), block.peak_rss_bytes)
        fill = run.fill
        if fill is not None and fill.peak_rss_bytes is not None:
            fills.append(FillFigures(name, fill.requests, fill.rows, fill.statuses, fill.open, fill.peak_rss_bytes))
    bounds = [(written(t, float(t.bound)), float(t.bound)) for t in bundled.targets if isinstance(t, MemoryTarget)]
    memory = bundled.manifest.memory
    return MemoryFigures(tuple(loads.items()), tuple(fills), memory.serving_bytes, memory.swapping_bytes, tuple(bounds))


def _noise(bundled: Bundled, document: Named) -> NoiseFigures:
    name, kind, run = document
    load = load_said(run.load)
    bound = _tightest(bundled, load)
    faults = [(block.index, why) for block in run.blocks if (why := fault(block, run.placement.server, bound))]
    unread = {part for noise in (run.before, *run.blocks) for part in unknown(noise)}
    if run.before.jitter_p99_s is None:
        unread.add("jitter")
    return NoiseFigures(
        document=name,
        kind=kind,
        load=str(load) if run.blocks else "",
        utc=run.utc,
        blocks=len(run.blocks),
        faults=tuple(faults),
        void=clean(run, bound).void if run.blocks else "",
        shared=run.placement.shared,
        jitter=run.before.jitter_p99_s,
        lag_p99=_worst(block.lag_p99_s for block in run.blocks),
        lag_max=_worst(block.lag_max_s for block in run.blocks),
        steal=_worst([run.before.steal, *(block.steal for block in run.blocks)]),
        foreign=_worst([run.before.foreign, *(block.foreign for block in run.blocks)]),
        pressure=_worst([run.before.pressure, *(block.pressure for block in run.blocks)]),
        server_cpu=_worst(block.server_cpu for block in run.blocks),
        generator_cpu=_worst(block.generator_cpu for block in run.blocks),
        connections=max((block.connections_most for block in run.blocks), default=0),
        short=sum(block.connections_short for block in run.blocks),
        unknown=tuple(sorted(unread)),
    )


def _worst(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)


def _scores(bundled: Bundled) -> Iterable[ScoreFigures]:
    for document in bundled.documents:
        if not isinstance(document.said, Answers):
            continue
        for s in document.said.scores:
            each = s.array[:, 0] if s.kind == "rows" and s.rows else None
            told = (None, None, None) if each is None else (float(each.min()), float(each.mean()), float(each.max()))
            yield ScoreFigures(document.name, s.metric, s.versus, s.output, document.said.rows, *told, s.problem)


def _machines(bundled: Bundled) -> Iterable[Machine]:
    found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for name, _, run in runs_of(bundled):
        found.setdefault(machine_key(run.fingerprint), (run.fingerprint, []))[1].append(name)
    return [Machine(fingerprint, tuple(names)) for fingerprint, names in found.values()]
