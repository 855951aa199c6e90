"""Diagnostics → text with carets, in the manner of rustc.

error[E0203]: latency needs a time, and 20 MiB is a size
  --> embeddings.infer:21:22
   |
21 |   latency     p99 <= 20 MiB
   |                      ^^^^^^ expected ns, us, ms, s or min
   = help: did you mean `20 ms`?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .diagnostics import Diagnostic, Label
from .span import Span

_BOLD, _RED, _YELLOW, _BLUE, _RESET = "\x1b[1m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;34m", "\x1b[0m"
WIDEST = 160
"""Longer source lines are shown in part, around what is marked."""


def render_diagnostics(
    diagnostics: Iterable[Diagnostic], texts: Mapping[str, str] | None = None, *, color: bool = False
) -> str:
    """All diagnostics as text, a blank line between two, ending in a newline; "" for none.

    `texts` gives the text of each file by the name in its spans (`CheckResult.texts`); a file that is not there is
    read from disk, and where that fails only the place is shown.
    """
    cache: dict[str, list[str]] = {name: _lines(text) for name, text in (texts or {}).items()}
    blocks = [_render(d, cache, color) for d in diagnostics]
    return "\n".join(blocks)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _line(span: Span, cache: dict[str, list[str]]) -> str | None:
    if span.file not in cache:
        try:
            with open(span.file, encoding="utf-8") as file:
                cache[span.file] = _lines(file.read())
        except (OSError, UnicodeDecodeError, ValueError):
            cache[span.file] = []
    lines = cache[span.file]
    return lines[span.line - 1] if 0 < span.line <= len(lines) else None


def _render(diagnostic: Diagnostic, cache: dict[str, list[str]], color: bool) -> str:
    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    tone = _RED if diagnostic.is_error else _YELLOW
    out = [paint(tone, f"{diagnostic.severity}[{diagnostic.code}]") + paint(_BOLD, f": {_safe(diagnostic.title)}")]
    spans = [s for s in (diagnostic.span, *(label.span for label in diagnostic.labels)) if s is not None]
    width = len(str(max((s.line for s in spans), default=1)))
    if diagnostic.span is not None:
        out.append(f"{' ' * width}{paint(_BLUE, '-->')} {_safe(str(diagnostic.span))}")
        out += _snippet([(diagnostic.span, diagnostic.label, "^", tone)], diagnostic.labels, cache, width, color)
    for label in diagnostic.labels:
        if diagnostic.span is not None and label.span.file == diagnostic.span.file:
            continue
        out.append(f"{' ' * width}{paint(_BLUE, ':::')} {_safe(str(label.span))}")
        out += _snippet([(label.span, label.text, "-", _BLUE)], (), cache, width, color)
    for text in diagnostic.help:
        out.append(f"{' ' * width} {paint(_BLUE, '=')} {paint(_BOLD, 'help')}: {_safe(text)}")
    return "\n".join(out) + "\n"


def _snippet(
    marks: list[tuple[Span, str, str, str]], labels: tuple[Label, ...], cache: dict[str, list[str]], width: int,
    color: bool,
) -> list[str]:  # fmt: skip
    """The marked lines of one file, in order, with their carets."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    file = marks[0][0].file
    marks = marks + [(label.span, label.text, "-", _BLUE) for label in labels if label.span.file == file]
    marks = sorted(marks, key=lambda m: (m[0].line, m[0].col))
    out = [f"{' ' * width} {paint(_BLUE, '|')}"]
    shown = 0
    for span, text, sign, tone in marks:
        source = _line(span, cache)
        if source is None:
            continue
        start, source = _window(source, span)
        if shown and span.line > shown + 1:
            out.append(paint(_BLUE, "..."))
        if span.line != shown:
            gutter = paint(_BLUE, f"{span.line:>{width}} |")
            out.append(f"{gutter} {_safe(source)}".rstrip())
            shown = span.line
        lead = "".join("\t" if c == "\t" else " " for c in source[: span.col - 1 - start])
        lead += " " * (span.col - 1 - start - len(lead))
        length = max(1, min(span.end - span.col, len(source) - (span.col - 1 - start)))
        caret = paint(tone, f"{sign * length} {_safe(text)}".rstrip())
        out.append(f"{' ' * width} {paint(_BLUE, '|')} {lead}{caret}".rstrip())
    return out if len(out) > 1 else []


def _window(source: str, span: Span) -> tuple[int, str]:
    """The part of a very long line around a span, and where it starts."""
    if len(source) <= WIDEST:
        return 0, source
    start = max(0, span.col - 1 - WIDEST // 2)
    return start, source[start : start + WIDEST]


def _safe(text: str) -> str:
    """No control characters reach a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)
