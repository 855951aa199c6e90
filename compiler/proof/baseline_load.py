"""Two bundles' servers under the same load, and their starts: short runs of `serve prove`, in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...dsl.spec import ColdStartTarget, CostTarget, LatencyTarget, MemoryTarget, Model, Target, ThroughputTarget
from ..errors import Exit, InfcError
from ..statistics.paired import can_exceed, pairs_for, ratios
from .ask import ask_serve
from .baseline_ops import Sides
from .comparison import Claim, Pairs, Size
from .document import Run, read_run
from .loads import Load, declared_load, load_of, saturating, tightest
from .noise import clean, void_starts
from .verdict import name_of, written

SPARE = 1
"""Pairs that may go the other way by chance, or by noise that no one saw."""
FEWEST, MOST_EXTRA = 6, 0.5
"""Pairs before a claim is left for not being worse; and how many more than planned are tried, where some are void."""
REQUESTS, LEAST_BLOCK_S, MOST_BLOCK_S, CLOSED_BLOCK_S = 60, 0.4, 2.0, 0.4
WARMUP_S = 0.2
LATER = 3
"""Requests of a block that are later than a percentile that it can tell."""
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
PEAKS = 4
"""Blocks of each side that a peak of memory is the largest of."""
Pair = tuple[Run, Run]
"""What the new bundle did, and the old one."""
Measure = Callable[[str, int], Run]
"""A run of one side, "new" or "old"; equal numbers have equal arrivals and rows."""


@dataclass
class Turns:
    """Runs of one load (None: starts), in pairs. `watched`: what is compared of them; `pairs`: those that count; `void`: why
    the last one that does not was dropped."""

    load: Load | None
    watched: list[Target] = field(default_factory=list[Target])
    pairs: list[Pair] = field(default_factory=list[Pair])
    peaks: dict[str, list[int]] = field(default_factory=lambda: {"new": [], "old": []})
    void: str = ""
    dropped: int = 0


def turns_of(targets: Sequence[Target], model: Model) -> list[Turns]:
    """The loads on which targets are compared, and starts, each with its targets."""
    found: dict[Load | None, Turns] = {}
    for target in targets:
        if isinstance(target, ColdStartTarget):
            load = None
        elif isinstance(target, LatencyTarget):
            load = load_of(target, model, None)
        elif isinstance(target, MemoryTarget):
            load = declared_load(model.traffic)
        elif _is_rate(target, model):
            load = saturating(model)
        else:
            continue
        found.setdefault(load, Turns(load)).watched.append(target)
    return list(found.values())


def _is_rate(target: Target, model: Model) -> bool:
    """A cost without a declared rate is as many requests as an hour takes."""
    return isinstance(target, ThroughputTarget) or (isinstance(target, CostTarget) and model.traffic.rate is None)


def claims_in(turns: Sequence[Turns]) -> int:
    """How many claims they will be."""
    return sum(len(_judged(turn)) for turn in turns)


def _judged(turn: Turns) -> list[Target]:
    """Targets of one figure are one claim: latency p99 <= 5 ms and <= 9 ms are, and a throughput and what it costs."""
    found = [t for t in turn.watched if not isinstance(t, MemoryTarget)]
    return list({"rate" if isinstance(t, CostTarget | ThroughputTarget) else name_of(t): t for t in found}.values())


def take_turns(turn: Turns, measure: Measure, alpha: float, margin: float, seconds: float, bound: float | None) -> None:
    """Adds pairs until nothing can come out as worse any more, or all are there that the level takes, or `seconds` are over.
    `bound`: the tightest latency in seconds that is judged on the load. Who goes first changes from pair to pair."""
    end = time.monotonic() + seconds
    planned = pairs_for(alpha, SPARE)
    for number in range(round(planned * (1 + MOST_EXTRA))):
        if time.monotonic() > end or len(turn.pairs) >= planned or _settled(turn, planned, alpha, margin):
            return
        order = ("old", "new") if number % 2 == 0 else ("new", "old")
        runs = {side: measure(side, number) for side in order}
        for side, run in runs.items():
            turn.peaks[side] += [b.peak_rss_bytes for b in run.blocks if b.peak_rss_bytes is not None]
        why = next(filter(None, (_void(run, bound) for run in runs.values())), "")
        if why:
            turn.void, turn.dropped = why, turn.dropped + 1
        else:
            turn.pairs.append((runs["new"], runs["old"]))


def _void(run: Run, bound: float | None) -> str:
    return clean(run, bound).void.removeprefix("1 of 1 blocks are void: ") if run.blocks else void_starts(run)


def _settled(turn: Turns, planned: int, alpha: float, margin: float) -> bool:
    """Whether no claim can come out as worse, and none looks like it."""
    if len(turn.peaks["new"]) < PEAKS and any(isinstance(t, MemoryTarget) for t in turn.watched):
        return False
    if len(turn.pairs) < FEWEST and _judged(turn):
        return False
    for target in _judged(turn):
        found = _pairs(target, turn)
        seen = ratios(found.new, found.old)
        if can_exceed(seen, planned, 1 + margin, alpha) or float(np.median(seen)) > 1 + margin:
            return False
    return True


def claims(turn: Turns) -> list[Claim]:
    """What the pairs say."""
    found: list[Claim] = [_pairs(target, turn) for target in _judged(turn)]
    memory = next((t for t in turn.watched if isinstance(t, MemoryTarget)), None)
    return found if memory is None else [*found, _memory(memory, turn)]


def _memory(target: MemoryTarget, turn: Turns) -> Claim:
    new, old = turn.peaks["new"], turn.peaks["old"]
    if not new or not old:
        return Pairs("memory", "B", (), (), unmeasured="no peak could be read")
    note = f"peak resident set, the larger of {len(new)} starts at {turn.load}"
    return Size(name_of(target), max(new), max(old), note, samples=len(new), least_new=min(new))


def _pairs(target: Target, turn: Turns) -> Pairs:
    """A target's figures in each pair, such that less is better."""
    why = f"{len(turn.pairs)} pairs, and {turn.dropped} void: {turn.void}" if turn.dropped else ""
    if isinstance(target, ColdStartTarget):
        new, old = ([run.starts[0].s for run in part] for part in _parts(turn))
        note = "starts, page cache warm" if target.cold else "starts"
        return Pairs(name_of(target), "s", tuple(new), tuple(old), f"{len(new)} {note} each", unmeasured=why)
    if isinstance(target, LatencyTarget):
        return _latency(target, turn, why)
    rows = isinstance(target, ThroughputTarget) and target.unit == "items/s"
    new, old = ([_seconds_each(run, rows=rows) for run in part] for part in _parts(turn))
    note = f"{len(new)} blocks each of {turn.load}"
    unit = "items/s" if rows else "req/s"
    return Pairs("throughput", unit, tuple(new), tuple(old), note, rates=True, unmeasured=why)


