"""torch factories and exported programs: what they give, and what is refused."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from infc.compiler.errors import Exit
from infc.compiler.frontends import FrontendError, Options, load
from infc.compiler.frontends.answers import read_weights
from infc.compiler.frontends.fields import Field, bounds_of, expected_outputs, field_of
from infc.compiler.frontends.fx_export import export_module
from infc.compiler.frontends.guards import evaluate, longest
from infc.compiler.frontends.import_mlir import import_program
from infc.compiler.frontends.to_mlir import to_mlir
from infc.compiler.frontends.wire import (
    bounds_from_json,
    expected_to_json,
    fields_from_json,
    fields_to_json,
    read_arrays,
    read_graph,
    write_arrays,
)
from infc.compiler.frontends.worker import import_factory, user_error
from infc.compiler.ir.graph import Graph
from infc.compiler.ir.interpret import run
from infc.compiler.ir.verify import verify
from infc.dsl.spec import Dim, Input, Model, Output, Source, Task

from .factories import FACTORIES


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of factories, with what they read beside it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "settings.json").write_text('{"width": 4}')
    (folder / "helper_of_tests.py").write_text("def wrap(module):\n    return module\n")
    torch.manual_seed(1)
    save_file({"w": torch.randn(4, 64)}, folder / "weights.safetensors")
    torch.save(torch.ones(2), folder / "saved.pt")
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    path = folder / "factories_of_tests.py"
    path.write_text(FACTORIES)
    return path


FEATURES = Input(name="features", dtype="float32", dims=("batch", 64))
X = Input(name="x", dtype="float32", dims=("batch", 64))


def model_of(file: Path, entry: str, *inputs: Input, **changes: Any) -> Model:
    """A spec's model over a factory."""
    source = Source(kind="torch", path=str(file), entry=entry, written=f"{file.name}:{entry}")
    return Model(name=entry, source=source, inputs=inputs or (X,), **changes)


def imported(model: Model, folder: Path) -> tuple[Graph, dict[str, Any], Any]:
    """What the worker does, in this process: (graph, its answer, its runner)."""
    fields = tuple(field_of(line) for line in model.inputs)
    request = {
        "do": "import", "file": model.source.path, "entry": model.source.entry, "root": str(Path(str(model.source.path)).parent),
        "name": model.name, "fields": fields_to_json(fields), "bounds": bounds_of(model, fields),
        "expected": expected_to_json(expected_outputs(model)), "folder": str(folder),
    }  # fmt: skip
    said, runner = import_factory(json.loads(json.dumps(request)))
    sent = json.loads(json.dumps(said))["graph"]
    return verify(read_graph(sent, read_weights(folder, sent["weights"], lambda _: True, mapped=True))), said, runner


def refused(model: Model, folder: Path) -> FrontendError:
    """The error of importing model here, in this process."""
    with pytest.raises(FrontendError) as caught:
        imported(model, folder)
    assert caught.value.exit_code == Exit.USAGE
    return caught.value


# ── factories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_factory_runs_in_its_own_process_and_agrees_with_torch(file: Path, tmp_path: Path) -> None:
    model = model_of(file, "tower", FEATURES, outputs=(Output(name="score", dims=("batch", 1)),))
    found = load(model, file.parent, options=Options(work=tmp_path / "work"))
    try:
        graph = verify(found.graph)
        assert [(n, str(o.type)) for n, o in graph.outputs] == [("score", "f32[batch,1]")]
        assert graph.dims == {"batch": (1, 64)}
        assert found.used_files == (file,)
        assert '"infc.weight"' in found.mlir
        linear = next(n for n in graph.nodes() if n.op.mnemonic == "linear")
        assert linear.origin.name == "body.0"
        assert isinstance(graph.weights["body.0.weight"].load(), np.memmap)
        for rows in (1, 7, 64):
            features = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
            got, want = run(graph, {"features": features}), found.reference({"features": features})
            np.testing.assert_allclose(got["score"], want["score"], atol=1e-6)
    finally:
        found.close()


