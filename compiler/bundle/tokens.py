"""The server's tokenizer against the folder's own: the server is another program, of another version, in another language."""

from __future__ import annotations

import json
from pathlib import Path
from platform import machine
from typing import Any, cast

from ...runtime.texts import PARTIAL
from ..errors import Exit, InfcError
from ..frontends import Imported, TextTask
from ..frontends.files import read_json_file
from ..frontends.probe_texts import texts
from ..frontends.tokenizer_check import FILE_BYTES
from ..measure.text_rows import rows_of
from ..processes import run_child
from .server import find

Row = dict[str, list[int]]


def check_tokens(imported: Imported, folder: Path, work: Path) -> None:
    """Compares the tokens that the server makes of two hundred texts, or pairs, cut at the limit, with those of the folder's
    library. This machine's server is asked, whatever the bundle in `folder` is for. Raises InfcError (exit 3) with the first
    text that differs."""
    task = imported.text
    if task is None:
        return
    every = list(texts(_words(task), task.limit))
    rows = [(every[at - 1], text)[-len(task.texts) :] for at, text in enumerate(every)]
    given = work / "texts.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_child([str(find(machine())), "tokenize", "--bundle", str(folder.resolve()), str(given)])
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
