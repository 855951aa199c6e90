"""Losses of accuracy that were planted, and differences that are none, on the same rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.measure.rows import Rows
from infc.compiler.proof.baseline_rows import against_labels, against_reference, change, custom, equal
from infc.compiler.proof.comparison import CONFIDENCE, MARGIN, Change, Comparison, judge
from infc.compiler.statistics.paired import border_test, margins
from infc.dsl.spec import AccuracyTarget

from .support import ROWS, clouds

Array = NDArray[Any]
ALPHA = (1 - CONFIDENCE) / 10


def target(metric: str, versus: Any = "labels") -> AccuracyTarget:
    """A target; its bound plays no part."""
    return AccuracyTarget(metric=metric, op=">=", bound=0.5, versus=versus)


def classifier(seed: int, apart: float, noise: float, rows: int = ROWS) -> tuple[Array, Array, Array]:
    """The best classifier of ten normal clouds, the same with noise in its weights (shares of their spread), and the labels:
    new and old logits [rows, 10], labels [rows]."""
    found = clouds(seed, apart, noise, rows)
    new, old = (
        found.x @ weights.T.astype(np.float32) + found.bias.astype(np.float32)
        for weights in (found.damaged, found.weights)
    )
    return new, old, found.labels


def softmax(logits: Array) -> Array:
    powers: Array = np.exp(logits - logits.max(1, keepdims=True))
    sums: Array = powers.sum(1, keepdims=True)
    return powers / sums


def judged(found: Change) -> Comparison:
    return judge(found, ALPHA, MARGIN)


@pytest.mark.parametrize(("apart", "noise", "share"), [(4, 0.2, 0.9), (5, 0.4, 0.95), (6, 0.7, 0.95)])
def test_half_a_percent_of_the_best_class_is_found(apart: float, noise: float, share: float) -> None:
    """Of weights with planted noise those that lose 0.4 to 0.6 % of 2,000 rows."""
    found: list[bool] = []
    for seed in range(50):
        new, old, labels = classifier(seed, apart, noise)
        change_ = against_labels(target("top1"), new, old, labels)
        if 0.004 <= change_.old - change_.new <= 0.006:
            found.append(judged(change_).worse)
    assert len(found) >= 10
    assert np.mean(found) >= share


def test_a_tie_of_two_models_is_rarely_a_loss() -> None:
    """Both have noise of their own: on average neither is better. At a level of 1 % instead of 0.01 %."""
    found = 0
    for seed in range(500):
        _, logits, labels = classifier(seed, 4, 0.0, 400)
        draw = np.random.default_rng(1000 + seed)
        new, old = (logits + 0.3 * draw.normal(size=logits.shape) for _ in range(2))
        found += judge(against_labels(target("top1"), new, old, labels), 0.01, MARGIN).worse
    assert found / 500 <= 0.01 + 3 * math.sqrt(0.01 / 500)


def test_the_level_of_the_border() -> None:
    """Without the loss of rows that `judge` asks for too."""
    found = 0
    for seed in range(1000):
        _, logits, labels = classifier(seed, 4, 0.0, 200)
        draw = np.random.default_rng(5000 + seed)
        one, other = (margins(logits + 0.3 * draw.normal(size=logits.shape), labels, 1) for _ in range(2))
        found += border_test(one, other) <= 0.01
    assert found / 1000 <= 0.01 + 3 * math.sqrt(0.01 / 1000)


def test_probabilities_are_judged_as_their_logits_are() -> None:
    new, old, labels = classifier(1, 4, 0.3)
    assert judged(against_labels(target("top1"), softmax(new), softmax(old), labels)).worse
    assert judged(against_labels(target("top1"), new, old, labels)).worse


def test_a_surer_model_is_no_better_and_no_worse() -> None:
    _, old, labels = classifier(1, 4, 0.3)
    for scale in (0.25, 4.0):
        assert border_test(margins(scale * old.astype(float), labels, 1), margins(old.astype(float), labels, 1)) > 0.01
    assert judged(against_labels(target("top1"), 4 * old, old, labels)).word == "not worse"


def test_a_better_model_is_not_worse() -> None:
    new, old, labels = classifier(2, 4, 0.3)
    found = judged(against_labels(target("top1"), old, new, labels))
    assert found.word == "not worse"
    assert found.ratio is not None
    assert found.ratio < 1


def test_few_rows_that_changed_cannot_be_told() -> None:
    old = np.ones(200)
    new = np.where(np.arange(200) < 4, 0.0, 1.0)
    found = judged(change("accuracy top1 vs labels", new, old, True, 1e-4, [0.0625], "200 rows"))
    assert found.word == "cannot tell"
    assert "chance" in found.note


# ── against the source ───────────────────────────────────────────────────────────────────────────────────────────────


def parts(values: Array) -> list[Array]:
    return [row[None] for row in values]


@pytest.mark.parametrize("metric", ["cosine", "top1", "mse", "max_abs_error"])
def test_rounding_is_no_loss(metric: str) -> None:
    """The other order of additions: ten times the error, and still nothing."""
    draw = np.random.default_rng(4)
    want = draw.normal(size=(ROWS, 16))
    new, old = (want + scale * draw.normal(size=want.shape) for scale in (1e-6, 1e-7))
    found = judged(against_reference(target(metric, "float32"), metric, parts(new), parts(old), parts(want)))
    assert found.word == "not worse"


@pytest.mark.parametrize("metric", ["cosine", "top1", "mse", "max_abs_error"])
def test_weights_with_noise_are_a_loss(metric: str) -> None:
    draw = np.random.default_rng(4)
    want = draw.normal(size=(ROWS, 16))
    new, old = (want + scale * draw.normal(size=want.shape) for scale in (0.1, 1e-7))
    found = judged(against_reference(target(metric, "float32"), metric, parts(new), parts(old), parts(want)))
    assert found.worse, found
    back = judged(against_reference(target(metric, "float32"), metric, parts(old), parts(new), parts(want)))
    assert back.word == "not worse"


def test_a_mean_that_fell_by_half_a_percent_is_a_loss() -> None:
    draw = np.random.default_rng(5)
    old = 1 - draw.gamma(1, 0.001, ROWS)
    new = old - draw.gamma(1, 0.005, ROWS)
    found = judged(against_means(new, old))
    assert found.worse
    assert found.low is not None
    assert found.low > 4


def against_means(new: Array, old: Array) -> Change:
    from infc.compiler.statistics.paired import mean_test

    return change("accuracy cosine vs float32", new, old, True, 1e-4, [mean_test(old - new)], "rows")


def test_a_loss_within_the_margin_is_none() -> None:
    draw = np.random.default_rng(6)
    old = 1 - draw.gamma(1, 0.1, ROWS)
    found = judged(against_means(old - 0.001, old))
    assert found.word == "not worse"


# ── of a whole set ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["auc", "f1", "precision", "recall", "top1", "mse"])
def test_a_metric_of_one_score_a_row(metric: str) -> None:
    draw = np.random.default_rng(7)
    labels = draw.integers(0, 2, 1000)
    old = np.clip(labels * 0.6 + 0.2 + draw.normal(0, 0.15, 1000), 0, 1)[:, None]
    new = np.clip(old + draw.normal(0, 0.4, old.shape), 0, 1)
    assert judged(against_labels(target(metric), new, old, labels)).worse
    assert judged(against_labels(target(metric), old, new, labels)).word == "not worse"
    assert judged(against_labels(target(metric), old, old, labels)).word == "not worse"


def test_what_is_undefined_cannot_be_told() -> None:
    scores = np.full((100, 1), 0.3)
    found = judged(against_labels(target("auc"), scores, scores + 0.1, np.zeros(100, np.int64)))
    assert found.word == "cannot tell"
    assert "auc" in found.note


def test_equal_bits_are_equal() -> None:
    rows = [{"a": np.array([[1.0, math.nan]])}, {"a": np.array([[0.0, 2.0]])}]
    assert equal(rows, [dict(row) for row in rows])
    assert not equal(rows, [rows[0], {"a": np.array([[-0.0, 2.0]])}])


def test_a_metric_of_the_users_own(tmp_path: Path) -> None:
    """Share of right answers, by a function in a process of its own."""
    file = tmp_path / "metric.py"
    file.write_text("import numpy as np\ndef hits(o, l): return float(np.mean(o['y'].argmax(1) == l['label']))\n")
    new, old, labels = classifier(3, 4, 1.0, 600)
    own = AccuracyTarget(metric="metric", op=">=", bound=0.5, metric_path=str(file), metric_entry="hits")
    answers = [[{"y": row[None]} for row in side] for side in (new, old)]
    rows = Rows(tuple({} for _ in labels), labels)
    found = judged(custom(own, answers[0], answers[1], rows))
    assert found.worse, found
    assert found.what == "accuracy metric.py:hits"
    assert judged(custom(own, answers[1], answers[0], rows)).word == "not worse"
