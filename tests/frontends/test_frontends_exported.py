"""Exported programs: what they give, and what is refused before it is loaded."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infc.compiler.frontends import FrontendError
from infc.compiler.frontends import load_here as load
from infc.compiler.ir.interpret import run
from infc.compiler.ir.verify import verify
from infc.dsl.spec import Dim, Input, Model, Output, Source, Task


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.register_buffer("shift", torch.ones(3), persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": self.linear(x) + self.shift, "b": y * 2}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported program for a batch of 2..16."""
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    batch = torch.export.Dim("batch", min=2, max=16)
    shapes = ({0: batch}, {0: batch})
    torch.export.save(torch.export.export(Net(), (torch.randn(3, 4), torch.randn(3, 2)), dynamic_shapes=shapes), path)
    return path


def exported_model(path: Path, *inputs: Input, **changes: Any) -> Model:
    """A spec's model over a .pt2 file."""
    arguments: dict[str, Any] = {"dims": (Dim(name="batch", lo=2, hi=16),), **changes}
    return Model(
        name="net", source=Source(kind="export", path=str(path), written=path.name), inputs=inputs, **arguments
    )


def test_an_exported_program_agrees_with_torch(program: Path, tmp_path: Path) -> None:
    found = load(exported_model(program), tmp_path)
    graph = verify(found.graph)
    assert [(n, str(o.type)) for n, o in graph.outputs] == [("a", "f32[batch,3]"), ("b", "f32[batch,2]")]
    for rows in (2, 9, 16):
        rng = np.random.default_rng(rows)
        inputs = {"x": rng.standard_normal((rows, 4)).astype("f"), "y": rng.standard_normal((rows, 2)).astype("f")}
        got, want = run(graph, inputs), found.reference(inputs)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], atol=1e-6)
    assert found.used_files == (program,)


def test_an_exported_program_can_be_held_to_one_size_and_renamed(program: Path, tmp_path: Path) -> None:
    x = Input(name="left", foreign="x", dtype="float32", dims=(5, 4))
    y = Input(name="y", dtype="float32", dims=(5, 2))
    outputs = (Output(name="sum", foreign="a", dims=(5, 3)), Output(name="b", dims=(5, 2)))
    graph = load(exported_model(program, x, y, outputs=outputs), tmp_path).graph
    assert [(n, str(o.type)) for n, o in graph.outputs] == [("sum", "f32[5,3]"), ("b", "f32[5,2]")]
    assert graph.dims == {}


EXPORT_ERRORS: dict[str, tuple[tuple[Input, ...], dict[str, Any], str]] = {
    "range": ((), {"dims": ()}, "was exported for batch in 2..16|the model does not work for all of batch in 1..64"),
    "range written": (
        (Input(name="x", dtype="float32", dims=("batch", 4)), Input(name="y", dtype="float32", dims=("batch", 2))),
        {"dims": (Dim(name="batch", lo=1, hi=16),)},
        "net.pt2 was exported for batch in 2..16, and the spec says 1..16",
    ),
    "count": ((Input(name="x", dtype="float32", dims=("batch", 4)),), {}, "the spec has 1 inputs, and net.pt2 takes 2"),
    "name": (
        (Input(name="z", dtype="float32", dims=("batch", 4)), Input(name="y", dtype="float32", dims=("batch", 2))),
        {},
        "the spec's input 'z' is not what net.pt2 takes there",
    ),
    "dtype": (
        (Input(name="x", dtype="int64", dims=("batch", 4)), Input(name="y", dtype="float32", dims=("batch", 2))),
        {},
        "the spec says input 'x' is i64[batch,4], and net.pt2 takes float32",
    ),
    "extent": (
        (Input(name="x", dtype="float32", dims=("batch", 5)), Input(name="y", dtype="float32", dims=("batch", 2))),
        {},
        "the spec gives input 'x' the extent 5, and net.pt2 was exported for 4",
    ),
    "symbols": (
        (Input(name="x", dtype="float32", dims=("batch", 4)), Input(name="y", dtype="float32", dims=("n", 2))),
        {"dims": (Dim(name="batch", lo=2, hi=16), Dim(name="n", lo=2, hi=16))},
        "was exported with one size where the spec says 'batch' and 'n'",
    ),
    "fixed": (
        (Input(name="x", dtype="float32", dims=("batch", "k")), Input(name="y", dtype="float32", dims=("batch", 2))),
        {"dims": (Dim(name="batch", lo=2, hi=16), Dim(name="k", lo=1, hi=8))},
        "the model fixes the dimension 'k' (1..8 in the spec): it works for k = 4 only",
    ),
    "task": ((), {"task": Task(kind="embed")}, "`task embed` needs a tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(EXPORT_ERRORS))
def test_a_spec_that_does_not_fit_the_program_is_refused(program: Path, tmp_path: Path, case: str) -> None:
    inputs, changes, message = EXPORT_ERRORS[case]
    with pytest.raises(FrontendError) as caught:
        load(exported_model(program, *inputs, **changes), tmp_path)
    assert any(part in caught.value.message for part in message.split("|")), caught.value.message


def test_an_archive_with_pickles_is_refused_before_it_is_loaded(program: Path, tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    def rewritten(name: str, change: Any) -> Path:
        target = tmp_path / name
        with zipfile.ZipFile(program) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
            for item in old.namelist():
                new.writestr(item, change(item.partition("/")[2], old.read(item)))
            if name == "custom.pt2":
                new.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Bomb()))
        return target

    def bomb(entry: str, data: bytes) -> bytes:
        if not entry.startswith("data/sample_inputs/"):
            return data
        torch.save(Bomb(), tmp_path / "bomb")
        return (tmp_path / "bomb").read_bytes()

    flagged = rewritten("flag.pt2", lambda e, d: d.replace(b'"use_pickle": false', b'"use_pickle": true', 1))
    for path in (rewritten("custom.pt2", lambda e, d: d), flagged):
        with pytest.raises(FrontendError, match="holds pickled objects, and no pickle is executed"):
            load(exported_model(path), tmp_path)
    load(exported_model(rewritten("bomb.pt2", bomb)), tmp_path)  # sample inputs are not read
    assert not (tmp_path / "executed").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    with pytest.raises(FrontendError, match=r"'x.pt2' does not exist"):
        load(exported_model(path), tmp_path)
    path.write_bytes(b"no zip")
    with pytest.raises(FrontendError, match=r"x.pt2 is no .pt2 archive"):
        load(exported_model(path), tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/readme", "")
    with pytest.raises(FrontendError, match=r"x.pt2 holds no exported program"):
        load(exported_model(path), tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/models/model.json", "{}")
    with pytest.raises(
        FrontendError, match=r"x.pt2: the entry 'models/model.json': an? ExportedProgram has no 'graph_module'"
    ):
        load(exported_model(path), tmp_path)
