"""Claims on accuracy against their evidence: intervals over rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import AccuracyTarget
from ..statistics import bootstrap
from ..statistics.binomial import rows_to_decide, share
from ..statistics.bootstrap import LEAST_ROWS, Sides, mean_bounds, statistic_bounds
from ..statistics.decide import decide
from ..statistics.extremes import share_excluded
from ..statistics.interval import Interval
from ..statistics.metrics import auc, class_labels, f1, precision, predicted, ranking_scores, recall
from .answers import Answers, Scores, metric_of
from .metric_child import SEED
from .verdict import Verdict, Word, verdict_of, worst

ENDS: dict[str, tuple[float | None, float | None]] = {
    "cosine": (-1.0, 1.0),
    "mse": (0.0, None),
    "top1": (0.0, 1.0),
    "top5": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "f1": (0.0, 1.0),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
}
"""The least and the most that each metric can be of a row or a set."""


def scores_for(target: AccuracyTarget, answers: Answers | None) -> list[Scores]:
    """The target's scores, one an output; [] where the document has none."""
    wanted = metric_of(target)
    return [] if answers is None else [s for s in answers.scores if (s.metric, s.versus) == wanted]


def accuracy(target: AccuracyTarget, answers: Answers | None, confidence: float, claims: int) -> Verdict:
    """The verdict on one target: of several outputs the worst."""
    found = scores_for(target, answers)
    if answers is None or not found:
        return verdict_of(target, "not proved", confidence=confidence, note="not measured")
    alpha = 1 - confidence
    met, missed = alpha, alpha / claims
    low, high = (missed, met) if target.op == "<=" else (met, missed)
    least, most = ENDS.get(target.metric, (None, None))
    sides = Sides(low, high, least, most)
    problem = next((s.problem for s in found if s.problem), "")
    each: list[Interval] = []
    for scores in found:
        try:
            each.append(interval_of(scores, answers, sides, target.op))
        except ValueError as error:
            problem = str(error)
            each.append(Interval(math.nan, -math.inf, math.inf, answers.rows))
    words: list[Word] = [decide(i.low, i.high, target.bound, target.op) for i in each]
    word = worst(words)
    end = max if target.op == "<=" else min
    value = end(i.value for i in each)
    note = f"{answers.rows:,} rows"
    if target.metric == "max_abs_error":
        note = f"the largest of {answers.rows:,} rows; fewer than {share_excluded(answers.rows, confidence):.2%} are larger"
    elif word == "not proved":
        note += f"; {problem or would_do(target, found, each, words, sides)}"
    return verdict_of(
        target, word, confidence=confidence, value=value, low=end(i.low for i in each), high=end(i.high for i in each),
        samples=answers.rows, note=note,
    )  # fmt: skip


def interval_of(scores: Scores, answers: Answers, sides: Sides, op: str) -> Interval:
    """The metric and its bounds. Raises ValueError where it is undefined on all rows."""
    if scores.kind == "classes" and scores.problem:
        raise ValueError(scores.problem)
    rng = np.random.default_rng(SEED)
    if scores.kind == "replies":
        return _replayed(scores, answers.rows, sides)
    if scores.kind == "classes":
        return _of_set(scores, answers, sides, rng)
    values = scores.array[:, 0]
    if scores.metric == "max_abs_error":
        largest = float(values.max())
        return Interval(largest, largest, largest, len(values))
    if scores.metric in ("top1", "top5") and scores.single:
        return share(float(values.sum()), len(values), sides.alpha_low, sides.alpha_high)
    return mean_bounds(values, sides, rng)


def _of_set(scores: Scores, answers: Answers, sides: Sides, rng: np.random.Generator) -> Interval:
    """auc, f1, precision, recall: rows resampled within the labels' classes."""
    labels, said = answers.label_array, scores.array
    if labels is None:
        raise ValueError("the evidence has no labels")
    classes = class_labels(labels, scores.columns)
    if scores.metric == "auc":
        ranking = ranking_scores(said)
        return statistic_bounds(lambda rows: auc(ranking[rows], classes[rows]), len(said), sides, rng, classes)
    of = {"f1": f1, "precision": precision, "recall": recall}[scores.metric]
    found = predicted(said)
    columns = scores.columns
    return statistic_bounds(lambda rows: of(found[rows], classes[rows], columns), len(said), sides, rng, classes)


def _replayed(scores: Scores, rows: int, sides: Sides) -> Interval:
    """The user's metric: its replies in the order in which they were asked for."""
    replies: Iterator[float] = iter(float(v) for v in scores.array[:, 0])

    def statistic(_: NDArray[np.intp]) -> float:
        return next(replies, math.nan)

    if scores.problem:
        return Interval(statistic(np.arange(0)), -math.inf, math.inf, rows)
    return statistic_bounds(statistic, rows, sides, np.random.default_rng(SEED))


def would_do(
    target: AccuracyTarget, found: Sequence[Scores], each: Sequence[Interval], words: Sequence[Word], sides: Sides
) -> str:
    """How many rows would decide a target that is not proved."""
    at = words.index("not proved")
    interval, scores = each[at], found[at]
    if math.isnan(interval.value):
        return "it is undefined on these rows"
    if target.metric in ("top1", "top5") and scores.single:
        alpha = sides.alpha_low if interval.value > target.bound else sides.alpha_high
        rows = rows_to_decide(interval.value, target.bound, alpha)
    elif interval.samples < LEAST_ROWS:
        return f"at least {LEAST_ROWS} rows are needed"
    else:
        rows = bootstrap.rows_to_decide(interval, target.bound)
        end = sides.least if interval.value > target.bound else sides.most
        if rows is None and end is not None:
            rows = bootstrap.equal_rows_to_decide(interval.value, target.bound, end, sides.alpha_low)
    return f"some {rows:,} rows would decide it" if rows is not None else "no number of such rows would decide it"
