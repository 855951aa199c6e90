"""Metrics against scikit-learn, and what they refuse."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.statistics import metrics

Floats = NDArray[np.float64]
RNG = np.random.default_rng(7)
sk: Any = import_module("sklearn.metrics")
MANY = [1, 2, 3, 7]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def case(columns: int, seed: int, coarse: bool = False) -> tuple[Floats, NDArray[np.intp]]:
    """Probabilities [200, columns] that know something of the labels [200]; coarse ones have many ties."""
    rng = np.random.default_rng([columns, seed])
    labels = rng.integers(0, max(columns, 2), 200)
    scores = rng.standard_normal((200, max(columns, 2)))
    scores[np.arange(200), labels] += 1
    rows = softmax(scores)
    rows = np.round(rows * 4) / 4 if coarse else rows
    return (rows[:, 1:] if columns == 1 else rows), labels


@pytest.mark.parametrize("columns", MANY)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_classes_score_as_in_scikit_learn(columns: int, seed: int, name: str) -> None:
    rows, labels = case(columns, seed)
    classes = metrics.predicted(rows)
    ours = {"f1": metrics.f1, "precision": metrics.precision, "recall": metrics.recall}[name]
    average = "binary" if columns <= 2 else "macro"
    assert ours(classes, labels, columns) == pytest.approx(
        getattr(sk, f"{name}_score")(labels, classes, average=average)
    )


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
@pytest.mark.parametrize(
    ("classes", "labels", "columns"), [([0, 0], [0, 0], 2), ([0, 0], [1, 1], 1), ([2, 2, 0], [1, 1, 0], 9)]
)
def test_what_is_divided_by_nothing_is_0_as_in_scikit_learn(
    name: str, classes: list[int], labels: list[int], columns: int
) -> None:
    ours = {"f1": metrics.f1, "precision": metrics.precision, "recall": metrics.recall}[name]
    average = "binary" if columns <= 2 else "macro"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(sk, f"{name}_score")(labels, classes, average=average)
    assert ours(np.array(classes), np.array(labels), columns) == pytest.approx(theirs)


@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("columns", MANY)
@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learns(columns: int, seed: int, coarse: bool) -> None:
    rows, labels = case(columns, seed, coarse and columns <= 2)  # theirs asks for rows of sum 1
    ours = metrics.auc(metrics.ranking_scores(rows), labels)
    theirs = sk.roc_auc_score(labels, rows[:, -1] if columns <= 2 else rows, multi_class="ovr")
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("columns", [2, 3, 7])
def test_auc_of_logits_is_that_of_their_softmax(columns: int) -> None:
    _, labels = case(columns, 0)
    logits = RNG.standard_normal((200, columns)) * 3
    rows = softmax(logits)
    theirs = sk.roc_auc_score(labels, rows[:, -1] if columns <= 2 else rows, multi_class="ovr")
    assert metrics.auc(metrics.ranking_scores(logits), labels) == pytest.approx(theirs)


def test_logits_whose_softmax_is_1_still_have_an_order() -> None:
    logits = np.array([[0.0, 100.0], [0.0, 200.0], [0.0, 300.0], [0.0, 400.0]])
    assert metrics.auc(metrics.ranking_scores(logits), np.array([0, 0, 1, 1])) == 1


def test_probabilities_in_low_precision_are_taken_as_they_are() -> None:
    rows, _ = case(3, 0)
    rounded = rows.astype(np.float16).astype(np.float64) * 1.002
    assert np.array_equal(metrics.ranking_scores(rounded), rounded)


@pytest.mark.parametrize("coarse", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("columns", [3, 7])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_scikit_learns(columns: int, k: int, coarse: bool) -> None:
    rows, labels = case(columns, 1, coarse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.top_k_accuracy_score(labels, rows, k=k, labels=np.arange(columns))
    assert metrics.label_top_k_rows(rows, labels, k).mean() == pytest.approx(theirs)


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_top_k_of_one_score_is_scikit_learns(logits: bool, k: int) -> None:
    rows, labels = case(1, 2)
    rows = np.log(rows / (1 - rows)) if logits else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.top_k_accuracy_score(labels, rows[:, 0], k=k)
    assert metrics.label_top_k_rows(rows, labels, k).mean() == pytest.approx(theirs)


def test_mse_is_scikit_learns() -> None:
    a, b = RNG.standard_normal((2, 50, 3, 4))
    assert metrics.mse_rows(a, b).mean() == pytest.approx(sk.mean_squared_error(a.reshape(50, -1), b.reshape(50, -1)))
    assert metrics.label_mse(a[:, 0, 0], b[:, 0, 0]) == pytest.approx(sk.mean_squared_error(a[:, 0, 0], b[:, 0, 0]))


def test_rows_are_compared_one_by_one() -> None:
    got, want = (
        np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]),
        np.array([[6.0, 8.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
    )
    assert metrics.cosine_rows(got, want) == pytest.approx([1, 1, 0, 0])
    assert metrics.max_abs_error_rows(got, want) == pytest.approx([4, 0, 1, 2])
    assert metrics.mse_rows(got, want) == pytest.approx([12.5, 0, 0.5, 2.5])
    assert metrics.top_k_rows(got, want, 1).tolist() == [True, True, False, False]
    assert metrics.top_k_rows(got, want, 2).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "label 3 is none of 3"),
        ([0, -1], "label -1 is none of 3"),
        ([0, 0.5], "no classes"),
        ([0], "2 rows have 1"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.label_top_k_rows(np.zeros((2, 3)), np.array(labels), 1)


def test_auc_without_one_of_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="class 1 is undefined: 0 rows have it"):
        metrics.auc(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(ValueError, match="class 2 is undefined: 0 rows have it"):
        metrics.auc(np.zeros((4, 3)), np.array([0, 1, 0, 1]))


def test_answers_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="compared with"):
        metrics.cosine_rows(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="no values"):
        metrics.predicted(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="3 values a row"):
        metrics.class_labels(np.zeros((2, 3)), 3)
