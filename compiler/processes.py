"""Child processes end with this one, and signals that ask to end are an interrupt.

    with interruptible():            # SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does; once
        run_child(["zig", ...], ...) # as subprocess.run with captured text; killed where an interrupt comes

A child that the compiler talks to (a worker) is started with `start_new_session=True`, so that a terminal's Ctrl-C does
not reach it, and given to `started`; it calls `end_with_parent` first of all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_children: set[subprocess.Popen[Any]] = set()


@contextmanager
def interruptible() -> Generator[None]:
    """Within: the first of SIGNALS kills the children and raises KeyboardInterrupt in the main thread; later ones are
    ignored while it cleans up. A signal that was ignored before (nohup) stays ignored. Elsewhere than in the main
    thread this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in taken:
            signal.signal(number, signal.SIG_IGN)
        end_children()
        raise KeyboardInterrupt

    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def started(child: subprocess.Popen[Any]) -> None:
    """From now on an interrupt kills `child`."""
    _children.add(child)


def ended(child: subprocess.Popen[Any]) -> None:
    """`child` was waited for."""
    _children.discard(child)


def end_children() -> None:
    """Kills every child that was started and has not ended."""
    for child in tuple(_children):
        child.kill()


def run_child(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `command` to its end, with its output as text. Like a worker, it is in a session of its own: it is this process
    that hears the terminal, and says one line."""
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        started(child)
        try:
            out, err = child.communicate()
        except BaseException:
            child.kill()
            raise
        finally:
            ended(child)
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def end_with_parent(parent: int) -> None:
    """Called first in a child of process `parent`: it ignores SIGINT, and is killed when the parent ends, however."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
