"""What a folder's sentence-transformers files say: pooling, normalization, prompt, length limit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...dsl.spec import Pooling, Task
from .errors import FrontendError
from .files import read_json_file

_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_WORDS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last", "last": "last"}


MOST_TOKENS = 1 << 31


@dataclass(frozen=True)
class Settings:
    """How hidden states become one embedding. `limit`: tokens, special ones included (None: the folder says nothing)."""

    pooling: Pooling = "mean"
    normalize: bool = True
    prompt: str = ""
    limit: int | None = None
    files: tuple[Path, ...] = ()


def read_settings(folder: Path, task: Task) -> Settings:
    """The folder's settings, overridden by the spec's task. Raises FrontendError for a module that is not supported."""
    files: list[Path] = []
    pooling: Pooling | None = None
    normalize: bool | None = None
    limit: int | None = None
    prompt: str | None = None
    include_prompt = True
    modules = folder / "modules.json"
    if modules.is_file():
        files.append(modules)
        normalize = False
        for item in read_json_file(modules, list):
            if not isinstance(item, dict):
                raise FrontendError(f"{folder.name}/modules.json lists what is no object")
            row = cast(dict[str, Any], item)
            kind = str(row.get("type", "")).rsplit(".", 1)[-1]
            if kind == "Pooling":
                pooling, include_prompt = _pooling(folder, str(row.get("path", "")), files, task)
            elif kind == "Normalize":
                normalize = True
            elif kind != "Transformer":
                raise FrontendError(
                    f"{folder.name}/modules.json has the module {row.get('type')!r:.80}, which is not supported "
                    "(Transformer, Pooling and Normalize are)",
                    hint='use `task tensor` for the hidden states, or `torch("file.py:factory")` with the whole model',
                )
    for name in ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json"):
        path = folder / name
        if path.is_file():
            files.append(path)
            found = read_json_file(path, dict).get("max_seq_length")
            if found is not None and (type(found) is not int or not 0 <= found <= MOST_TOKENS):
                raise FrontendError(f"{folder.name}/{name}: max_seq_length is {found!r:.60}, and a count is needed")
            limit = found or None
    prompts = folder / "config_sentence_transformers.json"
    if prompts.is_file():
        files.append(prompts)
        said = read_json(prompts)
        chosen = said.get("default_prompt_name")
        table = cast(dict[str, Any], said.get("prompts") or {})
        if not isinstance(said.get("prompts") or {}, dict) or not all(isinstance(v, str) for v in table.values()):
            raise FrontendError(f"{folder.name}/{prompts.name}: prompts should map names to texts")
        prompt = str(table.get(str(chosen), "")) if chosen else None
    prompt = task.prompt if task.prompt is not None else prompt or ""
    if prompt and not include_prompt:
        raise FrontendError(
            f"{folder.name} leaves the prompt's tokens out of pooling (include_prompt false), which is not supported",
            hint='write `task embed(prompt = "")` and put the prompt into each text',
        )
    return Settings(
        pooling=task.pooling or pooling or "mean",
        normalize=task.normalize if task.normalize is not None else True if normalize is None else normalize,
        prompt=prompt,
        limit=limit,
        files=tuple(files),
    )


def _pooling(folder: Path, path: str, files: list[Path], task: Task) -> tuple[Pooling | None, bool]:
    if path.startswith(("/", "\\")) or ".." in path.replace("\\", "/").split("/") or "\0" in path:
        raise FrontendError(
            f"{folder.name}/modules.json names the path {path[:120]!r}, which leads out of the folder",
            hint="a module's path is relative to the folder, such as `1_Pooling`",
        )
    config = folder / path / "config.json"
    if not os.path.isfile(config):  # Path.is_file raises for a name that is too long
        raise FrontendError(f"{folder.name}/modules.json names {path[:120]}/config.json, which is missing")
    files.append(config)
    said = read_json_file(config, dict)
    include = bool(said.get("include_prompt", True))
    if task.pooling is not None:
        return task.pooling, include
    word = said.get("pooling_mode")
    if isinstance(word, str):
        found = [word]
        known: list[Pooling] = [_WORDS[word]] if word in _WORDS else []
    else:
        found = [k for k, v in said.items() if k.startswith("pooling_mode_") and v]
        known = [_MODES[k] for k in found if k in _MODES]
    if len(found) != 1 or len(known) != 1:
        raise FrontendError(
            f"{folder.name}/{path[:120]}/config.json asks for the pooling {' + '.join(found)[:120] or 'none'}, which is not supported",
            hint="write `task embed(pooling = mean)`; mean, cls, max and last are known",
        )
    return known[0], include


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises FrontendError."""
    return read_json_file(path, dict)
