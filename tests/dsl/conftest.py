"""`--update-golden` rewrites the expected renderings of this folder; reviewers read the difference."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option, unless another folder's conftest did."""
    try:
        parser.addoption("--update-golden", action="store_true", help="write what is rendered as what is expected")
    except ValueError:
        return


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden", default=False))
