"""Runs a bundle in this Python process: ctypes over the C ABI and NumPy, and `tokenizers` for texts. One model serves many threads.

m = infc.runtime.load("fraud.bundle", threads=2)
m.run(features=x)                              # {"score": float32 [rows, 1]}
m.run(text=["a", "b"])                         # of a model of texts, with `tokenizers`: {"embedding": float32 [2, width]}
m.run_batch([{"features": a}, {"features": b}])
m.close()                                      # or: with infc.runtime.load(...) as m
"""

from __future__ import annotations

import ctypes as c
import hashlib
import json
import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import MOST_THREADS, TensorInfo, caller, check_finite, cpu_list, folder_path, request_arrays, whole
from .c_abi import (
    CODE_WORKSPACE,
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
from .contexts import Context, Contexts
from .document import FORMAT, open_regular, read_document, strict_json
from .errors import InferError
from .texts import Texts

__all__ = ["Array", "Model", "StepProfile", "TensorInfo", "load"]

Array = NDArray[Any]
TEXTS_AT_ONCE = 32
CHUNK = 4 << 20
"""Bytes that a digest of the manifest covers."""


@dataclass(frozen=True)
class StepProfile:
    """One step of the last run: its name, op and provider, the rows it computed and its seconds."""

    name: str
    op: str
    provider: str
    rows: int
    seconds: float


class Model:
    """A loaded model, for any number of threads at once: each call takes a context of its own (contexts.py says how many
    there are), and `close` waits for calls that run."""

    def __init__(
        self,
        library: Path,
        weights: Path | None,
        threads: int = 1,
        cpus: Sequence[int] | None = None,
        finite: Collection[str] = (),
        texts: Texts | None = None,
    ) -> None:
        """Opens library with weights (None: the model has none). `threads`: of one call; `cpus`: where they run, which
        leaves one call at a time; `finite`: outputs that make an InferError of an answer where they are not; `texts`: None
        where the model takes none. Raises InferError."""
        self._finite, self._texts = frozenset(finite), texts
        self.threads = whole(threads, "threads", 1, MOST_THREADS)
        self._cpus = cpu_list(cpus)
        self._library = open_library(library)
        self.description: dict[str, Any] = json.loads(self._library.infc_describe())
        self._model = c.c_void_p()
        self._mapped, address, size = _map(weights)
        arguments = OpenArgs(c.sizeof(OpenArgs), 0, address, size)
        self._call("infc_open", c.byref(arguments), c.byref(self._model))
        self.inputs = self._infos("inputs")
        self.outputs = self._infos("outputs")
        self._timing = False
        self._times: list[StepProfile] = []
        limit = 1 if self._cpus else max(1, len(os.sched_getaffinity(0)) // self.threads)
        self._contexts = Contexts(limit, self._open_context, self._library.infc_context_close, self._free)
        try:
            with self._contexts.one():
                pass  # what a context lacks is said by load, not by the first call
        except InferError:
            self._contexts.close()
            raise

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, infos)) for infos in (self.inputs, self.outputs))
        d = self.description
        closed = ", closed" if self._contexts.closing else ""
        return f"<infc model {d['name']!r}: {inputs} -> {outputs}; {d['isa']}, threads={self.threads}{closed}>"

    def __copy__(self) -> Self:
        raise caller("a model is not copied: threads share one, and `load` opens another")

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __reduce__(self) -> str:
        raise caller("a model is not pickled: `load` it where it is used")

    def _open_context(self) -> c.c_void_p:
        listed = (c.c_int32 * len(self._cpus))(*self._cpus) if self._cpus else None
        arguments = ContextArgs(c.sizeof(ContextArgs), self.threads, listed, len(self._cpus), 0)
        handle = c.c_void_p()
        self._call("infc_context_open", self._model, c.byref(arguments), c.byref(handle))
        return handle

    def _free(self) -> None:
        self._library.infc_close(self._model)
        self._model = c.c_void_p()

    def _infos(self, key: str) -> tuple[TensorInfo, ...]:
        dims: dict[str, list[int]] = self.description["dims"]
        found: list[TensorInfo] = []
        for item in self.description[key]:
            shape: tuple[int | str, ...] = tuple(item["shape"])
            bounds = {d: (dims[d][0], dims[d][1]) for d in shape if isinstance(d, str) and d in dims}
            found.append(TensorInfo(item["name"], item["dtype"], shape, bounds, item.get("default")))
        return tuple(found)

    def run(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """One request: arrays by input name to arrays by output name; or, of a model of texts, a text or a list of them by its
        name to what the task makes of them (`embedding`; `label` and `score`; `entities`, for which `aggregation_strategy` and
        `ignore_labels` may be given too). Raises InferError."""
        if inputs is not None and not isinstance(cast("object", inputs), Mapping):
            raise caller(f"inputs must map input names to arrays, and are {type(inputs).__name__}: run(x=array), say")
        request = {**dict(inputs or {}), **named}
        if self._texts is not None and set(request) & set(self._texts.names):
            return self._run_texts(self._texts, request)
        if self._texts is not None and not set(request) & {i.name for i in self.inputs}:
            inputs_are = ", ".join(i.name for i in self.inputs)
            given = ", ".join(map(repr, request)) or "nothing"
            raise caller(f"give {' and '.join(self._texts.names)}, or tokens as {inputs_are}, not {given}")
        (result,) = self.run_batch([request])
        if isinstance(result, InferError):
            raise result
        return result

    def _run_texts(self, texts: Texts, request: Mapping[str, object]) -> dict[str, Any]:
        self._contexts.check_open()
        known = {info.name for info in self.inputs}
        tokens = texts.rows(request)
        rows = [{name: np.array([ids]) for name, ids in row.items() if name in known} for row in tokens]
        parts: list[dict[str, Array]] = []
        for start in range(0, len(rows), TEXTS_AT_ONCE):
            for result in self.run_batch(rows[start : start + TEXTS_AT_ONCE]):
                if isinstance(result, InferError):
                    raise result
                parts.append(result)
        none = {i.name: np.empty([d if isinstance(d, int) else 0 for d in i.shape], i.dtype) for i in self.outputs}
        return texts.answer(request, tokens, {name: [none[name], *(p[name] for p in parts)] for name in none})

    def run_batch(self, requests: Sequence[Mapping[str, ArrayLike]]) -> list[dict[str, Array] | InferError]:
        """Several requests in one run, each with rows and lengths of its own. A request at fault gives its InferError in
        place of outputs and its neighbours go on. Raises InferError where none could be run."""
        self._contexts.check_open()
        if isinstance(requests, str | bytes | Mapping) or not isinstance(cast("object", requests), Sequence):
            raise caller(f"requests must be a sequence of mappings, not {type(requests).__name__}")
        final: list[dict[str, Array] | InferError] = []
        arrays: dict[int, dict[str, Array]] = {}
        for number, request in enumerate(requests):
            final.append({})
            try:
                arrays[number] = request_arrays(request, self.inputs)
            except InferError as error:
                final[number] = error
        if arrays or not requests:
            with self._contexts.one() as context:
                found = self._run(context, list(arrays.values()))
            for number, result in zip(arrays, found, strict=True):
                final[number] = result
        return final

    def _run(self, context: Context, arrays: Sequence[Mapping[str, Array]]) -> list[dict[str, Array] | InferError]:
        n_in, n_out, requests = len(self.inputs), len(self.outputs), len(arrays)
        tensors = (Tensor * max(1, requests * n_in))()
        outputs = (Tensor * max(1, requests * n_out))()
        status = (Error * max(1, requests))()
        results: list[dict[str, Array]] = []
        rows = tokens = longest = 0
        for number, given in enumerate(arrays):
            status[number].size = c.sizeof(Error)
            for position, info in enumerate(self.inputs):
                fill_tensor(tensors[number * n_in + position], given.get(info.name))
            results.append(self._allocate(tensors, outputs, number))
            r, length = self._extent(given)
            rows, tokens, longest = rows + r, tokens + r * length, max(longest, length)
        self._reserve(context, requests, rows, tokens, longest)
        space = context.workspace
        batch = Batch(c.sizeof(Batch), requests, tensors, outputs, status, space.ctypes.data, space.nbytes)
        timed = self._timing
        if context.timed != timed:
            self._call("infc_profile_enable", context.handle, int(timed))
            context.timed = timed
        self._call("infc_run", context.handle, c.byref(batch))
        if timed:
            self._times = self._read_times(context)
        final: list[dict[str, Array] | InferError] = []
        for number, result in enumerate(results):
            try:
                if status[number].kind:
                    raise_error(status[number])
                for name in self._finite:
                    check_finite(name, result[name])
                final.append(result)
            except InferError as error:
                final.append(error)
        return final

    def profile(self, on: bool = True) -> None:
        """Turns the timing of steps on or off for later runs."""
        self._contexts.check_open()
        self._timing = bool(on)

    def step_times(self) -> list[StepProfile]:
        """The steps of the last run that ended while `profile()` was on; [] where there was none."""
        self._contexts.check_open()
        return self._times

    def _read_times(self, context: Context) -> list[StepProfile]:
        steps: list[dict[str, Any]] = self.description["steps"]
        times, count = (StepTime * max(1, len(steps)))(), c.c_uint32()
        self._call("infc_profile", context.handle, times, len(steps), c.byref(count))
        return [
            StepProfile(s["name"], s["op"], s["provider"], int(t.rows), t.nanoseconds / 1e9)
            for s, t in zip(steps, times, strict=False)
        ]

    def close(self) -> None:
        """Waits for calls that run, then frees everything; a closed model refuses to run, and closing again does nothing."""
        self._contexts.close()

    def __enter__(self) -> Self:
        self._contexts.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        contexts = getattr(self, "_contexts", None)  # absent where __init__ refused; a call that runs holds the model
        if contexts is not None:
            contexts.close()

    def _call(self, name: str, *arguments: Any) -> None:
        error = new_error()
        if getattr(self._library, name)(*arguments, c.byref(error)):
            raise_error(error)

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

    def _reserve(self, context: Context, requests: int, rows: int, tokens: int, longest: int) -> None:
        limits = Limits(c.sizeof(Limits), requests, rows, tokens, longest)
        needed = c.c_uint64()
        self._call("infc_workspace", self._model, c.byref(limits), c.byref(needed))
        if context.workspace.nbytes < needed.value:
            try:
                context.workspace = np.empty(needed.value, np.uint8)
            except MemoryError:
                text = f"a workspace of {needed.value} bytes does not fit into memory"
                raise InferError("CAPACITY", CODE_WORKSPACE, text) from None


def _map(weights: Path | None) -> tuple[object, int | None, int]:
    try:
        if weights is None or weights.stat().st_size == 0:
            return None, None, 0
        with weights.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except OSError as error:
        raise caller(f"{weights} cannot be read: {error.strerror}") from None
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
    folder = folder_path(bundle)
    whole(threads, "threads", 1, MOST_THREADS)
    cpu_list(cpus)
    try:
        manifest: dict[str, Any] = strict_json(read_document(folder))
        if (found := manifest.get("format")) != FORMAT:
            raise caller(f"{folder} has format {found!r}, and this infc reads format {FORMAT}: build it again")
        models = {str(m["name"]): {int(v["id"]): v for v in m["variants"]} for m in manifest["models"]}
        finite = {
            str(m["name"]): [str(o["name"]) for o in m["outputs"] if not o["nan_allowed"]] for m in manifest["models"]
        }
        tasks: dict[str, dict[str, Any]] = {str(m["name"]): m["task"] for m in manifest["models"]}
        files = {str(f["path"]): (int(f["bytes"]), [str(d) for d in f["sha256"]]) for f in manifest["files"]}
    except (OSError, ValueError) as error:
        raise caller(f"{folder} is no bundle: {error}") from None
    except (KeyError, AttributeError, TypeError, RecursionError) as error:
        raise caller(f"{folder} is no bundle: its manifest.json is damaged ({type(error).__name__}: {error})") from None
    if model is not None and not isinstance(cast("object", model), str):
        raise caller(f"model must be a name, not {model!r:.80}")
    if model is None and len(models) > 1:
        raise caller(f"{folder} has several models; say which: {', '.join(models)}")
    if not models or (model is not None and model not in models):
        raise caller(f"{folder} has no model {model!r}; it has {', '.join(models) or 'none'}")
    name = model if model is not None else next(iter(models))
    variants = models[name]
    if whole(variant, "variant", 0, 2**31 - 1) not in variants:
        raise caller(f"{folder} has no variant {variant}; it has {list(variants)}")
    try:
        library, weights = str(variants[variant]["library"]), str(variants[variant]["weights"])
    except KeyError as error:
        raise caller(
            f"{folder} is no bundle: its manifest.json is damaged (variant {variant} has no {error})"
        ) from None
    _check_file(folder, library, files, digest=True)  # code cut short would end the process
    _check_file(folder, weights, files, digest=False)
    return Model(folder / library, folder / weights, threads, cpus, finite[name], _texts(folder, tasks[name], files))


def _texts(folder: Path, task: Mapping[str, Any], files: Mapping[str, tuple[int, list[str]]]) -> Texts | None:
    """What the task says of texts, its tokenizer checked; None where it takes none. Raises InferError."""
    try:
        file: str | None = task.get("tokenizer")
        if file is None:
            return None
        found = Texts(task, folder / file)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise caller(f"{folder} is no bundle: its manifest.json is damaged ({type(error).__name__}: {error})") from None
    _check_file(folder, file, files, digest=True)
    return found


def _check_file(folder: Path, name: str, files: Mapping[str, tuple[int, list[str]]], *, digest: bool) -> None:
    """Raises InferError where the file is not as the manifest says: in size, and with `digest` in every byte."""
    if name not in files:
        raise caller(f"{folder} is no bundle: its manifest.json does not list {name}")
    size, want = files[name]
    try:
        with open_regular(folder / name) as file:
            have = os.fstat(file.fileno()).st_size
            if have != size:
                raise caller(f"{folder / name} is damaged: it has {have} bytes, and the manifest says {size}")
            found = (
                [hashlib.sha256(chunk).hexdigest() for chunk in iter(lambda: file.read(CHUNK), b"")] if digest else want
            )
        if found != want:
            raise caller(f"{folder / name} is damaged: its digest is not the manifest's")
    except OSError as error:
        raise caller(f"{folder / name} cannot be read: {error.strerror}") from None
