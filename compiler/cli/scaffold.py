"""`infc new`: a folder with a spec that builds, and the files that it names."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import InfcError
from ..frontends.module_files import TOKENIZER_FILES
from ..frontends.token_limit import TRANSFORMER_FILES, Limit, folder_limit

_FILES = (
    "config.json", *TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "modules.json", "config_sentence_transformers.json", *TRANSFORMER_FILES, "preprocessor_config.json",
    "model.safetensors.index.json", "LICENSE", "LICENSE.txt", "README.md",
)  # fmt: skip
"""What is copied of a Hugging Face folder, beside its *.safetensors and the folders of sentence-transformers."""

_MODEL = '''"""The model of {name}.infer: replace this with yours. `make()` returns an nn.Module in eval mode."""

import torch
from torch import nn


def make() -> nn.Module:
    """A small classifier over eight features; its weights come from a seed, so that each build is the same."""
    torch.manual_seed(0)
    hidden = (nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(32, 1), nn.Sigmoid()).eval()
'''

_TENSOR = """infer 1

model {word} {{
  source  torch("model.py:make")
  input   input: float32[batch, 8]  # name and order are those of forward's parameters
  output  score: float32[batch, 1]
  dim     batch in 1..64
}}

data {{
  evaluate npz("data/evaluate.npz")
}}

traffic {{
  rate 50 req/s
}}

targets {{
  latency   p99 <= 20 ms
  accuracy  max_abs_error <= 1e-5 vs float32
}}
"""

_TEXT = """infer 1

model {word} {{
  source  huggingface("model")
  task    {task}  # {comment}
{inputs}
}}

data {{
  evaluate jsonl("data/evaluate.jsonl")  # a line: {line}
}}

traffic {{
  rate 10 req/s
}}

targets {{
  latency   p99 <= 100 ms
  accuracy  {accuracy} vs float32
}}
"""

_COMMENTS = {
    "embed": "pooling and normalization are what the folder says; where it says nothing, the mean, made 1 long",
    "classify": "labels are the folder's; `classify(top = 3)` gives the three best",
    "tag": "labels are the folder's; `tag(aggregation = simple)` makes entities of neighbouring tokens",
    "rerank": "the score of a document for a query; the folder says what makes it of the model's number",
}
_OF_NLI = frozenset({"entailment", "contradiction"})
"""Labels of a classifier that takes a premise and a hypothesis."""

_RAW = """infer 1

model {word} {{
  source huggingface("model")  # inputs and outputs are those of the architecture
}}
{data}
traffic {{
  rate 10 req/s
}}

