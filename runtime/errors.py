"""The one error of the loader."""

from __future__ import annotations

KINDS = ("OK", "CALLER", "CAPACITY", "DEVICE_LOST", "INTERNAL")


class InferError(Exception):
    """A failed call: `kind` is one of KINDS (the ABI's infc_kind), `code` the ABI's infc_code, `message` says what and where."""

    def __init__(self, kind: str, code: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
