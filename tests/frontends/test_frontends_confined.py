"""Models that people did not write themselves, imported by a locked-in worker; and answers that lie."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infc.compiler.errors import Exit
from infc.compiler.frontends import FrontendError, Options, confined, load, load_here
from infc.compiler.frontends.answers import imported_from, read_weights
from infc.compiler.frontends.confined import bounds_of
from infc.compiler.frontends.confined_worker import user_error
from infc.compiler.frontends.places import placed_weight
from infc.compiler.frontends.spec_json import model_from_json, model_to_json
from infc.compiler.frontends.wire import read_arrays, write_arrays, write_graph
from infc.compiler.ir.graph import Place
from infc.compiler.ir.interpret import run
from infc.compiler.ir.types import TensorType
from infc.compiler.sandbox.process import Worker
from infc.dsl.spec import Dim, Input, Model, Output, Source, Task

from .families import inputs_of, model_of, save_family


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("bert", tmp_path_factory.mktemp("confined") / "bert")


def test_a_folder_is_imported_in_a_worker_and_its_weights_stay_where_they_are(bert: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    warned: list[str] = []
    found = load(model_of("bert", bert), bert.parent, options=Options(work=work, warn=warned.append))
    try:
        inputs = inputs_of("bert", ("token_type_ids",), 3, 9)
        got, want = run(found.graph, inputs), found.reference(inputs)
        assert list(got) == list(want)
        np.testing.assert_allclose(got["pooler_output"], want["pooler_output"], atol=1e-5)
        stored = load_file(bert / "model.safetensors")
        for name, tensor in stored.items():
            weight = found.graph.weights[name]
            assert weight.place is not None
            assert weight.place.file == bert / "model.safetensors"
            np.testing.assert_array_equal(weight.load(), tensor.numpy())
        assert {f.name for f in found.used_files} == {"config.json", "model.safetensors", bert.name}
        assert found.layers is not None
        assert "encoder.layer.0.attention.self.query" in found.layers(inputs)
        assert sum(f.stat().st_size for f in work.iterdir() if f.name == "weights.bin") < 10_000
    finally:
        found.close()
    with pytest.raises(FrontendError, match="has ended"):
        found.reference(inputs_of("bert", ("token_type_ids",), 3, 9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_stay_where_they_are_too(bert: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    tensors = {k: v.to(dtype) for k, v in load_file(bert / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    graph = load_here(model_of("bert", folder), tmp_path).graph
    for name, tensor in tensors.items():
        place = graph.weights[name].place
        assert place is not None, name
        assert place.dtype == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(graph.weights[name].load(), tensor.float().numpy())


def test_what_the_worker_meets_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrontendError, match=r"empty has no config\.json; it has nothing") as caught:
        load(model_of("bert", tmp_path / "empty"), tmp_path)
    assert caught.value.exit_code == Exit.USAGE


def test_an_unforeseen_exception_is_no_internal_error() -> None:
    said = ""
    try:
        raise ZeroDivisionError("division by zero\nsecond line")
    except ZeroDivisionError as error:
        said = user_error(error, {})
    assert said.endswith(": the model cannot be imported: ZeroDivisionError: division by zero second line")


def test_a_model_crosses_as_json_and_comes_back_equal() -> None:
    model = Model(
        name="m",
        source=Source(kind="huggingface", path="/x", written="x"),
        task=Task(kind="embed", pooling="cls", prompt="query: "),
        inputs=(Input(name="x", dtype="float32", dims=("batch", 3), range=(-1.0, 5.0)),),
        outputs=(Output(name="y", dims=("batch",)),),
        dims=(Dim(name="batch", lo=1, hi=9),),
    )
    assert model_from_json(json.loads(json.dumps(model_to_json(model)))) == model


def test_time_grows_with_size_unless_it_is_set() -> None:
    assert bounds_of(100, Options()).seconds > 600
    assert bounds_of(100, Options(import_seconds=7, import_memory=5)).seconds == 7


# ── answers that lie ─────────────────────────────────────────────────────────────────────────────────────────────────


class Liar(Worker):
    """A worker that has no process: `damaged` gives the error, as the real one does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def damaged(self, what: str) -> FrontendError:
        return FrontendError(f"damaged: {what}")

    def close(self) -> None:
        pass

    def __del__(self) -> None:
        pass


