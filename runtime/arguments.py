"""What callers of the loader give, checked: each fault is an InferError that names the argument and says what is expected."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .c_abi import CODE_ARGUMENT, CODE_DTYPE, CODE_NAN, CODE_RANK, CODE_SHAPE
from .errors import InferError

MOST_THREADS = 1024
MOST_CPU = 2**31 - 1
MOST_CPUS = 4096


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: `shape` has integers and names of dimensions, `bounds` the range of each name in it.
    `default`: every element's value where a caller leaves the input out; None: it must be given."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    bounds: Mapping[str, tuple[int, int]]
    default: float | int | None = None

    def __str__(self) -> str:
        ranges = {name: f"{name} {low}..{high}" for name, (low, high) in self.bounds.items()}
        dims = [ranges.get(str(d), str(d)) for d in self.shape]
        return f"{self.name} {self.dtype}[{', '.join(dims)}]"

    @property
    def most_elements(self) -> int | None:
        """Elements at the upper bound of every dimension; None where one has no bound of its own."""
        if any(isinstance(d, str) and d not in self.bounds for d in self.shape):
            return None
        return math.prod(self.bounds[d][1] if isinstance(d, str) else d for d in self.shape)


def whole(value: Any, name: str, low: int, high: int) -> int:
    """value as an int in low..high; bool is none. Raises InferError."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise caller(f"{name} must be an integer from {low} to {high}, not {_shown(value)}")
    return number


def cpu_list(cpus: Any) -> list[int]:
    """CPU numbers; [] for None. Raises InferError."""
    if cpus is None:
        return []
    if isinstance(cpus, str | bytes | Mapping) or not isinstance(cpus, Sequence | range | np.ndarray):
        raise caller(f"cpus must be a sequence of CPU numbers, not {_shown(cpus)}")
    listed = cast("Sequence[object]", cpus)
    if len(listed) > MOST_CPUS:
        raise caller(f"cpus lists {len(listed)} CPU numbers, and at most {MOST_CPUS} are taken")
    return [whole(cpu, "each of cpus", 0, MOST_CPU) for cpu in listed]


def folder_path(bundle: Any) -> Path:
    """The bundle's path. Raises InferError."""
    if not isinstance(bundle, str | os.PathLike):
        raise caller(f"bundle must be a path, not {_shown(bundle)}")
    return Path(cast("str | os.PathLike[str]", bundle))


def request_arrays(request: Any, inputs: Sequence[TensorInfo]) -> dict[str, NDArray[Any]]:
    """Input name to a native, contiguous, aligned array of the input's dtype. Arrays of another byte order or layout are
    copied, and so are those of a narrower kind (float64 for float32, int32 for int64) where the values fit. Raises
    InferError for a name that does not exist and for what is no array of such numbers."""
    if not isinstance(request, Mapping):
        raise caller(f"a request must map input names to arrays, not be {_shown(request)}")
    given = cast("Mapping[object, object]", request)
    known = {info.name for info in inputs}
    unknown = sorted((name for name in given if name not in known), key=repr)
    if unknown:
        raise caller(f"there is no input {unknown[0]!r}; the inputs are {', '.join(i.name for i in inputs)}")
    return {info.name: input_array(given[info.name], info) for info in inputs if info.name in given}


def input_array(value: Any, info: TensorInfo) -> NDArray[Any]:
    """One input's array as `request_arrays` says. Raises InferError."""
    array = _as_array(value, info)
    if array.dtype.name != info.dtype and not (
        array.dtype.kind in "biuf" and np.can_cast(array.dtype, info.dtype, "same_kind")
    ):
        raise InferError("CALLER", CODE_DTYPE, f"input '{info.name}' is {array.dtype.name}, and must be {info.dtype}")
    most = info.most_elements
    if array.ndim == len(info.shape) and most is not None and array.size > most:  # before it is copied
        raise InferError(
            "CALLER", CODE_SHAPE, f"input '{info.name}' has the shape {list(array.shape)}, and must be {info}"
        )
    if array.ndim != len(info.shape):
        text = f"input '{info.name}' has {array.ndim} dimensions, and must have {len(info.shape)}: {info}"
        raise InferError("CALLER", CODE_RANK, text)
    _check_range(array, info)
    return np.require(array, dtype=info.dtype, requirements=["C", "A"])


def _as_array(value: Any, info: TensorInfo) -> NDArray[Any]:
    if value is None:
        hint = "leave it out" if info.default is not None else "it must be given"
        raise caller(f"input '{info.name}' is None; {hint}: {info}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(cast("Any", value)):
        raise caller(f"input '{info.name}' has masked elements, which have no value: fill them first")
    kind = type(cast("object", value)).__name__
    try:
        array: NDArray[Any] = np.asarray(cast("Any", value))
    except Exception as error:  # noqa: BLE001 - whatever the object's own conversion raises
        raise caller(f"input '{info.name}' must be an array, {info}; {kind} is none: {error}") from None
    if array.dtype.kind not in "biuf":
        said = f"{kind} of dtype {array.dtype}"
        raise InferError("CALLER", CODE_DTYPE, f"input '{info.name}' is {said}, and must be {info}")
    return array


def _check_range(array: NDArray[Any], info: TensorInfo) -> None:
    """A cast must keep every value: no integer wraps, no finite number becomes infinite."""
    want = np.dtype(info.dtype)
    if array.size == 0 or want.kind == "b" or np.can_cast(array.dtype, want, "safe"):
        return
    if want.kind == "i" and array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        limits = np.iinfo(want)
        if low < limits.min or high > limits.max:
            wrong = low if low < limits.min else high
            raise InferError(
                "CALLER", CODE_DTYPE, f"input '{info.name}' has the value {wrong}, which {info.dtype} cannot hold"
            )
    elif want.kind == "f" and array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            finite = array[np.isfinite(array)]
            beyond = finite[np.abs(finite) > np.finfo(want).max]
        if beyond.size:
            text = f"input '{info.name}' has the value {beyond.flat[0]!s}, which {info.dtype} cannot hold"
            raise InferError("CALLER", CODE_DTYPE, text)


def check_finite(name: str, output: NDArray[Any]) -> None:
    """Raises InferError where an output holds what is no number, with its first place, as the server does."""
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(output))[0])
        where = "".join(f"[{i}]" for i in place)
        text = f"{name}{where}: the model's output is {output[place]} (non_finite); `output {name}: ..., nan allowed` lets it pass"
        raise InferError("INTERNAL", CODE_NAN, text)


def caller(message: str) -> InferError:
    """The error of a wrong argument."""
    return InferError("CALLER", CODE_ARGUMENT, message)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
