"""Measures what is needed until every target is decided or the budget is spent, with the bundle's own `serve prove`."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...dsl.spec import Target
from ..bundle.manifest import read_manifest
from ..statistics.looks import BLOCKS, WARM_UP, requests_at, requests_to_prove
from ..statistics.order import LEAST_BLOCKS
from ..temporary import temporary_folder
from .ask import ask_serve
from .document import Described, Run, read_described, read_run
from .judge import COLD_START_QUANTILE, Evidence, Terms
from .ledger import Ledger
from .loads import Load, tightest
from .needs import Need, needs
from .store import Store

SHORTEST_BLOCK_S, CLOSED_BLOCK_S = 0.2, 0.5
LEAST_WARMUP_S, MOST_WARMUP_S = 0.2, 1.0
RESTART_S, LEAST_RESTART_S = 0.3, 0.1
"""What a start and a stop of the server take, at a guess; then what they took."""
START_S = 0.2
FILL_S = 12.0
MOST_LOOKS = 8
MOST_VOID = 3
"""Void runs of one load after which it is left: the machine is not quiet."""


@dataclass(frozen=True)
class Plan:
    """One run: blocks of so many seconds behind a warm-up, or starts, or the queue full; `seconds` that it takes, about."""

    arguments: tuple[str, ...]
    seconds: float
    what: str


@dataclass
class Prover:
    """Runs `serve prove` of the bundle in `folder` for `targets`. `requests`: a file of rows, or None; `report` hears what
    is measured; `seed` is the spec's."""

    folder: Path
    work: Path
    targets: Sequence[Target]
    terms: Terms
    cores: int
    requests: Path | None
    store: Store
    report: Callable[[str], None]
    seed: int = 0

    def __post_init__(self) -> None:
        self._about: dict[tuple[str, ...], Described] = {}
        self._known: set[tuple[str, Load | None]] = set()
        self._void: dict[Load, int] = {}
        self._looks: dict[Need, int] = {}
        self._restart_s = RESTART_S

    def describe(self, load: Load | None = None) -> Described:
        """What a run would speak of. Starts nothing."""
        arguments = tuple([] if load is None else load.arguments())
        if arguments not in self._about:
            self._about[arguments] = read_described(self._serve([*arguments, "--subject"]))
        return self._about[arguments]

    def prove(self, evidence: Evidence, budget_s: float) -> None:
        """Adds to the evidence until every target is decided, or `budget_s` seconds are over."""
        end = time.monotonic() + budget_s
        while True:
            wanted = self._wanted(evidence)
            affordable: list[tuple[Need, Plan]] = []
            for need in wanted:
                plan = self._plan(need, evidence, end - time.monotonic())
                if plan is not None:
                    affordable.append((need, plan))
            if not affordable:
                return
            need, plan = min(affordable, key=lambda pair: (self._tries(pair[0]), pair[1].seconds))
            spent = budget_s - (end - time.monotonic())
            self.report(f"proving: {plan.what} ({spent:.0f} of {budget_s:.0f} s)")
            self._run(need, plan, evidence)

    def _wanted(self, evidence: Evidence) -> list[Need]:
        """What is needed after all that is remembered was taken; of each load the highest quantile."""
        while True:
            found: dict[tuple[str, Load | None, bool], Need] = {}
            for target in self.targets:
                for need in needs(target, evidence, self.terms):
                    key = (need.what, need.load, need.repeat)
                    if key not in found or found[key].quantile < need.quantile:
                        found[key] = need
            recalled = [self._recall(need, evidence) for need in found.values()]
            if not any(recalled):
                return [need for need in found.values() if not self._given_up(need)]

    def _tries(self, need: Need) -> int:
        """Runs of the need's load that were void."""
        return 0 if need.load is None else self._void.get(need.load, 0)

    def _given_up(self, need: Need) -> bool:
        return self._looks.get(need, 0) >= MOST_LOOKS or self._tries(need) >= MOST_VOID

    def _recall(self, need: Need, evidence: Evidence) -> bool:
        """Takes what is remembered of this kind; whether there was anything."""
        key = (kind_of(need), need.load)
        if key in self._known:
            return False
        self._known.add(key)
        found = self.store.find(key[0], self.describe(need.load))
        for run in found:
            self._take(need, run, evidence)
        return bool(found)

    def _take(self, need: Need, run: Run, evidence: Evidence) -> None:
        if need.what == "fill":
            evidence.fills.append(run)
        elif need.load is None:
            evidence.starts[need.what == "cold starts"].append(run)
        else:
            self._ledger(need.load, evidence).add(run, repeat=need.repeat)

    def _ledger(self, load: Load, evidence: Evidence) -> Ledger:
        if load not in evidence.loads:
            evidence.loads[load] = Ledger(tightest(self.targets, load, self.terms.model))
        return evidence.loads[load]

    def _plan(self, need: Need, evidence: Evidence, left_s: float) -> Plan | None:
        """The run for a need, shortened where the budget is short and nothing is known yet; None where none fits."""
        if need.what == "fill":
            arguments = ("--blocks", "0", "--fill")
            return Plan(arguments, FILL_S, "memory with the queue full") if left_s > FILL_S else None
        if need.load is None:
            return self._plan_starts(need, evidence, left_s)
        ledger = self._ledger(need.load, evidence)
        looks = len(ledger.cleaned(repeat=need.repeat))
        blocks, seconds = plan_blocks(need.load, looks + 1, need.quantile, self.terms.confidence)
        around = warmup_of(need.load) + self._restart_s
        if blocks * (seconds + around) > left_s:
            if looks or need.load.burst is not None:
                return None
            blocks = blocks if left_s / blocks - around >= SHORTEST_BLOCK_S else LEAST_BLOCKS
            seconds = left_s / blocks - around
            if seconds < SHORTEST_BLOCK_S:
                return None
        arguments = (
            *need.load.arguments(), "--blocks", str(blocks), "--block-seconds", f"{seconds:.9g}",
            "--warmup", f"{warmup_of(need.load):.9g}", "--first-block", str(ledger.next_block()),
        )  # fmt: skip
        again = ", once more" if need.repeat else f", look {looks + 1}"
        what = f"{blocks} blocks of {seconds:.2g} s at {need.load}{again}"
        return Plan(arguments, blocks * (seconds + around), what)

    def _plan_starts(self, need: Need, evidence: Evidence, left_s: float) -> Plan | None:
        runs = evidence.starts[need.what == "cold starts"]
        least = requests_to_prove(COLD_START_QUANTILE, self.terms.confidence)
        count = least if not runs else sum(len(run.starts) for run in runs)
        took = [start.s for run in runs for start in run.starts]
        each = START_S + (sum(took) / len(took) if took else 0.0)
        if count * each > left_s:
            if runs or left_s < each:
                return None
            count = max(1, int(left_s / each))
        arguments = ("--blocks", "0", "--starts", str(count), *(["--cold"] if need.what == "cold starts" else []))
        return Plan(arguments, count * each, f"{count} {need.what}")

    def _run(self, need: Need, plan: Plan, evidence: Evidence) -> None:
        out = self.work / "prove.json"
        begin = time.monotonic()
        arguments = [*plan.arguments, "--seed", str(self.seed + 1), "--out", str(out)]
        if need.what == "cold starts":  # of a copy: what this process has loaded stays in memory
            beside = self.folder.resolve().parent
            with temporary_folder(beside if os.access(beside, os.W_OK) else self.work, ".infc-cold-") as copy:
                shutil.copytree(self.folder, copy / "bundle")
                self._serve(arguments, copy / "bundle")
        else:
            self._serve(arguments)
        data = out.read_bytes()
        run = read_run(data, "what serve prove wrote")
        if run.blocks:
            around = (time.monotonic() - begin) / len(run.blocks) - run.block_s - run.warmup_s
            self._restart_s = max(LEAST_RESTART_S, around)
        self.store.add(kind_of(need), self.describe(need.load), data, run)
        self._take(need, run, evidence)
        if need.load is not None and self._ledger(need.load, evidence).void:
            self._void[need.load] = self._void.get(need.load, 0) + 1
        self._looks[need] = self._looks.get(need, 0) + 1

    def _serve(self, arguments: Sequence[str], folder: Path | None = None) -> str:
        """Runs `serve prove` of the bundle, or of its copy in `folder`. Raises InfcError as `ask_serve` does."""
        folder = (folder or self.folder).resolve()
        given = ["--bundle", str(folder), "--cores", str(self.cores), *arguments]
        if self.requests is not None:
            given += ["--requests", str(self.requests)]
        env = {key: value for key, value in os.environ.items() if not key.startswith("INFC__")}  # settings of others
        return ask_serve(folder, read_manifest(folder), given, env)


def kind_of(need: Need) -> str:
    """Under which kind evidence of a need is kept."""
    return need.what if need.load is None else "repeat" if need.repeat else "look"


def warmup_of(load: Load) -> float:
    """Seconds of load before each block: a queue fills as it will be."""
    return min(max(WARM_UP / (load.mean_rate or WARM_UP / LEAST_WARMUP_S), LEAST_WARMUP_S), MOST_WARMUP_S)


def plan_blocks(load: Load, look: int, quantile: float, confidence: float) -> tuple[int, float]:
    """How many blocks a look adds, and the seconds of each; with bursts a block is a period."""
    planned = requests_at(look, quantile, confidence)
    rate = load.mean_rate
    if load.burst is not None:
        assert rate is not None
        period = load.burst[2]
        return max(LEAST_BLOCKS, math.ceil(BLOCKS * planned.length / (rate * period))), period
    if rate is None:
        return BLOCKS, CLOSED_BLOCK_S * 2 ** max(0, look - 2)
    return BLOCKS, max(planned.length / rate, SHORTEST_BLOCK_S)