@pytest.fixture(scope="module")
def answer(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An honest answer, and the folder that it refers to."""
    folder = tmp_path_factory.mktemp("answer")
    found = load_here(model_of("bert", bert), bert.parent)
    said = {
        "graph": write_graph(found.graph, folder), "mlir": "module", "notes": [], "layers": True, "text": None,
        "used_files": [str(f) for f in found.used_files],
    }  # fmt: skip
    return folder, json.loads(json.dumps(said))


def taken(folder: Path, said: dict[str, Any], bert: Path) -> Any:
    """What the compiler makes of an answer."""
    return imported_from(Liar(folder), said, owns=lambda f: Path(f).is_relative_to(bert), mapped=False)


def test_an_honest_answer_is_taken(answer: tuple[Path, dict[str, Any]], bert: Path) -> None:
    assert taken(*answer, bert).graph.name == "bert"


LIES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "another file": (("graph", "weights", 0, "file"), "/etc/passwd"),
    "a folder": (("graph", "weights", 0, "file"), "/"),
    "beyond the end": (("graph", "weights", 0, "offset"), 1 << 40),
    "before the start": (("graph", "weights", 0, "offset"), -8),
    "no number": (("graph", "weights", 0, "offset"), True),
    "another dtype": (("graph", "weights", 0, "dtype"), "object"),
    "a huge weight": (("graph", "weights", 0, "type"), "f32[1000000000000,1000000000000]"),
    "a negative extent": (("graph", "weights", 0, "type"), "f32[-1]"),
    "a symbolic weight": (("graph", "weights", 0, "type"), "f32[batch]"),
    "a used file elsewhere": (("used_files", 0), "/etc/hostname"),
    "a used file that is a device": (("used_files", 0), "/dev/null"),
    "no graph": (("graph", "text"), ""),
    "a graph of one line": (("graph", "text"), "graph m" + " " * 100_000),
    "no text": (("graph", "text"), 7),
    "notes that are no list": (("notes",), "abc"),
    "an unknown input": (("graph", "inputs"), ["x"]),
    "fewer origins": (("graph", "origins"), []),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_lie_is_refused(answer: tuple[Path, dict[str, Any]], bert: Path, lie: str) -> None:
    folder, said = answer
    said = copy.deepcopy(said)
    path, value = LIES[lie]
    at: Any = said
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(FrontendError, match="damaged"):
        taken(folder, said, bert)


TEXT_LIES = [
    ("eps=", "eps=x"), ("eps=", "eps=true #"), ("eps=", "epsilon="), ("axis=", "axis=true #"), ("axis=", "axis=9"),
    ("f32[", "f99["), ("linear(", "system("), ("%1:", "%999:"), ("output", "input"), ("1..", "5..1 #"), ("@", "@@"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), TEXT_LIES)
def test_a_graph_that_is_none_is_refused(answer: tuple[Path, dict[str, Any]], bert: Path, old: str, new: str) -> None:
    folder, said = answer
    said = copy.deepcopy(said)
    text = said["graph"]["text"]
    assert old in text
    said["graph"]["text"] = text.replace(old, new, 1)
    with pytest.raises(FrontendError, match="damaged"):
        taken(folder, said, bert)


def test_a_name_that_commands_a_terminal_is_refused(answer: tuple[Path, dict[str, Any]], bert: Path) -> None:
    folder, said = answer
    said = copy.deepcopy(said)
    said["graph"]["text"] = said["graph"]["text"].replace("output pooler_output", 'output "\\u001b]0;x\\u0007"')
    with pytest.raises(FrontendError, match="cannot be used"):
        taken(folder, said, bert)


def test_a_dimension_that_would_fill_memory_is_refused() -> None:
    from infc.compiler.ir.dims import parse_dim

    with pytest.raises(ValueError, match="terms when multiplied out"):
        parse_dim("*".join(["(a+b+c+d+e+f+g+h)"] * 40))


@pytest.mark.parametrize("made", ["link", "fifo", "folder", "short", "long"])
def test_an_array_is_a_regular_file_of_its_own_length(tmp_path: Path, made: str) -> None:
    rows = write_arrays({"y": np.arange(6, dtype=np.float32)}, tmp_path, "out")
    file = tmp_path / "out0"
    data = file.read_bytes()
    file.unlink()
    if made == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        file.symlink_to(tmp_path / "elsewhere")
    elif made == "fifo":
        os.mkfifo(file)
    elif made == "folder":
        file.mkdir()
    else:
        file.write_bytes(data[:-1] if made == "short" else data + b"x")
    with pytest.raises((ValueError, OSError)):
        read_arrays(rows, tmp_path, "out")


def test_a_stored_bool_is_true_whatever_its_byte(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes([0, 1, 7, 255]))
    weight = placed_weight(Place(tmp_path / "w", 0, "bool"), TensorType("bool", (4,)))
    assert weight.load().view(np.uint8).tolist() == [0, 1, 1, 1]


def test_a_file_of_weights_that_is_cut_short_is_an_error_and_no_signal(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(400))
    rows = [{"name": "w", "type": "f32[100]", "offset": 0}]
    table = read_weights(tmp_path, rows, lambda _: False, False)
    os.truncate(tmp_path / "weights.bin", 100)
    with pytest.raises(OSError, match="cut short"):
        table["w"].load()


def mutated(value: Any, rng: random.Random) -> Any:
    """value with one of its parts changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return [*value[:at], *value[at + 1 :]]
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.8:
        at, end = sorted(rng.randrange(len(value) + 1) for _ in range(2))
        piece = rng.choice(
            ["", "%1", "@x", "-1", "99999999999999999999", "{", ")", '"', "\n", "batch", "f32[", "nan", "#"]
        )
        return value[:at] + piece + value[min(end, at + rng.randrange(6)) :]
    return rng.choice([None, True, -1, 0, 1 << 70, 1.5, "", "x", [], {}, [[]], float("inf")])


def fuzz_answers(folder: Path, said: dict[str, Any], bert: Path, count: int, seed: int) -> int:
    """How many of `count` mutated answers were refused; anything but a refusal or a graph is an exception."""
    rng = random.Random(seed)
    refused = 0
    for _ in range(count):
        lie = mutated(said, rng)
        for _ in range(rng.randrange(2)):
            lie = mutated(lie, rng)
        try:
            if not isinstance(lie, dict):
                continue
            taken(folder, lie, bert)
        except FrontendError:
            refused += 1
    return refused


def test_mutated_answers_are_refused_or_are_graphs(answer: tuple[Path, dict[str, Any]], bert: Path) -> None:
    assert fuzz_answers(*answer, bert, 150, 0) > 50


@pytest.mark.full
def test_many_mutated_answers_are_refused_or_are_graphs(answer: tuple[Path, dict[str, Any]], bert: Path) -> None:
    assert fuzz_answers(*answer, bert, int(os.environ.get("INFC_FUZZ", "5000")), 1) > 1000


TASK: dict[str, Any] = {
    "kind": "embed", "texts": ["text"], "tokenizer": "{}", "limit": 16, "overflow": "reject", "side": "right", "prompt": "",
    "pooling": ["mean"], "normalize": True, "prompts": {"query": "q: "}, "include_prompt": True, "dimensions": [8],
    "labels": ["a", "b"], "activation": None, "top": 2,
    "segments": True, "aggregation": "none", "unknown": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer", 7), ("tokenizer", "\ud800"), ("limit", 0), ("limit", True), ("overflow", "x"), ("side", "up"),
        ("side", None), ("prompt", 1), ("prompt", "x" * 70_000), ("pooling", "x"), ("pooling", ["mean", []]),
        ("aggregation", "x"), ("aggregation", None), ("unknown", -1), ("unknown", "a"), ("unknown", True),
        ("prompts", None), ("prompts", ["a"]), ("prompts", {"a": 5}), ("prompts", {"a": "x" * 70_000}),
        ("prompts", {str(n): "" for n in range(300)}), ("dimensions", None), ("dimensions", [0]), ("dimensions", ["a"]),
        ("kind", "tensor"), ("kind", None), ("texts", []), ("texts", ["a", "b", "c"]), ("texts", [1]), ("texts", "ab"),
        ("labels", None), ("labels", [1, 2]), ("labels", ["a", "x" * 300]), ("labels", ["a", "a"]), ("activation", "x"),
        ("top", 0), ("top", 3), ("top", None),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_used_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    taken = confined._text({"text": TASK}, tmp_path / "m")
    assert taken is not None
    assert taken.tokenizer.read_text() == "{}"
    assert taken.tokenizer.is_relative_to(tmp_path), "in a folder that the worker cannot write"
    with pytest.raises((ValueError, KeyError, TypeError, FrontendError)):
        confined._text({"text": {**TASK, key: value}}, tmp_path / "n")