def _latency(target: LatencyTarget, turn: Turns, why: str) -> Pairs:
    parts = _parts(turn)
    fewest = min((run.blocks[0].sent for part in parts for run in part), default=0)
    word, q = told_by(fewest, target.quantile)
    new, old = ([_quantile(run, q) for run in part] for part in parts)
    at = written(target, target.bound).partition(" at ")[2]
    note = f"{word} of {len(new)} blocks each of {fewest} requests at {turn.load}"
    what = f"{name_of(target)}{f' at {at}' if at else ''}"
    return Pairs(what, "s", tuple(new), tuple(old), note, unmeasured=why)


def told_by(requests: int, wanted: float) -> tuple[str, float]:
    """The highest percentile up to `wanted` that a block of so many requests tells; the median of fewer."""
    fitting = [(w, q) for w, q in QUANTILES.items() if q <= wanted and requests * (1 - q) >= LATER]
    return fitting[-1] if fitting else ("p50", 0.5)


def _quantile(run: Run, q: float) -> float:
    found = run.blocks[0].latencies
    return float(np.quantile(found, q, method="inverted_cdf")) if len(found) else float("inf")


def _seconds_each(run: Run, *, rows: bool) -> float:
    done = run.blocks[0].rows if rows else run.blocks[0].ok
    return run.blocks[0].elapsed_s / done if done else float("inf")


def _parts(turn: Turns) -> tuple[list[Run], list[Run]]:
    return [new for new, _ in turn.pairs], [old for _, old in turn.pairs]


def short_load(load: Load) -> Load:
    """The load of a short block: of bursts, which take whole periods, their plain rate."""
    return replace(load, burst=None)


def block_s(load: Load) -> float:
    """Seconds of a block: some REQUESTS, and not long."""
    if load.rate is None:
        return CLOSED_BLOCK_S
    return min(max(REQUESTS / load.rate, LEAST_BLOCK_S), MOST_BLOCK_S)


def serve_measure(sides: Sides, load: Load | None, requests: Path | None, seed: int, work: Path) -> Measure:
    """Measures with the bundles' own servers."""

    def measure(side: str, number: int) -> Run:
        folder = (sides.new if side == "new" else sides.old).resolve()
        out = work / "baseline-prove.json"
        given = ["--bundle", str(folder), "--cores", str(sides.threads), "--seed", str(seed + 1), "--out", str(out)]
        if load is None:
            given += ["--blocks", "0", "--starts", "1"]
        else:
            given += [*load.arguments(), "--blocks", "1", "--first-block", str(number)]
            given += ["--block-seconds", f"{block_s(load):.9g}", "--warmup", f"{WARMUP_S:g}"]
        if requests is not None:
            given += ["--requests", str(requests)]
        ask_serve(folder, sides.manifest(side), given)
        data = out.read_bytes()
        try:
            return read_run(data, f"what {folder / 'serve'} prove wrote")
        except InfcError as error:
            if side == "new":
                raise
            schema = _schema(data)
            raise InfcError(
                f"the baseline's server speaks otherwise: {schema or error.message}",
                hint="build the baseline again with this infc",
                exit_code=Exit.USAGE,
            ) from None

    return measure


def _schema(data: bytes) -> str:
    try:
        return f"its evidence is {json.loads(data)['schema']}"
    except (ValueError, KeyError, TypeError):
        return ""


def compare_serving(
    sides: Sides,
    turns: Sequence[Turns],
    model: Model,
    targets: Sequence[Target],
    requests: Path | None,
    work: Path,
    alpha: float,
    margin: float,
    report: Callable[[str], None],
) -> list[Claim]:
    """Each load and the starts in turn, for at most the spec's `budget` in all."""
    end = time.monotonic() + model.search.budget_s
    found: list[Claim] = []
    for number, turn in enumerate(turns):
        load = None if turn.load is None else short_load(turn.load)
        report(f"comparing with the baseline: {'starts' if load is None else load}")
        left = max(0.0, end - time.monotonic()) / (len(turns) - number)
        bound = None if turn.load is None else tightest(targets, turn.load, model)
        turn = replace(turn, load=load)
        measure = serve_measure(sides, load, requests, model.search.seed, work)
        if load is None:  # the first start of each fills the page cache
            for side in ("old", "new"):
                measure(side, 0)
        take_turns(turn, measure, alpha, margin, left, bound)
        found += claims(turn)
    return found
