"""Evidence that is kept in the build cache, by subject, load and machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..cache import Spare, cache_key
from ..errors import InfcError
from .document import Described, Run, machine_key, read_run

MOST_RUNS = 1000


@dataclass
class Kept:
    """Documents as they were written, with what each is for; `reused`: how many of them were there before."""

    runs: list[tuple[str, bytes, Run]] = field(default_factory=list[tuple[str, bytes, Run]])
    reused: int = 0


class Store:
    """The evidence of one subject on one machine. Without a cache nothing is remembered."""

    def __init__(self, spare: Spare) -> None:
        self._spare = spare
        self.kept = Kept()

    def find(self, kind: str, about: Described) -> list[Run]:
        """Runs of that kind for the same subject, load and machine, the oldest first. One that is damaged ends them."""
        found: list[Run] = []
        for number in range(MOST_RUNS):
            key = _key(kind, about, number)
            data = self._spare.ask(lambda cache, key=key: cache.get_bytes(key))
            if data is None:
                break
            try:
                run = read_run(data, "the build cache")
            except InfcError:
                break  # of another version: measured again
            self.kept.runs.append((kind, data, run))
            self.kept.reused += 1
            found.append(run)
        return found

    def add(self, kind: str, about: Described, data: bytes, run: Run) -> None:
        """Keeps a new run behind those of its kind; in the cache only where it says something of another time: pages that
        stayed in memory may be gone then."""
        loaded = kind in ("look", "repeat")
        number = sum(k == kind and (not loaded or r.load.digest == run.load.digest) for k, _, r in self.kept.runs)
        self.kept.runs.append((kind, data, run))
        if not any(start.cold and start.pages_left for start in run.starts):
            self._spare.ask(lambda cache: cache.put_bytes(_key(kind, about, number), data))


def _key(kind: str, about: Described, number: int) -> str:
    load = about.load.digest if kind in ("look", "repeat") else ""
    return cache_key("evidence", 1, kind, about.subject.digest, load, machine_key(about.fingerprint), number)
