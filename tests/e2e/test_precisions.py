"""Every family in bfloat16 and int8: against the interpreter that rounds alike, against torch by cosine, equal bits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.ir.interpret import run as interpret
from infc.compiler.target import find_target
from tests.frontends.families import FAMILIES, MOST_ROWS, MOST_TOKENS, inputs_of, save_family

from .support import Built, agree, answered, compiled, infc, kept_of, write_spec
from .test_families import TEXT, rows_of

WITHOUT_LINEARS = ("resnet",)
QUICK = ("bert", "modernbert", "deberta-v2", "vit", "convnext")
LEAST_COSINE = {"bfloat16": 0.9995, "int8": 0.985}
"""Of random weights, whose activations spread wider than those of trained ones."""
TOLERANCE = {"bfloat16": 4e-2, "int8": 2e-1}
"""Of the largest value, element by element, over layers in which a last bit can move a value by a step of its grid."""
FEATURES = find_target("cpu").platform(find_target("cpu").resolve(None)).features


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((n, p), id=f"{n}-{p}", marks=() if n in QUICK else pytest.mark.full)
        for n in FAMILIES
        if n not in WITHOUT_LINEARS
        for p in LEAST_COSINE
    ],
)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Built]]:
    """A family's name, a precision, and its model compiled from a spec."""
    name, precision = request.param
    if precision == "bfloat16" and "avx512_bf16" not in FEATURES:
        pytest.skip("SKIPPED bfloat16: this machine's CPU has no dot product for it")
    folder = tmp_path_factory.mktemp(f"{name}-{precision}")
    save_family(name, folder / "model")
    lines = ['source huggingface("model")', f"dim batch in 1..{MOST_ROWS}"]
    if FAMILIES[name].image is None:
        lines.append(f"dim tokens in 1..{MOST_TOKENS}")
    lines.append(f"search {{ precision {precision} }}")
    with compiled(write_spec(folder, *lines), folder / "work") as built:
        yield name, precision, built


def test_it_computes_what_the_interpreter_says_and_stays_near_torch(family: tuple[str, str, Built]) -> None:
    name, precision, built = family
    graph = built.compiled.imported.graph
    for rows, tokens in ((1, 1), (3, 17), (MOST_ROWS, MOST_TOKENS)):
        inputs = inputs_of(name, built.given, rows, tokens)
        got, want = built.two.run(inputs), interpret(graph, inputs)
        exact = built.compiled.imported.reference(inputs)
        for output, value in want.items():
            what, kept = f"{name} {output} at {rows} x {tokens}", kept_of(built.two, output, inputs)
            agree(got[output], value, what, kept, TOLERANCE[precision])
            a, b = (x[kept == 1] if kept is not None else x for x in (got[output], exact[output]))
            cosine = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
            assert cosine >= LEAST_COSINE[precision], f"{what}: cosine {cosine:.5f}"


def test_its_layers_are_in_the_precision_asked_for(family: tuple[str, str, Built]) -> None:
    _, precision, built = family
    linears = [d for d in built.compiled.decisions if d.precision == precision]
    assert len(linears) >= 2
    assert all(d.reason for d in built.compiled.decisions if d.precision == "float32"), "the others say why"


def test_bits_do_not_depend_on_batch_slot_threads_or_neighbours(family: tuple[str, str, Built]) -> None:
    name, _, built = family
    rows = rows_of(name, built, (7, 1, MOST_TOKENS, 16, 33))
    alone = [built.one.run(row) for row in rows]
    for size in (1, 2, 13, 14, 15, 29) if name in TEXT else (1, 5):
        chosen = [(slot * 3 + size) % len(rows) for slot in range(size)]
        for model in (built.one, built.two):
            for slot, result in zip(chosen, model.run_batch([rows[i] for i in chosen]), strict=True):
                for output, value in answered(result).items():
                    assert np.array_equal(value, alone[slot][output]), (size, slot, output)


def test_a_model_of_convolutions_alone_is_refused_by_name(tmp_path: Path) -> None:
    save_family("resnet", tmp_path / "model")
    spec = write_spec(tmp_path, 'source huggingface("model")', "search { precision int8 }")
    with (
        pytest.raises(InfcError, match="no layer of the model can be computed in int8"),
        compiled(spec, tmp_path / "w"),
    ):
        pass


