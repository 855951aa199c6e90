"""The suites that compare times: encoders and tabular case by case, and the stream of mixed lengths way by way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from . import stream
from .cases import FLOOR, OURS, Case
from .interleave import Plan, Result, Row, Take, Workers, rows_of, run_case, take_of, take_turns
from .models import STREAMED
from .peers import PEERS, Peer
from .profile import Kind, profile
from .worker import PeerFailed, Worker

Say = Callable[[str], None]
Peak = Callable[[str], float]
"""A precision's peak, GFLOP/s, now."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the table of settings."""

    name: str
    precision: str
    version: str
    settings: str


@dataclass(frozen=True, slots=True)
class Profiled:
    """A case's kinds of steps, and the peak of its precision around the profile, GFLOP/s."""

    case: Case
    peak: float
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Exactness:
    """Cosines of all sentences of the stream, each computed alone. `failure` says why there are none."""

    name: str
    mean: float = 0.0
    least: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The stream in one precision: a row a peer and way (`peer, way`), and how exact everyone is over all sentences."""

    model: str
    precision: str
    rows: tuple[Row, ...]
    exactness: tuple[Exactness, ...]


@contextmanager
def started(peers: Sequence[Peer], precision: str, threads: int, settings: list[Setting]) -> Generator[Workers]:
    """A worker for each peer that has the precision; `settings` gets a line for each that is not there yet."""
    workers: dict[str, Worker | PeerFailed] = {
        peer.name: Worker(peer, precision, threads) for peer in peers if precision in peer.precisions
    }
    running = cast("list[Worker]", list(workers.values()))
    try:
        for name, worker in list(workers.items()):
            assert isinstance(worker, Worker)
            try:
                line = Setting(name, precision, *worker.greet())
            except PeerFailed as failure:
                workers[name] = failure
                line = Setting(name, precision, "–", str(failure))
            if not any((line.name, line.precision) == (other.name, other.precision) for other in settings):
                settings.append(line)
        yield workers
    finally:
        for worker in running:
            worker.close()


def run_cases(
    cases: Sequence[Case], workers: Workers, plan: Plan, peak: Peak, refused: Callable[[str, str], str], say: Say
) -> list[Result]:
    """Every case of one precision."""
    return [
        run_case(
            case, without(workers, refused(case.model, case.precision)), plan, lambda c=case: peak(c.precision), say
        )
        for case in cases
    ]


def without(workers: Workers, refused: str) -> Workers:
    """The workers; where infc has no bundle, its row will say why."""
    return {name: PeerFailed(refused) if name == OURS and refused else worker for name, worker in workers.items()}


def run_profiles(cases: Sequence[Case], threads: int, peak: Peak) -> list[Profiled]:
    """infc's steps in each case, where its bundle runs."""
    found: list[Profiled] = []
    for case in cases:
        before = peak(case.precision)
        kinds = profile(case, threads)
        if kinds:
            found.append(Profiled(case, max(before, peak(case.precision)), kinds))
    return found


def run_stream(precision: str, workers: Workers, plan: Plan, peak: Peak, refused: str, say: Say) -> StreamResult:
    """Every way of every peer in turns, a pass over the stream a block; then everyone over all sentences."""
    first, alive = rows_of(without(workers, refused))
    rows: dict[str, Row] = {}
    takes: dict[str, Take] = {}
    by_key: dict[str, tuple[Worker, str]] = {}
    once = replace(plan, block_s=0.0, least=1)
    for name, row in first.items():
        for way in ways_of(name):
            key = OURS if name == OURS else f"{name}, {way}"
            rows[key] = Row(key, failure=row.failure)
            if name not in alive:
                continue
            say(f"stream, {precision}: {key} gets ready")
            try:
                alive[name].ask({"stream": [STREAMED, way]})
                rows[key].note = alive[name].choose(FLOOR[precision], way).note
                takes[key], by_key[key] = take_of(alive[name], once, way), (alive[name], way)
            except PeerFailed as failure:
                rows[key].failure = str(failure)
    say(f"stream, {precision}: measuring")
    take_turns(rows, takes, plan, lambda: peak(precision))
    for key in takes:
        worker, way = by_key[key]
        rows[key].exact = worker.exact(way)
    return StreamResult(STREAMED, precision, tuple(rows.values()), tuple(all_sentences(first, alive)))


def ways_of(name: str) -> list[str]:
    """The ways in which a peer is fed. infc gets what a server would pad, and does not."""
    if name == OURS:
        return [stream.PADDED]
    static = next(peer.static for peer in PEERS if peer.name == name)
    return [stream.BUCKETED] if static else list(stream.WAYS)


def all_sentences(first: dict[str, Row], alive: dict[str, Worker]) -> list[Exactness]:
    """How exact everyone who takes any length is over all sentences of the stream."""
    found: list[Exactness] = []
    for name, row in first.items():
        if ways_of(name) == [stream.BUCKETED]:
            continue
        if name not in alive:
            found.append(Exactness(name, failure=row.failure))
            continue
        try:
            answer = cast("dict[str, float]", alive[name].ask({"all": STREAMED}))
            found.append(Exactness(name, answer["mean"], answer["least"]))
        except PeerFailed as failure:
            found.append(Exactness(name, failure=str(failure)))
    return found
