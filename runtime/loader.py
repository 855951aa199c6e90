"""Runs a bundle in this Python process: ctypes over the C ABI and NumPy, nothing else.

m = infc.runtime.load("fraud.bundle", threads=2)
m.run(features=x)                              # {"score": float32 [rows, 1]}
m.run_batch([{"features": a}, {"features": b}])
m.close()                                      # or: with infc.runtime.load(...) as m
"""

from __future__ import annotations

import ctypes as c
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .c_abi import (
    CODE_ARGUMENT,
    CODE_DTYPE,
    NAMES,
    Batch,
    ContextArgs,
    Error,
    Limits,
    OpenArgs,
    StepTime,
    Tensor,
    fill_tensor,
    new_error,
    open_library,
    raise_error,
)
from .document import FORMAT, read_document, strict_json
from .errors import InferError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: `shape` has integers and names of dimensions, `bounds` the range of each name in it.
    `default`: every element's value where a caller leaves the input out; None: it must be given."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    bounds: Mapping[str, tuple[int, int]]
    default: float | int | None = None


@dataclass(frozen=True)
class StepProfile:
    """One step of the last run: its name, op and provider, the rows it computed and its seconds."""

    name: str
    op: str
    provider: str
    rows: int
    seconds: float


class Model:
    """A loaded model with one context. Not for several threads at once: load one a thread."""

    def __init__(
        self, library: Path, weights: Path | None, threads: int = 1, cpus: Sequence[int] | None = None
    ) -> None:
        """Opens library with weights (None: the model has none). Raises InferError."""
        self._library = open_library(library)
        self.description: dict[str, Any] = json.loads(self._library.infc_describe())
        self._model, self._context = c.c_void_p(), c.c_void_p()
        self._mapped, address, size = _map(weights)
        arguments = OpenArgs(c.sizeof(OpenArgs), 0, address, size)
        self._call("infc_open", c.byref(arguments), c.byref(self._model))
        listed = (c.c_int32 * len(cpus))(*cpus) if cpus else None
        context = ContextArgs(c.sizeof(ContextArgs), threads, listed, len(cpus or ()), 0)
        try:
            self._call("infc_context_open", self._model, c.byref(context), c.byref(self._context))
        except InferError:
            self._library.infc_close(self._model)
            self._model = c.c_void_p()
            raise
        self._workspace = np.empty(0, np.uint8)
        self.inputs = self._infos("inputs")
        self.outputs = self._infos("outputs")

    def _infos(self, key: str) -> tuple[TensorInfo, ...]:
        dims: dict[str, list[int]] = self.description["dims"]
        found: list[TensorInfo] = []
        for item in self.description[key]:
            shape: tuple[int | str, ...] = tuple(item["shape"])
            bounds = {d: (dims[d][0], dims[d][1]) for d in shape if isinstance(d, str) and d in dims}
            found.append(TensorInfo(item["name"], item["dtype"], shape, bounds, item.get("default")))
        return tuple(found)

    def run(self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> dict[str, Array]:
        """One request: arrays by input name to arrays by output name. Raises InferError."""
        (result,) = self.run_batch([{**(inputs or {}), **named}])
        if isinstance(result, InferError):
            raise result
        return result

    def run_batch(self, requests: Sequence[Mapping[str, ArrayLike]]) -> list[dict[str, Array] | InferError]:
        """Several requests in one run, each with rows and lengths of its own. A request at fault gives its InferError in
        place of outputs and its neighbours go on. Raises InferError where none could be run."""
        if not self._context:
            raise InferError("CALLER", CODE_ARGUMENT, "this model is closed")
        n_in, n_out = len(self.inputs), len(self.outputs)
        arrays = [self._arrays(request) for request in requests]
        tensors = (Tensor * max(1, len(requests) * n_in))()
        outputs = (Tensor * max(1, len(requests) * n_out))()
        status = (Error * max(1, len(requests)))()
        results: list[dict[str, Array]] = []
        rows = tokens = longest = 0
        for number, given in enumerate(arrays):
            status[number].size = c.sizeof(Error)
            for position, info in enumerate(self.inputs):
                fill_tensor(tensors[number * n_in + position], given.get(info.name))
            results.append(self._allocate(tensors, outputs, number))
            r, length = self._extent(given)
            rows, tokens, longest = rows + r, tokens + r * length, max(longest, length)
        self._reserve(len(requests), rows, tokens, longest)
        batch = Batch(
            c.sizeof(Batch),
            len(requests),
            tensors,
            outputs,
            status,
            self._workspace.ctypes.data,
            self._workspace.nbytes,
        )
        self._call("infc_run", self._context, c.byref(batch))
        final: list[dict[str, Array] | InferError] = []
        for number, result in enumerate(results):
            try:
                if status[number].kind:
                    raise_error(status[number])
                final.append(result)
            except InferError as error:
                final.append(error)
        return final

    def profile(self, on: bool = True) -> None:
        """Turns the timing of steps on or off for later runs."""
        self._call("infc_profile_enable", self._context, int(on))

    def step_times(self) -> list[StepProfile]:
        """The steps of the last run, where `profile()` was on."""
        steps: list[dict[str, Any]] = self.description["steps"]
        times, count = (StepTime * max(1, len(steps)))(), c.c_uint32()
        self._call("infc_profile", self._context, times, len(steps), c.byref(count))
        return [
            StepProfile(s["name"], s["op"], s["provider"], int(t.rows), t.nanoseconds / 1e9)
            for s, t in zip(steps, times, strict=False)
        ]

    def close(self) -> None:
        """Frees the context and the model; a closed model refuses to run."""
        if self._context:
            self._library.infc_context_close(self._context)
            self._context = c.c_void_p()
        if self._model:
            self._library.infc_close(self._model)
            self._model = c.c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, name: str, *arguments: Any) -> None:
        error = new_error()
        if getattr(self._library, name)(*arguments, c.byref(error)):
            raise_error(error)

    def _arrays(self, request: Mapping[str, ArrayLike]) -> dict[str, Array]:
        names = [info.name for info in self.inputs]
        unknown = sorted(set(request) - set(names))
        if unknown:
            raise InferError(
                "CALLER", CODE_ARGUMENT, f"there is no input {unknown[0]!r}; the inputs are {', '.join(names)}"
            )
        found: dict[str, Array] = {}
        for info in self.inputs:
            if info.name not in request:
                continue
            array = np.asarray(request[info.name])
            if array.dtype.name != info.dtype and not np.can_cast(array.dtype, info.dtype, "same_kind"):
                text = f"input '{info.name}' is {array.dtype.name}, and must be {info.dtype}"
                raise InferError("CALLER", CODE_DTYPE, text)
            found[info.name] = np.ascontiguousarray(array, dtype=info.dtype).reshape(array.shape)
        return found

    def _allocate(self, tensors: Any, outputs: Any, number: int) -> dict[str, Array]:
        """Output arrays of one request; none where its inputs do not fit (its status will say so)."""
        own_in = c.byref(tensors, number * len(self.inputs) * c.sizeof(Tensor))
        own_out = c.cast(c.byref(outputs, number * len(self.outputs) * c.sizeof(Tensor)), c.POINTER(Tensor))
        error = new_error()
        function = self._library.infc_output_shapes
        if function(self._model, c.cast(own_in, c.POINTER(Tensor)), own_out, c.byref(error)):
            return {}
        found: dict[str, Array] = {}
        for position, info in enumerate(self.outputs):
            tensor = outputs[number * len(self.outputs) + position]
            shape = tuple(tensor.shape[: tensor.rank])
            found[info.name] = np.empty(shape, NAMES[tensor.dtype])
            tensor.data, tensor.bytes = found[info.name].ctypes.data, found[info.name].nbytes
        return found

    def _extent(self, given: Mapping[str, Array]) -> tuple[int, int]:
        """(rows, length) of a request, as its first inputs that name them say."""
        batch, length = self.description["batch_dim"], self.description["length_dim"]
        rows = 0 if batch else 1
        longest = 0
        for info in self.inputs:
            array = given.get(info.name)
            if array is None or array.ndim != len(info.shape):
                continue
            for axis, dim in enumerate(info.shape):
                rows = max(rows, array.shape[axis]) if dim == batch else rows
                longest = max(longest, array.shape[axis]) if dim == length else longest
        return rows, longest

    def _reserve(self, requests: int, rows: int, tokens: int, longest: int) -> None:
        limits = Limits(c.sizeof(Limits), requests, rows, tokens, longest)
        needed = c.c_uint64()
        self._call("infc_workspace", self._model, c.byref(limits), c.byref(needed))
        if self._workspace.nbytes < needed.value:
            self._workspace = np.empty(needed.value, np.uint8)


