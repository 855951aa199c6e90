"""A weight that is no number is refused by name, unless the source says `nan allowed` or the model does not use it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from infc.compiler.frontends import load, load_here
from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.finite import CHUNK, check_exported, check_finite
from infc.dsl.spec import Dim, Input, Model, Source

from .families import model_of, save_family


def spoilt(folder: Path, name: str, value: float) -> Model:
    save_family("bert", folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[33] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return model_of("bert", folder)


@pytest.mark.parametrize(
    "value", [float("nan"), *(pytest.param(float(sign + "inf"), marks=pytest.mark.full) for sign in ("", "-"))]
)
def test_a_checkpoint_with_a_parameter_that_is_no_number_is_refused_by_name(tmp_path: Path, value: float) -> None:
    model = spoilt(tmp_path, "encoder.layer.1.output.dense.weight", value)
    said = rf"'encoder.layer.1.output.dense.weight' of shape \[32, 64\] holds {value} at \[0, 33\]"
    with pytest.raises(FrontendError, match=said):
        load(model, tmp_path)
    allowed = replace(model, source=replace(model.source, nan_allowed=True))
    assert load(allowed, tmp_path).graph.weights


FACTORY = """
import torch
class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(4, 4)
        self.unused = torch.nn.Linear(4, 4)
        self.register_buffer("mask", torch.full((4,), float("-inf")))
    def forward(self, x):
        return torch.maximum(self.a(x), self.mask)
def good():
    return M()
def unused():
    m = M()
    with torch.no_grad(): m.unused.weight[1, 2] = float("nan")
    return m
def parameter():
    m = M()
    with torch.no_grad(): m.a.bias[3] = float("inf")
    return m
def buffer():
    m = M()
    m.mask[2] = float("nan")
    return m
"""


def made_by(folder: Path, entry: str, *, nan_allowed: bool = False) -> Model:
    (folder / "model.py").write_text(FACTORY)
    source = Source(kind="torch", path=str(folder / "model.py"), entry=entry, nan_allowed=nan_allowed)
    return Model(
        name="m", source=source, dims=(Dim(name="batch", lo=1, hi=4),),
        inputs=(Input(name="x", dtype="float32", dims=("batch", 4)),),
    )  # fmt: skip


def test_a_factorys_masks_may_be_infinite_and_what_is_unused_is_a_note(tmp_path: Path) -> None:
    good = load(made_by(tmp_path, "good"), tmp_path)
    good.close()
    assert good.notes == ()
    unused = load(made_by(tmp_path, "unused"), tmp_path)
    unused.close()
    assert unused.notes == ("parameter 'unused.weight' of shape [4, 4] holds nan at [1, 2]; the model does not use it",)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("parameter", r"'a.bias' of shape \[4\] holds inf at \[3\]"),
        pytest.param("buffer", r"buffer 'mask'.*nan at \[2\]", marks=pytest.mark.full),
    ],
)
def test_a_factorys_weights_that_are_no_numbers_are_refused(tmp_path: Path, entry: str, said: str) -> None:
    with pytest.raises(FrontendError, match=said):
        load(made_by(tmp_path, entry), tmp_path)
    load(made_by(tmp_path, entry, nan_allowed=True), tmp_path).close()


def test_an_exported_programs_parameters_are_told_from_its_buffers() -> None:
    class M(torch.nn.Module):
        b: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))
            self.register_buffer("b", torch.full((3,), float("inf")))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.w + self.b

    module = M()
    program = torch.export.export(module, (torch.ones(3),))
    assert check_exported(program, {"w", "b"}, "m.pt2", nan_allowed=False) == ()
    with torch.no_grad():
        program.state_dict["w"][1] = float("inf")
    with pytest.raises(FrontendError, match="m.pt2: parameter 'w'"):
        check_exported(program, {"w", "b"}, "m.pt2", nan_allowed=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_one_bad_element_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    large = torch.zeros(3, CHUNK // 2 + 5, dtype=dtype)
    large[2, -1] = float("nan")
    for tensor, place in ((large, [2, CHUNK // 2 + 4]), (large.t(), [CHUNK // 2 + 4, 2])):
        with pytest.raises(FrontendError) as caught:
            check_finite([("t", tensor, True)], {"t"}, "m", nan_allowed=False)
        assert f"holds nan at {place}" in caught.value.message
    large[2, -1] = 1
    assert check_finite([("t", large, True), ("u", large.t(), True)], {"t", "u"}, "m", nan_allowed=False) == ()


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, 2)
        self.register_buffer("mask", torch.full((2,), float("-inf")))
        self.register_buffer("inner", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.maximum(self.a(x), self.get_buffer("mask")) + self.get_buffer("inner")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("a.weight", float("nan"), r"net.pt2: parameter 'a.weight' of shape \[2, 4\] holds nan at \[0, 0\]"),
        ("a.bias", float("inf"), r"net.pt2: parameter 'a.bias' of shape \[2\] holds inf at \[0\]"),
        ("mask", float("nan"), r"net.pt2: buffer 'mask' of shape \[2\] holds nan at \[0\]"),
        ("inner", float("nan"), r"net.pt2: buffer 'inner' of shape \[2\] holds nan at \[0\]"),
        ("mask", 1.0, ""),
    ],
)
def test_an_exported_program_with_a_weight_that_is_no_number(
    tmp_path: Path, name: str, value: float, said: str
) -> None:
    module = Net().eval()
    with torch.no_grad():
        dict([*module.named_parameters(), *module.named_buffers()])[name].view(-1)[0] = value
    rows = torch.export.Dim("rows", min=1, max=8)
    program = torch.export.export(module, (torch.zeros(3, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "net.pt2")
    source = Source(kind="export", path=str(tmp_path / "net.pt2"), written="net.pt2")
    given = Input(name="x", dtype="float32", dims=("batch", 4))
    model = Model(name="m", source=source, inputs=(given,), dims=(Dim(name="batch", lo=1, hi=8),))
    if said:
        with pytest.raises(FrontendError, match=said):
            load_here(model, tmp_path)
        model = replace(model, source=replace(source, nan_allowed=True))
    assert load_here(model, tmp_path).notes == ()


def test_values_whose_sum_runs_over_are_numbers() -> None:
    large = torch.full((8,), 3e38)
    assert check_finite([("t", large, True)], {"t"}, "m", nan_allowed=False) == ()
    both = torch.tensor([float("inf"), float("-inf")])
    assert check_finite([("t", both, False)], {"t"}, "m", nan_allowed=False) == ()
