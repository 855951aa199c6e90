"""What stands behind the pooling in a folder of sentence-transformers: as the library computes it, or refused by name."""

# sentence-transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from infc.compiler.errors import InfcError
from infc.compiler.frontends.huggingface import load
from infc.compiler.frontends.imported import Imported, Options
from infc.compiler.ir.interpret import run
from infc.dsl.spec import Input, Model, Source, Task

from .test_text import WORDS, save

WIDTH = 32
TEXTS = ["green apple", "a b . café apples apple", "b", "green apple a b . " * 9]
FULL = pytest.mark.full
modules: Any = import_module("sentence_transformers.models")


def made(place: Path, *behind: Any, modes: Any = "mean", prompt: bool = True) -> SentenceTransformer:
    """A tiny encoder with a pooling and the modules `behind` it, saved at `place`."""
    save(place / "plain", model_max_length=24)
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24,
    )  # fmt: skip
    transformers.BertModel(config).eval().save_pretrained(place / "plain")
    pooling = modules.Pooling(WIDTH, pooling_mode=modes, include_prompt=prompt)
    for module in behind:
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    whole = SentenceTransformer(modules=[modules.Transformer(str(place / "plain")), pooling, *behind], device="cpu")
    whole.save(str(place / "model"))
    return whole


def imported(folder: Path, **task: Any) -> Imported:
    model = Model(
        name="m",
        source=Source(kind="huggingface", path=str(folder)),
        task=Task(kind="embed", **task),
        inputs=(Input(name="text", kind="text", policy="truncate"),),
    )
    return load(model, folder.parent, Options())


def agree(found: Imported, whole: Any, texts: list[str] = TEXTS) -> None:
    """The graph and its reference give what the library gives."""
    want = whole.encode(texts)
    for text, row in zip(texts, want, strict=True):
        features = whole.preprocess([text])
        inputs = {k: features[k].numpy() for k in found.graph.input_specs if k in features}
        np.testing.assert_allclose(run(found.graph, inputs)["embedding"][0], row, atol=2e-6)
        np.testing.assert_allclose(found.reference(inputs)["embedding"][0], row, atol=2e-6)


STAGES: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [modules.Dense(WIDTH, 12), modules.Normalize()],
    "plain dense": lambda: [modules.Dense(WIDTH, 48, bias=False, activation_function=torch.nn.Identity())],
    "several": lambda: [modules.LayerNorm(WIDTH), modules.Dropout(0.5), modules.Dense(WIDTH, 8, activation_function=torch.nn.GELU()), modules.Normalize(), modules.LayerNorm(8)],
    "residual": lambda: [modules.Dense(WIDTH, WIDTH, use_residual=True), modules.Dense(WIDTH, 8, use_residual=True)],
}  # fmt: skip


@pytest.mark.parametrize(
    "case", ["several", *(pytest.param(case, marks=FULL) for case in sorted(set(STAGES) - {"several"}))]
)
def test_modules_behind_the_pooling_are_those_of_the_library(tmp_path: Path, case: str) -> None:
    whole = made(tmp_path, *STAGES[case]())
    found = imported(tmp_path / "model")
    agree(found, whole)
    assert found.text is not None
    assert found.text.normalize == (case == "dense")
    assert (
        "config.json" in {f.name for f in found.used_files if f.parent.name.endswith(("Dense", "LayerNorm"))}
    ) is True
    if case == "dense":
        bare = imported(tmp_path / "model", normalize=False)
        assert [str(o.type) for _, o in bare.graph.outputs] == ["f32[batch,12]"]
        assert bare.text is not None
        assert not bare.text.normalize


@pytest.mark.parametrize(
    "modes",
    [
        ("max", "mean_sqrt_len_tokens", "weightedmean"),
        pytest.param("weightedmean", marks=FULL),
        pytest.param(("cls", "lasttoken", "mean"), marks=FULL),
    ],
)
def test_poolings_stand_side_by_side(tmp_path: Path, modes: Any) -> None:
    whole = made(tmp_path, modes=modes)
    found = imported(tmp_path / "model")
    agree(found, whole)
    # The older keys say the same, in an order of their own.
    keys = {
        "cls": "cls_token",
        "max": "max_tokens",
        "mean": "mean_tokens",
        "lasttoken": "lasttoken",
        "weightedmean": "weightedmean_tokens",
    }
    listed = [modes] if isinstance(modes, str) else list(modes)
    older = {f"pooling_mode_{keys.get(m, m)}": m in listed for m in [*keys, "mean_sqrt_len_tokens"]}
    path = tmp_path / "model" / "1_Pooling" / "config.json"
    path.write_text(json.dumps({"word_embedding_dimension": WIDTH, **older}))
    agree(imported(tmp_path / "model"), SentenceTransformer(str(tmp_path / "model"), device="cpu"))


