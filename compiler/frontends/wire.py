"""What goes between the compiler and a worker that imports a model: JSON values and plain files, no pickle.

request  := {"do": "import", ...} | {"do": "run", "inputs": [array...], "layers": bool}
array    := {"name", "dtype", "shape"}, its bytes in a file of the worker's folder
graph    := printed text + the origins of its numbered nodes + a table of weights: a place in the model's own files, or an
            offset into one file of raw bytes
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..ir.dims import Range
from ..ir.graph import Array, Graph, InputSpec, Node, Origin, Weight
from ..ir.printer import number_nodes, parse_graph, print_graph
from ..ir.types import parse_type
from .fields import Expected, Field

WEIGHTS = "weights.bin"
ALIGNMENT = 64
"""Bytes; weights in that file begin at multiples of it."""
ARRAY_DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
"""What arrays may be sent in: what a layer of the original model may give."""
MOST_RANK = 32


def write_graph(graph: Graph, folder: Path) -> dict[str, Any]:
    """graph as JSON values. A weight with a `place` is named by it; the bytes of the others are written to
    `folder`/weights.bin."""
    names = number_nodes(graph)
    origins = [list(asdict(n.origin).values()) for n in graph.nodes() if names[n].startswith("%")]
    rows: list[dict[str, Any]] = []
    with (folder / WEIGHTS).open("wb") as file:
        for name, weight in sorted(graph.weights.items()):
            row: dict[str, Any] = {"name": name, "type": str(weight.type)}
            if weight.place is not None:
                row |= {"file": str(weight.place.file), "offset": weight.place.offset, "dtype": weight.place.dtype}
            else:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                row["offset"] = file.tell()
                np.ascontiguousarray(weight.load()).tofile(file)
                file.flush()
            rows.append(row)
    return {
        "text": print_graph(graph, comments=False),
        "origins": origins,
        "weights": rows,
        "inputs": list(graph.input_specs),
    }


def read_graph(said: Mapping[str, Any], weights: Mapping[str, Weight]) -> Graph:
    """The graph that `write_graph` wrote, over its weights. Raises ValueError, KeyError, TypeError or OpError."""
    graph = parse_graph(str(said["text"]), weights)
    names = number_nodes(graph)
    numbered = [n for n in graph.nodes() if names[n].startswith("%")]
    origins = {n: Origin(*map(str, o)) for n, o in zip(numbered, said["origins"], strict=True)}
    image: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(image[o] for o in node.operands)
        image[node] = Node(node.op, operands, node.type, origins.get(node, node.origin))
    return graph.replace(
        inputs=tuple(image[n] for n in graph.inputs),
        outputs=tuple((name, image[n]) for name, n in graph.outputs),
        input_specs={str(name): graph.input_specs.get(name, InputSpec()) for name in said["inputs"]},
    )


def write_arrays(arrays: Mapping[str, Array], folder: Path, prefix: str) -> list[dict[str, Any]]:
    """Arrays as raw files `prefix`0, `prefix`1, ... in folder; what to send of them."""
    rows: list[dict[str, Any]] = []
    for i, (name, array) in enumerate(arrays.items()):
        np.ascontiguousarray(array).tofile(folder / f"{prefix}{i}")
        rows.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape)})
    return rows


def read_arrays(rows: Sequence[Mapping[str, Any]], folder: Path, prefix: str) -> dict[str, Array]:
    """The arrays that `write_arrays` wrote; their files are removed. Raises ValueError, KeyError or TypeError where rows and
    files are not what it writes, and OSError."""
    found: dict[str, Array] = {}
    for i, row in enumerate(rows):
        name, dtype = str(row["name"]), str(row["dtype"])
        if dtype not in ARRAY_DTYPES:
            raise ValueError(f"an array of dtype {dtype!r}")
        shape = read_shape(row["shape"])
        file = folder / f"{prefix}{i}"
        found[name] = read_exactly(file, dtype, shape)
        file.unlink()
    return found


def read_shape(value: Any) -> tuple[int, ...]:
    """A list of extents, none negative. Raises ValueError or TypeError."""
    if len(value) > MOST_RANK or any(type(d) is not int or d < 0 for d in value):
        raise ValueError(f"a shape of {str(value)[:100]}")
    return tuple(value)


def read_exactly(file: Path, dtype: str, shape: tuple[int, ...]) -> Array:
    """A file that holds one array and nothing else; it must be a regular one. Raises ValueError and OSError."""
    with open_regular(file) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"{size} bytes for an array of {dtype}{list(shape)}")
        return array_of(handle.read(size), dtype, shape)


def open_regular(file: Path) -> BinaryIO:
    """Opens a regular file for reading: no link, no pipe, no device. Raises ValueError and OSError."""
    handle = os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise ValueError(f"{file.name} is no file")
    return handle


def array_of(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array of so many bytes. Raises ValueError. A bool is a byte that is not 0: NumPy would take others as they are."""
    if dtype == "bool":
        return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)


def fields_to_json(fields: tuple[Field, ...]) -> list[dict[str, Any]]:
    """Fields as JSON values."""
    return [asdict(f) for f in fields]


def fields_from_json(rows: list[dict[str, Any]]) -> tuple[Field, ...]:
    """The fields that `fields_to_json` gave."""
    return tuple(Field(r["name"], r["parameter"], r["dtype"], tuple(r["shape"]), InputSpec(**r["spec"])) for r in rows)


def expected_to_json(expected: tuple[Expected, ...]) -> list[list[str | None]]:
    """Expected outputs as JSON values."""
    return [[e.name, e.foreign, str(e.type)] for e in expected]


def expected_from_json(rows: list[list[str]]) -> tuple[Expected, ...]:
    """The outputs that `expected_to_json` gave."""
    return tuple(Expected(name, foreign, parse_type(type_)) for name, foreign, type_ in rows)


def bounds_from_json(said: Mapping[str, list[int]]) -> dict[str, Range]:
    """Bounds of symbols, as pairs again."""
    return {name: (int(low), int(high)) for name, (low, high) in said.items()}
