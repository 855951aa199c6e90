"""A sentence-transformers folder's own files say what they may, and lead nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.sentence import read_settings
from infc.compiler.frontends.stages import UNIT
from infc.dsl import check_text
from infc.dsl.spec import Task

MODEL, POOLING, NORMALIZE = (f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [{"type": POOLING, "path": "/etc"}], "leads out of the folder"),
        ("modules.json", [{"type": POOLING, "path": "../other"}], "leads out of the folder"),
        ("modules.json", [{"type": POOLING, "path": "a/../../b"}], "leads out of the folder"),
        ("modules.json", [{"type": POOLING, "path": "a\0"}], "leads out of the folder"),
        ("modules.json", [{"type": POOLING, "path": "y" * 300}], "which is missing"),
        ("modules.json", [{"type": "mycode.Pooling", "path": ""}], "of sentence_transformers are"),
        ("modules.json", [{"type": MODEL, "path": "0_Transformer"}], "keeps the model itself in '0_Transformer'"),
        ("modules.json", [{"type": MODEL, "path": ""}], "lists Transformer, and Transformer, Pooling is needed"),
        (
            "modules.json",
            [{"type": NORMALIZE, "path": ""}, {"type": MODEL, "path": ""}],
            "lists Normalize, Transformer",
        ),
        ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 1}}, "config_args is"),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method_output_name": "x"}}}, "modality_config is"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask'"),
        ("sentence_bert_config.json", {"anything": 1}, "'anything', which is not known"),
        ("sentence_bert_config.json", {"do_lower_case": "yes"}, "do_lower_case is 'yes'"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim is 8"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'"),
        ("modules.json", [1], "no object"),
        ("modules.json", {"a": 1}, "JSON list"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length is 'many'"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length is -1"),
        ("sentence_bert_config.json", {"max_seq_length": [1]}, "max_seq_length"),
        ("config_sentence_transformers.json", {"prompts": [1], "default_prompt_name": "a"}, "names to texts"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"a": 1}, "default_prompt_name": "a"},
            "the prompt 'a' is no text",
        ),
    ],
)
def test_a_settings_file_with_a_wrong_value_is_refused(tmp_path: Path, file: str, content: Any, said: str) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(FrontendError, match=said):
        read_settings(tmp_path, Task(kind="embed"))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"module_input_name": "sentence_embedding"}, ""),
        ({"module_input_name": "token_embeddings"}, "module_input_name is"),
    ],
)
def test_normalize_works_on_the_sentence(tmp_path: Path, said: dict[str, str], wrong: str) -> None:
    rows = [{"type": MODEL, "path": ""}, {"type": POOLING, "path": "1"}, {"type": NORMALIZE, "path": "2"}]
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    for name, content in (("1", {"pooling_mode_cls_token": True}), ("2", said)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    if wrong:
        with pytest.raises(FrontendError, match=wrong):
            read_settings(tmp_path, Task(kind="embed"))
        return
    settings = read_settings(tmp_path, Task(kind="embed"))
    assert (settings.pooling, settings.stages) == (("cls",), (UNIT,))


def test_what_a_settings_file_says_is_shown_cut(tmp_path: Path) -> None:
    for row in ({"type": "y" * 9000}, {"type": POOLING, "path": "y/" * 2000}):
        (tmp_path / "modules.json").write_text(json.dumps([row]))
        with pytest.raises(FrontendError) as caught:
            read_settings(tmp_path, Task(kind="embed"))
        assert len(caught.value.message) < 400


def test_a_link_out_of_the_specs_tree_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec" / "model").symlink_to(tmp_path / "elsewhere")
    text = 'infer 1\nmodel m { source huggingface("model") }\n'
    found = check_text(text, file="m.infer", folder=tmp_path / "spec").errors
    assert [d.code for d in found] == ["E0402"]
    assert found[0].help[0] == f"it is a link to {tmp_path / 'elsewhere'}"
    allowed = check_text(text, file="m.infer", folder=tmp_path / "spec", allow_paths=[tmp_path / "elsewhere"])
    assert allowed.errors == ()
