"""All that was measured of one subject under one load: looks in their order, and what repeated a miss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..statistics.looks import share_of_alpha
from ..statistics.means import mean
from ..statistics.order import percentile
from .document import Block, Run
from .noise import Clean, clean

Array = NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """What evidence leaves possible: the estimate, and bounds that hold over all looks together."""

    value: float
    low: float
    high: float
    samples: int


UNKNOWN = Bounds(math.nan, -math.inf, math.inf, 0)


@dataclass
class Ledger:
    """Runs under one load. `tightest`: the least latency bound judged on them, which says how late a load may be sent.

    A void run is no look: nothing of it is judged. `repeats` are fresh load after a miss, and are never added to `looks`.
    """

    tightest: float | None
    looks: list[Run] = field(default_factory=list[Run])
    repeats: list[Run] = field(default_factory=list[Run])

    def add(self, run: Run, *, repeat: bool = False) -> None:
        """Puts a run behind those of its kind."""
        (self.repeats if repeat else self.looks).append(run)

    def cleaned(self, *, repeat: bool = False) -> list[Clean]:
        """The runs that count, without void blocks."""
        found = [clean(run, self.tightest) for run in (self.repeats if repeat else self.looks) if run.blocks]
        return [run for run in found if not run.void]

    @property
    def void(self) -> str:
        """Why the last run is void, or "" (also where there is none)."""
        runs = [run for run in (self.repeats or self.looks) if run.blocks]
        return clean(runs[-1], self.tightest).void if runs else ""

    def blocks(self) -> list[Block]:
        """Every block of every run, void or not."""
        return [block for run in (*self.looks, *self.repeats) for block in run.blocks]

    def next_block(self) -> int:
        """A number that no block has: seeds are made of it."""
        return max((block.index for block in self.blocks()), default=-1) + 1

    def least(self) -> float:
        """The least latency seen in seconds, on however noisy a machine; inf without any."""
        return min((float(b.latencies.min()) for b in self.blocks() if b.sent), default=math.inf)

    def quantile(self, q: float, confidence: float, claims: int, *, repeat: bool = False) -> Bounds:
        """The q-quantile in seconds. "met" rests on `high` at 1 - confidence, "missed" on `low` at that over `claims`."""
        return over_looks(
            [[block.latencies for block in run.blocks] for run in self.cleaned(repeat=repeat)],
            lambda blocks, low, high: quantile_of(blocks, q, low, high),
            confidence,
            claims,
        )

    def capacity(self, confidence: float, claims: int, *, rows: bool, repeat: bool = False) -> Bounds:
        """Requests (or rows) that were answered a second, the mean over blocks."""
        return over_looks(
            [[(b.rows if rows else b.ok) / b.elapsed_s for b in run.blocks] for run in self.cleaned(repeat=repeat)],
            lambda blocks, low, high: _mean(blocks, low, high),
            confidence,
            claims,
        )

    def answered(self) -> float:
        """Requests a second that were answered while they were sent, over the runs that count; inf without any. A queue that is
        stable has answered all but the last ones, which are given their usual latency, when a block ends."""
        found = [block for run in self.cleaned() for block in run.blocks if block.ok]
        spent = sum(b.elapsed_s - float(np.median(b.latencies)) for b in found if math.isfinite(np.median(b.latencies)))
        return sum(b.ok for b in found) / spent if spent > 0 else math.inf

    def largest(self, *, repeat: bool = False) -> tuple[float, int]:
        """The longest latency in seconds of the runs that count, and of how many requests."""
        found = [block.latencies for run in self.cleaned(repeat=repeat) for block in run.blocks if block.sent]
        return max((float(part.max()) for part in found), default=math.nan), sum(map(len, found))


Judge = Callable[[list[Any], float, float], Bounds]


def over_looks(looks: Sequence[Iterable[Any]], judge: Judge, confidence: float, claims: int) -> Bounds:
    """Bounds after each look, each at its share of the level; what one look excluded stays excluded."""
    pooled: list[Any] = []
    low, high, last = -math.inf, math.inf, UNKNOWN
    for number, blocks in enumerate(looks, 1):
        pooled += blocks
        alpha = (1 - confidence) * share_of_alpha(number)
        last = judge(pooled, alpha / claims, alpha)
        low, high = max(low, last.low), min(high, last.high)
    if low > high:  # looks contradict each other: what they measured is not one thing
        return Bounds(last.value, -math.inf, math.inf, last.samples)
    return Bounds(last.value, low, high, last.samples)


def quantile_of(blocks: Sequence[Array], q: float, alpha_low: float, alpha_high: float) -> Bounds:
    """The q-quantile in seconds of blocks of latencies; nothing with fewer than two blocks."""
    full = [np.asarray(block, np.float64) for block in blocks if len(block)]
    if len(full) < 2:
        return UNKNOWN
    found = percentile(full, q, alpha_low, alpha_high)
    return Bounds(found.value, found.low, found.high, found.samples)


def _mean(blocks: Sequence[float], alpha_low: float, alpha_high: float) -> Bounds:
    found = mean(blocks, alpha_low, alpha_high)
    return Bounds(found.value, found.low, found.high, found.samples)
