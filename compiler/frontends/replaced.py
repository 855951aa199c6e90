"""Attributes that have another value for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from typing import Any


@contextlib.contextmanager
def replaced(objects: Iterable[Any], name: str, value: Any) -> Generator[None]:
    """objects whose attribute `name` is value for the while."""
    before = [(one, getattr(one, name)) for one in objects]
    try:
        for one, _ in before:
            setattr(one, name, value)
        yield
    finally:
        for one, own in before:
            setattr(one, name, own)