@pytest.mark.full
def test_a_factory_that_ends_its_process_is_an_error(file: Path, tmp_path: Path) -> None:
    ends = tmp_path / "ends.py"
    ends.write_text("import os\n\n\ndef make():\n    os._exit(9)\n")
    with pytest.raises(FrontendError, match="ended with exit code 9"):
        load(model_of(ends, "make"), tmp_path)


def test_every_file_that_a_factory_reads_is_known(file: Path, tmp_path: Path) -> None:
    _, said, _ = imported(
        model_of(file, "reads_files", Input(name="input", dtype="float32", dims=("batch", 64))), tmp_path
    )
    names = {Path(f).name for f in said["used_files"]}
    assert {"helper_of_tests.py", "settings.json", "weights.safetensors", "saved.pt", "tokenizer.json"} <= names
    assert "factories_of_tests.py" in names
    assert not any("site-packages" in f and f.endswith(".py") for f in said["used_files"])


CASES: dict[str, tuple[str, tuple[Input, ...], list[tuple[str, str]]]] = {
    "dict": ("with_dict", (FEATURES,), [("score", "f32[batch,1]"), ("mean", "f32[batch]")]),
    "cnn": ("digits", (Input(name="image", dtype="float32", dims=("batch", 1, 8, 8)),), [("output0", "f32[batch,10]")]),
    "two inputs": (
        "ranker",
        (Input(name="user", dtype="float32", dims=("batch", 8)), Input(name="items", dtype="int64", dims=("batch", "n"), range=(0, 49))),
        [("output0", "f32[batch,n]"), ("output1", "i64[batch,n]")],
    ),
    "dataclass": ("dataclass_out", (X,), [("first", "f32[batch,64]")]),
    "named tuple": ("tuple_out", (X,), [("left", "f32[batch,64]"), ("right", "b1[batch,64]")]),
    "nested": ("nested_out", (X,), [("a_0", "f32[batch,64]"), ("a_1", "f32[batch,64]"), ("b_c", "f32[batch,64]")]),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_modules_of_all_shapes_agree_with_torch(file: Path, tmp_path: Path, case: str) -> None:
    entry, inputs, outputs = CASES[case]
    model = model_of(file, entry, *inputs, dims=(Dim(name="n", lo=1, hi=9),))
    graph, _, runner = imported(model, tmp_path)
    assert [(n, str(o.type)) for n, o in graph.outputs] == outputs
    rng = np.random.default_rng(0)
    for size in (1, 5, 9):
        arrays = {
            i.name: rng.integers(0, 50, [size if isinstance(d, str) else d for d in i.dims])
            if i.dtype == "int64"
            else rng.standard_normal([size if isinstance(d, str) else d for d in i.dims]).astype(np.float32)
            for i in inputs
        }
        answer = runner({"do": "run", "inputs": write_arrays(arrays, tmp_path, "in")})
        got = run(graph, arrays)
        for name, want in read_arrays(answer["outputs"], tmp_path, "out").items():
            np.testing.assert_allclose(got[name], want, atol=1e-5)


FACTORY_ERRORS: dict[str, tuple[str, str, str]] = {
    "missing": ("nowhere", "factories_of_tests.py has no function 'nowhere'; it has ", ""),
    "no function": ("constant", "'constant' in factories_of_tests.py is no function but int", ""),
    "no module": ("not_a_module", "not_a_module() returns int, and a torch.nn.Module is needed", "return the module"),
    "arguments": ("takes", "takes(width) takes arguments", "defaults"),
    "number": ("number_out", "the model returns 'n' of type int, and outputs are tensors", "return a tensor"),
    "fixed": (
        "fixes_batch",
        "the model fixes the dimension 'batch' (1..64 in the spec)",
        "write 3 in place of 'batch'",
    ),
    "data shape": ("data_dependent", "factories_of_tests.py:70: aten.index.Tensor: ", "torch.where"),
    "branch": ("branches", "factories_of_tests.py:134: what the model does there depends on", "torch.where"),
    "least": (
        "needs_three",
        "the model does not work for all of batch in 1..64: (-1 + batch) != 1",
        "`dim batch in 3..64`",
    ),
    "most": ("at_most", "the model does not work for all of batch in 1..64: ", "`dim batch in 2..20`"),
}


@pytest.mark.parametrize("case", sorted(FACTORY_ERRORS))
def test_a_factory_that_does_not_fit_is_refused(file: Path, tmp_path: Path, case: str) -> None:
    entry, message, hint = FACTORY_ERRORS[case]
    error = refused(model_of(file, entry), tmp_path)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("fails", r"factories_of_tests.py:\d+: IndexError: list index out of range"),
        ("fails_in_forward", r"factories_of_tests.py:\d+: RuntimeError: "),
        ("leaves", r"factories_of_tests.py:\d+: SystemExit: the code called sys.exit\(3\)"),
    ],
)
def test_an_exception_of_the_users_code_is_one_line_with_its_place(
    file: Path, tmp_path: Path, entry: str, message: str
) -> None:
    import re

    with pytest.raises(BaseException) as caught:
        imported(model_of(file, entry), tmp_path)
    shown = user_error(caught.value, {"root": str(file.parent)})
    assert re.match(message, shown), shown
    assert "\n" not in shown


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken_of_tests.py"
    broken.write_text("def make(:\n    pass\n")
    with pytest.raises(SyntaxError) as caught:
        imported(model_of(broken, "make"), tmp_path)
    assert user_error(caught.value, {"root": str(tmp_path)}).startswith("broken_of_tests.py:1: SyntaxError: ")


