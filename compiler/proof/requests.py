"""The rows of `data { evaluate }` as the load sends them: native requests of one row, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...dsl.spec import Model
from ..frontends import Imported
from ..measure.rows import read_rows
from ..measure.text_rows import read_texts

MOST_BYTES = 256 << 20
"""Of requests that are made from the rows; the load goes round those that it has."""


def write_requests(model: Model, imported: Imported, path: Path) -> bool:
    """Writes the rows to path; False where the spec has no `evaluate`, and requests are generated."""
    if model.data.evaluate is None:
        return False
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(model, imported):
            line = json.dumps(row, ensure_ascii=False) + "\n"
            size += len(line)
            if size > MOST_BYTES and file.tell():
                break
            file.write(line)
    return True


def _rows(model: Model, imported: Imported) -> Iterator[dict[str, object]]:
    data = model.data.evaluate
    assert data is not None
    if imported.text is not None:
        for texts in read_texts(data, imported.text.texts):
            yield dict(zip(imported.text.texts, texts, strict=True))
        return
    for request in read_rows(data, model, imported).requests:
        if all(np.isfinite(array).all() for array in request.values() if array.dtype.kind == "f"):
            yield {name: array.tolist() for name, array in request.items()}
