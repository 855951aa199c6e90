"""A worker's answers, taken as hostile: a model that it imported, and arrays that the original model gave.

Whatever the answer says is checked before it is used: the graph by its parser and the verifier, a weight's place against
the size of its file and the folders it may come from, words for what a terminal would obey. Anything else is a
FrontendError. Bytes of weights are not copied where they stand in the model's own files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..ir.dims import evaluate
from ..ir.graph import Array, Graph, OpError, Place, Weight
from ..ir.ops.leaf import Input
from ..ir.types import TensorType, numpy_dtype, parse_type
from ..ir.verify import VerifyError, verify
from ..sandbox.process import Worker, printable
from .imported import Imported
from .places import STORED_BYTES, placed_weight
from .wire import WEIGHTS, array_of, open_regular, read_arrays, read_graph, write_arrays

MOST_LINE = 1 << 16
"""Characters of a line of the graph's text."""
MOST_NAME = 512

Owns = Callable[[str], bool]
"""Whether a file is the model's own, so that a weight may lie in it."""


def imported_from(worker: Worker, said: Mapping[str, Any], *, owns: Owns, mapped: bool) -> Imported:
    """The model of an `import` answer; the worker lives until `close`. `mapped`: the worker's own file of weights is mapped,
    not read (only where the worker is trusted: it could cut the file short). Raises FrontendError."""
    try:
        table = read_weights(worker.folder, said["graph"]["weights"], owns, mapped)
        text = str(said["graph"]["text"])
        if any(len(line) > MOST_LINE for line in text.splitlines()):
            raise ValueError("a line of the graph is too long")
        graph = verify(read_graph(said["graph"], table), "import")
        _check_names(graph)
        used = tuple(sorted(Path(_file(f, owns)) for f in _list(said["used_files"])))
        notes = tuple(printable(n) for n in _list(said["notes"]))
        mlir = printable(said["mlir"], len(said["mlir"]))
        has_layers = bool(said["layers"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError, MemoryError,
            OSError, OpError, VerifyError) as error:  # fmt: skip
        raise worker.damaged(printable(str(error).split("\n")[0], 500)) from None
    return Imported(
        graph=graph,
        mlir=mlir,
        reference=_reference(worker, graph),
        layers=_layers(worker) if has_layers else None,
        used_files=used,
        notes=notes,
        close=worker.close,
    )


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, not {type(value).__name__}")
    return cast("list[Any]", value)


def _file(path: Any, owns: Owns) -> str:
    """A file that the answer names: the model's own, and a regular one."""
    if not isinstance(path, str) or not os.path.isabs(path) or not os.path.isfile(path) or not owns(path):
        raise ValueError(f"the file {str(path)[:200]!r} is not the model's own")
    return path


def _check_names(graph: Graph) -> None:
    """Names of inputs and outputs go into the manifest and protocols: words that can be shown."""
    names = [graph.name, *(n.op.input for n in graph.inputs if isinstance(n.op, Input)), *dict(graph.outputs)]
    for name in [*names, *graph.dims]:
        if len(name) > MOST_NAME or not name.isprintable():
            raise ValueError(f"the name {name[:100]!r} cannot be used")


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_weights(folder: Path, rows: Any, owns: Owns, mapped: bool) -> dict[str, Weight]:
    """The table of weights that `wire.write_graph` wrote. Raises ValueError, KeyError, TypeError and OSError."""
    table: dict[str, Weight] = {}
    blob = open_regular(folder / WEIGHTS)
    length = os.fstat(blob.fileno()).st_size
    for row in _list(rows):
        name, type_, offset = str(row["name"]), parse_type(row["type"]), row["offset"]
        shape = tuple(d for d in type_.shape if isinstance(d, int))
        if len(shape) != type_.rank or min(shape, default=0) < 0 or type(offset) is not int or offset < 0:
            raise ValueError(f"the weight {name[:100]!r} of type {type_} at {offset}")
        if "file" in row:
            place = Place(Path(_file(row["file"], owns)), offset, str(row["dtype"]))
            size, end = STORED_BYTES[place.dtype] * math.prod(shape), place.file.stat().st_size
            table[name] = placed_weight(place, type_)
        else:
            size, end = numpy_dtype(type_.dtype).itemsize * math.prod(shape), length
            table[name] = Weight(type_, _own(blob, folder / WEIGHTS, offset, type_, shape, mapped))
        if offset + size > end:
            raise ValueError(f"the weight {name[:100]!r} ends beyond its file")
    return table


def _own(
    blob: BinaryIO, file: Path, offset: int, type_: TensorType, shape: tuple[int, ...], mapped: bool
) -> Callable[[], Array]:
    """What loads a weight from the worker's own file."""
    dtype = numpy_dtype(type_.dtype)
    if 0 in shape:
        return lambda: np.zeros(shape, dtype)
    if mapped:
        return lambda: np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)
    size = math.prod(shape) * dtype.itemsize

    def load() -> Array:
        parts: list[bytes] = []
        while (have := sum(map(len, parts))) < size:
            part = os.pread(blob.fileno(), size - have, offset + have)
            if not part:
                raise OSError(f"{file} was cut short")
            parts.append(part)
        return array_of(b"".join(parts), type_.dtype, shape)

    return load


# ── the original model ───────────────────────────────────────────────────────────────────────────────────────────────


def _reference(worker: Worker, graph: Graph) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    types = {name: node.type for name, node in graph.outputs}

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = _run(worker, inputs, layers=False)
        sizes = _sizes(graph, inputs)
        for name, type_ in types.items():
            shape = tuple(evaluate(d, sizes) for d in type_.shape)
            got = found.get(name)
            if got is None or got.shape != shape or got.dtype != numpy_dtype(type_.dtype):
                shown = "nothing" if got is None else f"{got.dtype}{list(got.shape)}"
                raise worker.damaged(f"the output {name!r} is {shown}, and {type_.dtype}{list(shape)} was expected")
        return {name: found[name] for name in types}

    return reference


def _layers(worker: Worker) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    return lambda inputs: _run(worker, inputs, layers=True)


def _run(worker: Worker, inputs: Mapping[str, Array], *, layers: bool) -> dict[str, Array]:
    rows = write_arrays(inputs, worker.folder, "in")
    said = worker.ask({"do": "run", "inputs": rows, "layers": layers})
    try:
        return read_arrays(_list(said["outputs"]), worker.folder, "out")
    except (ValueError, KeyError, TypeError, OSError, MemoryError) as error:
        raise worker.damaged(printable(str(error), 500)) from None


def _sizes(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The value of each dimension, as the given arrays have it."""
    sizes: dict[str, int] = {}
    for node in graph.inputs:
        given = inputs.get(node.op.input) if isinstance(node.op, Input) else None
        if given is not None:
            sizes |= {str(d): n for d, n in zip(node.type.shape, given.shape, strict=True) if str(d) in graph.dims}
    return sizes
