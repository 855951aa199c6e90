"""Texts of a spec's data, alone or in pairs, as tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from ...dsl.spec import DataSet
from ..errors import InfcError
from ..frontends import TextTask
from ..frontends.files import parse_json
from ..frontends.pooling import PARTIAL
from ..frontends.tokenizer_check import open_tokenizer
from .data_file import DATA_BYTES, FEWER, MOST_LINES, check_count, lines


def read_texts(data: DataSet, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The texts of each line of jsonl data: under the key that the data says, else under `names`, one or two. Raises InfcError
    naming file and line."""
    if data.kind != "jsonl":
        raise InfcError(f"{data.written}: a model of texts takes its rows from jsonl data, not {data.kind}")
    keys = names if data.field is None else (data.field,)
    form = _line(keys)
    if len(keys) < len(names):
        raise InfcError(
            f"{data.written}: `field` names one text, and the model takes {' and '.join(names)}",
            hint=f"leave `field` out: {_line(names)}",
        )
    found: list[tuple[str, ...]] = []
    taken = blank = 0
    for number, raw in lines(data):
        if data.rows is not None and len(found) >= data.rows:
            break
        where = f"{data.written}:{number}"
        if not raw.strip():
            blank += 1
            if blank > MOST_LINES:
                raise InfcError(f"{where}: more than {MOST_LINES:,} lines are empty")
            continue
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raise InfcError(f"{where} begins with a byte order mark", hint="save the file as UTF-8 without it")
        item: object = parse_json(raw, where)
        if not isinstance(item, dict):
            raise InfcError(f"{where} is no JSON object", hint=form)
        row = cast(dict[str, object], item)
        check_count(len(found), data)
        taken += len(raw)
        if taken > DATA_BYTES:
            raise InfcError(f"{where}: the texts so far take {DATA_BYTES:,} bytes", hint=FEWER)
        found.append(tuple(_text(row, key, where) for key in keys))
    if not found:
        raise InfcError(f"{data.written} has no rows", hint=form)
    return found


def _line(keys: Sequence[str]) -> str:
    return f"a line is {json.dumps({key: 'a text' for key in keys}, ensure_ascii=False)}"


def _text(row: dict[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return value
    said = f"{key!r} is {json.dumps(value)[:40]}" if key in row else f"it has {', '.join(row)[:80] or 'nothing'}"
    raise InfcError(f"{where} has no text under {key!r}: {said}")


def tokenize_rows(
    task: TextTask, texts: Sequence[Sequence[str]], truncate: bool, first: int = 1
) -> list[dict[str, list[int]]]:
    """input_ids, attention_mask and token_type_ids of each text behind the prompt, or of each pair, and pooling_mask where the
    prompt's tokens are not pooled. `first` is the number of the first.

    Raises InfcError where one has more tokens than the limit and is not to be truncated.
    """
    limit = task.limit
    tokenizer = open_tokenizer(task.tokenizer, limit if truncate else None, task.side)
    left_out = 0 if task.include_prompt else prompt_tokens(tokenizer, task.prompt)
    found: list[dict[str, list[int]]] = []
    for number, (text, *pair) in enumerate(texts, first):
        encoded = tokenizer.encode(task.prompt + text, *pair)
        if len(encoded.ids) > limit:
            raise InfcError(
                f"{'pair' if pair else 'text'} {number} has {len(encoded.ids)} tokens, and the limit is {limit}",
                hint="leave it out of the data, or write `truncate` behind the input",
            )
        found.append(
            {
                "input_ids": list(encoded.ids),
                "attention_mask": list(encoded.attention_mask),
                "token_type_ids": list(encoded.type_ids) if task.segments else [0] * len(encoded.ids),
            }
        )
        if not task.include_prompt:
            found[-1][PARTIAL] = [int(at >= left_out) for at in range(len(encoded.ids))]
    return found


def prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """How many tokens at the front of a text are its prompt's, as sentence-transformers counts them: all that the prompt has
    alone, without a special token at its end."""
    if not prompt:
        return 0
    ids: list[int] = tokenizer.encode(prompt).ids
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return len(ids) - (bool(ids) and ids[-1] in special)
