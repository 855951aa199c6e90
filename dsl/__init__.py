"""The .infer language: text → AST → `Spec`. Imports nothing but the standard library, reads files, writes none.

`check_file(path, ...)` and `check_text(text, ...)` give a `CheckResult`; `format_text` formats;
`unsupported_statements(spec)` lists what `infc build` does not honour yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import CheckResult as CheckResult
    from .check import check_file as check_file
    from .check import check_text as check_text
    from .diagnostics import Diagnostic as Diagnostic
    from .diagnostics import Label as Label
    from .format import format_text as format_text
    from .render import render_diagnostics as render_diagnostics
    from .span import Span as Span
    from .spec import Spec as Spec
    from .unsupported import unsupported_statements as unsupported_statements

_HOME = {
    "CheckResult": "check",
    "check_file": "check",
    "check_text": "check",
    "Diagnostic": "diagnostics",
    "Label": "diagnostics",
    "format_text": "format",
    "render_diagnostics": "render",
    "Span": "span",
    "Spec": "spec",
    "unsupported_statements": "unsupported",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