@pytest.mark.full
def test_a_prompt_that_is_not_pooled_keeps_the_weights_of_what_stands_behind_it(tmp_path: Path) -> None:
    whole = made(tmp_path, modes=("weightedmean", "cls"), prompt=False)
    found = imported(tmp_path / "model")
    text, prompt = "apple . a b", "green "
    (want,) = whole.encode([text], prompt=prompt)
    features = whole.preprocess([prompt + text])
    inputs = {k: features[k].numpy() for k in found.graph.input_specs if k in features}
    pooled = np.ones_like(inputs["input_ids"])
    pooled[0, :2] = 0
    got = run(found.graph, {**inputs, "pooling_mask": pooled})["embedding"][0]
    np.testing.assert_allclose(got, want, atol=2e-6)


def rewritten(path: Path, **changes: Any) -> None:
    said = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in said.items() if v is not ...}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_function": "os.system"}, "names the activation 'os.system', which is not supported"),
        pytest.param({"activation_function": None}, "names the activation None", marks=FULL),
        pytest.param({"in_features": "x"}, "in_features and out_features are", marks=FULL),
        ({"out_features": 13}, "the tensor linear.weight is f32[12,32], and its config.json makes it f32[13,32]"),
        pytest.param(
            {"bias": False}, "holds the tensors linear.bias, linear.weight, and linear.weight are needed", marks=FULL
        ),
        pytest.param({"bias": 1}, "bias and use_residual are 1 and False", marks=FULL),
        pytest.param({"use_residual": True}, "and linear.weight, linear.bias, residual.weight are needed", marks=FULL),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings', and sentence_embedding"),
        pytest.param({"module_output_name": "other"}, "module_output_name is 'other'", marks=FULL),
        ({"scale": 2}, "has 'scale', which is not known"),
    ],
)
def test_a_dense_module_that_does_something_else_is_refused(
    tmp_path: Path, dense: Path, changes: dict[str, Any], said: str
) -> None:
    place = copied(dense, tmp_path)
    rewritten(place / "2_Dense" / "config.json", **changes)
    with pytest.raises(InfcError, match=said.replace("[", r"\[")):
        imported(place)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dense")
    made(place, modules.Dense(WIDTH, 12), modules.LayerNorm(12))
    return place / "model"


def copied(source: Path, place: Path) -> Path:
    return Path(shutil.copytree(source, place / "model"))


def test_weights_behind_the_pooling_are_checked(tmp_path: Path, dense: Path) -> None:
    place = copied(dense, tmp_path)
    held = load_file(place / "2_Dense" / "model.safetensors")
    # A pickle of tensors alone says the same, in half precision as well.
    (place / "2_Dense" / "model.safetensors").unlink()
    torch.save({name: tensor.half() for name, tensor in held.items()}, place / "2_Dense" / "pytorch_model.bin")
    halved = SentenceTransformer(str(place), device="cpu")
    agree(imported(place), halved)
    (place / "2_Dense" / "pytorch_model.bin").unlink()
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in held.items()}, place / "2_Dense" / "model.safetensors"
    )
    agree(imported(place), SentenceTransformer(str(place), device="cpu"))
    save_file({**held, "linear.bias": held["linear.bias"] * torch.nan}, place / "2_Dense" / "model.safetensors")
    with pytest.raises(InfcError, match="parameter '2_Dense.linear.bias' holds what is no finite number"):
        imported(place)
    rewritten(place / "3_LayerNorm" / "config.json", eps=1)
    with pytest.raises(InfcError, match="and a count under 'dimension' is needed"):
        imported(place)
    rewritten(place / "2_Dense" / "config.json", in_features=16)
    save_file(
        {**held, "linear.weight": held["linear.weight"][:, :16].contiguous()}, place / "2_Dense" / "model.safetensors"
    )
    rewritten(place / "3_LayerNorm" / "config.json", eps=...)
    with pytest.raises(InfcError, match="2_Dense takes 16 values, and the embedding before it has 32"):
        imported(place)
