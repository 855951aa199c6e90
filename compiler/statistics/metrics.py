"""Scores of answers: a row at a time against the reference or a label, or of a whole set against labels.

Answers are arrays [rows, ...], flattened to [rows, columns] and taken as float64. A classifier's row is one score (that of
the positive class), or one a class. Labels are whole numbers, [rows] or [rows, 1]. Definitions are scikit-learn's; what
those leave undefined is a ValueError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Labels = NDArray[np.intp]


def cosine_rows(got: Array, want: Array) -> Floats:
    """Each row's cosine with the reference's, [rows]; 1 where either has no direction and both are equal, else 0."""
    a, b = _pair(got, want)
    norms: Floats = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Floats = np.all(a == b, axis=1).astype(np.float64)
    return np.divide(np.sum(a * b, axis=1), norms, out=found, where=norms > 0)


def mse_rows(got: Array, want: Array) -> Floats:
    """Each row's mean squared difference, [rows]; their mean is scikit-learn's mean_squared_error."""
    a, b = _pair(got, want)
    return np.mean((a - b) ** 2, axis=1)


def max_abs_error_rows(got: Array, want: Array) -> Floats:
    """Each row's largest absolute difference, [rows]."""
    a, b = _pair(got, want)
    return np.max(np.abs(a - b), axis=1)


def top_k_rows(got: Array, want: Array, k: int) -> NDArray[np.bool_]:
    """Whether the reference's largest value stands among the k largest of the row, [rows]; ties as in label_top_k_rows."""
    a, b = _pair(got, want)
    return _among_largest(a, _largest(b), k)


def label_top_k_rows(got: Array, labels: Array, k: int) -> NDArray[np.bool_]:
    """Whether the label is among the k largest of the row, [rows]: top_k_accuracy_score is their mean.

    Of equal scores that of the later class counts as the larger, as there. Rows of one score: whether the label is the
    class of `predicted`.
    """
    scores, classes = _with_labels(got, labels)
    if scores.shape[1] == 1:
        return (predicted(got) == classes) if k == 1 else np.ones(len(scores), dtype=np.bool_)
    return _among_largest(scores, classes, k)


def predicted(got: Array) -> Labels:
    """The class of each row, [rows]: the first largest of several scores.

    Of one score, 1 where it is over the threshold: 0.5, or 0 where scores beyond 0 and 1 show that they are logits (the
    rule of top_k_accuracy_score). Ask once for a set of rows, not for each resample of it.
    """
    scores = _rows(got)
    if scores.shape[1] > 1:
        return np.argmax(scores, axis=1)
    threshold = 0.5 if scores.size == 0 or (scores.min() >= 0 and scores.max() <= 1) else 0.0
    return (scores[:, 0] > threshold).astype(np.intp)


def precision(classes: Labels, labels: Array, columns: int) -> float:
    """precision_score of predicted classes [rows]; `columns` scores a row: of one or two, that of class 1, else the mean
    over the classes that occur (average="macro"). 0 for a class that was never predicted."""
    hits, found, actual = _counts(classes, labels, columns)
    del actual
    return float(np.mean(_ratio(hits, found)))


def recall(classes: Labels, labels: Array, columns: int) -> float:
    """recall_score, as `precision`. 0 for a class that no label names."""
    hits, _, actual = _counts(classes, labels, columns)
    return float(np.mean(_ratio(hits, actual)))


def f1(classes: Labels, labels: Array, columns: int) -> float:
    """f1_score, as `precision`. 0 for a class that is never right."""
    hits, found, actual = _counts(classes, labels, columns)
    return float(np.mean(_ratio(2 * hits, found + actual)))


def ranking_scores(got: Array) -> Floats:
    """Scores whose order over rows is that of each class's probability, [rows, columns], for `auc`.

    Rows that are all probabilities (not negative, of sum 1 within 1 %, which bfloat16 needs) stay; other rows of several
    scores are logits, and become log(p / (1 - p)) of their softmax, which does not saturate. One score stays as it is.
    """
    scores = _rows(got)
    if scores.shape[1] == 1 or (scores.min() >= 0 and bool(np.all(np.abs(scores.sum(axis=1) - 1) <= 0.01))):
        return scores
    rows = np.arange(len(scores))
    first = np.argmax(scores, axis=1)
    shifted = np.exp(scores - scores[rows, first][:, None])
    rest = scores.copy()
    rest[rows, first] = -np.inf
    others = np.sum(shifted, axis=1, keepdims=True) - shifted
    with np.errstate(divide="ignore"):
        odds = scores - (scores[rows, first][:, None] + np.log(others))
    second = rest.max(axis=1, keepdims=True)
    odds[rows, first] = scores[rows, first] - (second + np.log(np.exp(rest - second).sum(axis=1, keepdims=True)))[:, 0]
    return odds


