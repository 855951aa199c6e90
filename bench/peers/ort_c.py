"""onnxruntime's C API through ctypes: a session and its bound tensors as one C call, so that no interpreter is timed.

The functions are entries of the table that OrtGetApiBase gives (onnxruntime_c_api.h: their order never changes).
"""

from __future__ import annotations

import ctypes as c
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..loop import THREE_TO_POINTER, CCall

OLDEST = 20
"""A version of the table that has everything here."""

ENTRY = {
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "CreateSession": 7,
    "CreateSessionOptions": 10,
    "SetSessionExecutionMode": 13,
    "SetSessionLogSeverityLevel": 22,
    "SetSessionGraphOptimizationLevel": 23,
    "SetIntraOpNumThreads": 24,
    "SetInterOpNumThreads": 25,
    "CreateTensorWithDataAsOrtValue": 49,
    "CreateCpuMemoryInfo": 69,
    "RunWithBinding": 133,
    "CreateIoBinding": 134,
    "BindInput": 136,
    "BindOutput": 137,
}
ELEMENT = {"float32": 1, "int64": 7}
SEQUENTIAL, ALL_OPTIMIZATIONS, ERRORS_ONLY, ARENA, DEFAULT_MEMORY = 0, 99, 3, 1, 0


def bind(file: Path, arrays: dict[str, NDArray[Any]], output: tuple[str, tuple[int, ...]], threads: int) -> CCall:
    """A model, its inputs by name, and its output's name and shape (float32) as a call of RunWithBinding.

    Raises RuntimeError with onnxruntime's message.
    """
    environment, options, session, memory, binding = (c.c_void_p() for _ in range(5))
    must("CreateEnv", ERRORS_ONLY, b"bench", c.byref(environment))
    must("CreateSessionOptions", c.byref(options))
    must("SetSessionExecutionMode", options, SEQUENTIAL)
    must("SetSessionLogSeverityLevel", options, ERRORS_ONLY)
    must("SetSessionGraphOptimizationLevel", options, ALL_OPTIMIZATIONS)
    must("SetIntraOpNumThreads", options, threads)
    must("SetInterOpNumThreads", options, 1)
    must("CreateSession", environment, str(file).encode(), options, c.byref(session))
    must("CreateCpuMemoryInfo", ARENA, DEFAULT_MEMORY, c.byref(memory))
    must("CreateIoBinding", session, c.byref(binding))
    result = np.empty(output[1], np.float32)
    for entry, named in (("BindInput", arrays), ("BindOutput", {output[0]: result})):
        for name, array in named.items():
            must(entry, binding, name.encode(), tensor(array, memory))
    return CCall(
        THREE_TO_POINTER, function("RunWithBinding"), (session, None, binding), result, message, keep=(arrays,)
    )  # fmt: skip


def tensor(array: NDArray[Any], memory: c.c_void_p) -> c.c_void_p:
    """A value over the array's memory."""
    value, shape = c.c_void_p(), (c.c_int64 * array.ndim)(*array.shape)
    must(
        "CreateTensorWithDataAsOrtValue", memory, c.c_void_p(array.ctypes.data), c.c_size_t(array.nbytes), shape,
        c.c_size_t(array.ndim), ELEMENT[array.dtype.name], c.byref(value),
    )  # fmt: skip
    return value


def must(entry: str, *arguments: object) -> None:
    """Calls an entry of the table. Raises RuntimeError with its message."""
    status = c.CFUNCTYPE(c.c_void_p)(function(entry))(*arguments)
    if status:
        raise RuntimeError(message(status))


def message(status: int) -> str:
    """What a status says."""
    return c.CFUNCTYPE(c.c_char_p, c.c_void_p)(function("GetErrorMessage"))(status).decode(errors="replace")


def function(entry: str) -> int:
    """The address of an entry of the table."""
    return int(table()[ENTRY[entry]])


@cache
def table() -> Any:
    """The table of functions, of the library in the Python package."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise ImportError("onnxruntime")
    folder = Path(spec.origin).parent / "capi"
    library = c.CDLL(str(folder / f"libonnxruntime.so.{version('onnxruntime')}"))
    library.OrtGetApiBase.restype = c.POINTER(c.c_void_p)
    get_api = c.CFUNCTYPE(c.c_void_p, c.c_uint32)(library.OrtGetApiBase()[0] or 0)
    found = get_api(OLDEST)
    return c.cast(found, c.POINTER(c.c_void_p))
