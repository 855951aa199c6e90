"""The one error type that reaches a user, and what each exit code means.

Raise `InfcError` (or one of the short makers below) anywhere; the command line renders it without a traceback.
Everything else that escapes a command is an internal error, exit 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from enum import IntEnum
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..dsl.diagnostics import Diagnostic


class Exit(IntEnum):
    """Exit codes of `infc`; the numbers are part of the public surface and never change."""

    OK = 0  # targets met, or nothing was promised
    INTERNAL = 1  # ours
    USAGE = 2  # bad spec or arguments
    UNMET = 3  # no configuration meets the targets
    UNPROVED = 4  # built, but not proved on this machine
    WORSE = 5  # worse than --baseline
    MISSING = 6  # this machine lacks a tool, driver, extra, disk or memory
    DAMAGED = 7  # bundle damaged, unsigned or wrongly signed
    INTERRUPTED = 130  # Ctrl-C, SIGTERM or SIGHUP


class InfcError(Exception):
    """What was wrong (`message`), how to mend it (`hint`), and the exit code that says whose fault it was.

    `diagnostics` are places in a spec (each with a span); where there are any, they are shown before the message.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: Exit = Exit.USAGE,
        hint: str = "",
        diagnostics: Sequence[Diagnostic] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


def diagnosed(diagnostic: Diagnostic, *, exit_code: Exit = Exit.USAGE) -> InfcError:
    """The error of one place in a spec: its title is the message, its help the hint."""
    return InfcError(diagnostic.title, exit_code=exit_code, hint="; ".join(diagnostic.help), diagnostics=(diagnostic,))


EXTRA_OF: dict[str, str] = {
    "torch": "build",
    "torch_mlir": "build",
    "tvm": "build",
    "transformers": "build",
    "safetensors": "build",
    "tokenizers": "build",
    "jinja2": "build",
    "ziglang": "build",
    "onnxruntime": "bench",
    "openvino": "bench",
    "iree": "bench",
    "onnx": "bench",
    "matplotlib": "build",
    "markupsafe": "build",
    "sentence_transformers": "bench",
}
"""Top-level module → the extra of `infc` that brings it."""


def require(module: str) -> ModuleType:
    """Imports `module`, which an extra brings. Raises InfcError (exit 6) with the pip line where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_module(error) from error


def missing_module(error: ModuleNotFoundError) -> InfcError:
    """Turns a failed import of an extra's module into exit 6; of any other module into an internal error."""
    top = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(top)
    if extra is None:
        return InfcError(f"the Python module {error.name!r} cannot be imported: {error}", exit_code=Exit.INTERNAL)
    return InfcError(
        f"this command needs the Python package {top!r}, which is not installed",
        exit_code=Exit.MISSING,
        hint=f"pip install 'infc[{extra}]'",
    )