def test_inputs_must_be_forwards_parameters(file: Path, tmp_path: Path) -> None:
    wrong = Input(name="feature", dtype="float32", dims=("batch", 64))
    error = refused(model_of(file, "tower", wrong), tmp_path)
    assert error.message == "the spec's input 'feature' is no parameter of Tower.forward(features)"
    assert '`input "features" as feature: ...`' in error.hint
    renamed = Input(name="feature", foreign="features", dtype="float32", dims=("batch", 64))
    graph, _, _ = imported(model_of(file, "tower", renamed), tmp_path)
    assert list(graph.input_specs) == ["feature"]
    user, items = CASES["two inputs"][1]
    model = model_of(file, "ranker", items, user, dims=(Dim(name="n", lo=1, hi=9),))
    assert (
        "in the order items, user, and Ranker.forward(user, items) takes them as user, items"
        in refused(model, tmp_path).message
    )
    assert (
        "requires 'items', which the spec has no input for" in refused(model_of(file, "ranker", user), tmp_path).message
    )


def test_outputs_that_the_spec_names_are_checked(file: Path, tmp_path: Path) -> None:
    def error(*outputs: Output) -> FrontendError:
        return refused(model_of(file, "with_dict", FEATURES, outputs=outputs), tmp_path)

    assert (
        "the model has no output 'logits'; it gives score: f32[batch,1], mean: f32[batch]"
        in error(Output(name="logits")).message
    )
    shape = error(Output(name="score", dims=("batch", 2)))
    assert shape.message == "the spec says output 'score' is f32[batch,2], and the model gives f32[batch,1]"
    assert shape.hint == "write `output score: float32[batch, 1]`"
    assert "is i64[batch]" in error(Output(name="mean", dtype="int64", dims=("batch",))).message
    assert "has dtype float16" in error(Output(name="mean", dtype="float16")).message
    some = model_of(file, "with_dict", FEATURES, outputs=(Output(name="m", foreign="mean", dims=("batch",)),))
    assert [n for n, _ in imported(some, tmp_path)[0].outputs] == ["m"]


