"""What `check` warns of agrees with what a build takes."""

from __future__ import annotations

import pytest

from infc.compiler.statistics import looks
from infc.dsl import warn


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99, 0.999])
def test_requests_to_prove_are_the_same(quantile: float, confidence: float) -> None:
    exact = looks.requests_to_prove(quantile, confidence)
    assert warn.requests_to_prove(quantile, confidence) == pytest.approx(exact, abs=1, rel=0.005)
    assert (warn.FIRST_LOOK, warn.FREEDOM) == (looks.FIRST, looks.BLOCKS - 1)