SPEC = """infer 1
model m {
  source torch("model.py:make")
  input  "input" as x: float32[batch, 32]
  dim    batch in 1..40
  data { calibrate npz("calibrate.npz"); evaluate npz("evaluate.npz") }
  search { precision int8; keep "2" float32 }
  targets { accuracy cosine >= BOUND vs float32 }
}
"""
MODEL = """import torch
def make():
    torch.manual_seed(1)
    n = torch.nn
    return n.Sequential(n.Linear(32, 64), n.LayerNorm(64), n.Linear(64, 48), n.GELU(), n.Linear(48, 9)).eval()
"""


def write_small(folder: Path, bound: float) -> Path:
    rng = np.random.default_rng(5)
    for name in ("calibrate", "evaluate"):
        np.savez(folder / f"{name}.npz", x=rng.standard_normal((40, 32)).astype(np.float32))
    (folder / "model.py").write_text(MODEL)
    (folder / "m.infer").write_text(SPEC.replace("BOUND", str(bound)))
    return folder / "m.infer"


def test_a_build_in_int8_says_what_each_layer_is_in_and_why(tmp_path: Path) -> None:
    done = infc("build", write_small(tmp_path, 0.99))
    assert done.returncode == Exit.OK, done.stderr
    assert "2 of 3 layers in int8" in done.stdout
    assert "float32: 2 (keep '2')" in done.stdout
    lock = (tmp_path / "m.infer.lock").read_text()
    assert 'layers = ["0=int8", "2=float32", "4=int8"]' in lock
    manifest = json.loads((tmp_path / "m.bundle" / "manifest.json").read_text())
    assert manifest["models"][0]["variants"][0]["precision"] == "int8"
    checked = subprocess.run([tmp_path / "m.bundle" / "serve", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_layers_that_int8_would_spoil_go_back_to_a_wider_type(tmp_path: Path) -> None:
    """A bound that int8 misses and that the wider layers meet: the build meets it and says what it took."""
    done = infc("build", write_small(tmp_path, 0.99999))
    assert done.returncode in (Exit.OK, Exit.UNPROVED), done.stderr
    assert "alone moves the outputs by" in done.stdout


SPLIT = """import torch
from torch import nn
class Split(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.q, self.o, self.n = nn.Linear(48, 144), nn.Linear(48, 48), nn.LayerNorm(48)
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = SPLITS
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, 48)
        return self.n(x + self.o(mixed))
def make():
    return Split().eval()
"""
SPLITS = {
    "by an axis": "(self.q(x).reshape(b, t, 3, 4, 12)[:, :, i].transpose(1, 2) for i in range(3))",
    "by an axis in front": "self.q(x).reshape(b, t, 3, 4, 12).permute(2, 0, 3, 1, 4).unbind(0)",
    "by columns": "(p.reshape(b, t, 4, 12).transpose(1, 2) for p in self.q(x).chunk(3, -1))",
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way == "by an axis" else pytest.mark.full) for way in SPLITS]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_queries_keys_and_values_are_views_of_one_linear_however_a_model_splits_it(
    way: str, precision: str, tmp_path: Path
) -> None:
    if precision == "bfloat16" and "avx512_bf16" not in FEATURES:
        pytest.skip("SKIPPED bfloat16: this machine's CPU has no dot product for it")
    (tmp_path / "model.py").write_text(SPLIT.replace("SPLITS", SPLITS[way]))
    lines = ['source torch("model.py:make")', "input x: float32[batch, tokens, 48]", "dim batch in 1..3"]
    spec = write_spec(tmp_path, *lines, "dim tokens in 1..40", f"search {{ precision {precision} }}")
    with compiled(spec, tmp_path / "work") as built:
        ops = [step.op.name for step in built.compiled.plan.steps]
        assert [name for name in ops if name != "quantize"] == ["linear", "attention", "linear", "layer_norm"]
        x = np.random.default_rng(1).standard_normal((3, 33, 48)).astype(np.float32)
        got, want = built.two.run({"x": x}), built.compiled.imported.reference({"x": x})
        (output,) = want
        error = np.abs(got[output] - want[output]).max() / np.abs(want[output]).max()
        assert error <= {"float32": 1e-5, "bfloat16": 2e-2, "int8": 4e-2}[precision]
