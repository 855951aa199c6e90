"""Rows of a spec's data as a model's inputs: texts through the tokenizer, arrays by name."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import DataSet, Model
from ..errors import InfcError, require
from ..frontends import Imported
from ..ir.ops.leaf import Input
from ..ir.types import numpy_dtype

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """`requests`: inputs of one row each, [1, ...]; `labels`: one a row, where the data has them."""

    requests: tuple[dict[str, Array], ...]
    labels: Array | None = None


def read_rows(data: DataSet, model: Model, imported: Imported) -> Rows:
    """The first `rows` rows of data. Raises InfcError (exit 2) that names the file, the line or array, and what would fit."""
    if imported.embed is not None:
        return Rows(tuple(_tokenized(_texts(data), imported)))
    if data.kind == "npz":
        return _from_npz(data, imported)
    if data.kind == "csv":
        return _from_csv(data, imported)
    raise InfcError(f"{data.written}: a model of tensors takes its rows from npz or csv data, not {data.kind}")


def _texts(data: DataSet) -> list[str]:
    if data.kind != "jsonl" or data.field is None:
        raise InfcError(f"{data.written}: a model of texts takes its rows from jsonl data with a field")
    texts: list[str] = []
    with Path(data.path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or (data.rows is not None and len(texts) >= data.rows):
                continue
            try:
                item: object = json.loads(line)
            except ValueError as error:
                raise InfcError(f"{data.written}:{number} is no JSON: {error}") from None
            text = cast(dict[str, object], item).get(data.field) if isinstance(item, dict) else None
            if not isinstance(text, str):
                raise InfcError(f"{data.written}:{number} has no text under {data.field!r}")
            texts.append(text)
    if not texts:
        raise InfcError(f"{data.written} has no rows")
    return texts


def _tokenized(texts: list[str], imported: Imported) -> list[dict[str, Array]]:
    embed = imported.embed
    assert embed is not None
    tokenizer = require("tokenizers").Tokenizer.from_file(str(embed.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if embed.overflow == "truncate":
        tokenizer.enable_truncation(embed.limit)
    names = [n.op.input for n in imported.graph.inputs if isinstance(n.op, Input)]
    found: list[dict[str, Array]] = []
    for number, text in enumerate(texts, 1):
        encoded = tokenizer.encode(embed.prompt + text)
        if len(encoded.ids) > embed.limit:
            raise InfcError(
                f"text {number} has {len(encoded.ids)} tokens, and the limit is {embed.limit}",
                hint="leave it out of the data, or write `truncate` behind the input",
            )
        columns = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        found.append({name: np.asarray([columns[name]], np.int64) for name in names if name in columns})
    return found


def _from_npz(data: DataSet, imported: Imported) -> Rows:
    with np.load(data.path, allow_pickle=False) as arrays:
        table: dict[str, Array] = {name: arrays[name] for name in arrays.files}
    inputs = [n.op for n in imported.graph.inputs if isinstance(n.op, Input)]
    for op in inputs:
        if op.input not in table:
            raise InfcError(f"{data.written} has no array {op.input!r}; it has {', '.join(table) or 'none'}")
    count = min(len(table[op.input]) for op in inputs)
    count = min(count, data.rows) if data.rows is not None else count
    requests = tuple(
        {op.input: table[op.input][i : i + 1].astype(numpy_dtype(op.type.dtype)) for op in inputs} for i in range(count)
    )
    label = data.label or "label"
    return Rows(requests, table[label][:count] if label in table else None)


def _from_csv(data: DataSet, imported: Imported) -> Rows:
    inputs = [n.op for n in imported.graph.inputs if isinstance(n.op, Input)]
    if len(inputs) != 1 or inputs[0].type.rank != 2:
        raise InfcError(f"{data.written}: csv rows fit a model with one input of shape [batch, columns]")
    width = inputs[0].type.shape[1]
    requests: list[dict[str, Array]] = []
    labels: list[str] = []
    with Path(data.path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or ())
        columns = list(data.columns) or [c for c in header if c != data.label]
        absent = [c for c in (*columns, *([data.label] if data.label else [])) if c not in header]
        if absent:
            raise InfcError(f"{data.written} has no column {absent[0]!r}; it has {', '.join(header)}")
        if len(columns) != width:
            raise InfcError(f"{data.written} gives {len(columns)} columns, and input {inputs[0].input!r} takes {width}")
        for row in reader:
            if data.rows is not None and len(requests) >= data.rows:
                break
            try:
                values = [float(row[c]) for c in columns]
            except (TypeError, ValueError):
                raise InfcError(f"{data.written}:{reader.line_num} has a value that is no number") from None
            requests.append({inputs[0].input: np.asarray([values], numpy_dtype(inputs[0].type.dtype))})
            labels += [row[data.label]] if data.label else []
    return Rows(tuple(requests), np.asarray([float(x) for x in labels]) if labels else None)
