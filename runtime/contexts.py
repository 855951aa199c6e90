"""The contexts of one loaded model: calls from several threads take one each, and closing waits for them.

A context has `threads` threads and a workspace of its own, so there are as many as the CPUs can run at once (CPUs //
threads, at least one), each opened when a call finds all others taken. A caller that finds none free waits.
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


def empty_workspace() -> NDArray[np.uint8]:
    """No bytes yet: a workspace grows with what is asked."""
    return np.empty(0, np.uint8)


@dataclass(eq=False)
class Context:
    """An open infc_context (`handle`), its workspace, and whether it times its steps."""

    handle: Any
    workspace: NDArray[np.uint8] = field(default_factory=empty_workspace)
    timed: bool = False


class Contexts:
    """At most `limit` contexts, made by `open_one` and freed by `close_one`; `close_all` frees what they stand on."""

    def __init__(
        self, limit: int, open_one: Callable[[], Any], close_one: Callable[[Any], None], close_all: Callable[[], None]
    ) -> None:
        self._limit, self._open, self._close_one, self._close_all = limit, open_one, close_one, close_all
        self._process = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._free: list[Context] = []
        self._count = 0
        self._taken = 0
        self.closing = False
        self._closed = False

    @contextmanager
    def one(self) -> Generator[Context]:
        """A context for this thread alone. Raises InferError where the model is closed, or was loaded before a fork."""
        self.check_process()
        context = self._take()
        try:
            yield context
        finally:
            with self._changed:
                self._free.append(context)
                self._taken -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Refuses new calls, waits for those that run, and frees everything, once. A forked child, whose threads are
        gone, frees nothing: the memory goes with the process."""
        if os.getpid() != self._process or sys.is_finalizing():
            self.closing = True
            return
        with self._changed:
            self.closing = True
            self._changed.notify_all()
            while self._taken:
                self._changed.wait()
            if self._closed:
                return
            self._closed = True
            for context in self._free:
                self._close_one(context.handle)
            self._free.clear()
            self._close_all()

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

    def _take(self) -> Context:
        with self._changed:
            while True:
                if self.closing:
                    raise InferError("CALLER", CODE_ARGUMENT, "this model is closed")
                if self._free:
                    self._taken += 1
                    return self._free.pop()
                if self._count < self._limit:
                    handle = self._open()
                    self._count += 1
                    self._taken += 1
                    return Context(handle)
                self._changed.wait()
