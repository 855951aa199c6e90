"""Hugging Face folders: every family against torch, and what is refused."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infc.compiler.errors import Exit
from infc.compiler.frontends import FrontendError
from infc.compiler.frontends import load_here as load
from infc.compiler.frontends.model_class import near_by_structure
from infc.compiler.frontends.pooling import pool
from infc.compiler.frontends.stages import UNIT
from infc.compiler.ir.interpret import run
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.verify import verify
from infc.dsl.spec import Dim, Input, Model, Source, Task

from .families import FAMILIES, SHAPES, inputs_of, model_of, save_family, save_tokenizer

QUICK = ("bert", "modernbert", "vit")
TOLERANCE = 1e-4
"""Times max(1, largest value of the reference): float32 on both sides."""

ALL = [pytest.param(name, marks=() if name in QUICK else (pytest.mark.full,)) for name in FAMILIES]


@pytest.mark.parametrize("name", ALL)
def test_each_family_agrees_with_torch_where_the_mask_keeps(name: str, tmp_path: Path) -> None:
    folder = save_family(name, tmp_path / name)
    found = load(model_of(name, folder), tmp_path)
    graph = verify(found.graph)
    whole = [n for n in graph.nodes() if n.op.mnemonic == "attention"]
    assert len(whole) == (FAMILIES[name].whole or 0)
    windows = [n.op.window for n in whole if isinstance(n.op, Attention)]
    assert windows == ([None, (4, 4)] if name == "modernbert" else [None] * len(whole))
    given = tuple(graph.input_specs)
    for rows, tokens in SHAPES:
        inputs = inputs_of(name, given, rows, tokens)
        wanted, got = found.reference(inputs), run(graph, inputs)
        assert list(got) == list(wanted)
        for output, want in wanted.items():
            have = got[output]
            assert have.shape == want.shape
            if "attention_mask" in inputs and want.ndim == 3:
                kept = inputs["attention_mask"] == 1
                have, want = have[kept], want[kept]
            assert np.abs(have - want).max() <= TOLERANCE * max(1.0, float(np.abs(want).max())), (output, rows, tokens)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved BERT; tests copy it before they change it."""
    return save_family("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A copy of the saved BERT to change."""
    return Path(shutil.copytree(bert, tmp_path / "bert"))


def embed_model(folder: Path, task: Task | None = None, *, limit: int | None = 20, **changes: Any) -> Model:
    """A spec's model with `task embed`."""
    text = Input(name="text", kind="text", limit_tokens=limit, policy="truncate")
    return model_of("bert", folder, task=task or Task(kind="embed"), inputs=(text,), dims=(), **changes)


def refused(model: Model, folder: Path) -> FrontendError:
    """The error of loading model, which must be one of ours with exit code 2."""
    with pytest.raises(FrontendError) as caught:
        load(model, folder)
    assert caught.value.exit_code == Exit.USAGE
    assert "Traceback" not in str(caught.value)
    return caught.value


def edit_json(path: Path, **changes: Any) -> None:
    """Replaces keys of a JSON object; None removes one."""
    said = json.loads(path.read_text())
    said.update(changes)
    path.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replaces tensors of model.safetensors (dots written as __); None removes one."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor
    save_file(tensors, file, metadata={"format": "pt"})


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_are_mapped_from_the_file_and_equal_it(bert: Path) -> None:
    found = load(model_of("bert", bert), bert.parent)
    stored = load_file(bert / "model.safetensors")
    mapped = 0
    for name, weight in found.graph.weights.items():
        array = weight.load()
        if name in stored:
            assert isinstance(array, np.memmap)
            np.testing.assert_array_equal(array, stored[name].numpy())
            mapped += 1
    assert mapped == len(stored)
    assert {f.name for f in found.used_files} == {"config.json", "model.safetensors"}


def test_a_prefixed_checkpoint_is_resolved_by_storage(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({f"bert.{k}": v for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    found = load(model_of("bert", folder), tmp_path)
    weight = found.graph.weights["embeddings.word_embeddings.weight"].load()
    assert isinstance(weight, np.memmap)
    np.testing.assert_array_equal(weight, tensors["embeddings.word_embeddings.weight"].numpy())


def test_a_sharded_checkpoint_is_read_by_its_index(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: tensors[n] for n in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: f for f, part in halves.items() for n in part}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = load(model_of("bert", folder), tmp_path)
    inputs = inputs_of("bert", ("token_type_ids",), 3, 9)
    got, want = run(found.graph, inputs), found.reference(inputs)
    np.testing.assert_allclose(got["pooler_output"], want["pooler_output"], atol=1e-5)
    assert isinstance(found.graph.weights[names[0]].load(), np.memmap)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert (
        "'model-00002-of-00002.safetensors', which is not in bert"
        in refused(model_of("bert", folder), tmp_path).message
    )


def test_bfloat16_weights_are_computed_in_float32_with_a_note(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    found = load(model_of("bert", folder), tmp_path)
    assert found.notes == ("weights stored as bfloat16 are computed in float32",)
    weight = found.graph.weights["embeddings.word_embeddings.weight"].load()
    want = tensors["embeddings.word_embeddings.weight"].bfloat16().float().numpy()
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, want)


def test_a_bin_checkpoint_of_tensors_loads_and_one_of_objects_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    found = load(model_of("bert", folder), tmp_path)
    np.testing.assert_array_equal(found.graph.weights["pooler.dense.weight"].load(), tensors["pooler.dense.weight"])
    torch.save({"x": Source(kind="torch")}, folder / "pytorch_model.bin")
    error = refused(model_of("bert", folder), tmp_path)
    assert "no pickle is executed" in error.message
    assert "pytorch_model.bin" in error.message


def test_a_missing_checkpoint_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refused(model_of("bert", folder), tmp_path).message == "bert has no model.safetensors"


@pytest.mark.parametrize("keep", [4, 100, -1000])
def test_a_truncated_checkpoint_is_named(folder: Path, tmp_path: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    error = refused(model_of("bert", folder), tmp_path)
    assert "truncated" in error.message
    assert "model.safetensors" in error.message
    if keep < 0:
        assert "tensor '" in error.message


def test_a_malformed_header_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes((5).to_bytes(8, "little") + b"{oops")
    assert "malformed safetensors header" in refused(model_of("bert", folder), tmp_path).message


def test_a_shape_that_config_does_not_have_is_named(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder, pooler__dense__weight=torch.zeros(32, 16))
    error = refused(model_of("bert", folder), tmp_path)
    assert error.message == (
        "model.safetensors: tensor 'pooler.dense.weight' has shape [32, 16], and config.json makes it [32, 32]"
    )


def test_a_missing_tensor_is_named_when_it_is_used(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder, embeddings__word_embeddings__weight=None)
    error = refused(model_of("bert", folder), tmp_path)
    assert "no tensor 'embeddings.word_embeddings.weight' of shape [120, 32]" in error.message


def test_a_tensor_that_an_embedder_does_not_need_may_be_missing(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder, pooler__dense__weight=None)
    save_tokenizer(folder)
    assert load(embed_model(folder), tmp_path).graph.outputs[0][0] == "embedding"


# ── config ───────────────────────────────────────────────────────────────────────────────────────────────────────────


CONFIG_ERRORS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no class": ({"architectures": None}, "names no class under `architectures`", "BertModel"),
    "unknown class": ({"architectures": ["BertModle"]}, "names the class 'BertModle'", "did you mean 'BertModel'"),
    "remote code": (
        {"architectures": ["MyModelX"], "auto_map": {"AutoModel": "my.MyModelX"}},
        "infc runs no code of a model folder",
        "for model_type 'bert' transformers has 'BertModel'; code that you trust goes into a file of your own",
    ),
    "remote code of its own type": (
        {"architectures": ["MyModelX"], "model_type": "my_x", "auto_map": {"AutoModel": "my.MyModelX"}},
        "infc runs no code of a model folder",
        "its tensors are named as BertModel's are: compare the two before you name that class; code that you trust",
    ),
    "no class at all": ({"architectures": ["Zzz"], "model_type": "zzz"}, "names the class 'Zzz'", "as BertModel's are"),
    "other type": ({"architectures": ["RobertaModel"]}, "is for model_type 'roberta', and says model_type 'bert'", ""),
    "no type": ({"model_type": None}, "has no `model_type`", "bert"),
    "no division": ({"num_attention_heads": 5}, "cannot be loaded as BertModel|does not fit BertModel", ""),
}


@pytest.mark.parametrize("case", sorted(CONFIG_ERRORS))
def test_a_wrong_config_is_refused(folder: Path, tmp_path: Path, case: str) -> None:
    changes, message, hint = CONFIG_ERRORS[case]
    edit_json(folder / "config.json", **changes)
    error = refused(model_of("bert", folder), tmp_path)
    assert any(part in error.message for part in message.split("|")), error.message
    assert hint in error.hint


def test_tensors_like_no_others_are_said_to_be_like_none(folder: Path) -> None:
    assert near_by_structure(folder) == "BertModel"
    save_file({f"odd.{n}.block": torch.zeros(1) for n in range(9)}, folder / "model.safetensors")
    assert near_by_structure(folder) is None
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert near_by_structure(folder) is None


def test_a_config_that_is_no_json_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{,}")
    assert "bert/config.json cannot be read" in refused(model_of("bert", folder), tmp_path).message
    (folder / "config.json").unlink()
    assert "bert has no config.json; it has model.safetensors" in refused(model_of("bert", folder), tmp_path).message
    assert "does not exist" in refused(model_of("bert", folder / "nowhere"), tmp_path).message
    file = Path(shutil.copy(folder / "model.safetensors", tmp_path / "file"))
    assert "is a file" in refused(model_of("bert", file), tmp_path).message


def test_more_tokens_than_positions_are_refused(folder: Path, tmp_path: Path) -> None:
    error = refused(model_of("bert", folder, dims=(Dim(name="tokens", lo=1, hi=300),)), tmp_path)
    assert error.message == "the spec says tokens in 1..300, and BertModel has positions for 258"
    assert error.hint == "write `dim tokens in 1..258`"
    roberta = save_family("roberta", tmp_path / "roberta")
    error = refused(model_of("roberta", roberta, dims=(Dim(name="tokens", lo=1, hi=258),)), tmp_path)
    assert "positions for 256" in error.message


def test_an_input_that_the_class_does_not_take_is_refused(bert: Path, tmp_path: Path) -> None:
    line = Input(name="pixels", dtype="float32", dims=("batch", 3))
    error = refused(model_of("bert", bert, inputs=(line,)), tmp_path)
    assert error.message == "BertModel takes input_ids, attention_mask, token_type_ids, not 'pixels'"
    wrong = Input(name="input_ids", dtype="float32", dims=("batch", "tokens"))
    assert (
        "input 'input_ids' is int64[batch, tokens]"
        in refused(model_of("bert", bert, inputs=(wrong,)), tmp_path).message
    )


def test_hub_sources_read_the_local_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    source = Source(kind="huggingface", hub="nobody/nothing", revision="0" * 40)
    error = refused(Model(name="m", source=source), tmp_path)
    assert "is not in the local Hugging Face cache" in error.message
    assert "hf download nobody/nothing" in error.hint


def test_inputs_have_ranges_and_defaults_from_the_architecture(bert: Path, tmp_path: Path) -> None:
    graph = load(model_of("bert", bert), tmp_path).graph
    ids, mask, kinds = (graph.input_specs[n] for n in ("input_ids", "attention_mask", "token_type_ids"))
    assert (ids.default, ids.minimum, ids.maximum) == (None, 0, 119)
    assert (mask.default, mask.minimum, mask.maximum, mask.mask) == (1, 0, 1, True)
    assert (kinds.default, kinds.minimum, kinds.maximum) == (0, 0, 1)
    assert (graph.batch_dim, graph.length_dim) == ("batch", "tokens")


# ── embed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sentence(folder: Path) -> Path:
    """A copy of BERT with a tokenizer file and sentence-transformers settings."""
    save_tokenizer(folder)
    kinds = ["models.Transformer", "models.Pooling", "models.Normalize"]
    rows = [
        {"idx": i, "path": "" if i == 0 else f"{i}_{k.split('.')[1]}", "type": f"sentence_transformers.{k}"}
        for i, k in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    return folder


def test_embed_takes_what_the_folder_says_and_the_spec_overrides(sentence: Path, tmp_path: Path) -> None:
    said = load(embed_model(sentence, limit=None), tmp_path)
    assert said.text is not None
    assert (said.text.pooling, said.text.normalize, said.text.limit, said.text.overflow) == (
        ("cls",),
        True,
        24,
        "truncate",
    )
    assert said.tokenizer is not None
    assert said.tokenizer.name == "tokenizer.json"
    assert not said.tokenizer.is_relative_to(sentence), "the library's own, not the folder's"
    assert {"modules.json", "tokenizer.json", "sentence_bert_config.json"} <= {f.name for f in said.used_files}
    task = Task(kind="embed", pooling="mean", normalize=False, prompt="query: ")
    other = load(embed_model(sentence, task, limit=12), tmp_path)
    assert other.text is not None
    assert (other.text.pooling, other.text.normalize, other.text.limit, other.text.prompt) == (
        ("mean",),
        False,
        12,
        "query: ",
    )
    assert [(n, str(o.type)) for n, o in other.graph.outputs] == [("embedding", "f32[batch,32]")]


@pytest.mark.parametrize(
    "pooling",
    ["mean", "weighted_mean", *(pytest.param(p, marks=pytest.mark.full) for p in ("cls", "max", "last", "mean_sqrt"))],
)
def test_each_pooling_agrees_with_its_definition(sentence: Path, tmp_path: Path, pooling: Any) -> None:
    found = load(embed_model(sentence, Task(kind="embed", pooling=pooling, normalize=pooling != "max")), tmp_path)
    inputs = inputs_of("bert", ("token_type_ids",), 4, 11)
    got, want = run(found.graph, inputs)["embedding"], found.reference(inputs)["embedding"]
    np.testing.assert_allclose(got, want, atol=1e-5)
    if pooling != "cls":
        inputs["attention_mask"][0] = 0
        assert not run(found.graph, inputs)["embedding"][0].any()


def test_pooling_in_numpy_by_hand() -> None:
    hidden = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    mask = np.array([[1, 1, 0]])
    np.testing.assert_array_equal(pool(hidden, mask, ["mean"], []), [[2, 3, 4, 5]])
    np.testing.assert_array_equal(pool(hidden, mask, ["cls"], []), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(pool(hidden, mask, ["max"], []), [[4, 5, 6, 7]])
    np.testing.assert_array_equal(pool(hidden, mask, ["last", "max"], []), [[4, 5, 6, 7] * 2])
    np.testing.assert_allclose(pool(hidden, mask, ["mean_sqrt"], []), np.sqrt(2) * np.array([[2, 3, 4, 5]]), rtol=1e-6)
    np.testing.assert_allclose(pool(hidden, mask, ["weighted_mean"], []), [[8 / 3, 11 / 3, 14 / 3, 17 / 3]], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pool(hidden, mask, ["mean"], [UNIT])), 1.0, rtol=1e-6)
    assert not pool(hidden, mask * 0, ["mean"], [UNIT]).any()


SENTENCE_ERRORS: dict[str, tuple[str, Any, str]] = {
    "lstm": ("modules.json", [{"type": "sentence_transformers.models.LSTM", "path": "2_LSTM"}], "models.LSTM', which is not"),
    "mode": ("1_Pooling/config.json", {"pooling_mode_none": True}, "'pooling_mode_none', which is not"),
    "word": ("1_Pooling/config.json", {"pooling_mode": ["mean", "median"]}, "'median', which is not"),
    "list": ("sentence_bert_config.json", [], "should hold a JSON object"),
    "object": ("modules.json", {}, "should hold a JSON list"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(SENTENCE_ERRORS))
def test_settings_that_are_not_supported_are_refused(sentence: Path, tmp_path: Path, case: str) -> None:
    file, content, message = SENTENCE_ERRORS[case]
    (sentence / file).write_text(json.dumps(content))
    assert message in refused(embed_model(sentence), tmp_path).message


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config_sentence_transformers.json", {"prompts": {"query": 5}}, "the prompt 'query' is no text"),
        ("config_sentence_transformers.json", {"prompts": ["query"]}, "should map names to texts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "nope"}, "default_prompt_name is 'nope'"),
        ("config_sentence_transformers.json", {"prompts": {str(n): "" for n in range(300)}}, "more than 256 prompts"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": 0}, "include_prompt is 0"),
        ("config.json", {"matryoshka_dimensions": [8, 64]}, "matryoshka_dimensions is [8, 64], and counts up to 32"),
    ],
)
def test_prompts_and_dimensions_that_are_none_are_refused(
    sentence: Path, tmp_path: Path, file: str, content: dict[str, Any], said: str
) -> None:
    path = sentence / file
    path.write_text(json.dumps((json.loads(path.read_text()) if file == "config.json" else {}) | content))
    assert said in refused(embed_model(sentence), tmp_path).message


def test_a_pooling_file_that_is_missing_is_named(sentence: Path, tmp_path: Path) -> None:
    shutil.rmtree(sentence / "1_Pooling")
    assert "1_Pooling/config.json, which is missing" in refused(embed_model(sentence), tmp_path).message


def test_embed_needs_a_tokenizer_and_text(folder: Path, tmp_path: Path) -> None:
    assert "bert has no tokenizer.json" in refused(embed_model(folder), tmp_path).message
    vit = save_family("vit", tmp_path / "vit")
    (vit / "tokenizer.json").write_text("{}")
    error = refused(model_of("vit", vit, task=Task(kind="embed")), tmp_path)
    assert error.message == "`task embed` needs a model of text, and ViTModel takes pixel_values"


def test_a_folder_without_settings_gets_mean_and_normalize(folder: Path, tmp_path: Path) -> None:
    save_tokenizer(folder)
    found = load(embed_model(folder, limit=None), tmp_path)
    assert found.text is not None
    assert (found.text.pooling, found.text.normalize, found.text.limit) == (("mean",), True, 258)
