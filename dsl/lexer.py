"""Text → tokens, with the terminals of `infer.lark`. Comments are tokens too; spaces are not."""

from __future__ import annotations

import re

from ._tables import TERMINALS
from .diagnostics import Diagnostic
from .span import Span
from .syntax import Token

LONGEST_TEXT = 1 << 20
"""A spec is a page of text; what is longer than this many characters is refused."""

_MASTER = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in TERMINALS))
_STRING_START = re.compile(r'"(?:[^"\\\r\n]|\\.)*"?')
_BAD_ESCAPE = re.compile(r'\\(?!["\\n]).?')
_BAD_RUN = re.compile(r"[^\x00-\x7f]+|[^\w\s\"#{}()\[\],;]", re.ASCII)
_NUMBER_TAIL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LOOKALIKES = {
    "≤": "<=", "≥": ">=", "–": "-", "—": "-", "“": '"', "”": '"', "„": '"', "’": '"', "‘": '"', "'": '"', "…": "..",
    "×": "x", "·": ".", "µ": "u", "μ": "u", "，": ",", "；": ";", "：": ":", "／": "/", "％": "%", "\u00a0": "a plain space",
}  # fmt: skip


def decode(raw: bytes, file: str) -> tuple[str, list[Diagnostic]]:
    """UTF-8 bytes → text. Bytes that are not UTF-8 are one E0109 at the first of them, and the text is empty."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        line = before.count("\n") + 1
        col = len(before) - (before.rfind("\n") + 1) + 1
        return "", [
            Diagnostic(
                "E0109",
                f"{file} is not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}",
                Span(file, line, col, col + 1),
                help=("save the file as UTF-8 without other encodings in it",),
            )
        ]
    return text.removeprefix("\ufeff"), []


def tokenize(text: str, file: str) -> tuple[list[Token], list[Diagnostic]]:
    """All tokens of a text, comments included. What cannot be read is reported and skipped."""
    if len(text) > LONGEST_TEXT:
        return [], [Diagnostic("E0110", f"{file} has {len(text)} characters, and a spec may have {LONGEST_TEXT}")]
    tokens: list[Token] = []
    found: list[Diagnostic] = []
    pos, line, start = 0, 1, 0
    match_at = _MASTER.match
    while pos < len(text):
        match = match_at(text, pos)
        col = pos - start + 1
        if match is None:
            token, diagnostic = _unreadable(text, pos, Span(file, line, col, col + 1))
            found.append(diagnostic)
            tokens.append(token)
            pos += len(token.text)
            continue
        kind = match.lastgroup or ""
        if kind != "SPACE":
            tokens.append(Token(kind, match.group(), line, col))
        pos = match.end()
        if kind == "_SEP" and match.group() != ";":
            line, start = line + 1, pos
    return tokens, found


def _unreadable(text: str, pos: int, at: Span) -> tuple[Token, Diagnostic]:
    """What stands at `pos` when no terminal matches: a broken string, or characters that the language has not."""
    if text[pos] == '"':
        run = _STRING_START.match(text, pos)
        piece = run.group() if run is not None else '"'
        span = Span(at.file, at.line, at.col, at.col + len(piece))
        if len(piece) < 2 or not piece.endswith('"') or piece.endswith('\\"'):
            broken = Diagnostic("E0101", "this string is never closed", span, 'expected `"` before the end of the line')
        else:
            escape = _BAD_ESCAPE.search(piece)
            shown = escape.group() if escape is not None else "\\"
            if escape is not None:
                span = Span(at.file, at.line, at.col + escape.start(), at.col + escape.end())
            broken = Diagnostic(
                "E0102", f"`{shown}` is not an escape", span, 'strings know `\\"`, `\\\\` and `\\n`',
                help=("write a backslash as `\\\\`",),
            )  # fmt: skip
        return Token("STRING", piece, at.line, at.col, bad=True), broken
    run = _BAD_RUN.match(text, pos)
    piece = run.group() if run is not None else text[pos]
    piece = piece[0] if piece[0] in _LOOKALIKES else piece[:16]
    span = Span(at.file, at.line, at.col, at.col + len(piece))
    shown = piece if piece.isprintable() else " ".join(f"U+{ord(c):04X}" for c in piece)
    helps: tuple[str, ...] = ()
    if piece in _LOOKALIKES:
        helps = (f"did you mean `{_LOOKALIKES[piece]}`?",)
    elif piece == "\r":
        helps = ("lines end with LF or CRLF",)
    return (
        Token("BAD", piece, at.line, at.col, bad=True),
        Diagnostic("E0103", f"`{shown}` is not a character of the language outside strings", span, help=helps),
    )
