"""runtime/abi/infc_model.h in ctypes: structs of the same layout, and the functions of a loaded model.so."""

from __future__ import annotations

import ctypes as c
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KINDS, InferError

ABI_VERSION = 1
MAX_RANK = 8
DTYPES = {"float32": 1, "int64": 2, "int32": 3, "bool": 4}
NAMES = {number: name for name, number in DTYPES.items()}
CODE_ARGUMENT = 1
CODE_DTYPE = 2
CODE_RANK = 3
CODE_SHAPE = 4
CODE_NAN = 6
CODE_WORKSPACE = 8


class Error(c.Structure):
    """infc_error."""

    _fields_ = [
        ("size", c.c_uint32),
        ("kind", c.c_uint32),
        ("code", c.c_int32),
        ("input", c.c_int32),
        ("message", c.c_char * 496),
    ]


class Tensor(c.Structure):
    """infc_tensor."""

    _fields_ = [
        ("size", c.c_uint32),
        ("dtype", c.c_uint32),
        ("rank", c.c_uint32),
        ("reserved", c.c_uint32),
        ("shape", c.c_int64 * MAX_RANK),
        ("data", c.c_void_p),
        ("bytes", c.c_uint64),
    ]


class OpenArgs(c.Structure):
    """infc_open_args."""

    _fields_ = [("size", c.c_uint32), ("reserved", c.c_uint32), ("weights", c.c_void_p), ("weights_bytes", c.c_uint64)]


class ContextArgs(c.Structure):
    """infc_context_args."""

    _fields_ = [
        ("size", c.c_uint32),
        ("threads", c.c_uint32),
        ("cpus", c.POINTER(c.c_int32)),
        ("n_cpus", c.c_uint32),
        ("reserved", c.c_uint32),
    ]


class Limits(c.Structure):
    """infc_limits."""

    _fields_ = [
        ("size", c.c_uint32),
        ("requests", c.c_uint32),
        ("rows", c.c_uint64),
        ("tokens", c.c_uint64),
        ("longest", c.c_uint64),
    ]


class Batch(c.Structure):
    """infc_batch."""

    _fields_ = [
        ("size", c.c_uint32),
        ("requests", c.c_uint32),
        ("inputs", c.POINTER(Tensor)),
        ("outputs", c.POINTER(Tensor)),
        ("status", c.POINTER(Error)),
        ("workspace", c.c_void_p),
        ("workspace_bytes", c.c_uint64),
    ]


class StepTime(c.Structure):
    """infc_step_time."""

    _fields_ = [("size", c.c_uint32), ("step", c.c_uint32), ("rows", c.c_uint64), ("nanoseconds", c.c_uint64)]


def open_library(path: Path) -> c.CDLL:
    """model.so with its functions typed. Raises InferError where it is no model of this ABI."""
    try:
        library = c.CDLL(str(path), mode=c.RTLD_LOCAL)
    except OSError as error:
        raise InferError("CALLER", CODE_ARGUMENT, f"{path}: {error}") from None
    pointer = c.POINTER
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "infc_abi_version": (c.c_uint32, []),
        "infc_describe": (c.c_char_p, []),
        "infc_open": (c.c_int, [pointer(OpenArgs), pointer(c.c_void_p), pointer(Error)]),
        "infc_close": (None, [c.c_void_p]),
        "infc_context_open": (c.c_int, [c.c_void_p, pointer(ContextArgs), pointer(c.c_void_p), pointer(Error)]),
        "infc_context_close": (None, [c.c_void_p]),
        "infc_workspace": (c.c_int, [c.c_void_p, pointer(Limits), pointer(c.c_uint64), pointer(Error)]),
        "infc_output_shapes": (c.c_int, [c.c_void_p, pointer(Tensor), pointer(Tensor), pointer(Error)]),
        "infc_run": (c.c_int, [c.c_void_p, pointer(Batch), pointer(Error)]),
        "infc_profile_enable": (c.c_int, [c.c_void_p, c.c_int, pointer(Error)]),
        "infc_profile": (c.c_int, [c.c_void_p, pointer(StepTime), c.c_uint32, pointer(c.c_uint32), pointer(Error)]),
    }
    for name, (result, arguments) in signatures.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise InferError("CALLER", CODE_ARGUMENT, f"{path} is no infc model: it has no {name}") from None
        function.restype, function.argtypes = result, arguments
    version = int(library.infc_abi_version())
    if version != ABI_VERSION:
        raise InferError(
            "CALLER", CODE_ARGUMENT, f"{path} has ABI version {version}, and this loader reads {ABI_VERSION}"
        )
    return library


def new_error() -> Error:
    """An empty infc_error."""
    error = Error()
    error.size = c.sizeof(Error)
    return error


def raise_error(error: Error) -> None:
    """Raises InferError with what error holds."""
    number = int(error.kind)
    kind = KINDS[number] if number < len(KINDS) else "INTERNAL"
    raise InferError(kind, int(error.code), error.message.decode(errors="replace"))


def fill_tensor(tensor: Tensor, array: NDArray[np.generic] | None) -> None:
    """tensor over array's memory (None: left to the default). The array must stay alive and be contiguous."""
    tensor.size = c.sizeof(Tensor)
    if array is None:
        tensor.data, tensor.bytes, tensor.rank, tensor.dtype = None, 0, 0, 0
        return
    name = "bool" if array.dtype == np.bool_ else array.dtype.name
    if name not in DTYPES:
        raise InferError("CALLER", CODE_DTYPE, f"dtype {name} is not one of {', '.join(DTYPES)}")
    if array.ndim > MAX_RANK:
        raise InferError("CALLER", CODE_SHAPE, f"a tensor of {array.ndim} dimensions; at most {MAX_RANK} are possible")
    tensor.dtype, tensor.rank, tensor.bytes = DTYPES[name], array.ndim, array.nbytes
    tensor.data = array.ctypes.data or 64  # an empty array has no memory, and is given nevertheless
    for axis, extent in enumerate(array.shape):
        tensor.shape[axis] = extent
