"""A sentence-transformers folder's own files say what they may, and lead nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.sentence import read_settings
from infc.dsl import check_text
from infc.dsl.spec import Task


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [{"type": "x.Pooling", "path": "/etc"}], "leads out of the folder"),
        ("modules.json", [{"type": "x.Pooling", "path": "../other"}], "leads out of the folder"),
        ("modules.json", [{"type": "x.Pooling", "path": "a/../../b"}], "leads out of the folder"),
        ("modules.json", [{"type": "x.Pooling", "path": "a\0"}], "leads out of the folder"),
        ("modules.json", [{"type": "Pooling", "path": "y" * 300}], "which is missing"),
        ("modules.json", [1], "no object"),
        ("modules.json", {"a": 1}, "JSON list"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length is 'many'"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length is -1"),
        ("sentence_bert_config.json", {"max_seq_length": [1]}, "max_seq_length"),
        ("config_sentence_transformers.json", {"prompts": [1], "default_prompt_name": "a"}, "names to texts"),
        ("config_sentence_transformers.json", {"prompts": {"a": 1}, "default_prompt_name": "a"}, "names to texts"),
    ],
)
def test_a_settings_file_with_a_wrong_value_is_refused(tmp_path: Path, file: str, content: Any, said: str) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(FrontendError, match=said):
        read_settings(tmp_path, Task(kind="embed"))


def test_what_a_settings_file_says_is_shown_cut(tmp_path: Path) -> None:
    for row in ({"type": "y" * 9000}, {"type": "Pooling", "path": "y/" * 2000}):
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
