"""What goes between this process and the worker that runs a user's code: JSON lines and plain files, no pickle.

request  := {"do": "import", ...} | {"do": "run", "inputs": [{"name", "dtype", "shape", "file"}...]} | {"do": "quit"}
answer   := {"ok": {...}} | {"error": {"message", "hint"}}
graph    := printed text + the origins of its numbered nodes + a table of weights in one file of raw bytes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Range
from ..ir.graph import Array, Graph, InputSpec, Node, Origin, Weight
from ..ir.printer import number_nodes, parse_graph, print_graph
from ..ir.types import TensorType, parse_type
from .fields import Expected, Field

ALIGNMENT = 64
"""Bytes; weights begin at multiples of it."""


def write_graph(graph: Graph, folder: Path) -> dict[str, Any]:
    """graph as JSON values, its weights in `folder`/weights.bin."""
    names = number_nodes(graph)
    origins = [list(asdict(n.origin).values()) for n in graph.nodes() if names[n].startswith("%")]
    rows: list[dict[str, Any]] = []
    with (folder / "weights.bin").open("wb") as file:
        for name, weight in sorted(graph.weights.items()):
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            rows.append({"name": name, "type": str(weight.type), "offset": file.tell()})
            file.write(np.ascontiguousarray(weight.load()).tobytes())
    return {
        "text": print_graph(graph, comments=False),
        "origins": origins,
        "weights": rows,
        "inputs": list(graph.input_specs),
    }


def read_graph(said: Mapping[str, Any], folder: Path) -> Graph:
    """The graph that `write_graph` wrote. Raises ValueError."""
    file = folder / "weights.bin"
    weights = {str(row["name"]): _mapped(file, parse_type(row["type"]), int(row["offset"])) for row in said["weights"]}
    graph = parse_graph(str(said["text"]), weights)
    names = number_nodes(graph)
    numbered = [n for n in graph.nodes() if names[n].startswith("%")]
    origins = {n: Origin(*o) for n, o in zip(numbered, said["origins"], strict=True)}
    image: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(image[o] for o in node.operands)
        image[node] = Node(node.op, operands, node.type, origins.get(node, node.origin))
    return graph.replace(
        inputs=tuple(image[n] for n in graph.inputs),
        outputs=tuple((name, image[n]) for name, n in graph.outputs),
        input_specs={name: graph.input_specs.get(name, InputSpec()) for name in said["inputs"]},
    )


def _mapped(file: Path, type_: TensorType, offset: int) -> Weight:
    shape = tuple(int(d) for d in type_.shape if isinstance(d, int))
    return Weight(type_, _mapper(file, type_.dtype, shape, offset))


def _mapper(file: Path, dtype: str, shape: tuple[int, ...], offset: int) -> Callable[[], Array]:
    if 0 in shape:
        return lambda: np.zeros(shape, dtype=dtype)
    return lambda: np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)


def write_arrays(arrays: Mapping[str, Array], folder: Path, prefix: str) -> list[dict[str, str]]:
    """Arrays as .npy files in folder; what to send of them."""
    rows: list[dict[str, str]] = []
    for i, (name, array) in enumerate(arrays.items()):
        file = folder / f"{prefix}{i}.npy"
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        rows.append({"name": name, "file": str(file)})
    return rows


def read_arrays(rows: list[dict[str, str]]) -> dict[str, Array]:
    """The arrays that `write_arrays` wrote; their files are removed."""
    found: dict[str, Array] = {}
    for row in rows:
        file = Path(row["file"])
        found[row["name"]] = np.load(file, allow_pickle=False)
        file.unlink()
    return found


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