def _map(weights: Path | None) -> tuple[object, int | None, int]:
    if weights is None or weights.stat().st_size == 0:
        return None, None, 0
    with weights.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    array = np.frombuffer(mapped, np.uint8)
    return (mapped, array), array.ctypes.data, array.nbytes


def load(
    bundle: str | Path,
    *,
    threads: int = 1,
    model: str | None = None,
    variant: int = 0,
    cpus: Sequence[int] | None = None,
) -> Model:
    """Loads a bundle's model (`model`: its name, where there are several). Raises InferError."""
    folder = Path(bundle)
    try:
        manifest: dict[str, Any] = strict_json(read_document(folder))
    except (OSError, ValueError, RecursionError) as error:
        raise InferError("CALLER", CODE_ARGUMENT, f"{folder} is no bundle: {error}") from None
    if (found := manifest.get("format")) != FORMAT:
        text = f"{folder} has format {found}, and this infc reads format {FORMAT}: build it again"
        raise InferError("CALLER", CODE_ARGUMENT, text)
    names = [m["name"] for m in manifest["models"]]
    if model is None and len(names) > 1:
        raise InferError("CALLER", CODE_ARGUMENT, f"{folder} has several models; say which: {', '.join(names)}")
    if model is not None and model not in names:
        raise InferError("CALLER", CODE_ARGUMENT, f"{folder} has no model {model!r}; it has {', '.join(names)}")
    variants = manifest["models"][names.index(model) if model else 0]["variants"]
    chosen = [v for v in variants if v["id"] == variant]
    if not chosen:
        raise InferError(
            "CALLER", CODE_ARGUMENT, f"{folder} has no variant {variant}; it has {[v['id'] for v in variants]}"
        )
    for path in (folder / chosen[0]["library"], folder / chosen[0]["weights"]):
        if not path.is_file():
            raise InferError("CALLER", CODE_ARGUMENT, f"{path} is no regular file")
    return Model(folder / chosen[0]["library"], folder / chosen[0]["weights"], threads, cpus)
