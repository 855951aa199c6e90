"""One module a peer. Each has

    VERSION_OF   the Python package whose version is shown
    SETTINGS     how it was set up, for the table
    open_case(case, folder, threads, variant) -> (call, note)

`call()` runs one inference and returns the embeddings, float32 [batch, hidden]; `note` says which of several
configurations was taken, when it was the peer that was asked. A peer's own packages are imported in its module only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A row of the table: its name, the module beside this file, and which of the module's variants."""

    name: str
    module: str
    variant: str = ""


class Module(Protocol):
    """What a peer's module offers."""

    VERSION_OF: str
    SETTINGS: dict[str, str]

    def open_case(self, case: object, folder: object, threads: int, variant: str) -> tuple[Call, str]: ...


PEERS = (
    Peer("infc", "infc_bundle"),
    Peer("onnxruntime", "ort", "plain"),
    Peer("onnxruntime, fused", "ort", "fused"),
    Peer("OpenVINO", "ov"),
    Peer("torch.compile", "inductor"),
    Peer("IREE", "iree_cpu"),
)


def fastest(calls: dict[str, Call], repeats: int = 5) -> tuple[Call, str]:
    """The configuration with the least time of a few calls, and its name."""
    import time

    def least(call: Call) -> float:
        call()
        times: list[float] = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    name = min(calls, key=lambda n: least(calls[n]))
    return calls[name], name
