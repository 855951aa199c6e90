"""Texts of a spec's data, alone or in pairs, as tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import DataSet
from ...runtime.texts import TooLong, token_rows
from ..errors import InfcError
from ..frontends import Imported, TextTask
from ..frontends.files import parse_json
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


def read_labels(data: DataSet, names: Sequence[str]) -> NDArray[np.float64] | None:
    """The label of each line of jsonl data under "label", [rows]: a number, or one of the model's `names`. None where the
    first line has none. Raises InfcError naming file and line."""
    places = {name: index for index, name in enumerate(names)}
    found: list[float] = []
    for number, raw in lines(data):
        if data.rows is not None and len(found) >= data.rows:
            break
        if not raw.strip():
            continue
        item = parse_json(raw, f"{data.written}:{number}")
        label = cast(dict[str, object], item).get("label") if isinstance(item, dict) else None
        if label is None and not found:
            return None
        if isinstance(label, str) and label in places:
            found.append(places[label])
        elif isinstance(label, int | float) and not isinstance(label, bool) and math.isfinite(label):
            found.append(float(label))
        else:
            known = f", which is none of {', '.join(names)[:80]}" if isinstance(label, str) and names else ""
            raise InfcError(f'{data.written}:{number}: "label" is {json.dumps(label)[:40]}{known or ", and no number"}')
    return np.asarray(found)


def _line(keys: Sequence[str]) -> str:
    return f"a line is {json.dumps({key: 'a text' for key in keys}, ensure_ascii=False)}"


def _text(row: dict[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return value
    said = f"{key!r} is {json.dumps(value)[:40]}" if key in row else f"it has {', '.join(row)[:80] or 'nothing'}"
    raise InfcError(f"{where} has no text under {key!r}: {said}")


def rows_of(imported: Imported, texts: Sequence[Sequence[str]], truncate: bool) -> list[dict[str, list[int]]]:
    """Like `tokenize_rows`, of a model that takes texts: in its worker, where it was imported in one."""
    if imported.tokenize is not None:
        return imported.tokenize(texts, truncate)
    assert imported.text is not None
    return tokenize_rows(imported.text, texts, truncate)


def tokenize_rows(
    task: TextTask, texts: Sequence[Sequence[str]], truncate: bool, first: int = 1
) -> list[dict[str, list[int]]]:
    """input_ids, attention_mask and token_type_ids of each text behind the prompt, or of each pair, and pooling_mask where the
    prompt's tokens are not pooled. `first` is the number of the first.

    Raises InfcError where one has more tokens than the limit and is not to be truncated.
    """
    tokenizer = open_tokenizer(task.tokenizer, task.limit if truncate else None, task.side)
    try:
        return token_rows(
            tokenizer, texts, limit=task.limit, prompt=task.prompt, pooled_prompt=task.include_prompt, segments=task.segments,
            first=first,
        )  # fmt: skip
    except TooLong as error:
        raise InfcError(str(error), hint="leave it out of the data, or write `truncate` behind the input") from None
