"""Who is faster: infc's time against the best peer's of the same precision that is exact enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .cases import OURS
from .interleave import Row

BESIDE = "onnxruntime"
"""The peer whose ratio is told in any case, however exact it is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ratio`: the best peer's time over infc's, above 1 where infc is faster; None where there is none, and `open` says why.
    `open` may also say why a ratio is not the last word: a peer is absent or failed. `beside`: onnxruntime's time over
    infc's (the faster of its rows), whatever its exactness."""

    ratio: float | None
    best: str
    open: str
    beside: float | None


def judge(rows: Sequence[Row], floor: float, ways: Sequence[str] = ()) -> Verdict:
    """The verdict of a case. `ways`: of a stream's rows only these count (a row's name is `peer, way`); empty: all."""
    ours = next((row for row in rows if row.name.startswith(OURS)), None)
    peers = [row for row in rows if row is not ours and (not ways or row.name.rpartition(", ")[2] in ways)]
    if ours is None or ours.failure:
        return Verdict(None, "", f"infc did not run: {ours.failure}" if ours else "infc was not asked for", None)
    ran = [row for row in peers if not row.failure]
    ratios = {row.name: row.ratio_to(ours)[1] for row in ran}
    beside = min((ratio for name, ratio in ratios.items() if name.startswith(BESIDE)), default=None)
    if ours.exact < floor:
        return Verdict(None, "", "infc is below the floor", beside)
    exact = [row.name for row in ran if row.exact >= floor]
    absent = [row.name for row in peers if row.failure]
    if not exact:
        return Verdict(None, "", "no peer is exact enough" if ran else "no peer ran", beside)
    best = min(exact, key=lambda name: ratios[name])
    return Verdict(ratios[best], best, f"{', '.join(absent)} did not run" if absent else "", beside)


def geometric_mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


@dataclass(frozen=True, slots=True)
class Summary:
    """Of several cases: how many, over how many of them the mean is, the geometric mean and the least of the ratios to the
    best peer and to onnxruntime, and how many are open."""

    rows: int
    counted: int
    mean: float | None
    least: float | None
    beside: float | None
    open: int


def summarize(verdicts: Sequence[Verdict]) -> Summary:
    """What a precision's rows come to."""
    ratios = [v.ratio for v in verdicts if v.ratio is not None]
    beside = [v.beside for v in verdicts if v.beside is not None]
    return Summary(
        len(verdicts), len(ratios), geometric_mean(ratios), min(ratios, default=None), geometric_mean(beside),
        sum(bool(v.open) for v in verdicts),
    )  # fmt: skip
