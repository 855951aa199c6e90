"""Graphs and data sets for the tests of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Graph, InputSpec, Origin
from infc.compiler.ir.ops.leaf import input_node
from infc.compiler.ir.types import TensorType
from infc.dsl.spec import DataSet


def graph_of(**inputs: tuple[str, tuple[int | str, ...], InputSpec]) -> Graph:
    nodes = tuple(
        input_node(n, TensorType(d, tuple(sym(e) if isinstance(e, str) else e for e in shape)), Origin(n))  # pyright: ignore[reportArgumentType]
        for n, (d, shape, _) in inputs.items()
    )
    return Graph(
        name="m", dims={"batch": (1, 8), "tokens": (1, 16)}, inputs=nodes, outputs=(("y", nodes[0]),), weights={},
        input_specs={n: spec for n, (_, _, spec) in inputs.items()},
    )  # fmt: skip


X = graph_of(x=("float32", ("batch", 3), InputSpec()))
FINE = np.ones((2, 3), np.float32)


def data(path: Path, kind: Any, **more: Any) -> DataSet:
    return DataSet(kind=kind, path=str(path), written=path.name, **more)
