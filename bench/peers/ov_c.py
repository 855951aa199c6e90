"""OpenVINO's C API through ctypes: a compiled model's request as one C call, so that no interpreter is timed."""

from __future__ import annotations

import ctypes as c
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..loop import ONE_TO_INT, CCall


def bind(file: Path, arrays: list[NDArray[Any]], shape: tuple[int, ...], config: dict[str, str]) -> CCall:
    """A model of static shapes, its inputs in order, and its output's shape (float32) as a call of ov_infer_request_infer.

    Raises RuntimeError with OpenVINO's message.
    """
    core, compiled, request = c.c_void_p(), c.c_void_p(), c.c_void_p()
    words = [word.encode() for pair in config.items() for word in pair]
    must("ov_core_create", c.byref(core))
    must(
        "ov_core_compile_model_from_file", core, str(file).encode(), b"CPU", c.c_size_t(len(words)), c.byref(compiled),
        *words,
    )  # fmt: skip
    must("ov_compiled_model_create_infer_request", compiled, c.byref(request))
    for index, array in enumerate(arrays):
        memory = data_of("ov_infer_request_get_input_tensor_by_index", request, index)
        c.memmove(memory, array.ctypes.data, array.nbytes)
    must("ov_infer_request_infer", request)
    memory = data_of("ov_infer_request_get_output_tensor_by_index", request, 0)
    values = c.cast(memory, c.POINTER(c.c_float))
    output = np.ctypeslib.as_array(values, shape)
    address = c.cast(library().ov_infer_request_infer, c.c_void_p).value or 0
    return CCall(ONE_TO_INT, address, (request,), output, message)


def data_of(getter: str, request: c.c_void_p, index: int) -> int:
    """The memory of one of the request's tensors."""
    tensor, memory = c.c_void_p(), c.c_void_p()
    must(getter, request, c.c_size_t(index), c.byref(tensor))
    must("ov_tensor_data", tensor, c.byref(memory))
    return memory.value or 0


def must(function: str, *arguments: object) -> None:
    """Calls a function. Raises RuntimeError with its message."""
    status = getattr(library(), function)(*arguments)
    if status:
        raise RuntimeError(f"{function}: {message(status)}")


def message(status: int) -> str:
    """What went wrong last, after the status's number."""
    function = library().ov_get_last_err_msg
    function.restype = c.c_char_p
    return f"status {c.c_int(status).value}, {(function() or b'').decode(errors='replace')}"


@cache
def library() -> c.CDLL:
    """The C library in the Python package."""
    spec = find_spec("openvino")
    if spec is None or spec.origin is None:
        raise ImportError("openvino")
    (file,) = (Path(spec.origin).parent / "libs").glob("libopenvino_c.so*")
    return c.CDLL(str(file))
