"""Claims on accuracy: intervals over rows, exact where rows are equal, and what would decide what they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.agreement import accuracy
from infc.compiler.proof.answers import Answers, Scores, pack, read_answers
from infc.compiler.proof.custom_metric import ask_metric
from infc.compiler.proof.verdict import Verdict
from infc.dsl.spec import AccuracyTarget

DRAW = np.random.default_rng(3)
METRIC = """import numpy as np
def share(outputs, labels):
    return float(np.mean(outputs["y"].argmax(1) == labels["label"]))
def broken(outputs, labels):
    return 1 / 0
def slow(outputs, labels):
    import time
    time.sleep(0.3)
    return 0.5
def chatty(outputs, labels):
    print("hello")
    return share(outputs, labels)
"""


def target_of(metric: str, bound: float, versus: str = "float32", op: str = ">=") -> AccuracyTarget:
    return AccuracyTarget(metric=metric, op=op, bound=bound, versus=versus)  # pyright: ignore[reportArgumentType]


def answers_of(scores: Scores, rows: int, labels: NDArray[np.float64] | None = None) -> Answers:
    document = {
        "schema": "infc.accuracy/1", "utc": "2026-11-29T12:00:00Z", "subject": "5" * 64, "isa": "x86-64-v4", "data": "d",
        "rows": rows, "labels": "" if labels is None else pack(labels), "scores": [scores],
    }  # fmt: skip
    return read_answers(Answers.model_validate(document).model_dump_json(by_alias=True).encode(), "a test")


def scores_of(target: AccuracyTarget, values: NDArray[np.float64], kind: str = "rows", single: bool = True) -> Scores:
    values = values.reshape(len(values), -1)
    return Scores(
        metric=target.metric, versus=target.versus or "", output="y", kind=kind, rows=len(values),  # pyright: ignore[reportArgumentType]
        columns=values.shape[1], single=single, values=pack(values),
    )  # fmt: skip


def judged(target: AccuracyTarget, values: NDArray[np.float64], **other: object) -> Verdict:
    return accuracy(target, answers_of(scores_of(target, values, **other), len(values)), 0.95, 1)  # pyright: ignore[reportArgumentType]


def test_a_mean_over_rows_is_met_missed_or_not_proved() -> None:
    values = 0.99 + 0.002 * DRAW.standard_normal(400)
    assert judged(target_of("cosine", 0.989), values).verdict == "met"
    assert judged(target_of("cosine", 0.991), values).verdict == "missed"
    near = judged(target_of("cosine", float(values.mean()) - 1e-5), values)
    assert near.verdict == "not proved"
    assert "rows would decide it" in near.note
    assert near.low is not None
    assert near.high is not None
    assert near.low < near.bound < near.high
    assert judged(target_of("mse", 1.1, op="<="), values).verdict == "met"


def test_eight_rows_prove_nothing_and_say_how_many_would() -> None:
    for metric in ("cosine", "mse"):
        op = "<=" if metric == "mse" else ">="
        found = judged(target_of(metric, 0.5, op=op), np.linspace(0.9, 0.91, 8))
        assert (found.verdict, found.note) == ("not proved", "8 rows; at least 30 rows are needed")
    found = judged(target_of("top1", 0.99), np.ones(8))
    assert (found.verdict, found.note) == ("not proved", "8 rows; some 299 rows would decide it")


def test_equal_rows_exclude_only_what_so_many_exclude() -> None:
    found = judged(target_of("cosine", 0.995), np.ones(512))
    assert (found.verdict, found.high) == ("not proved", 1.0)
    assert found.low == pytest.approx(1 - 2 * (1 - 0.05 ** (1 / 512)))
    assert "rows would decide it" in found.note
    assert judged(target_of("cosine", 0.98), np.ones(512)).verdict == "met"


def test_hits_are_binomial() -> None:
    hits = np.ones(1000)
    hits[:5] = 0
    found = judged(target_of("top1", 0.99), hits)
    assert found.verdict == "not proved"
    assert judged(target_of("top1", 0.989), hits).verdict == "met"
    assert judged(target_of("top1", 0.9999), hits).verdict == "missed"


def test_the_largest_error_is_of_the_rows_seen() -> None:
    errors = np.abs(DRAW.standard_normal(200)) * 1e-7
    found = judged(target_of("max_abs_error", 1e-5, op="<="), errors)
    assert (found.verdict, found.value) == ("met", errors.max())
    assert found.note == "the largest of 200 rows; fewer than 1.49% are larger"
    assert judged(target_of("max_abs_error", 1e-9, op="<="), errors).verdict == "missed"


def test_of_several_outputs_the_worst_counts() -> None:
    target = target_of("cosine", 0.9)
    good, bad = (scores_of(target, mean + 0.001 * DRAW.standard_normal(100)) for mean in (0.99, 0.5))
    document = answers_of(good, 100)
    both = document.model_copy(update={"scores": [good, bad]})
    found = accuracy(target, both, 0.95, 1)
    assert (found.verdict, found.value) == ("missed", pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize("metric", ["auc", "f1", "precision", "recall"])
def test_metrics_of_a_set_resample_within_classes(metric: str) -> None:
    labels = (np.arange(300) % 3 == 0).astype(np.float64)
    said = np.clip(0.5 + 0.4 * (2 * labels - 1) + 0.25 * DRAW.standard_normal(300), 0, 1)
    target = target_of(metric, 0.7, "labels")
    found = accuracy(target, answers_of(scores_of(target, said, "classes"), 300, labels), 0.95, 1)
    assert found.verdict == "met"
    assert found.low is not None
    assert 0.7 < found.low < found.value <= (found.high or 1)  # pyright: ignore[reportOperatorIssue]
    one_class = accuracy(target, answers_of(scores_of(target, said, "classes"), 300, np.ones(300)), 0.95, 1)
    if metric == "auc":
        assert (one_class.verdict, one_class.value) == ("not proved", None)


def test_a_metric_of_the_users_own_is_resampled_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(METRIC)
    said = DRAW.standard_normal((200, 3))
    labels = said.argmax(1).astype(np.float64)
    labels[:10] = (labels[:10] + 1) % 3
    got = [{"y": row[None].astype(np.float32)} for row in said]
    for entry in ("share", "chatty"):
        target = AccuracyTarget(
            metric="metric", op=">=", bound=0.9, metric_path=str(tmp_path / "m.py"), metric_entry=entry
        )
        replies = ask_metric(target, got, labels, 0.05)
        assert replies.values[0] == pytest.approx(0.95)
        scores = Scores(
            metric=f"metric:m.py:{entry}", versus="", output="", kind="replies", rows=len(replies.values), columns=1,
            single=True, values=pack(np.array(replies.values)),
        )  # fmt: skip
        found = accuracy(target, answers_of(scores, 200, labels), 0.95, 1)
        assert (found.verdict, found.value) == ("met", pytest.approx(0.95))
        assert found.low == pytest.approx(0.92, abs=0.02)


def test_a_metric_that_fails_or_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.py").write_text(METRIC)
    got = [{"y": np.eye(3, dtype=np.float32)[i % 3][None]} for i in range(40)]

    def target(entry: str) -> AccuracyTarget:
        return AccuracyTarget(
            metric="metric", op=">=", bound=0.9, metric_path=str(tmp_path / "m.py"), metric_entry=entry
        )

    with pytest.raises(InfcError, match="ZeroDivisionError"):
        ask_metric(target("broken"), got, None, 0.05)
    with pytest.raises(InfcError, match="has no attribute 'absent'"):
        ask_metric(target("absent"), got, None, 0.05)
    monkeypatch.setattr("infc.compiler.proof.custom_metric.SECONDS", 1)
    replies = ask_metric(target("slow"), got, None, 0.05)
    assert "more are needed" in replies.problem


def test_a_document_that_was_changed_is_refused() -> None:
    target = target_of("cosine", 0.9)
    good = answers_of(scores_of(target, np.ones(40)), 40).model_dump_json(by_alias=True)
    for bad in (
        good.replace('"rows":40,"columns"', '"rows":41,"columns"'),
        good.replace("accuracy/1", "accuracy/9"),
        "{",
    ):
        with pytest.raises(InfcError) as caught:
            read_answers(bad.encode(), "x.json")
        assert caught.value.exit_code == Exit.DAMAGED
