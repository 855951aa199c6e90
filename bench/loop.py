"""Calls in a loop, each timed: Python functions here, C functions in loop.c, where no interpreter is in the way."""

from __future__ import annotations

import ctypes as c
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import FOLDER
from .machine import compile_c

THREE_TO_INT, THREE_TO_POINTER, ONE_TO_INT = 0, 1, 2
CAPACITY = 1 << 17
"""Most calls of one block."""


@dataclass(frozen=True, slots=True, eq=False)
class CCall:
    """A C function with its arguments; `output` is where it writes. `keep` holds what must stay alive."""

    kind: int
    function: int
    arguments: tuple[Any, ...]
    output: NDArray[np.float32]
    explain: Callable[[int], str] = hex
    keep: tuple[Any, ...] = field(default=(), repr=False)

    def __call__(self) -> NDArray[np.float32]:
        """One call; a copy of the output. Raises RuntimeError with what the function says is wrong."""
        loop_in_c(self, 0.0, 1)
        return self.output.copy()


def run_for(call: Callable[[], Any], seconds: float, least: int) -> tuple[NDArray[np.uint64], Any]:
    """Calls for at least `seconds` and `least` times; nanoseconds of each, and the last result."""
    if isinstance(call, CCall):
        return loop_in_c(call, seconds, least), call.output.copy()
    times: list[int] = []
    result: Any = None
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter_ns()
        result = call()
        times.append(time.perf_counter_ns() - start)
    return np.array(times, np.uint64), result


def loop_in_c(call: CCall, seconds: float, least: int) -> NDArray[np.uint64]:
    """As run_for, in C."""
    times = np.empty(min(CAPACITY, least) if seconds <= 0 else CAPACITY, np.uint64)
    count = c.c_uint64()
    arguments = (*call.arguments, None, None)[:3]
    status = library().call_for(
        call.kind, call.function, *arguments, c.c_double(seconds), c.c_uint64(least), c.c_void_p(times.ctypes.data),
        c.c_uint64(len(times)), c.byref(count),
    )  # fmt: skip
    if status:
        raise RuntimeError(call.explain(status))
    return times[: count.value]


def build_loop() -> Path:
    """Compiles loop.c. Raises RuntimeError with zig's message."""
    source = Path(__file__).with_name("loop.c")
    return compile_c(source, FOLDER / "loop.so", "-shared", "-fPIC", "-fvisibility=hidden")


loaded: list[c.CDLL] = []


def library() -> c.CDLL:
    """loop.so, which build_loop has made."""
    if not loaded:
        found = c.CDLL(str(FOLDER / "loop.so"))
        found.call_for.restype = c.c_size_t
        found.call_for.argtypes = [
            c.c_int, c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p, c.c_double, c.c_uint64, c.c_void_p, c.c_uint64,
            c.c_void_p,
        ]  # fmt: skip
        loaded.append(found)
    return loaded[0]
