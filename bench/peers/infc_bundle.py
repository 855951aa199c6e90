"""infc: the bundle that `infc build` made, through its C ABI."""

from __future__ import annotations

import ctypes as c
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from infc.runtime import InferError, Model, load
from infc.runtime.c_abi import (
    Batch,
    ContextArgs,
    Limits,
    OpenArgs,
    Tensor,
    fill_tensor,
    new_error,
    open_library,
    raise_error,
)

from ..bundles import bundle_folder
from ..cases import Case
from ..loop import THREE_TO_INT, CCall
from . import Array, Call, Run, inputs

CPUS = sorted(os.sched_getaffinity(0))
"""As this process found them: pin_caller leaves the calling thread one of them."""

VERSION_OF = "infc"
COMMON = "the bundle of `infc build` of a spec with `search {{ precision {} }}`; infc_run in a loop in C"
SETTINGS = {
    "float32": COMMON.format("float32"),
    "bfloat16": COMMON.format("bfloat16"),
    "int8": COMMON.format("int8") + "; calibrated on 256 sentences that are not measured",
}


def candidates(case: Case, threads: int, variant: str) -> dict[str, Call]:
    return {"": bind(bundle_folder(case.model, case.precision), inputs(case), threads)}


def bind(bundle: Path, arrays: Mapping[str, Array], threads: int) -> CCall:
    """One request of these inputs as a C call. Raises InferError, FileNotFoundError where there is no bundle."""
    (variant,) = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["models"][0]["variants"]
    library = open_library(bundle / variant["library"])
    error = new_error()

    def must(function: str, *arguments: object) -> None:
        if getattr(library, function)(*arguments, c.byref(error)):
            raise_error(error)

    weights = np.memmap(bundle / variant["weights"], np.uint8, "r")
    model, context = c.c_void_p(), c.c_void_p()
    must("infc_open", c.byref(OpenArgs(c.sizeof(OpenArgs), 0, weights.ctypes.data, weights.nbytes)), c.byref(model))
    cpus = (c.c_int32 * threads)(*own_cpus(threads))
    pin_caller(cpus[0])
    how = ContextArgs(c.sizeof(ContextArgs), threads, cpus, threads, 0)
    must("infc_context_open", model, c.byref(how), c.byref(context))

    described = json.loads(library.infc_describe())
    names = [item["name"] for item in described["inputs"]]
    given, made, status = (Tensor * len(names))(), Tensor(), new_error()
    for tensor, name in zip(given, names, strict=True):
        fill_tensor(tensor, arrays.get(name))
    must("infc_output_shapes", model, given, c.byref(made))
    output = np.empty(tuple(made.shape[: made.rank]), np.float32)
    made.data = output.ctypes.data
    rows, length = (*next(iter(arrays.values())).shape, 0)[:2] if described["length_dim"] else (len(output), 0)
    needed = c.c_uint64()
    must(
        "infc_workspace", model, c.byref(Limits(c.sizeof(Limits), 1, rows, rows * length, length)), c.byref(needed)
    )  # fmt: skip
    space = np.zeros(needed.value + 64, np.uint8)
    start = -space.ctypes.data % 64
    batch = Batch(
        c.sizeof(Batch), 1, given, c.pointer(made), c.pointer(status), space.ctypes.data + start, needed.value
    )  # fmt: skip
    keep = (library, weights, cpus, given, made, status, space, batch, error, arrays)

    def explain(kind: int) -> str:
        return f"infc_run returned {kind}: {error.message.decode(errors='replace')}"

    call = CCall(
        THREE_TO_INT, address_of(library.infc_run), (context, c.addressof(batch), c.addressof(error)), output, explain, keep
    )  # fmt: skip
    call()
    if status.kind:
        raise_error(status)
    return call


def address_of(function: object) -> int:
    """A C function's address."""
    return c.cast(function, c.c_void_p).value or 0  # pyright: ignore[reportArgumentType]


def pin_caller(cpu: int) -> None:
    """This thread onto the first of the context's CPUs, as the ABI asks of its caller."""
    os.sched_setaffinity(0, {cpu})


def own_cpus(threads: int) -> list[int]:
    """The first CPUs that this process was given. Raises ValueError where they are too few."""
    if len(CPUS) < threads:
        raise ValueError(f"{threads} threads want as many CPUs; there are {len(CPUS)}")
    return CPUS[:threads]


def streams(
    model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
) -> dict[str, Run]:
    """A batch's rows are requests of their own lengths: nothing is padded, whatever the mask says is padding is cut."""
    cpus = own_cpus(threads)
    opened: Model = load(bundle_folder(model, precision), threads=threads, cpus=cpus)
    pin_caller(cpus[0])
    (output,) = (info.name for info in opened.outputs)

    def run(ids: Array, mask: Array) -> Array:
        lengths = mask.sum(1)
        requests = [{"input_ids": row[None, :n]} for row, n in zip(ids, lengths, strict=True)]
        rows: list[Array] = []
        for answer in opened.run_batch(requests):
            if isinstance(answer, InferError):
                raise answer
            rows.append(answer[output])
        return np.concatenate(rows)

    return {"": run}
