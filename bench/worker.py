"""A peer in a process of its own: this is the parent's side, child.py the other.

The parent sends one JSON object a line, the child answers with one. What a peer's libraries print goes to the log.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from typing import cast

from .cases import FOLDER, ROOT
from .peers import Peer

PATIENCE_S = 900.0
"""A peer that answers nothing for so long has failed."""


class PeerFailed(Exception):
    """The peer cannot run this; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some calls one after the other: the least and the median time of one, seconds, and how many there were."""

    least: float
    median: float
    calls: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which configuration a peer took, where it had several, and which instructions its products use, where it tells."""

    note: str
    isa: str


class Worker:
    """Talks to one peer's process. Raises PeerFailed where the peer is absent, fails or dies."""

    def __init__(self, peer: Peer, precision: str, threads: int) -> None:
        """Starts the process; `greet` waits for it."""
        self.peer = peer
        name = "-".join(part for part in (peer.module, peer.variant, precision) if part)
        self.log = FOLDER / f"{name}.log"
        command = [sys.executable, "-m", "bench.child", peer.name, precision, str(threads)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            )  # fmt: skip

    def greet(self) -> tuple[str, str]:
        """The peer's version and settings; the process has imported it."""
        hello = self._read()
        return str(hello["version"]), str(hello["settings"])

    def begin(self, command: dict[str, object]) -> None:
        """Sends a command whose answer `end` reads, so that several peers can work at once."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._died()) from None

    def end(self) -> dict[str, object]:
        """The answer to what `begin` sent."""
        return self._read()

    def ask(self, command: dict[str, object]) -> dict[str, object]:
        """A command and its answer."""
        self.begin(command)
        return self._read()

    def choose(self, floor: float, key: str = "") -> Choice:
        """Takes the fastest configuration that reaches the floor, and calls it `key` from now on."""
        answer = cast("dict[str, str]", self.ask({"choose": {"floor": floor, "as": key}}))
        return Choice(answer["note"], answer["isa"])

    def block(self, seconds: float, least: int, key: str = "") -> Block:
        """A block of at least so many seconds and calls."""
        answer = cast("dict[str, int]", self.ask({"block": {"of": key, "s": seconds, "n": least}}))
        return Block(answer["least"] * 1e-9, answer["median"] * 1e-9, answer["calls"])

    def exact(self, key: str = "") -> float:
        """How exact the last answers are, see accuracy.py."""
        return float(cast(float, self.ask({"exact": key})["exact"]))

    def close(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict[str, object]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            self.process.kill()
            raise PeerFailed(f"it gave no answer for {PATIENCE_S:.0f} s and was ended")
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
