"""What a folder's sentence-transformers files say: pooling, normalization, prompt, length limit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ...dsl.spec import Pooling, Task
from .errors import FrontendError
from .files import read_json_file
from .module_files import ANY, Known, check_known, module_config, said_in
from .stages import UNIT, Stage, check_dropout, read_dense, read_layer_norm
from .token_limit import CROSS_TRANSFORMER, MODULES, TRANSFORMER, Limit, transformer_settings

_MODES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt", "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}  # fmt: skip
"""Older keys of a pooling, in the order in which several of them stand side by side."""
_WORDS: dict[str, Pooling] = {
    "mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last", "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
}  # fmt: skip


WHOLE = "config_sentence_transformers.json"
MOST_PROMPTS = 256
MOST_PROMPT = 1 << 16
"""Most prompts of a model, and most characters of one."""
NO_PROMPTS = {"query": "", "document": ""}
"""What sentence-transformers takes for a model that says nothing of them."""
_NOTHING: tuple[Any, ...] = (None, {})
_WHOLE: Known = {
    "__version__": ANY, "prompts": ANY, "default_prompt_name": ANY, "similarity_fn_name": ANY,
    "model_type": (None, "SentenceTransformer"), "truncate_dim": (None,),
}  # fmt: skip
_CROSS: Known = {
    "__version__": ANY, "activation_fn": ANY, "prompts": _NOTHING, "default_prompt_name": (None,),
    "model_type": (None, "CrossEncoder"), "keep_in_fp32_modules": (None, []),
}  # fmt: skip
"""The same of a CrossEncoder's folder."""
_POOLING: Known = {
    "word_embedding_dimension": ANY, "embedding_dimension": ANY, "pooling_mode": ANY, "include_prompt": ANY,
}  # fmt: skip
_KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
_NORMALIZE: Known = {
    "module_input_name": (None, "sentence_embedding"), "module_output_name": (None, "sentence_embedding"),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How hidden states become one embedding: the poolings side by side, then `stages`. `limit`: what max_seq_length says;
    `prompt`: what stands before a text that no request says more of; `prompts`: those that a request may name;
    `include_prompt`: whether their tokens are pooled."""

    pooling: tuple[Pooling, ...] = ("mean",)
    stages: tuple[Stage, ...] = (UNIT,)
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=lambda: dict(NO_PROMPTS))
    include_prompt: bool = True
    limit: Limit = field(default_factory=Limit)
    lower: bool = False
    files: tuple[Path, ...] = ()
    activation: object = None
    """What a CrossEncoder's folder names, unchecked."""


def read_settings(folder: Path, task: Task) -> Settings:
    """The folder's settings, overridden by the spec's task. Raises FrontendError for a module that is not supported."""
    files: list[Path] = []
    pooling: tuple[Pooling, ...] = ("mean",)
    stages: list[Stage] = [UNIT]
    prompts, prompt = dict(NO_PROMPTS), ""
    include_prompt = True
    modules = folder / MODULES
    if modules.is_file():
        files.append(modules)
        rows = _module_rows(folder, read_json_file(modules, list))
        kinds = [kind for kind, _ in rows]
        stages = []
        for kind, path in rows:
            if kind == "Pooling":
                pooling, include_prompt = _pooling(folder, path, files, task)
            elif kind == "Normalize":
                _check_normalize(folder, path, files)
                stages.append(UNIT)
            elif kind == "Dense":
                stages.append(read_dense(folder, path, files))
            elif kind == "LayerNorm":
                stages.append(read_layer_norm(folder, path, files))
            elif kind == "Dropout":
                check_dropout(folder, path, files)
            elif path:
                raise FrontendError(
                    f"{folder.name}/modules.json keeps the model itself in {path[:120]!r}, and the folder's own is read",
                    hint="name that folder as the source, with the settings beside it",
                )
        wanted = ["Transformer", *(["Pooling"] if "Pooling" in kinds or task.pooling is None else [])]
        if kinds[: len(wanted)] != wanted or {"Transformer", "Pooling"} & {*kinds[len(wanted) :]}:
            raise FrontendError(
                f"{folder.name}/modules.json lists {', '.join(kinds)[:200] or 'nothing'}, and {', '.join(wanted)} is needed, "
                "with Dense, LayerNorm, Dropout and Normalize behind it or not",
                hint='write `task embed(pooling = …)`, or use `torch("file.py:factory")` with the whole model',
            )
    limit, lower = transformer_settings(folder, files, TRANSFORMER)
    if (said := said_in(folder, WHOLE, files, _WHOLE)) is not None:
        prompts, prompt = _prompts(f"{folder.name}/{WHOLE}", said)
    if task.normalize is not None:
        while stages[-1:] == [UNIT]:
            stages.pop()
        stages += [UNIT] * task.normalize
    return Settings(
        pooling=pooling if task.pooling is None else (task.pooling,),
        stages=tuple(stages),
        prompt=task.prompt if task.prompt is not None else prompt,
        prompts=prompts,
        include_prompt=include_prompt,
        limit=limit,
        lower=lower,
        files=tuple(files),
    )


def read_cross_settings(folder: Path) -> Settings:
    """What a reranker's folder says in sentence-transformers' files, where a CrossEncoder saved it with modules.json: without
    it the library reads none of them. Raises FrontendError for what is not supported."""
    modules = folder / MODULES
    if not modules.is_file():
        return Settings()
    files = [modules]
    rows = _module_rows(folder, read_json_file(modules, list))
    if rows != [("Transformer", "")]:
        raise FrontendError(
            f"{folder.name}/modules.json lists {', '.join(k for k, _ in rows)[:200] or 'nothing'}, and a reranker is one "
            "Transformer in the folder itself",
            hint="with Pooling behind it, it is an encoder: write `task embed`",
        )
    limit, lower = transformer_settings(folder, files, CROSS_TRANSFORMER)
    said = said_in(folder, WHOLE, files, _CROSS) or {}
    return Settings(limit=limit, lower=lower, files=tuple(files), activation=said.get("activation_fn"))


def _prompts(where: str, said: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The prompts by name, and the default one. Raises FrontendError."""
    table: object = said.get("prompts")
    chosen: object = said.get("default_prompt_name")
    prompts = dict(NO_PROMPTS)
    if table is not None and not isinstance(table, dict):
        raise FrontendError(f"{where}: prompts should map names to texts")
    for name, text in cast("dict[str, Any]", table or {}).items():
        if text is not None and not isinstance(text, str):
            raise FrontendError(f"{where}: the prompt {name!r:.80} is no text")
        if len(name) > 128 or len(text or "") > MOST_PROMPT or len(prompts) > MOST_PROMPTS:
            raise FrontendError(
                f"{where}: more than {MOST_PROMPTS} prompts, or one of more than {MOST_PROMPT} characters"
            )
        prompts[name] = text or ""
    if chosen is None:
        return prompts, ""
    if not isinstance(chosen, str) or chosen not in prompts:
        raise FrontendError(
            f"{where}: default_prompt_name is {chosen!r:.80}, and the prompts are {', '.join(prompts)[:200]}"
        )
    return prompts, prompts[chosen]


def shorter(config: Mapping[str, Any], width: Any, name: str) -> tuple[int, ...]:
    """config.json's `matryoshka_dimensions` below the embedding's own width. Raises FrontendError."""
    said: Any = config.get("matryoshka_dimensions")
    if said is None:
        return ()
    counts: list[Any] = cast("list[Any]", said) if isinstance(said, list) else []
    if not 0 < len(counts) <= 64 or not all(type(n) is int and 0 < n <= width for n in counts):
        raise FrontendError(
            f"{name}/config.json: matryoshka_dimensions is {said!r:.80}, and counts up to {width} are needed"
        )
    return tuple(sorted({int(n) for n in counts if n < width}))


def _module_rows(folder: Path, items: list[Any]) -> list[tuple[str, str]]:
    """(kind, path) of each module. Raises FrontendError for a kind that is none of _KINDS."""
    rows: list[tuple[str, str]] = []
    for item in items:
        if not isinstance(item, dict):
            raise FrontendError(f"{folder.name}/modules.json lists what is no object")
        row = cast(dict[str, Any], item)
        package, _, kind = str(row.get("type", "")).rpartition(".")
        if package.split(".")[0] != "sentence_transformers" or kind not in _KINDS:
            raise FrontendError(
                f"{folder.name}/modules.json has the module {row.get('type')!r:.80}, which is not supported "
                f"({', '.join(_KINDS)} of sentence_transformers are)",
                hint='use `task tensor` for the hidden states, or `torch("file.py:factory")` with the whole model',
            )
        rows.append((kind, _inside(folder, str(row.get("path", "")))))
    return rows


def _check_normalize(folder: Path, path: str, files: list[Path]) -> None:
    config = folder / path / "config.json"
    if path and os.path.isfile(config):
        files.append(config)
        check_known(folder, config, read_json_file(config, dict), _NORMALIZE)


def _inside(folder: Path, path: str) -> str:
    """path, which must not lead out of the folder. Raises FrontendError."""
    if path.startswith(("/", "\\")) or ".." in path.replace("\\", "/").split("/") or "\0" in path:
        raise FrontendError(
            f"{folder.name}/modules.json names the path {path[:120]!r}, which leads out of the folder",
            hint="a module's path is relative to the folder, such as `1_Pooling`",
        )
    return path


def _pooling(folder: Path, path: str, files: list[Path], task: Task) -> tuple[tuple[Pooling, ...], bool]:
    """The poolings that stand side by side, and whether a prompt is pooled. Raises FrontendError."""
    config, said = module_config(folder, path, files)
    check_known(folder, config, {k: v for k, v in said.items() if not k.startswith("pooling_mode_")}, _POOLING)
    include = said.get("include_prompt", True)
    if type(include) is not bool:
        raise FrontendError(
            f"{folder.name}/{path[:120]}/config.json: include_prompt is {include!r:.60}, and true or false is needed"
        )
    if task.pooling is not None:
        return (task.pooling,), include
    words: Any = said.get("pooling_mode")
    if words is None:
        found = [key for key, on in said.items() if key.startswith("pooling_mode_") and on is not False]
        strange = [key for key in found if key not in _MODES or said[key] is not True]
        known: list[Pooling] = [mode for key, mode in _MODES.items() if key in found] or ["mean"]
    else:
        found = [words] if isinstance(words, str) else cast("list[Any]", words) if isinstance(words, list) else [words]
        strange = [word for word in found if not isinstance(word, str) or word not in _WORDS]
        known = [] if strange else [_WORDS[word] for word in found]
    if strange or not known or len(known) > len(_WORDS):
        raise FrontendError(
            f"{folder.name}/{path[:120]}/config.json asks for the pooling {', '.join(map(repr, strange))[:120] or 'none'}, which is "
            "not supported",
            hint="write `task embed(pooling = mean)`; known are " + ", ".join(_WORDS),
        )
    return tuple(known), include


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises FrontendError."""
    return read_json_file(path, dict)
