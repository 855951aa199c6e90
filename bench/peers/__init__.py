"""One module a peer. Each has

    VERSION_OF   the Python package whose version is shown
    SETTINGS     how it was set up, by precision, for the table
    candidates(case, threads, variant) -> {name: call}      static shapes; the worker takes the fastest that is exact enough
    streams(model, precision, threads, variant, shapes) -> {name: run}     see stream.py
    isa(call) -> str                          which instructions its products use, where the peer tells; may be absent

`call()` runs one inference of the case's inputs and returns the outputs, float32; a CCall (loop.py) is timed in C. A
peer's own packages are imported in its module only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cases import OURS, Case
from ..models import artifacts

Array = NDArray[Any]
Call = Callable[[], NDArray[np.float32]]
Run = Callable[[Array, Array], NDArray[np.float32]]
"""ids and mask, int64 [batch, tokens] → float32 [batch, hidden]."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A row of a table: its name, the module beside this file, which of the module's variants, its precisions, and whether
    it wants every shape beforehand."""

    name: str
    module: str
    variant: str = ""
    precisions: tuple[str, ...] = ("float32",)
    static: bool = False


class Module(Protocol):
    """What a peer's module offers."""

    VERSION_OF: str
    SETTINGS: dict[str, str]

    def candidates(self, case: Case, threads: int, variant: str) -> dict[str, Call]: ...

    def streams(
        self, model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
    ) -> dict[str, Run]: ...


PEERS = (
    Peer(OURS, "infc_bundle", "", ("float32", "bfloat16", "int8")),
    Peer("onnxruntime", "ort", "plain", ("float32", "int8")),
    Peer("onnxruntime, fused", "ort", "fused", ("float32", "int8")),
    Peer("OpenVINO", "ov", "", ("float32", "bfloat16", "int8")),
    Peer("torch.compile", "inductor", "", ("float32", "bfloat16")),
    Peer("IREE", "iree_cpu", "", ("float32",), static=True),
)


def inputs(case: Case) -> dict[str, Array]:
    """The case's inputs by name."""
    with np.load(artifacts(case.model) / f"{case.shape}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
