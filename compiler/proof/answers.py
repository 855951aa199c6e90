"""Scores of a bundle's answers on the `evaluate` rows: what accuracy is judged from, a document that holds no row."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from ...dsl.spec import AccuracyTarget, Model
from ...runtime import load
from ..bundle.manifest import Manifest
from ..errors import Exit, InfcError
from ..frontends import Imported
from ..measure.accuracy import AGREEMENT, per_token
from ..measure.rows import Rows, read_rows
from ..measure.text_rows import read_labels
from ..statistics.metrics import label_top_k_rows, max_abs_error_rows, mse_rows
from .custom_metric import ask_metric
from .document import Record

Array = NDArray[Any]
MOST_VALUES = 1 << 28


class Scores(Record):
    """One metric's values, little endian float64 [rows, columns], compressed. `rows`: a score a row; `classes`: what the model
    said of each row, for metrics of the whole set; `replies`: what the user's function gave, in the order of its calls.
    `single`: a row has one answer (a token's is one of several)."""

    metric: str
    versus: str
    output: str
    kind: Literal["rows", "classes", "replies"]
    rows: int = Field(ge=0, le=MOST_VALUES)
    columns: int = Field(ge=1, le=MOST_VALUES)
    single: bool
    values: str
    problem: str = ""

    @cached_property
    def array(self) -> Array:
        """Values [rows, columns]. Raises ValueError."""
        return unpack(self.values, self.rows * self.columns).reshape(self.rows, self.columns)


class Answers(Record):
    """The scores of one bundle on one data set. `subject`: a digest of model, weights, tokenizer and instruction set."""

    schema_: Literal["infc.accuracy/1"] = Field(alias="schema")
    utc: str
    subject: str
    isa: str
    data: str
    rows: int
    labels: str
    scores: list[Scores]

    @cached_property
    def label_array(self) -> Array | None:
        """Labels [rows]; None where the data has none."""
        return unpack(self.labels, self.rows) if self.labels else None


def pack(values: Array) -> str:
    """Numbers as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, "<f8").tobytes(), 6)).decode()


def unpack(text: str, count: int) -> Array:
    """`count` numbers from text. Raises ValueError."""
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 8 * count + 1)
    if len(raw) != 8 * count:
        raise ValueError(f"{count} values take {8 * count} bytes, and there are {len(raw)}")
    return np.frombuffer(raw, "<f8")


_ANSWERS = TypeAdapter(Answers)


def read_answers(data: bytes, where: str | Path) -> Answers:
    """Raises InfcError (exit 7) that says what is wrong with the document."""
    try:
        answers = _ANSWERS.validate_json(data, strict=True)
        _ = answers.label_array
        for scores in answers.scores:
            _ = scores.array
        return answers
    except (ValidationError, ValueError, zlib.error, RecursionError) as error:
        said = str(error).splitlines()[0]
        raise InfcError(f"{where} is no evidence of accuracy: {said}", exit_code=Exit.DAMAGED) from None


def answers_subject(manifest: Manifest) -> str:
    """What evidence of accuracy is of: everything that answers are computed from."""
    parts = {f.path: f.sha256 for f in manifest.files if f.path.startswith("models/")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def wanted_of(targets: Sequence[AccuracyTarget]) -> list[tuple[str, str]]:
    """The metrics that targets need: name (of the user's own, its file and function) and what it is taken against."""
    return sorted({metric_of(target) for target in targets})


def metric_of(target: AccuracyTarget) -> tuple[str, str]:
    """A target's metric as the document names it."""
    if target.metric_path is not None:
        return f"metric:{Path(target.metric_path).name}:{target.metric_entry}", ""
    return target.metric, target.versus or ""


def measure_answers(
    model: Model,
    imported: Imported,
    bundle: Path,
    targets: Sequence[AccuracyTarget],
    threads: int,
    alpha: float,
    head: Mapping[str, str],
) -> Answers:
    """Runs the bundle (and, where a target needs it, the reference) over `evaluate`. `alpha`: the level of the
    bounds on a metric of the user's own; `head`: utc, subject, isa and data of the document.

    Raises InfcError (exit 2) where data or labels are missing or do not fit.
    """
    data = model.data.evaluate
    if data is None:
        raise InfcError("an accuracy target needs `data { evaluate ... }`")
    rows = read_rows(data, model, imported)
    if rows.labels is None and imported.text is not None:
        rows = Rows(rows.requests, read_labels(data, imported.text.labels))
    with load(bundle, threads=threads) as loaded:
        got = [loaded.run(request) for request in rows.requests]
    want: list[Mapping[str, Array]] = []
    if any(target.versus == "float32" for target in targets):
        want = [imported.reference(request) for request in rows.requests]
    names = [name for name, _ in imported.graph.outputs]
    by_token = per_token(imported.graph)
    scores: list[Scores] = []
    for target in {metric_of(t): t for t in targets}.values():
        if target.metric_path is not None:
            scores.append(_custom(target, got, rows, alpha))
        elif target.versus == "labels":
            if names[0] in by_token:
                raise InfcError(
                    f"accuracy {target.metric} vs labels is of one answer a row, and output {names[0]!r} has one a token",
                    hint='write `accuracy metric("metric.py:fn") >= …` and compare them there',
                )
            scores.append(_against_labels(target, names[0], got, rows, data.written))
        else:
            scores += [_against_reference(target, name, got, want, name in by_token) for name in names]
    labels = "" if rows.labels is None or rows.labels.ndim != 1 else pack(rows.labels)
    return Answers.model_validate(
        {"schema": "infc.accuracy/1", **head, "rows": len(rows.requests), "labels": labels, "scores": scores}
    )


def _against_reference(
    target: AccuracyTarget,
    name: str,
    got: Sequence[Mapping[str, Array]],
    want: Sequence[Mapping[str, Array]],
    by_token: bool,
) -> Scores:
    rows = AGREEMENT[target.metric]
    pairs = [(_sub_rows(a[name], by_token), _sub_rows(b[name], by_token)) for a, b in zip(got, want, strict=True)]
    each = [np.asarray(rows(a, b), np.float64) for a, b in pairs]
    over = np.max if target.metric == "max_abs_error" else np.mean
    nothing = 0.0 if target.metric in ("mse", "max_abs_error") else 1.0
    values = np.array([float(over(part)) if len(part) else nothing for part in each])
    undefined = [bool(np.isnan(a).any() or np.isnan(b).any()) for a, b in pairs]
    values[undefined] = 0.0 if nothing else np.inf  # as wrong as a row can be
    return _scores(target, name, "rows", values[:, None], all(len(part) == 1 for part in each))


def _sub_rows(array: Array, by_token: bool) -> Array:
    """One request's answer as rows: its tokens, or the one row that it is."""
    return array.reshape(-1, array.shape[-1]) if by_token else array.reshape(1, -1)


def _against_labels(
    target: AccuracyTarget, name: str, got: Sequence[Mapping[str, Array]], rows: Rows, written: str
) -> Scores:
    if rows.labels is None:
        raise InfcError(
            f"accuracy {target.metric} vs labels needs labels in {written}",
            hint='npz: an array `label`; csv: `label = "COLUMN"`; jsonl: a key "label"',
        )
    shapes = {answer[name].shape[1:] for answer in got}
    if len(shapes) != 1:
        raise InfcError(f"accuracy vs labels: rows of output {name!r} have different shapes")
    stacked = np.concatenate([answer[name].reshape(1, -1) for answer in got])
    undefined = np.isnan(stacked).any(axis=1)
    if target.metric == "top5" and stacked.shape[1] <= 5:
        raise InfcError(
            f"accuracy top5 vs labels says nothing of output {name!r}, which has {stacked.shape[1]} values a row"
        )
    try:
        if target.metric in ("top1", "top5"):
            hits = label_top_k_rows(stacked, rows.labels, int(target.metric[3:])) & ~undefined
            return _scores(target, name, "rows", hits.astype(np.float64)[:, None], single=True)
        if target.metric in ("mse", "max_abs_error"):
            each = mse_rows if target.metric == "mse" else max_abs_error_rows
            errors = np.where(undefined, np.inf, each(stacked, rows.labels))
            return _scores(target, name, "rows", errors[:, None], single=True)
    except ValueError as error:
        raise InfcError(f"accuracy {target.metric} vs labels of {written}: {error}") from None
    problem = f"{undefined.sum()} rows have NaN in their answers" if undefined.any() else ""
    return _scores(target, name, "classes", stacked.astype(np.float64), single=True, problem=problem)


def _custom(target: AccuracyTarget, got: Sequence[Mapping[str, Array]], rows: Rows, alpha: float) -> Scores:
    found = ask_metric(target, got, rows.labels, alpha)
    values = np.array(found.values, np.float64)[:, None]
    return _scores(target, "", "replies", values, single=True, problem=found.problem)


def _scores(
    target: AccuracyTarget,
    output: str,
    kind: Literal["rows", "classes", "replies"],
    values: Array,
    single: bool,
    problem: str = "",
) -> Scores:
    metric, versus = metric_of(target)
    return Scores(
        metric=metric, versus=versus, output=output, kind=kind, rows=len(values), columns=values.shape[1], single=single,
        values=pack(values), problem=problem,
    )  # fmt: skip
