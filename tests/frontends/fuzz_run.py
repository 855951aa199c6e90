"""Inputs through a reader, within bounds of time and memory: each is accepted or refused, and anything else is kept."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from infc.compiler.errors import Exit, InfcError

SECONDS = 10
"""Processor time that one input may take."""
MEMORY = 1 << 30
"""Bytes that the process may grow by."""
MOST_MESSAGE = 4000
"""Characters of a refusal, whatever the input says."""
Refusals = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Reader:
    """`mutants`: endless inputs. `read` raises one of `refusals`, or what it returns is an input accepted."""

    mutants: Iterator[bytes]
    read: Callable[[bytes], object]
    refusals: Refusals = (InfcError,)


class TooSlow(BaseException):
    """An input took more than SECONDS of processor time."""


def run(reader: Reader, count: int, label: str) -> Counter[str]:
    """How many of `count` inputs were accepted and refused. Raises AssertionError naming the file of the first input that
    broke a promise; `label` says how to make it again."""
    outcomes: Counter[str] = Counter()
    before = _peak()
    with _alarm():
        for number in range(count):
            data = next(reader.mutants)
            try:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                outcomes[_outcome(reader, data)] += 1
                signal.setitimer(signal.ITIMER_PROF, 0)
                if _peak() - before > MEMORY:
                    raise MemoryError(f"{_peak() - before:,} bytes more than before")
            except BaseException as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                if isinstance(error, KeyboardInterrupt):
                    raise
                said = "".join(traceback.format_exception(error, limit=-6))
                raise AssertionError(f"{label}: input {number}, kept in {kept(data)}\n{said}") from None
    return outcomes


def _outcome(reader: Reader, data: bytes) -> str:
    try:
        reader.read(data)
    except reader.refusals as error:
        if isinstance(error, InfcError) and error.exit_code in (Exit.OK, Exit.INTERNAL):
            raise AssertionError(f"the exit code {error.exit_code}") from error
        said = f"{error}\n{getattr(error, 'hint', '')}"
        said.encode("utf-8")  # what cannot be encoded cannot be shown
        if len(said) > MOST_MESSAGE:
            raise AssertionError(f"a message of {len(said)} characters") from error
        return "refused"
    return "accepted"


@contextmanager
def _alarm() -> Generator[None]:
    def raised(_: int, __: FrameType | None) -> None:
        raise TooSlow

    old = signal.signal(signal.SIGPROF, raised)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, old)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def in_child(act: Callable[[], object], refusals: Refusals = (InfcError,)) -> str:
    """How `act` ends in a child with bounds of memory and time: loaded, refused, error, or a signal's name."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            spent = int(sum(os.times()[:2])) + SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (spent, spent + 1))
            used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            act()
            status = 0
        except refusals:
            status = 2
        except BaseException:  # noqa: BLE001 - the child's end is the result
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return {0: "loaded", 2: "refused"}.get(os.WEXITSTATUS(status), "error")


def run_children(
    mutants: Iterator[bytes],
    count: int,
    label: str,
    prepare: Callable[[bytes], bool],
    act: Callable[[], Any],
    folder: Path,
) -> Counter[str]:
    """`count` inputs, each through `act` in a child forked now. `prepare` lays an input out, and says whether it is to be
    tried. Nothing may make the file `canary` in folder, which is the working directory of the children."""
    outcomes: Counter[str] = Counter()
    canary = folder / "canary"

    def within() -> None:
        os.chdir(folder)
        act()

    while sum(outcomes.values()) < count:
        data = next(mutants)
        if not prepare(data):
            continue
        code = in_child(within)
        outcomes[code] += 1
        if code not in ("loaded", "refused") or canary.exists():
            said = "the canary is there" if canary.exists() else code
            raise AssertionError(f"{label}: input {sum(outcomes.values()) - 1}: {said}; kept in {kept(data)}")
    return outcomes


def kept(data: bytes) -> str:
    """A new file of the data, for the one who mends."""
    handle, name = tempfile.mkstemp(prefix="fuzz-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return name
