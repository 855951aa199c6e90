"""`huggingface(...)` and `export(...)`: what people did not write themselves is imported by a locked-in worker.

The worker reads the model's own files, writes to a folder of its own, and starts or reaches nothing else (see
`sandbox`). Its answer is checked as any hostile input is (see `answers`); weights stay where they are.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from ...dsl.spec import Aggregation, Model, Policy, Pooling
from ...runtime.texts import PARTIAL
from ..sandbox.process import Bounds, Confined, Worker, printable
from .answers import imported_from
from .heads import checked, read_labels
from .imported import Activation, Imported, Options, Side, TextKind, TextTask, Tokenize
from .sentence import MOST_PROMPT, MOST_PROMPTS, NO_PROMPTS
from .spec_json import model_to_json
from .tokenizer_check import FILE
from .tree import check_tree

IDS_AT_ONCE = 1 << 17
"""Ids that one answer may have."""
"""Characters."""
SECONDS_PER_BYTE = 1 / (20 << 20)
"""What a source's size adds to the time that its import may take."""


def load(model: Model, folder: Path, options: Options) -> Imported:
    """The model of a huggingface or export source, imported in a worker. Raises FrontendError, and InfcError for a link
    that leads out of the spec's tree, or (exit 6) where a sandbox is required and cannot be had."""
    model = located(model)
    source = model.source
    path = Path(os.path.abspath(source.path or ""))
    tree = check_tree(source, folder, options.allow_paths)
    roots = tree.paths
    confined = Confined(read=roots, bounds=bounds_of(tree.size, options), required=options.require_sandbox)
    session = f"{__package__}.confined_worker"
    subject = repr(source.written or source.hub or path.name)
    worker = Worker(session, subject, folder=options.work, confined=confined, python=options.python)
    if worker.missing:
        options.warn(
            f"this kernel has no {' and no '.join(worker.missing)}: {subject} is read with less protection "
            "(--require-sandbox refuses instead)"
        )
    try:
        said = worker.ask({"do": "import", "model": model_to_json(model), "root": str(folder)})
        imported = imported_from(worker, said, owns=_under(roots), mapped=False)
        place, clean = _own_folder(options)
        text = _text(said, place / path.name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise worker.damaged(printable(str(error), 500)) from None
    except BaseException:
        worker.close()
        raise

    def close() -> None:
        imported.close()
        clean()

    tokenize = None if text is None else _tokenize(worker, text.limit)
    used = (*imported.used_files, path) if path.is_dir() else imported.used_files
    if text is not None and model.task.labels is not None:
        # Beside the model, where the worker does not read.
        labels = Path(model.task.labels)
        try:
            text = replace(text, labels=read_labels(labels, len(text.labels)))
        except BaseException:
            close()
            raise
        used = (*used, labels)
    return replace(imported, text=text, tokenize=tokenize, close=close, used_files=used)


def _own_folder(options: Options) -> tuple[Path, Callable[[], None]]:
    """A folder that the worker cannot write, beside its own, and what removes it."""
    if options.work is not None:
        return options.work.with_name("text"), lambda: None
    made = tempfile.TemporaryDirectory(prefix="infc-text-")
    return Path(made.name), made.cleanup


def located(model: Model) -> Model:
    """model with the folder in the local hub cache where its source names a repository. Raises FrontendError."""
    if model.source.kind != "huggingface" or model.source.path is not None:
        return model
    from .hub import snapshot

    return replace(model, source=replace(model.source, path=str(snapshot(model.source))))


def bounds_of(size: int, options: Options) -> Bounds:
    """What the import of a source of so many bytes may take: room for its weights in float32, twice, beside the libraries' own."""
    memory = options.import_memory or (6 << 30) + 4 * size
    seconds = options.import_seconds or 600 + size * SECONDS_PER_BYTE
    return Bounds(memory_bytes=memory, disk_bytes=(2 << 30) + 3 * size, seconds=seconds)


def _under(roots: tuple[str, ...]) -> Any:
    """Whether a file, links followed, is one of roots or below one."""
    real = {os.path.realpath(r) for r in roots}

    def owns(path: str) -> bool:
        at = os.path.realpath(path)
        return any(at == r or at.startswith(r.rstrip("/") + "/") for r in real)

    return owns


def _tokenize(worker: Worker, limit: int) -> Tokenize:
    """Tokenizes in the worker, so many texts at a time that no answer is too long."""

    def tokenize(texts: Sequence[Sequence[str]], truncate: bool) -> list[dict[str, list[int]]]:
        rows: list[dict[str, list[int]]] = []
        at_once = max(1, IDS_AT_ONCE // limit)
        for start in range(0, len(texts), at_once):
            part = list(texts[start : start + at_once])
            said = worker.ask({"do": "tokenize", "texts": part, "truncate": truncate, "first": start + 1})
            found = cast("list[dict[str, list[int]]]", said.get("rows"))
            if type(found) is not list or len(found) != len(part) or not all(_is_row(row, limit) for row in found):
                raise worker.damaged("rows of tokens are not in the form of one")
            rows += found
        return rows

    return tokenize


def _is_row(row: Any, limit: int) -> bool:
    """Whether a row is lists of as many ids, no more than the limit."""
    columns = {"input_ids", "attention_mask", "token_type_ids"}
    if not isinstance(row, dict) or set(cast("dict[str, Any]", row)) - {PARTIAL} != columns:
        return False
    lists = list(cast("dict[str, list[Any]]", row).values())
    if not all(type(c) is list for c in lists):
        return False
    fits = len(lists[0]) <= limit and all(len(c) == len(lists[0]) for c in lists)
    return fits and all(type(n) is int and 0 <= n < 1 << 63 for c in lists for n in c)


def _text(said: Mapping[str, Any], place: Path) -> TextTask | None:
    """The task of an answer, checked; its tokenizer goes to the folder `place`. Raises ValueError, KeyError or TypeError."""
    text = said["text"]
    if text is None:
        return None
    fields = {f.name: text[f.name] for f in dataclasses.fields(TextTask)}
    _check_words(text)
    tokenizer, limit, top = text["tokenizer"], text["limit"], text["top"]
    unknown = text["unknown"]
    if not isinstance(tokenizer, str) or not _count(limit) or not _count(top):
        raise ValueError("the tokenizer, the limit of tokens or the number of classes cannot be used")
    if unknown is not None and (type(unknown) is not int or not 0 <= unknown < 1 << 31):
        raise ValueError("the id of unknown tokens cannot be used")
    prompts: object = text["prompts"]
    if not isinstance(prompts, dict) or len(cast("dict[str, Any]", prompts)) > MOST_PROMPTS + len(NO_PROMPTS):
        raise ValueError("the prompts cannot be used")
    lists: list[object] = [text["texts"], text["labels"], text["dimensions"], text["pooling"]]
    if not all(type(each) is list for each in lists):
        raise ValueError("the texts, labels or dimensions cannot be used")
    names, labels, dimensions, poolings = cast("list[list[Any]]", lists)
    words: list[object] = [text["prompt"], *cast("dict[str, object]", prompts).values(), *names, *labels]
    if not all(isinstance(word, str) and len(word) <= MOST_PROMPT for word in words):
        raise ValueError("a prompt, a name or a label cannot be used")
    if not all(map(_count, dimensions)) or not 1 <= len(names) <= 2 or top > max(1, len(labels)):
        raise ValueError("the dimensions, the texts or the number of classes cannot be used")
    if not all(pooling in get_args(Pooling) for pooling in poolings):
        raise ValueError("the poolings of the task cannot be used")
    checked(tuple(labels), "the task")
    place.mkdir(parents=True, exist_ok=True)
    (place / FILE).write_text(tokenizer, encoding="utf-8")
    fields |= {name: tuple(fields[name]) for name in ("texts", "labels", "dimensions", "pooling")}
    fields |= {name: bool(fields[name]) for name in ("segments", "include_prompt", "normalize")}
    fields["tokenizer"] = place / FILE
    return TextTask(**fields)


def _check_words(text: Mapping[str, Any]) -> None:
    """Raises ValueError where a word is none of those that its field has."""
    words = {
        "kind": TextKind, "side": Side, "overflow": Policy, "activation": Activation, "aggregation": Aggregation,
    }  # fmt: skip
    for name, known in words.items():
        absent = name == "activation" and text[name] is None
        if not absent and text[name] not in get_args(known):
            raise ValueError(f"the {name} of the task cannot be used")


def _count(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31
