"""Bundles around the C model of the server's tests, with a spec and evidence as a build leaves them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from platform import machine

import pytest

from tests.server.conftest import libraries, make_bundle, serve_binary, tokenizer

from .support import Documents, Json, Made, make, nothing

__all__ = ["libraries", "make_bundle", "serve_binary", "tokenizer"]  # fixtures of the server's tests
GIVEN = os.environ.get("INFC__SERVE_DIR")
"""Read before the settings of the shell are dropped."""


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Path:
    """The server: of INFC__SERVE_DIR, else as in the server's own tests."""
    if GIVEN is not None:
        return Path(GIVEN) / machine() / "serve"
    return request.getfixturevalue("serve_binary")


class MakeClaimed:
    """`claimed(targets, documents)`: a bundle that claims what those documents prove."""

    def __init__(self, bundle: Callable[..., Path], serve: Path) -> None:
        self._bundle, self._serve = bundle, serve

    def __call__(
        self,
        targets: str,
        documents: Documents = nothing,
        *,
        kind: str = "score",
        edit: Callable[[Json], None] | None = None,
        model: bytes = b"",
        **spec: str,
    ) -> Made:
        """As `support.make` does."""
        return make(self._bundle, self._serve, targets, documents, kind=kind, edit=edit, model=model, **spec)


@pytest.fixture(scope="session")
def claimed(request: pytest.FixtureRequest, server: Path) -> MakeClaimed:
    """The maker of bundles that make claims."""
    return MakeClaimed(request.getfixturevalue("make_bundle"), server)
