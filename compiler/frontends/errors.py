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