targets {{
  latency p99 <= 200 ms
}}
"""

_SUBJECTS = (
    "The committee",
    "A tired gardener",
    "Our neighbour",
    "The night train",
    "Every second invoice",
    "The old bridge",
)
_ENDINGS = (
    "arrived before anyone expected it.",
    "was painted green last spring, and nobody remembers why.",
    "needs a signature from two people; one of them is on leave until Monday.",
    "costs less than it did a year ago?",
    "changed its mind.",
    "kept a list of every question that had ever been asked, in the order of the answers.",
)  # fmt: skip


def write_project(name: str, source: str | None, task: str | None) -> list[str]:
    """Writes the folder `name`; returns the paths written, the spec first.

    Raises InfcError (exit 2) when the folder holds anything, or when `source` is not a Hugging Face model folder.
    """
    folder = Path(name)
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-")
    if not word or not (word[0].isalpha() or word[0] == "_") or len(word) > 64:
        raise InfcError(
            f"{name!r} cannot name a model", hint="a name begins with a letter and has letters, digits, _ and -"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InfcError(f"{name} exists already", hint="take another name, or an empty folder")
    if source is None and task not in (None, "tensor"):
        raise InfcError(f"task {task} needs a model", hint="as in `infc new minilm --from models/all-MiniLM-L6-v2`")
    files = _tensor_files(folder.name, word) if source is None else _model_files(Path(source), word, task)
    try:
        return _write(folder, f"{word}.infer", files, None if source is None else Path(source))
    except OSError as error:
        raise InfcError(f"cannot write {name}: {(error.strerror or 'no reason given').lower()}") from error


def _write(folder: Path, spec: str, files: Mapping[str, bytes], source: Path | None) -> list[str]:
    written: list[Path] = []
    for path, content in {spec: files[""], **{p: c for p, c in files.items() if p}}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        written.append(target)
    if source is not None:
        for path in _model_paths(source):
            target = folder / "model" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            written.append(target)
    return [os.path.normpath(path) for path in written]


def _tensor_files(name: str, word: str) -> dict[str, bytes]:
    import numpy as np

    rows = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    return {
        "": _TENSOR.format(word=word).encode(),
        "model.py": _MODEL.format(name=word).encode(),
        "data/evaluate.npz": _npz({"input": rows}),
    }


def _npz(arrays: Mapping[str, Any]) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _model_files(source: Path, word: str, task: str | None) -> dict[str, bytes]:
    config = _read_json(source / "config.json")
    if config is None:
        raise InfcError(f"{source} is not a Hugging Face model folder: it has no config.json")
    if not list(source.glob("*.safetensors")):
        raise InfcError(f"{source} has no *.safetensors", hint="`new` copies no pickles; save the model as safetensors")
    task = task or _task_of(source, config)
    if task != "tensor":
        if not _has_tokenizer(source):
            raise InfcError(
                f"{source} has no tokenizer.json and none of {', '.join(TOKENIZER_FILES[1:])}",
                hint=f"task {task} reads text, and text needs a tokenizer",
            )
        return _text_files(word, task, _inputs_of(task, config), folder_limit(source, task))
    arrays = _example_inputs(config)
    data = '\ndata {\n  evaluate npz("data/evaluate.npz")\n}\n' if arrays else ""
    files = {"": _RAW.format(word=word, data=data).encode()}
    return {**files, "data/evaluate.npz": _npz(arrays)} if arrays else files


def _has_tokenizer(source: Path) -> bool:
    return any((source / name).exists() for name in TOKENIZER_FILES)


def chosen(source: Path) -> str:
    """What `new --from` says of the task that it took from the folder."""
    task = _task_of(source, _read_json(source / "config.json") or {})
    also = "; `--task embed` makes embeddings of texts" if task == "tensor" and _has_tokenizer(source) else ""
    return f"task {task}, as the folder was saved{also}"


def _task_of(source: Path, config: Mapping[str, Any]) -> str:
    """What the folder was saved for."""
    classes: Any = config.get("architectures")
    saved = str(cast("list[Any]", classes)[0]) if isinstance(classes, list) and classes else ""
    if saved.endswith("ForSequenceClassification"):
        return "rerank" if len(_labels(config)) == 1 else "classify"
    if saved.endswith("ForTokenClassification"):
        return "tag"
    sentence = (source / "modules.json").exists() or (source / "1_Pooling").exists()
    return "embed" if sentence else "tensor"


def _labels(config: Mapping[str, Any]) -> list[str]:
    """id2label; two where there is none, as transformers has it."""
    table: Any = config.get("id2label")
    return [str(label) for label in cast("dict[str, Any]", table).values()] if isinstance(table, dict) else ["0", "1"]


def _inputs_of(task: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    if task == "rerank":
        return ("query", "document")
    pairs = task == "classify" and {label.lower() for label in _labels(config)} >= _OF_NLI
    return ("premise", "hypothesis") if pairs else ("text",)


def _text_files(word: str, task: str, inputs: tuple[str, ...], limit: Limit) -> dict[str, bytes]:
    texts = [f"{subject} {ending}" for subject in _SUBJECTS for ending in _ENDINGS]
    # Of a pair, a text with each of the next: alike in half, or not at all.
    rows = [dict(zip(inputs, (texts[at - 5], text)[-len(inputs) :], strict=True)) for at, text in enumerate(texts)]
    spec = _TEXT.format(
        word=word,
        task=task,
        comment=_COMMENTS[task],
        inputs="\n".join(
            [
                f"  # {limit.tokens} tokens, special ones included: {limit.origin}",
                *(f"  input   {name}: string, up to {limit.tokens} tokens, truncate" for name in inputs),
            ]
        ),
        line=json.dumps(dict.fromkeys(inputs, "...")),
        accuracy="cosine >= 0.99999" if task == "embed" else "max_abs_error <= 1e-3",
    )
    return {"": spec.encode(), "data/evaluate.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}


def _example_inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """A few rows of the architecture's own inputs, from a seed."""
    import numpy as np

    random = np.random.default_rng(0)
    size, vocabulary = config.get("image_size"), config.get("vocab_size")
    if isinstance(size, int):
        channels = config.get("num_channels")
        shape = (4, channels if isinstance(channels, int) else 3, size, size)
        return {"pixel_values": random.standard_normal(shape).astype(np.float32)}
    if isinstance(vocabulary, int) and vocabulary > 1:
        ids = random.integers(1, vocabulary, (8, 16), dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {}


def _model_paths(source: Path) -> list[Path]:
    """The files of a model folder that a build reads."""
    paths = [source / name for name in _FILES if (source / name).is_file()]
    paths += sorted(source.glob("*.safetensors"))
    for module in sorted(source.glob("[0-9]_*")):
        paths += sorted(p for p in module.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors"))
    return paths


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InfcError(f"cannot read {path}: {error}") from error
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
