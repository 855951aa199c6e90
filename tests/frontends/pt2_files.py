"""Archives for the tests of export("model.pt2"): small programs, and archives made from them by edits."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from infc.dsl.spec import Dim, Input, Model, Source

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"

Entries = dict[str, bytes]


class Small(torch.nn.Module):
    """Parameters, buffers of both kinds, a constant, a block without gradients, sizes with // and %, text arguments."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(4, 6)
        self.register_buffer("shift", torch.arange(6.0))
        self.register_buffer("scale", torch.full((6,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            y = self.first(x) * self.scale + self.shift
        left, right = torch.nn.functional.gelu(y, approximate="tanh").chunk(2, -1)
        padded = torch.nn.functional.pad(left, (0, 0, 0, (4 - x.shape[0] % 4) % 4))
        return {"left": padded, "right": right + torch.tensor([1.0, 2.0, 3.0])}


def save_small(path: Path, *, decomposed: bool = False) -> Path:
    """Small, exported for a batch of 2..16."""
    batch = torch.export.Dim("batch", min=2, max=16)
    program = torch.export.export(Small().eval(), (torch.randn(6, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def save_tiny(path: Path) -> Path:
    """One linear layer, without the notes of where its nodes come from: an archive of 6 kB, for many mutants a second."""
    batch = torch.export.Dim("batch", min=2, max=16)
    made = path.with_name("whole.pt2")
    torch.export.save(
        torch.export.export(torch.nn.Linear(4, 3), (torch.randn(6, 4),), dynamic_shapes=({0: batch},)), made
    )

    def change(value: Any) -> None:
        for node in value["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {"stack_trace": 'File "net.py", line 1, in forward'}
        value["graph_module"]["module_call_graph"] = value["graph_module"]["module_call_graph"][:1]

    edited(made, path, MODEL, change)
    parts = entries(path)
    parts["data/sample_inputs/model.pt"] = b""
    return write(path, parts)


def spec(path: Path, *inputs: Input) -> Model:
    """A spec's model over a .pt2 file."""
    return Model(
        name="net",
        source=Source(kind="export", path=str(path), written=path.name),
        inputs=inputs,
        dims=(Dim(name="batch", lo=2, hi=16), Dim(name="tokens", lo=2, hi=8)),
    )


def entries(path: Path) -> Entries:
    """The entries of an archive without their root folder, in order."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: Entries, root: str = "net") -> Path:
    """An archive of stored entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def edited(source: Path, target: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """The archive with the JSON of one entry changed: by the value that `change` returns, else in place."""
    parts = entries(source)
    value = json.loads(parts[name])
    made = change(value)
    parts[name] = json.dumps(value if made is None else made).encode()
    return write(target, parts)
