"""Checkpoints without weights that only some outputs need, and the class that is compiled of a folder."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from infc.compiler.frontends import FrontendError
from infc.compiler.frontends import load_here as load
from infc.compiler.ir.interpret import run
from infc.dsl.spec import Dim, Input, Model, Output, Source, Task

from .families import FAMILIES, model_of, save_tokenizer

IDS = np.array([[2, 7, 9, 3], [2, 5, 3, 0]], np.int64)
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int64)


def spec(folder: Path, **changes: Any) -> Model:
    dims = (Dim(name="batch", lo=1, hi=8), Dim(name="tokens", lo=1, hi=32))
    source = Source(kind="huggingface", path=str(folder), written=folder.name)
    arguments: dict[str, Any] = {"dims": dims, **changes}
    return Model(name="m", source=source, **arguments)


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT as `add_pooling_layer=False` saves it."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    hf.BertModel(FAMILIES["bert"].make().config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_an_output_whose_weights_are_not_there_is_left_out_and_noted(headless: Path, tmp_path: Path) -> None:
    found = load(model_of("bert", headless), tmp_path)
    assert [name for name, _ in found.graph.outputs] == ["last_hidden_state"]
    assert not [name for name in found.graph.weights if name.startswith("pooler")]
    assert any("output pooler_output is left out: it needs 'pooler.dense." in note for note in found.notes)
    given = {"input_ids": IDS, "attention_mask": MASK}
    want = found.reference(given)
    assert list(want) == ["last_hidden_state"]
    np.testing.assert_allclose(
        run(found.graph, given)["last_hidden_state"][MASK == 1], want["last_hidden_state"][MASK == 1], atol=1e-5
    )


def test_an_output_that_the_spec_names_is_not_left_out(headless: Path, tmp_path: Path) -> None:
    wanted = Output(name="pooler_output", dims=("batch", 32))
    with pytest.raises(FrontendError, match=r"no tensor 'pooler\.dense\.bias' of shape \[32\] \(and 1 more\)"):
        load(model_of("bert", headless, outputs=(wanted,)), tmp_path)


def test_one_of_the_outputs_has_its_own_reference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    FAMILIES["bert"].make().save_pretrained(tmp_path / "bert")
    wanted = Output(name="sum", foreign="pooler_output", dims=("batch", 32))
    found = load(model_of("bert", tmp_path / "bert", outputs=(wanted,)), tmp_path)
    given = {"input_ids": IDS, "attention_mask": MASK}
    want, got = found.reference(given), run(found.graph, given)
    assert list(want) == list(got) == ["sum"]
    np.testing.assert_allclose(got["sum"], want["sum"], atol=1e-5)


def test_of_a_classifier_without_its_head_nothing_is_left(headless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(headless, tmp_path / "bert"))
    config = hf.BertConfig.from_pretrained(folder)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(folder)
    with pytest.raises(
        FrontendError, match="the checkpoint has no tensor .* which BertForSequenceClassification needs"
    ):
        load(model_of("bert", folder), tmp_path)


T5: dict[str, Any] = {
    "vocab_size": 120, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "saved",
    [
        "T5Model",
        pytest.param("T5EncoderModel", marks=pytest.mark.full),
        pytest.param("T5ForConditionalGeneration", marks=pytest.mark.full),
    ],
)
def test_an_embedder_of_t5_is_its_encoder(saved: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = getattr(hf, saved)(hf.T5Config(**T5)).eval()
    made.save_pretrained(tmp_path / "t5")
    save_tokenizer(tmp_path)
    generic = hf.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="[PAD]")
    generic.save_pretrained(tmp_path / "t5")
    text = Input(name="text", kind="text", limit_tokens=20, policy="truncate")
    found = load(spec(tmp_path / "t5", task=Task(kind="embed"), inputs=(text,), dims=()), tmp_path)
    given = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        hidden = made.encoder(torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).last_hidden_state.numpy()
    want = (hidden * MASK[:, :, None]).sum(1) / MASK.sum(1, keepdims=True)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(run(found.graph, given)["embedding"], want, atol=1e-5)
    np.testing.assert_allclose(found.reference(given)["embedding"], want, atol=1e-5)


def test_the_class_that_the_folder_names_is_compiled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = hf.T5EncoderModel(hf.T5Config(**T5)).eval()
    made.save_pretrained(tmp_path / "t5")
    found = load(spec(tmp_path / "t5"), tmp_path)
    assert [name for name, _ in found.graph.outputs] == ["last_hidden_state"]
    given = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        want = made(torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).last_hidden_state.numpy()
    np.testing.assert_allclose(run(found.graph, given)["last_hidden_state"][MASK == 1], want[MASK == 1], atol=1e-5)
