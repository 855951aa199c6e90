"""`calibrate` and `evaluate` may not overlap: what a model was tuned on says nothing about how good it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from .diagnostics import Label
from .making import Making
from .spec import DataSet, Model, Spec

LARGEST = 8 << 20
"""Files above this many bytes are left to `build`, which reads them anyway."""


def check_overlap(making: Making, spec: Spec, on_disk: bool) -> None:
    """Reports the same file or the same rows in both data sets of a model."""
    for model in spec.models:
        calibrate, evaluate = model.data.calibrate, model.data.evaluate
        if calibrate is None or evaluate is None:
            continue
        if _same_file(calibrate.path, evaluate.path):
            _report(making, model, "calibrate and evaluate read the same file")
        elif on_disk:
            shared = _shared_rows(calibrate, evaluate)
            if shared:
                rows = "1 row" if shared == 1 else f"{shared} rows"
                _report(making, model, f"calibrate and evaluate share {rows}")


def _report(making: Making, model: Model, title: str) -> None:
    calibrate, evaluate = model.data.calibrate, model.data.evaluate
    assert calibrate is not None
    assert evaluate is not None
    other = calibrate.at("path")
    making.error(
        "E0514", title, evaluate.at("path"), "expected other rows", ("keep the rows of `evaluate` out of `calibrate`",),
        () if other is None else (Label(other, "calibrate"),),
    )  # fmt: skip


def _same_file(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _shared_rows(calibrate: DataSet, evaluate: DataSet) -> int:
    first = set(_rows(calibrate))
    return sum(1 for row in dict.fromkeys(_rows(evaluate)) if row in first) if first else 0


def _rows(data: DataSet) -> Iterator[str]:
    """The rows of a small text file: of jsonl the field's value, of csv the line. Nothing for other kinds."""
    if data.kind not in ("jsonl", "csv"):
        return
    try:
        if os.path.getsize(data.path) > LARGEST:
            return
        with open(data.path, encoding="utf-8") as file:
            if data.kind == "csv":
                next(file, None)
            for line in file:
                if line.strip():
                    yield line.strip() if data.kind == "csv" or data.field is None else _field(line, data.field)
    except (OSError, UnicodeDecodeError):
        return


def _field(line: str, name: str) -> str:
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError):
        return line.strip()
    return json.dumps(row.get(name), sort_keys=True) if isinstance(row, dict) else line.strip()  # pyright: ignore
