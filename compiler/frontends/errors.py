"""The error of a source that cannot become a Graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import Exit, InfcError

if TYPE_CHECKING:
    from ...dsl.diagnostics import Diagnostic


class FrontendError(InfcError):
    """What in the source was wrong, where, and what would be right (exit code 2)."""

    def __init__(self, message: str, *, hint: str = "", diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message, exit_code=Exit.USAGE, hint=hint, diagnostics=diagnostics)


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line: the first, and what it announces where it ends with a colon."""
    lines = [line.strip() for line in str(error).strip().split("\n")]
    said = lines[0] or type(error).__name__
    return f"{said} {lines[1]}" if said.endswith(":") and len(lines) > 1 else said
