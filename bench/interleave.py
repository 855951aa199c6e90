"""Who runs when: peers take turns in short blocks, with a pause before each, so that noise and spinning thread pools hit
everyone alike. The order turns by one each round; the machine's peak is measured in every round too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from .cases import Case
from .worker import PeerFailed, Worker


@dataclass(frozen=True, slots=True)
class Plan:
    """How long: `rounds` blocks of each peer, each of at least `block_s` seconds and `least` calls."""

    rounds: int = 15
    block_s: float = 0.08
    least: int = 4
    pause_s: float = 0.03


@dataclass(slots=True)
class Row:
    """One peer at one case: seconds of each call, by block. `failure` says why there is nothing."""

    name: str
    note: str = ""
    failure: str = ""
    blocks: list[list[float]] = field(default_factory=list[list[float]])
    cosine: float = 0.0

    @property
    def least(self) -> float:
        """The least time of any call, seconds."""
        return min(min(block) for block in self.blocks)

    @property
    def median(self) -> float:
        """The median time of all calls, seconds."""
        return median([t for block in self.blocks for t in block])

    def ratio_to(self, other: Row) -> tuple[float, float, float]:
        """This peer's time over `other`'s, round by round (median of each block): quartiles, the median in the middle."""
        ratios = [median(a) / median(b) for a, b in zip(self.blocks, other.blocks, strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)


@dataclass(frozen=True, slots=True)
class Result:
    """One case: a row a peer in the order given, and the machine's peak in each round, GFLOP/s."""

    case: Case
    rows: tuple[Row, ...]
    peaks: tuple[float, ...]


def run_case(
    case: Case,
    workers: dict[str, Worker | PeerFailed],
    folder: Path,
    plan: Plan,
    peak: Callable[[], float],
    say: Callable[[str], None],
) -> Result:
    """Opens the case in every worker, then measures in turns. A peer that fails keeps its row, with the reason."""
    rows: dict[str, Row] = {}
    alive: dict[str, Worker] = {}
    for name, worker in workers.items():
        row = rows[name] = Row(name)
        if isinstance(worker, PeerFailed):
            row.failure = str(worker)
            continue
        say(f"{case.name}: {name} gets ready")
        try:
            row.note = worker.open(case)
            worker.output(folder / "output.npy")
        except PeerFailed as failure:
            row.failure = str(failure)
            continue
        row.cosine = least_cosine(folder / "output.npy", folder / f"{case.name}.npy")
        alive[name] = worker
    peaks: list[float] = []
    for number in range(plan.rounds):
        say(f"{case.name}: round {number + 1} of {plan.rounds}")
        time.sleep(plan.pause_s)
        peaks.append(peak())
        order = list(alive)
        turn = number % max(1, len(order))
        for name in order[turn:] + order[:turn]:
            time.sleep(plan.pause_s)
            try:
                rows[name].blocks.append(alive[name].block(plan.block_s, plan.least))
            except PeerFailed as failure:
                rows[name].failure = str(failure)
                del alive[name]
    return Result(case, tuple(rows.values()), tuple(peaks))


def least_cosine(got: Path, want: Path) -> float:
    """The least cosine of any row, in float64; 0 where the shapes differ."""
    a, b = np.load(got).astype(np.float64), np.load(want).astype(np.float64)
    if a.shape != b.shape:
        return 0.0
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / norms).min())
