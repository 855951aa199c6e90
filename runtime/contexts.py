"""The contexts of one loaded model: calls from several threads take one each, and closing waits for them.

A context has `threads` threads and a workspace of its own, so there are as many as the CPUs can run at once (CPUs //
threads, at least one), each opened when a call finds all others taken. A caller that finds none free waits. Measured, 4
threads on 2 busy CPUs: a context costs 0.2 ms and 10 KiB (MLP 64-256-256-1) or 3.1 MiB (MiniLM, 4 texts of 64 tokens, its
workspace), and 2 instead of one behind a lock give 2,700 calls/s instead of 1,500 (MLP), 7 and 7 (MiniLM).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_abi import CODE_ARGUMENT
from .errors import InferError

LOOK_S = 0.1
"""Seconds after which a thread that waits looks again without being woken."""


def empty_workspace() -> NDArray[np.uint8]:
    """No bytes yet: a workspace grows with what is asked."""
    return np.empty(0, np.uint8)


@dataclass(eq=False)
class Context:
    """An open infc_context (`handle`), its workspace, whether it times its steps, and whose it is now: the number of a
    thread, or None."""

    handle: Any
    workspace: NDArray[np.uint8] = field(default_factory=empty_workspace)
    timed: bool = False
    user: int | None = None


@dataclass(eq=False)
class _Lease:
    context: Context | None = None


class Contexts:
    """At most `limit` contexts, made by `open_one` and freed by `close_one`; `close_all` frees what they stand on.

    An interrupt (KeyboardInterrupt, or whatever a handler of signals raises) may come between any two calls of the
    interpreter: a context is taken and given back by plain assignments, which none can divide, and a wake-up that one
    swallowed is made up for by looking again after `LOOK_S`.
    """

    def __init__(
        self, limit: int, open_one: Callable[[], Any], close_one: Callable[[Any], None], close_all: Callable[[], None]
    ) -> None:
        self._limit, self._open, self._close_one, self._close_all = limit, open_one, close_one, close_all
        self._process = os.getpid()
        self._lock = threading.RLock()  # a handler of signals may run, or close, in the middle of what holds it
        self._changed = threading.Condition(self._lock)
        self._all: list[Context] = []
        self.closing = False
        self._closed = False

    @contextmanager
    def one(self) -> Generator[Context]:
        """A context for this thread alone. Raises InferError where the model is closed, or was loaded before a fork."""
        self.check_process()
        lease = _Lease()
        try:
            self._take(lease)
            assert lease.context is not None
            yield lease.context
        finally:
            if lease.context is not None:
                lease.context.user = None
            with self._lock:
                self._changed.notify_all()
                if self.closing:
                    self._free_all()

    def close(self) -> None:
        """Refuses new calls, waits for those that run, and frees everything, once. Called by a handler of signals within a
        call of the same thread it does not wait: that call frees everything when it ends. A forked child, whose threads
        are gone, frees nothing: the memory goes with the process."""
        self.closing = True
        if os.getpid() != self._process or sys.is_finalizing():
            return
        me = threading.get_ident()
        while True:
            with self._lock:
                if self._free_all() or any(context.user == me for context in self._all):
                    return
            self._wait()

    def check_process(self) -> None:
        """Raises InferError in a process forked from the one that loaded the model: its threads do not exist there. Asked
        before any lock, which another thread may have held at the fork."""
        if os.getpid() != self._process:
            raise InferError(
                "CALLER",
                CODE_ARGUMENT,
                "this model was loaded before a fork, and its threads stayed in the parent: load it in this process",
            )

    def check_open(self) -> None:
        """Raises InferError where the model is closed, or was loaded before a fork."""
        self.check_process()
        if self.closing:
            raise InferError("CALLER", CODE_ARGUMENT, "this model is closed")

    def _take(self, lease: _Lease) -> None:
        me = threading.get_ident()
        while True:
            with self._lock:
                if self.closing:
                    raise InferError("CALLER", CODE_ARGUMENT, "this model is closed")
                nested = False
                for context in self._all:
                    nested = nested or context.user == me
                    if context.user is None:
                        lease.context = context
                        context.user = me
                        return
                if len(self._all) < self._limit or nested:  # a handler of signals cannot wait for its own thread
                    self._all.append(Context(self._open()))
                    continue
            self._wait()

    def _wait(self) -> None:
        with self._lock:
            self._changed.wait(LOOK_S)

    def _free_all(self) -> bool:
        """Under the lock: whether everything is freed, which it is now where no call runs."""
        if any(context.user is not None for context in self._all):
            return False
        if not self._closed:
            self._closed = True
            for context in self._all:
                self._close_one(context.handle)
            self._close_all()
        return True
