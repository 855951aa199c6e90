"""Nothing that a model folder, a data file or a spec says is run: a payload in every string, and a watch on what Python
compiles, imports, unpickles or starts. (Exported programs have a room of their own: test_pt2_canaries.)

These run in this process, without the sandbox: it is a second wall, and must not be what hides a hole in the first.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import pickle
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from infc.compiler.bundle.tokenizer import check_tokenizer
from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends import load_here
from infc.dsl import check_file

from .families import save_family, save_tokenizer
from .test_frontends_huggingface import embed_model

MARK = "canary_in_a_mine"
PAYLOADS = (
    f'__import__("os").system("touch {MARK}")',
    f'x"),getattr(__import__("os"),"system")("touch {MARK}"),("',
    f"$(touch {MARK})`touch {MARK}`",
    f"os:system({MARK})",
    f"../../../../tmp/{MARK}",
)
WATCHED = (
    "compile",
    "exec",
    "import",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
)


class Watch:
    """Hears of every event that runs something with the mark in it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.active = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event in WATCHED:
            said = repr(arguments)
            if MARK in said or (event == "pickle.find_class" and "torch" not in said and "collections" not in said):
                self.heard.append(f"{event} {said[:200]}")


WATCH = Watch()
sys.addaudithook(WATCH)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.chdir(tmp_path)
    WATCH.heard.clear()
    WATCH.active = True
    yield WATCH
    WATCH.active = False
    assert WATCH.heard == []
    assert not list(tmp_path.rglob(MARK))
    assert not Path("/tmp", MARK).exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_folder(tmp_path_factory.mktemp("canary") / "bert")


def save_sentence_folder(folder: Path) -> Path:
    """A sentence-transformers folder with every file that infc reads."""
    save_family("bert", folder)
    save_tokenizer(folder)
    kinds = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    rows = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (p, k) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode": "mean"})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "q: "}, "default_prompt_name": None, "__version__": {"torch": "2"}})
    )
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


FILES = (
    "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
    "config_sentence_transformers.json",
)  # fmt: skip
EXTRA: dict[str, Any] = {
    "auto_map": {"AutoModel": PAYLOADS[3], "AutoConfig": f"{MARK}.Config"}, "torch_dtype": PAYLOADS[0],
    "_attn_implementation": f"{MARK}/kernel", "quantization_config": {"quant_method": PAYLOADS[0]},
    "_name_or_path": PAYLOADS[4], "custom_pipelines": {MARK: {"impl": PAYLOADS[3]}}, "tokenizer_class": MARK,
}  # fmt: skip
"""What libraries are known to look for in a config."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every string in a JSON value; of a key, with its own name once more behind it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key, key)
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))
    elif isinstance(value, str):
        yield path


def planted(value: Any, path: tuple[Any, ...], payload: str) -> Any:
    """value with the payload at path."""
    value = json.loads(json.dumps(value))
    steps, key = list(path[:-2]), path[-1] if path else None
    if len(path) >= 2 and key == path[-2] and isinstance(key, str):
        at = value
        for step in steps:
            at = at[step]
        if isinstance(at, dict) and key in at:
            at[payload] = at.pop(key)
            return value
    at = value
    for step in path[: len(path) - 1]:
        at = at[step]
    at[key] = payload
    return value


def tried(folder: Path) -> None:
    """Everything that reads a folder: an import, and the tokenizer's check. Refusals are the user's errors."""
    code = None
    try:
        found = load_here(embed_model(folder), folder)
        if found.tokenizer is not None:
            check_tokenizer(found.tokenizer, found.graph)
    except InfcError as error:
        code = error.exit_code
    assert code in (None, Exit.USAGE, Exit.MISSING)


def every_string(made: Path, tmp_path: Path, choose: random.Random | None) -> None:
    for file in FILES:
        value = json.loads((made / file).read_text())
        value = {**value, **EXTRA} if file == "config.json" else value
        spots = list(places(value))
        if choose is not None:
            spots = choose.sample(spots, 1)
        for number, spot in enumerate(spots):
            folder = tmp_path / f"m{file.replace('/', '_')}{number}"
            shutil.copytree(made, folder)
            (folder / file).write_text(json.dumps(planted(value, spot, PAYLOADS[number % len(PAYLOADS)])))
            tried(folder)
            shutil.rmtree(folder)


def test_no_string_of_a_model_folder_is_run(made: Path, tmp_path: Path, watch: Watch) -> None:
    every_string(made, tmp_path, random.Random(0))


@pytest.mark.full
def test_none_of_all_strings_of_a_model_folder_is_run(made: Path, tmp_path: Path, watch: Watch) -> None:
    every_string(made, tmp_path, None)


def test_no_name_in_a_checkpoint_or_its_index_is_run(made: Path, tmp_path: Path, watch: Watch) -> None:
    tensors = load_file(made / "model.safetensors")
    for number, payload in enumerate(PAYLOADS[1:3]):
        folder = tmp_path / f"c{number}"
        shutil.copytree(made, folder)
        named = {(payload if k == "pooler.dense.weight" else k): v for k, v in tensors.items()}
        save_file(named, folder / "model.safetensors", metadata={"format": "pt", payload: payload})
        tried(folder)
        index = {
            "metadata": {payload: payload},
            "weight_map": dict.fromkeys(named, "model.safetensors") | {payload: payload},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        tried(folder)


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({MARK!r}, 'w')",)


def test_no_pickle_in_a_folder_or_in_rows_is_run(made: Path, tmp_path: Path, watch: Watch) -> None:
    import torch

    WATCH.active = False
    folder = tmp_path / "p"
    shutil.copytree(made, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    (tmp_path / "raw").write_bytes(pickle.dumps(Evil()))
    np.savez(tmp_path / "rows.npz", features=np.array([Evil()], dtype=object))
    WATCH.active = True
    tried(folder)
    shutil.copy(tmp_path / "raw", folder / "pytorch_model.bin")
    tried(folder)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "rows.npz", allow_pickle=False)["features"]


SPEC = """infc 1

model m {
  source  huggingface("bert")
  task    embed(pooling = mean, prompt = "p")
  input   text: string, up to 16 tokens, truncate
}

data { evaluate jsonl("rows.jsonl", field = "text"), rows 3 }
""".replace("infc 1", "infer 1")


def test_no_string_of_a_spec_is_run(tmp_path: Path, watch: Watch) -> None:
    for number, word in enumerate(['"bert"', '"p"', '"rows.jsonl"', '"text"', " m ", "mean", "huggingface"]):
        for payload in PAYLOADS:
            for text in (json.dumps(payload), payload):
                file = tmp_path / f"s{number}.infer"
                file.write_text(SPEC.replace(word, text))
                check_file(file)
