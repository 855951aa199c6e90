"""The sweep over transformers' classes: of those that torch runs, most are right, none is wrong, and the rest is refused."""

from __future__ import annotations

import pytest

from .sweep import candidates, share, sweep

LEAST = 0.85


def test_some_classes_are_right_or_refused_with_a_hint() -> None:
    # One traced with its own attention, one that asserts something of values, an encoder with a decoder, and one that needs more
    # than these inputs.
    names = {"DogeModel": "right", "XLMModel": "right", "BartModel": "refused", "T5Model": "not run"}
    classes = candidates()
    outcomes = {o.name: o for o in sweep({name: classes[name] for name in names})}
    assert {name: o.state for name, o in outcomes.items()} == names, outcomes
    assert "encoder with a decoder" in outcomes["BartModel"].said


@pytest.mark.full
def test_of_the_classes_that_torch_runs_most_are_right_and_none_is_wrong() -> None:
    outcomes = list(sweep(candidates()))
    for outcome in outcomes:
        print(outcome)
    bad = [o for o in outcomes if o.state in ("wrong", "failed", "no hint", "too long")]
    assert not bad
    assert share(outcomes) >= LEAST