def auc(ranking: Floats, labels: Array) -> float:
    """roc_auc_score of `ranking_scores`, [rows, columns]: of one or two columns that of class 1 (the last), else the mean of
    each class against all others (multi_class="ovr", average="macro").

    The share of pairs, one row of the class and one of another, in the right order, ties half (Mann and Whitney 1947).
    Raises ValueError where a class, or its others, have no row.
    """
    scores, classes = _with_labels(ranking, labels)
    wanted = [1] if scores.shape[1] <= 2 else range(scores.shape[1])
    return float(np.mean([_auc(scores[:, min(c, scores.shape[1] - 1)], classes == c, c) for c in wanted]))


def label_mse(got: Array, labels: Array) -> float:
    """mean_squared_error of one value a row."""
    return float(np.mean(mse_rows(got, labels)))


def class_labels(labels: Array, columns: int) -> Labels:
    """Labels as class numbers [rows]. Raises ValueError where one is no whole number, or no class of `columns` scores."""
    flat = np.asarray(labels).reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise ValueError(f"labels have {flat.shape[1]} values a row; a class has one")
    classes = flat[:, 0].astype(np.intp)
    if np.any(classes != flat[:, 0]):
        raise ValueError("labels are not whole numbers, so they name no classes")
    least, most = int(classes.min(initial=0)), int(classes.max(initial=0))
    if least < 0 or most >= max(columns, 2):
        raise ValueError(f"label {least if least < 0 else most} is none of {max(columns, 2)} classes")
    return classes


def _auc(scores: Floats, chosen: NDArray[np.bool_], which: int) -> float:
    inside, outside = scores[chosen], np.sort(scores[~chosen])
    if not len(inside) or not len(outside):
        raise ValueError(f"auc of class {which} is undefined: {len(inside)} rows have it and {len(outside)} do not")
    below, upto = np.searchsorted(outside, inside, "left"), np.searchsorted(outside, inside, "right")
    return float(np.mean(below + upto)) / (2 * len(outside))


def _counts(classes: Labels, labels: Array, columns: int) -> tuple[Floats, Floats, Floats]:
    """Rows rightly predicted, predicted, and labelled, [classes that count]."""
    actual = class_labels(labels, columns)
    count = max(columns, 2)
    hits = np.bincount(actual[actual == classes], minlength=count)
    found, wanted = np.bincount(classes, minlength=count), np.bincount(actual, minlength=count)
    chosen = np.array([1]) if columns <= 2 else np.flatnonzero(found + wanted)
    return hits[chosen].astype(np.float64), found[chosen].astype(np.float64), wanted[chosen].astype(np.float64)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return top / np.where(bottom > 0, bottom, 1.0)


def _among_largest(scores: Floats, classes: Labels, k: int) -> NDArray[np.bool_]:
    own = scores[np.arange(len(scores)), classes][:, None]
    columns: Labels = np.arange(scores.shape[1], dtype=np.intp)
    ahead: NDArray[np.bool_] = (scores > own) | ((scores == own) & (columns[None, :] > classes[:, None]))
    return np.sum(ahead, axis=1) < k


def _largest(scores: Floats) -> Labels:
    """The last of the largest, which is the first by the order of `_among_largest`."""
    return scores.shape[1] - 1 - np.argmax(scores[:, ::-1], axis=1)


def _rows(values: Array) -> Floats:
    rows = np.asarray(values).reshape(len(values), -1).astype(np.float64)
    if not rows.shape[1]:
        raise ValueError("rows have no values")
    return rows


def _pair(got: Array, want: Array) -> tuple[Floats, Floats]:
    a, b = _rows(got), _rows(want)
    if a.shape != b.shape:
        raise ValueError(f"answers are {np.shape(got)} and what they are compared with is {np.shape(want)}")
    return a, b


def _with_labels(got: Array, labels: Array) -> tuple[Floats, Labels]:
    scores = _rows(got)
    if len(labels) != len(scores):
        raise ValueError(f"{len(scores)} rows have {len(labels)} labels")
    return scores, class_labels(labels, scores.shape[1])
