"""Accuracy of two bundles on the same rows of `evaluate`: what changed, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import AccuracyTarget, Model
from ...runtime import InferError, load
from ..errors import InfcError
from ..frontends import Imported
from ..measure.accuracy import AGREEMENT, per_token
from ..measure.rows import Rows, read_rows
from ..measure.text_rows import read_labels
from ..statistics.metrics import (
    auc,
    class_labels,
    f1,
    label_top_k_rows,
    max_abs_error_rows,
    mse_rows,
    precision,
    predicted,
    ranking_scores,
    recall,
)
from ..statistics.paired import (
    GROUPS,
    border_test,
    differences_without,
    half_width,
    left_out_test,
    log_probabilities,
    margins,
    mean_test,
    sign_test,
)
from .answers import metric_of
from .baseline_ops import Sides
from .comparison import Change, too_few
from .custom_metric import ask_metric

Array = NDArray[Any]
Floats = NDArray[np.float64]
Answers = Sequence[Mapping[str, Array]]
ROUNDING = 1e-4
"""A share that falls by less, or an error that rises by less than this share of the values' size, is rounding."""
SHARES = ("cosine", "top1", "top5", "auc", "f1", "precision", "recall")
HALF_ALPHA = 0.0005
"""The level of the interval that is shown of a mean; the claim itself is taken at its share of all."""
RESAMPLES_ALPHA = 0.01
"""What a metric of the user's own is asked for beside all rows and those without a group: as little as it takes."""


def accuracy(sides: Sides, model: Model, imported: Imported, targets: Sequence[AccuracyTarget]) -> list[Change]:
    """Each metric of the targets, of each output. Raises InfcError (exit 2) where one of the two does not take a row."""
    data = model.data.evaluate
    if data is None:
        return []
    rows = read_rows(data, model, imported)
    if rows.labels is None and imported.text is not None:
        rows = Rows(rows.requests, read_labels(data, imported.text.labels))
    new = _answers(sides.new, rows, sides.threads, f"{data.written}: the new bundle")
    old = _answers(sides.old, rows, sides.threads, f"{data.written}: the baseline")
    distinct = list({metric_of(t): t for t in targets}.values())
    if equal(new, old):
        return [_equal(t, len(rows.requests)) for t in distinct]
    want: Answers = ()
    if any(t.versus == "float32" for t in distinct):
        want = [imported.reference(request) for request in rows.requests]
    names = [name for name, _ in imported.graph.outputs]
    found: list[Change] = []
    for target in distinct:
        if target.metric_path is not None:
            found.append(custom(target, new, old, rows))
        elif target.versus == "labels":
            if rows.labels is None:
                raise InfcError(f"accuracy {target.metric} vs labels needs labels in {data.written}")
            found.append(against_labels(target, stacked(new, names[0]), stacked(old, names[0]), rows.labels))
        else:
            by_token = per_token(imported.graph)
            for name in names:
                what = _what(target) + (f", {name}" if len(names) > 1 else "")
                parts = [_sub_rows(side, name, name in by_token) for side in (new, old, want)]
                found.append(against_reference(target, what, *parts))
    return found


def equal(new: Answers, old: Answers) -> bool:
    """Whether all answers are the same bits."""
    return all(
        a.keys() == b.keys() and all(a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a)
        for a, b in zip(new, old, strict=True)
    )


def _equal(target: AccuracyTarget, rows: int) -> Change:
    none = math.nan
    return Change(_what(target), none, none, 0, 0, 0, (), rows, note=f"equal answers on {rows:,} rows", equal=True)


def _what(target: AccuracyTarget) -> str:
    if target.metric_path is not None:
        return f"accuracy {Path(target.metric_path).name}:{target.metric_entry}"
    return f"accuracy {target.metric} vs {target.versus}"


def _answers(bundle: Path, rows: Rows, threads: int, who: str) -> list[dict[str, Array]]:
    try:
        with load(bundle, threads=threads) as loaded:
            return [loaded.run(request) for request in rows.requests]
    except InferError as error:
        raise InfcError(f"{who} does not take a row: {error.message}") from None


