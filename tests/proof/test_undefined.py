"""Answers that are no numbers are wrong answers, never right ones; metrics that say nothing are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from infc.compiler.errors import InfcError
from infc.compiler.measure.rows import Rows
from infc.compiler.proof import answers
from infc.dsl.spec import AccuracyTarget

NAN = np.full((1, 3), np.nan, np.float32)
Row = Mapping[str, Any]


def target_of(metric: str, versus: str) -> AccuracyTarget:
    op = "<=" if metric in ("mse", "max_abs_error") else ">="
    return AccuracyTarget(metric=metric, op=op, bound=0.5, versus=versus)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("metric", "worst"), [("cosine", 0.0), ("top1", 0.0), ("mse", np.inf), ("max_abs_error", np.inf)]
)
def test_nan_is_as_wrong_as_a_row_can_be(metric: str, worst: float) -> None:
    right = np.array([[1.0, 2.0, 3.0]], np.float32)
    against = answers._against_reference  # pyright: ignore[reportPrivateUsage]
    got: list[Row] = [{"y": right}, {"y": NAN}, {"y": right}]
    want: list[Row] = [{"y": right}, {"y": right}, {"y": NAN}]
    values = against(target_of(metric, "float32"), "y", got, want, False).array[:, 0]
    assert list(values[1:]) == [worst, worst]
    assert values[0] == pytest.approx(1.0 if worst == 0 else 0.0)


def test_nan_against_labels_is_no_hit_and_leaves_a_set_undefined() -> None:
    rows = Rows((), np.array([0, 1, 2]))
    got: list[Row] = [{"y": NAN}, {"y": np.array([[0.0, 1.0, 0.0]])}, {"y": NAN}]
    against = answers._against_labels  # pyright: ignore[reportPrivateUsage]
    assert list(against(target_of("top1", "labels"), "y", got, rows, "d").array[:, 0]) == [0, 1, 0]
    assert against(target_of("auc", "labels"), "y", got, rows, "d").problem == "2 rows have NaN in their answers"
    with pytest.raises(InfcError, match="has 3 values a row"):
        against(target_of("top5", "labels"), "y", got, rows, "d")
