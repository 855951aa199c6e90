"""The server's tokenizer against the folder's own: the server is another program, of another version, in another language."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from platform import machine
from typing import Any, cast

from ...runtime.texts import PARTIAL
from ..build_key import compiler_digest
from ..cache import Spare, cache_key, file_digest
from ..errors import Exit, InfcError
from ..frontends import Imported, TextTask
from ..frontends.files import read_json_file
from ..frontends.probe_texts import texts
from ..frontends.tokenizer_check import FILE_BYTES
from ..measure.text_rows import rows_of
from ..processes import run_child
from .server import find, tokenizers_version

Row = dict[str, list[int]]


def check_tokens(imported: Imported, arch: str, folder: Path, work: Path, spare: Spare) -> None:
    """Compares the tokens that the server makes of two hundred texts, or pairs, cut at the limit, with those of the folder's
    library: `_compare` asks this machine's server, which must be built with the same tokenizers as the one for `arch`. What
    was the same stays so while the tokenizer, its settings, the library and the server do, and is not asked again.

    Raises InfcError (exit 3) with the first text that differs."""
    task = imported.text
    if task is None:
        return
    ours = find(machine())
    asked, bundled = (tokenizers_version(server) for server in (ours, find(arch)))
    if asked != bundled:
        raise InfcError(
            f"the server for {arch} has tokenizers {bundled}, and the one for this machine, {asked}, would be compared with the "
            "folder's library",
            exit_code=Exit.MISSING,
            hint="build both servers of one source: make servers",
        )
    settings = (task.limit, task.side, task.segments, task.prompt, task.include_prompt, len(task.texts))
    library, server = version("tokenizers"), file_digest(ours)
    key = cache_key("tokens", compiler_digest(), file_digest(task.tokenizer), settings, library, server)
    if spare.ask(lambda cache: cache.get(key)) is None:
        _compare(imported, task, folder, work, ours)
        spare.ask(lambda cache: cache.put_bytes(key, b""))


def _compare(imported: Imported, task: TextTask, folder: Path, work: Path, server: Path) -> None:
    every = list(texts(_words(task), task.limit))
    rows = [(every[at - 1], text)[-len(task.texts) :] for at, text in enumerate(every)]
    given = work / "texts.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_child([str(server), "tokenize", "--bundle", str(folder.resolve()), str(given)])
    if done.returncode != 0:
        said = done.stderr.strip().removeprefix("serve: error: ")
        raise _fault(f"the server does not tokenize: {said[:300]}")
    found = [cast("Row", json.loads(line)) for line in done.stdout.splitlines()]
    for row, got, want in zip(rows, found, rows_of(imported, rows, True), strict=True):
        for name in ("input_ids", "token_type_ids", PARTIAL):
            ours, theirs = got[name], want.get(name, [1] * len(want["input_ids"]))
            if ours != theirs:
                raise _fault(
                    f"the server makes other tokens of {' and '.join(f'{text[:60]!r}' for text in row)} than the folder's "
                    f"library: {name} {ours[:8]} and {theirs[:8]}"
                )


def _fault(message: str) -> InfcError:
    hint = "this is a fault of infc: please report it with the tokenizer, if you can"
    return InfcError(message, exit_code=Exit.UNMET, hint=hint)


def _words(task: TextTask) -> list[str]:
    """The tokens of a tokenizer.json, added ones too."""
    said = read_json_file(task.tokenizer, dict, FILE_BYTES)
    model: Any = said.get("model") or {}
    vocabulary: Any = model.get("vocab") or []
    tokens = [str(token if isinstance(token, str) else token[0]) for token in vocabulary]
    added: Any = said.get("added_tokens") or []
    return [*tokens, *(str(token["content"]) for token in added)]