def stacked(answers: Answers, name: str) -> Array:
    """One output of all rows, [rows, columns]."""
    return np.concatenate([answer[name].reshape(1, -1) for answer in answers])


def _sub_rows(answers: Answers, name: str, by_token: bool) -> list[Array]:
    """Each request's answer as rows: its tokens, or the one row that it is."""
    return [a[name].reshape(-1, a[name].shape[-1]) if by_token else a[name].reshape(1, -1) for a in answers]


def against_reference(
    target: AccuracyTarget, what: str, new: Sequence[Array], old: Sequence[Array], want: Sequence[Array]
) -> Change:
    """Agreement with the source, [tokens, columns] a row, or one. Of a best class also how far all classes' probabilities
    moved, which says more than the few rows in which another one came out best."""
    each = AGREEMENT[target.metric]
    over = np.max if target.metric == "max_abs_error" else np.mean
    a, b = (
        np.array([float(over(each(x, y))) if len(x) else math.nan for x, y in zip(side, want, strict=True)])
        for side in (new, old)
    )
    kept = ~(np.isnan(a) & np.isnan(b))  # rows without a token
    a, b = a[kept], b[kept]
    share = target.metric in SHARES
    floor = ROUNDING if share else _size(np.concatenate([w.reshape(-1) for w in want]), target.metric)
    tests = [mean_test(b - a if share else a - b)]
    if target.metric in ("top1", "top5") and all(len(part) == 1 for part in want):
        ours, theirs, wanted = (np.concatenate(list(side)).astype(np.float64) for side in (new, old, want))
        tests = [_of_hits(a, b), _moved(_divergence(wanted, ours), _divergence(wanted, theirs))]
    note = f"{len(a):,} rows"
    if target.metric == "max_abs_error":
        note = f"the mean of {len(a):,} rows' largest errors"
    return change(what, a, b, share, floor, tests, note)


def against_labels(target: AccuracyTarget, new: Array, old: Array, labels: Array) -> Change:
    """Quality, of scores [rows, columns]. Of a best class also how near rows are to the border, which says more
    than the few that crossed it."""
    what, metric = _what(target), target.metric
    try:
        if metric in ("top1", "top5"):
            a, b = (label_top_k_rows(side, labels, int(metric[3:])).astype(np.float64) for side in (new, old))
            classes = class_labels(labels, new.shape[1])
            ours, theirs = (margins(side.astype(np.float64), classes, int(metric[3:])) for side in (new, old))
            tests = [_of_hits(a, b), border_test(ours, theirs)]
            return change(what, a, b, True, ROUNDING, tests, f"{len(new):,} rows")
        if metric in ("mse", "max_abs_error"):
            each = mse_rows if metric == "mse" else max_abs_error_rows
            a, b = each(new, labels), each(old, labels)
            floor = _size(np.asarray(labels, np.float64), metric)
            note = f"{len(new):,} rows" if metric == "mse" else f"the mean of {len(new):,} rows' largest errors"
            return change(what, a, b, False, floor, [mean_test(a - b)], note)
        ours, theirs = _of_set(metric, new, labels), _of_set(metric, old, labels)
        value, without = differences_without(ours, theirs, len(new), -1.0)
        p, whole = left_out_test(value, without), np.arange(len(new))
        return _change_of_set(what, ours(whole), theirs(whole), True, p, len(new), min(len(new), GROUPS))
    except ValueError as error:
        return Change(what, math.nan, math.nan, math.nan, math.nan, 0, (1.0,), len(new), unknown=str(error))


def _of_set(metric: str, scores: Array, labels: Array) -> Callable[[NDArray[np.intp]], float]:
    """A metric of a set of rows. Raises ValueError where labels are no classes."""
    classes = class_labels(labels, scores.shape[1])
    if metric == "auc":
        ranking = ranking_scores(scores.astype(np.float64))
        return lambda rows: auc(ranking[rows], classes[rows])
    of = {"f1": f1, "precision": precision, "recall": recall}[metric]
    found = predicted(scores)
    return lambda rows: of(found[rows], classes[rows], scores.shape[1])


