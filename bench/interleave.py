"""Who runs when: everyone takes turns in short blocks, with a pause before each, so that noise and spinning thread pools
hit everyone alike. The order turns by one each round; the machine's peak is measured in every round too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from .cases import Case, floor_of
from .worker import Block, PeerFailed, Worker


@dataclass(frozen=True, slots=True)
class Plan:
    """How long: `rounds` blocks of everyone, each of at least `block_s` seconds and `least` calls, after a pause. Rounds
    end early after `budget_s`, not before `fewest`."""

    rounds: int = 15
    block_s: float = 0.06
    least: int = 1
    pause_s: float = 0.03
    budget_s: float = 12.0
    fewest: int = 5


@dataclass(slots=True)
class Row:
    """One peer at one case. `failure` says why there is nothing; `exact` is the answers' exactness, see accuracy.py."""

    name: str
    note: str = ""
    isa: str = ""
    failure: str = ""
    blocks: list[Block] = field(default_factory=list[Block])
    exact: float = -np.inf

    @property
    def least(self) -> float:
        """The least time of any call, seconds."""
        return min(block.least for block in self.blocks)

    @property
    def median(self) -> float:
        """The median of the blocks' medians, seconds."""
        return median(block.median for block in self.blocks)

    def ratio_to(self, other: Row) -> tuple[float, float, float]:
        """This peer's time over `other`'s, round by round (median of each block): quartiles, the median in the middle."""
        ratios = [a.median / b.median for a, b in zip(self.blocks, other.blocks, strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)


@dataclass(frozen=True, slots=True)
class Result:
    """One case: a row a peer in the order given, and in each round the peak of the case's precision, GFLOP/s."""

    case: Case
    rows: tuple[Row, ...]
    peaks: tuple[float, ...]


Workers = Mapping[str, Worker | PeerFailed]
Take = Callable[[], Block]


def run_case(case: Case, workers: Workers, plan: Plan, peak: Callable[[], float], say: Callable[[str], None]) -> Result:
    """Opens the case in every worker, all at once, then measures in turns. A peer that fails keeps its row, with the reason."""
    rows, alive = rows_of(workers)
    say(f"{case.name}: everyone gets ready")
    each(rows, alive, lambda _, worker: worker.begin({"open": case.name}))
    each(rows, alive, lambda _, worker: worker.end())

    def choose(row: Row, worker: Worker) -> None:
        choice = worker.choose(floor_of(case))
        row.note, row.isa = choice.note, choice.isa

    each(rows, alive, choose)
    takes = {name: take_of(worker, plan) for name, worker in alive.items()}
    peaks = take_turns(rows, takes, plan, peak)

    def judge(row: Row, worker: Worker) -> None:
        row.exact = worker.exact()

    each(rows, {name: alive[name] for name in takes}, judge)
    return Result(case, tuple(rows.values()), tuple(peaks))


def rows_of(workers: Workers) -> tuple[dict[str, Row], dict[str, Worker]]:
    """An empty row for everyone, and who can work."""
    rows: dict[str, Row] = {}
    alive: dict[str, Worker] = {}
    for name, worker in workers.items():
        if isinstance(worker, PeerFailed):
            rows[name] = Row(name, failure=str(worker))
        else:
            rows[name], alive[name] = Row(name), worker
    return rows, alive


def take_of(worker: Worker, plan: Plan, key: str = "") -> Take:
    """A block of what the worker calls `key`."""
    return lambda: worker.block(plan.block_s, plan.least, key)


def each(rows: Mapping[str, Row], alive: dict[str, Worker], do: Callable[[Row, Worker], object]) -> None:
    """`do` for everyone who is alive; who fails at it gets the reason in its row, and is alive no more."""
    for name, worker in list(alive.items()):
        try:
            do(rows[name], worker)
        except PeerFailed as failure:
            rows[name].failure = str(failure)
            del alive[name]


def take_turns(rows: Mapping[str, Row], takes: dict[str, Take], plan: Plan, peak: Callable[[], float]) -> list[float]:
    """Rounds of one block each; the peaks. Who fails is gone from `takes`, and its row says why."""
    peaks: list[float] = []
    begin = time.monotonic()
    for number in range(plan.rounds):
        if number >= plan.fewest and time.monotonic() - begin > plan.budget_s:
            break
        time.sleep(plan.pause_s)
        peaks.append(peak())
        order = list(takes)
        turn = number % max(1, len(order))
        for name in order[turn:] + order[:turn]:
            time.sleep(plan.pause_s)
            try:
                rows[name].blocks.append(takes[name]())
            except PeerFailed as failure:
                rows[name].failure = str(failure)
                del takes[name]
    return peaks
