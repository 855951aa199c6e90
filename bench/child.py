"""A peer's process: `python -m bench.child NAME PRECISION THREADS`, told what to do by worker.py, one JSON object a line.

{"open": "minilm-8x128-int8"}            → {}                 sets every configuration of a case up and runs each once
{"stream": ["minilm", "sorted"]}         → {}                 the same of a pass over the stream in one way
{"choose": {"floor": 0.99, "as": key}}   → {"note", "isa"}    takes the fastest whose answers are exact enough
{"block": {"of": key, "s": 0.06, "n": 1}} → {"least", "median", "calls"}     calls for s seconds and n times, ns
{"exact": key}                           → {"exact"}          of the last answers, see accuracy.py
{"all": "minilm"}                        → {"mean", "least"}  cosines of every sentence of the stream
any of them                              → {"error": "..."}   the child lives on
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from . import stream
from .accuracy import cosines, exactness
from .cases import ROOT, parse_case
from .loop import run_for
from .peers import PEERS, Call, Module, Peer

WARM_UP_S = 0.2
CHOOSING_S = 4.0
"""Configurations are tried for so long, and each at least once."""

Answers = NDArray[np.float32]


@dataclass(slots=True)
class Chosen:
    """What blocks call, how exact answers are, and the last of them."""

    call: Call
    exact: Callable[[Answers], float]
    last: Answers


@dataclass(slots=True)
class State:
    """The peer, the configurations that are open with the answers of their first call, and what was chosen by key."""

    peer: Peer
    module: Module
    precision: str
    threads: int
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    first: dict[str, Answers] = field(default_factory=dict[str, Answers])
    exact: Callable[[Answers], float] = lambda _: 0.0
    chosen: dict[str, Chosen] = field(default_factory=dict[str, Chosen])


def open_case(state: State, name: str) -> dict[str, object]:
    """Every configuration of a case. What was open before is gone."""
    case = parse_case(name)
    state.calls, state.first, state.chosen = {}, {}, {}
    state.calls = state.module.candidates(case, state.threads, state.peer.variant)
    state.exact = lambda answers: exactness(case, answers)
    state.first = {key: call() for key, call in state.calls.items()}
    return {}


def open_stream(state: State, names: list[str]) -> dict[str, object]:
    """Every configuration of a pass over the stream in one way. Other ways stay."""
    model, way = names
    texts = stream.load_stream(model)
    batches = stream.batches(texts.lengths[: stream.TIMED], way)
    shapes = stream.shapes(batches) if way == stream.BUCKETED else None
    runs = state.module.streams(model, state.precision, state.threads, state.peer.variant, shapes)
    arrays = [stream.padded(texts, batch) for batch in batches]
    state.calls = {key: lambda run=run: stream.one_pass(run, batches, arrays) for key, run in runs.items()}
    wanted = texts.wanted[: stream.TIMED]
    state.exact = lambda answers: float(cosines(answers, wanted).min())
    state.first = {key: call() for key, call in state.calls.items()}
    return {}


def choose(state: State, command: dict[str, Any]) -> dict[str, object]:
    """Of the configurations that are exact enough (where none is: the most exact) the one with the least time of a call."""
    if not state.calls:
        raise ValueError("no case is open")
    exact = {name: state.exact(answers) for name, answers in state.first.items()}
    allowed = [name for name in exact if exact[name] >= command["floor"]] or [max(exact, key=lambda n: exact[n])]
    name = allowed[0] if len(allowed) == 1 else fastest({n: state.calls[n] for n in allowed})
    call = state.calls[name]
    note = name if len(state.calls) > 1 else ""
    state.calls = {}  # the others' memory is free
    _, last = run_for(call, WARM_UP_S, 1)
    state.chosen[command["as"]] = Chosen(call, state.exact, last)
    tell: Callable[[Call], str] | None = getattr(state.module, "isa", None)
    return {"note": note, "isa": tell(call) if tell and not command["as"] else ""}  # of a case; a pass takes too long


def block(state: State, command: dict[str, Any]) -> dict[str, object]:
    """Some calls of what was chosen."""
    chosen = find(state, command["of"])
    times, chosen.last = run_for(chosen.call, command["s"], command["n"])
    return {"least": int(times.min()), "median": float(np.median(times)), "calls": len(times)}


def exact(state: State, key: str) -> dict[str, object]:
    """Of the last answers."""
    chosen = find(state, key)
    return {"exact": chosen.exact(chosen.last)}


def all_sentences(state: State, model: str) -> dict[str, object]:
    """Every sentence of the stream, each alone: the mean and the least cosine, of the most exact configuration."""
    texts = stream.load_stream(model)
    batches = stream.batches(texts.lengths, stream.ALONE)
    arrays = [stream.padded(texts, batch) for batch in batches]
    runs = state.module.streams(model, state.precision, state.threads, state.peer.variant, None)
    found = [cosines(stream.one_pass(run, batches, arrays), texts.wanted) for run in runs.values()]
    best = max(found, key=lambda values: values.mean())
    return {"mean": float(best.mean()), "least": float(best.min())}


COMMANDS: dict[str, Callable[[State, Any], dict[str, object]]] = {
    "open": open_case,
    "stream": open_stream,
    "choose": choose,
    "block": block,
    "exact": exact,
    "all": all_sentences,
}


def find(state: State, key: str) -> Chosen:
    if key not in state.chosen:
        raise ValueError("nothing was chosen")
    return state.chosen[key]


def fastest(calls: dict[str, Call], rounds: int = 5) -> str:
    """The name of the configuration with the least time of a few calls, in turns."""
    least = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + CHOOSING_S
    for _ in range(rounds):
        for name, call in calls.items():
            least[name] = min(least[name], float(run_for(call, 0.01, 1)[0].min()))
        if time.perf_counter() > end:
            break
    return min(least, key=lambda name: least[name])


def serve(peer: Peer, precision: str, threads: int, commands: IO[str], answers: IO[str]) -> None:
    """One answer a command, until the commands end; before them the peer's version and settings."""

    def answer(document: dict[str, object]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        module = cast(Module, import_module(f".peers.{peer.module}", __package__))
    except ImportError as error:
        answer({"error": f"not installed: {error}"})
        return
    answer({"version": version(module.VERSION_OF), "settings": module.SETTINGS[precision]})
    state = State(peer, module, precision, threads)
    for line in commands:
        ((word, argument),) = json.loads(line).items()
        try:
            answer(COMMANDS[word](state, argument))
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the row then says how
            traceback.print_exc()
            text = " ".join(str(error).replace(f"{ROOT}/", "").split())
            answer({"error": f"{type(error).__name__}: {text[:300]}"})


def main(name: str, precision: str, threads: int) -> None:
    """The child's own stdout becomes the log, so that only answers go through the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    serve(next(p for p in PEERS if p.name == name), precision, threads, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