def custom(target: AccuracyTarget, new: Answers, old: Answers, rows: Rows) -> Change:
    """The user's metric: of all rows, and without each group of them, in the order in which its process asks for them."""
    replies = [ask_metric(target, side, rows.labels, RESAMPLES_ALPHA) for side in (new, old)]
    share = target.op == ">="
    count = len(rows.requests)
    groups = min(count, GROUPS)
    problem = next((r.problem for r in replies if len(r.values) < groups + 1), "")
    a, b = (r.values[0] for r in replies)
    sign = -1.0 if share else 1.0
    without = [sign * (x - y) for x, y in zip(*(r.values[1 : groups + 1] for r in replies), strict=False)]
    p = 1.0 if problem else left_out_test(sign * (a - b), without)
    return _change_of_set(_what(target), a, b, share, p, count, groups, problem)


def _change_of_set(
    what: str, new: float, old: float, share: bool, p: float, rows: int, groups: int, problem: str = ""
) -> Change:
    """A statistic of all rows. One that tends to 1 is compared by what it lacks; one that only grows, by its inverse."""
    ones = share and max(new, old) <= 1
    if share and not ones:
        errors = [1 / value if value > 0 else math.inf for value in (new, old)]
    else:
        errors = [1 - new, 1 - old] if ones else [new, old]
    floor = ROUNDING if ones else ROUNDING * abs(errors[1])
    unknown = problem or too_few(groups) or ("" if math.isfinite(new - old) else "it is undefined on these rows")
    return Change(what, new, old, errors[0], errors[1], floor, (p,), rows, note=f"{rows:,} rows", unknown=unknown)


def change(what: str, new: Floats, old: Floats, share: bool, floor: float, tests: Sequence[float], note: str) -> Change:
    """Scores of rows, [rows]: their means, and the tests of what was seen."""
    a, b = float(np.mean(new)), float(np.mean(old))
    errors = (1 - a, 1 - b) if share else (a, b)
    rise = old - new if share else new - old
    unknown = too_few(len(new)) or ("" if np.all(np.isfinite(rise)) else "it is undefined on these rows")
    lost, gained = int(np.count_nonzero(rise > 0)), int(np.count_nonzero(rise < 0))
    if set(np.unique(np.concatenate([new, old]))) <= {0.0, 1.0}:
        note += f", {lost} lost and {gained} gained (p = {tests[0]:.2g}"
        note += f", of all rows' scores {tests[1]:.2g})" if len(tests) > 1 else ")"
        unknown = ""
    half = half_width(rise, HALF_ALPHA)
    return Change(
        what, a, b, *errors, floor, tuple(tests), len(new), (half,) if math.isfinite(half) else (), note, unknown
    )  # fmt: skip


def _of_hits(new: Floats, old: Floats) -> float:
    return sign_test(int(np.count_nonzero(old > new)), int(np.count_nonzero(new > old)))


def _moved(new: Floats, old: Floats) -> float:
    """The test of divergences [rows], where they rose by more than rounding: they go with the square of what scores moved by."""
    rise = new - old
    return mean_test(rise) if float(np.mean(rise)) > ROUNDING**2 else 1.0


def _divergence(want: Floats, got: Floats) -> Floats:
    """Kullback and Leibler's divergence of the answers' classes from the reference's, [rows]."""
    one, other = log_probabilities(want), log_probabilities(got)
    return np.sum(np.exp(one) * (one - other), axis=1)


def _size(values: Array, metric: str) -> float:
    """The rise of an error that is rounding, of values so large."""
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    if not finite.size:
        return 0.0
    return ROUNDING**2 * float(np.mean(finite**2)) if metric == "mse" else ROUNDING * float(finite.max())
