"""Child processes end with this one, and signals that ask to end are an interrupt.

    with interruptible():            # SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does; once
        run_child(["zig", ...], ...) # as subprocess.run with captured text; killed where an interrupt comes

A child that the compiler talks to (a worker) is started with `start_new_session=True`, so that a terminal's Ctrl-C does
not reach it, and given to `started`; it calls `end_with_parent` first of all. What `run_child` runs needs none of that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_children: set[subprocess.Popen[Any]] = set()
_prctl = ctypes.CDLL(None, use_errno=True).prctl
_interrupted = threading.Event()
"""Set while an interrupted command cleans up: threads of its start no further children."""


@contextmanager
def interruptible() -> Generator[None]:
    """Within: the first of SIGNALS kills the children and raises KeyboardInterrupt in the main thread; later ones are
    ignored while it cleans up. A signal that was ignored before (nohup) stays ignored. What a library makes of the
    interrupt (an ImportError, say) is a KeyboardInterrupt again at the end. Elsewhere than in the main thread this does
    nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in taken:
            signal.signal(number, signal.SIG_IGN)
        _interrupted.set()
        end_children()
        raise KeyboardInterrupt

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if (
            found.exc_type is not KeyboardInterrupt
        ):  # one that came in a destructor: `check_interrupted` raises it again
            hook(found)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if _interrupted.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        if _interrupted.is_set():
            # an `exec` of text (a dataclass is made by one) that an interrupt left makes Python end by SIGINT, not by 130
            exec("")  # noqa: S102
        _interrupted.clear()
        sys.unraisablehook = hook
        for number in taken:
            signal.signal(number, before[number])


def check_interrupted() -> None:
    """Raises KeyboardInterrupt where an interrupt came and was swallowed on its way."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def started(child: subprocess.Popen[Any]) -> None:
    """From now on an interrupt kills `child`, which leads a session of its own, and what it started."""
    _children.add(child)
    if _interrupted.is_set():
        _kill(child)


def ended(child: subprocess.Popen[Any]) -> None:
    """`child` was waited for."""
    _children.discard(child)


def end_children() -> None:
    """Kills every child that was started and has not ended."""
    for child in tuple(_children):
        _kill(child)


def run_child(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `command` to its end, with its output as text. Like a worker, it is in a session of its own: it is this process
    that hears the terminal, and says one line. It is killed when this process, or the thread that called, ends."""
    check_interrupted()
    parent = os.getpid()
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 - one call of the kernel, bound before
    ) as child:  # fmt: skip
        try:
            started(child)
            out, err = child.communicate()
        except BaseException:
            _kill(child)
            raise
        finally:
            ended(child)
    check_interrupted()  # else a killed child would be told as a failure of its own
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def end_with_parent(parent: int) -> None:
    """Called first in a child of process `parent`: it ignores SIGINT, and is killed when the parent ends, however."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def _kill(child: subprocess.Popen[Any]) -> None:
    """Kills a child and its session's processes, unless it was waited for: its number may be another's then."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
