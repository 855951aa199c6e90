"""`infc compare`: layers against torch, and the first value that differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.build import build
from infc.compiler.compare import compare_stages
from infc.compiler.driver import Machine, Request, check_spec, choose_machine, import_model, optimize
from infc.compiler.errors import InfcError
from infc.compiler.frontends import Imported

MODEL = """
import torch
from torch import nn


def make():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).eval()
"""
SPEC = """infer 1
model m {
  source torch("model.py:make")
  input  input: float32[batch, 8]
}
"""

Made = tuple[Imported, Machine, Request]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "m.infer").write_text(SPEC, encoding="utf-8")
    request = Request(folder / "m.infer", jobs=1)
    spec = check_spec(request)
    imported = import_model(spec.models[0], folder, folder / "work", request)
    yield imported, choose_machine(spec), request
    imported.close()


def test_layers_graphs_and_code_agree(made: Made, tmp_path: Path) -> None:
    imported, machine, request = made
    found = compare_stages(imported, optimize(imported, request).graph, machine, tmp_path)
    assert not [d for d in found if d.differs]
    assert [d.name for d in found if d.stage == "layer"] == ["0", "1", "2", "3"]
    assert {d.stage for d in found} == {"layer", "import", "passes", "compiled"}


def test_the_first_layer_that_differs_is_named(made: Made, tmp_path: Path) -> None:
    imported, machine, request = made
    graph = imported.graph
    name = next(n for n, w in graph.weights.items() if w.type.shape == (16,) and "2" in n)
    weight = graph.weights[name]
    wrong = replace(weight, load=lambda: weight.load() + np.float32(0.5))
    broken = replace(imported, graph=graph.replace(weights={**graph.weights, name: wrong}))
    found = compare_stages(broken, optimize(broken, request).graph, machine, tmp_path)
    first = next(d for d in found if d.differs)
    assert (first.stage, first.name) == ("layer", "2")


BRANCHES = """
import torch
from torch import nn


class M(nn.Module):
    def forward(self, x):
        return torch.tanh(x * 2 if x.shape[0] == 1 else x + 1)


def make():
    return M().eval()
"""


def test_a_model_that_does_otherwise_for_one_row_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BRANCHES, encoding="utf-8")
    (tmp_path / "m.infer").write_text(SPEC.replace("input:", "x:"), encoding="utf-8")
    with pytest.raises(
        InfcError, match="something else for batch = 1 than for larger sizes: output 'output0'"
    ) as caught:
        build(Request(tmp_path / "m.infer", jobs=1))
    assert caught.value.exit_code == 2
    assert "`dim batch in 2..64`" in (caught.value.hint or "")