def test_inputs_of_other_dtypes_and_dimensions_without_bounds_are_refused(file: Path, tmp_path: Path) -> None:
    half = Input(name="x", dtype="float16", dims=("batch", 64))
    with pytest.raises(FrontendError, match="input 'x' has dtype float16; infc computes with float32, int64"):
        load(model_of(file, "dataclass_out", half), tmp_path)
    free = Input(name="x", dtype="float32", dims=("rows", 64))
    with pytest.raises(FrontendError, match="'rows', which has no bounds"):
        load(model_of(file, "dataclass_out", free), tmp_path)
    text = Input(name="x", kind="text")
    with pytest.raises(FrontendError, match="is of type text, and this source takes tensors"):
        load(model_of(file, "dataclass_out", text), tmp_path)


def test_sources_that_cannot_be_are_refused_before_torch_is_imported(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match="'nowhere.py' does not exist"):
        load(
            Model(name="m", source=Source(kind="torch", path="/nowhere.py", entry="f", written="nowhere.py")), tmp_path
        )
    with pytest.raises(FrontendError, match="names no function"):
        load(Model(name="m", source=Source(kind="torch", path=str(file), written="f.py")), tmp_path)
    with pytest.raises(FrontendError, match="`task embed` needs a tokenizer"):
        load(model_of(file, "tower", FEATURES, task=Task(kind="embed")), tmp_path)
    with pytest.raises(FrontendError, match="model 'm' has no inputs"):
        load(Model(name="m", source=Source(kind="torch", path=str(file), entry="f")), tmp_path)
    with pytest.raises(FrontendError, match="'onnx' are not supported yet; known: huggingface, torch, export"):
        load(Model(name="m", source=Source(kind="onnx", path=str(file))), tmp_path)


def test_what_goes_over_the_wire_comes_back_the_same() -> None:
    fields = tuple(field_of(i) for i in CASES["two inputs"][1])
    assert fields_from_json(json.loads(json.dumps(fields_to_json(fields)))) == fields
    assert bounds_from_json({"n": [1, 5]}) == {"n": (1, 5)}


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def test_dimensions_that_must_be_equal_are_named() -> None:
    fields = (Field("x", "x", "float32", ("a", 4)), Field("y", "y", "float32", ("b", 4)))
    with pytest.raises(FrontendError) as caught:
        export_module(Sum(), fields, {"a": (2, 9), "b": (2, 9)})
    assert caught.value.message == "the model needs the dimensions 'b' and 'a' to be equal"
    assert caught.value.hint == "use one symbol for both: write 'a' in place of 'b'"


def test_a_dimension_of_one_value_stays_a_dimension_where_it_can() -> None:
    fields = (Field("x", "x", "float32", ("batch", 4)), Field("y", "y", "float32", ("batch", 4)))
    graph = import_program(to_mlir(export_module(Sum(), fields, {"batch": (1, 1)})), "sum")
    assert str(graph.outputs[0][1].type) == "f32[batch,4]"
    assert graph.dims == {"batch": (1, 1)}

    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x.reshape(12) + y.reshape(12)

    graph = import_program(to_mlir(export_module(Fixed(), fields, {"batch": (3, 3)})), "fixed")
    assert str(graph.inputs[0].type) == "f32[3,4]"


def test_guards_are_tried_for_every_value() -> None:
    assert longest(["(-1 + n) != 1"], "n", (1, 64)) == (3, 64)
    assert longest(["n % 4 == 0", "n <= 8"], "n", (1, 64)) == (4, 4)
    assert longest(["n < 1"], "n", (1, 64)) is None
    assert longest(["Other(n, 3) != 1"], "n", (1, 64)) is None
    assert longest(["Max(n, 3) != min(3, n)"], "n", (1, 64)) == (4, 64)
    assert longest(["7 % (n // 4) != 0"], "n", (1, 9)) == (8, 9)
    assert evaluate("not (n == 2) and 1 < n <= 5 or n // 2 == 9", {"n": 3})
