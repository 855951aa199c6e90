"""A peer in a process of its own: `Worker` is the parent's side, `python -m bench.worker` the child's.

The parent sends one JSON object a line, the child answers with one. What a peer's libraries print goes to the log.

    {"open": "8x128"}             → {"note": "..."}      sets the case up and warms it
    {"block": {"s": 0.06, "n": 4}} → {"ns": [...]}         calls for at least s seconds and n times
    {"output": "file.npy"}        → {}                    saves the last embeddings
    any of them                   → {"error": "..."}      the child lives on
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

from .cases import ROOT, Case, parse_case
from .peers import PEERS, Call, Module, Peer

WARM_UP_S = 0.3


class PeerFailed(Exception):
    """The peer cannot run this; the message says why, in one line."""


class Worker:
    """Talks to one peer's process. Raises PeerFailed where the peer is absent, fails or dies."""

    def __init__(self, peer: Peer, folder: Path, threads: int) -> None:
        self.peer = peer
        self.log = folder / f"{peer.module}{'-' + peer.variant if peer.variant else ''}.log"
        command = [sys.executable, "-m", "bench.worker", peer.name, str(folder), str(threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
                cwd=ROOT,
            )  # fmt: skip
        hello = self._read()
        self.version, self.settings = str(hello["version"]), str(hello["settings"])

    def open(self, case: Case) -> str:
        """Sets the case up; returns the peer's note about how."""
        return str(self._ask({"open": case.name})["note"])

    def block(self, seconds: float, least: int) -> list[float]:
        """Seconds of each call of a block."""
        return [ns * 1e-9 for ns in cast("list[int]", self._ask({"block": {"s": seconds, "n": least}})["ns"])]

    def output(self, file: Path) -> None:
        """Saves the last embeddings, float32 [batch, hidden], as .npy."""
        self._ask({"output": str(file)})

    def close(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, command: dict[str, object]) -> dict[str, object]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._died()) from None
        return self._read()

    def _read(self) -> dict[str, object]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailed(self._died())
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(str(answer["error"]))
        return answer

    def _died(self) -> str:
        code = self.process.wait()
        said = self.log.read_text(errors="replace").strip().splitlines()
        return f"its process ended with {code}" + (f": {said[-1][:200]}" if said else "")


def serve(peer: Peer, folder: Path, threads: int, commands: IO[str], answers: IO[str]) -> None:
    """The child's loop: one answer a command, until the commands end."""

    def answer(document: dict[str, object]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        module = cast(Module, import_module(f".peers.{peer.module}", __package__))
    except ImportError as error:
        answer({"error": f"not installed: {error}"})
        return
    answer({"version": version(module.VERSION_OF), "settings": module.SETTINGS[peer.variant]})
    call: Call | None = None
    last: Any = None
    for line in commands:
        command = json.loads(line)
        try:
            if "open" in command:
                call = None
                call, note = module.open_case(parse_case(command["open"]), folder, threads, peer.variant)
                last = run_for(call, WARM_UP_S, 2)[1]
                answer({"note": note})
            elif call is None:
                answer({"error": "no case is open"})
            elif "block" in command:
                times, last = run_for(call, command["block"]["s"], command["block"]["n"])
                answer({"ns": times})
            else:
                import numpy as np

                np.save(command["output"], last)
                answer({})
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the row then says how
            text = " ".join(str(error).replace(f"{ROOT}/", "").split())
            answer({"error": f"{type(error).__name__}: {text[:300]}"})


def run_for(call: Call, seconds: float, least: int) -> tuple[list[int], Any]:
    """Calls for at least `seconds` and `least` times; nanoseconds of each, and the last result."""
    times: list[int] = []
    result: Any = None
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter_ns()
        result = call()
        times.append(time.perf_counter_ns() - start)
    return times, result


def main(name: str, folder: Path, threads: int) -> None:
    """The child: its own stdout becomes the log, so that only answers go through the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    serve(next(p for p in PEERS if p.name == name), folder, threads, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
