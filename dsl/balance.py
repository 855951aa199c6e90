"""Brackets first: each lost or stray bracket is reported once and repaired, so that the parser never trips on it.

    source torch("m.py:f"        →  source torch("m.py:f")      a `(` is closed at the end of its line
    model a {                    →  model a { … }               a `{` where a line is not indented deeper any more
    targets ⏎   latency …  }     →  targets {                   a `}` too many, and an indented line after a bare word

Newlines inside `( )` and `[ ]` go. Inside them a line may be broken after or before a comma, an operator or a
bracket; a newline between two values means that the bracket was lost.
"""

from __future__ import annotations

from .diagnostics import Diagnostic, Label
from .span import Span
from .syntax import Token

DEEPEST = 48
_CLOSER = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
_OPENER = {"RPAR": "LPAR", "RSQB": "LSQB"}
_GOES_ON_AFTER = frozenset({"COMMA", "OP", "LPAR", "LSQB"})
_GOES_ON_BEFORE = frozenset({"COMMA", "OP", "RPAR", "RSQB"})


def balance_brackets(tokens: list[Token], file: str) -> tuple[list[Token], list[Diagnostic]]:
    """Tokens without comments → tokens whose brackets all match, and what had to be repaired."""
    found: list[Diagnostic] = []
    return _balance_braces(_balance_round(tokens, file, found), file, found), found


def _span(token: Token, file: str) -> Span:
    return Span(file, token.line, token.col, token.end)


def _is_newline(token: Token) -> bool:
    return token.kind == "_SEP" and token.text != ";"


def _balance_round(tokens: list[Token], file: str, found: list[Diagnostic]) -> list[Token]:
    """`( )` and `[ ]`: drops newlines inside, closes what is lost at the end of its line, drops what is stray."""
    out: list[Token] = []
    opened: list[Token] = []

    def close_all(why: str) -> None:
        opener = opened[0]
        if any(t.bad and t.line == opener.line for t in out):  # a broken string has swallowed the bracket
            _close(out, opened)
            return
        closer = "".join(_CLOSER[o.kind][1] for o in reversed(opened))
        found.append(
            Diagnostic(
                "E0104", f"this `{opener.text}` is never closed", _span(opener, file), why,
                help=(f"write `{closer}` where it ends",),
            )
        )  # fmt: skip
        _close(out, opened)

    for i, token in enumerate(tokens):
        if token.kind in _CLOSER:
            if len(opened) >= DEEPEST:
                found.append(
                    Diagnostic("E0110", f"brackets are nested deeper than {DEEPEST}", _span(token, file))
                )  # fmt: skip
                return [t for t in out if t.line < opened[0].line]
            opened.append(token)
            out.append(token)
        elif token.kind in _OPENER:
            if not opened:
                found.append(Diagnostic("E0105", f"this `{token.text}` closes nothing", _span(token, file)))
                if out:
                    out[-1] = out[-1]._replace(bad=True)
                continue
            opener = opened.pop()
            kind, text = _CLOSER[opener.kind]
            if kind != token.kind:
                found.append(
                    Diagnostic(
                        "E0105",
                        f"`{token.text}` cannot close `{opener.text}`",
                        _span(token, file),
                        f"expected `{text}`",
                        (Label(_span(opener, file), "opened here"),),
                    )
                )
            out.append(Token(kind, text, token.line, token.col))
        elif not opened:
            out.append(token)
        elif _is_newline(token):
            after = i + 1
            while after < len(tokens) and _is_newline(tokens[after]):
                after += 1
            following = tokens[after] if after < len(tokens) else None
            goes_on = out[-1].kind in _GOES_ON_AFTER and out[-1].text != "%"
            if following is None or following.kind in ("LBRACE", "RBRACE"):
                close_all("the block ends before it")
                out.append(token)
            elif goes_on or following.kind in _GOES_ON_BEFORE:
                continue
            else:
                close_all("and the next line begins a new statement")
                out.append(token)
        elif token.kind in ("LBRACE", "RBRACE") or token.text == ";":
            close_all(f"before the `{token.text}`")
            out.append(token)
        else:
            out.append(token)
    if opened:
        close_all("and the text ends")
    return out


def _close(out: list[Token], opened: list[Token]) -> None:
    """Closes every open bracket after the last token; what the statement says is not judged any more."""
    last = out[-1] = out[-1]._replace(bad=True)
    while opened:
        kind, text = _CLOSER[opened.pop().kind]
        out.append(Token(kind, text, last.line, last.end))


def _balance_braces(tokens: list[Token], file: str, found: list[Diagnostic]) -> list[Token]:
    depth, lowest = 0, 0
    for token in tokens:
        depth += (token.kind == "LBRACE") - (token.kind == "RBRACE")
        lowest = min(lowest, depth)
        if depth > DEEPEST:
            found.append(Diagnostic("E0110", f"blocks are nested deeper than {DEEPEST}", _span(token, file)))
            return []
    if lowest < 0:
        return _open_lost(tokens, -min(lowest, depth), file, found)
    return _close_lost(tokens, depth, file, found) if depth > 0 else tokens


def _close_lost(tokens: list[Token], missing: int, file: str, found: list[Diagnostic]) -> list[Token]:
    """Inserts `missing` closing braces, each before the first line that is not indented deeper than its opener's."""
    out: list[Token] = []
    opened: list[tuple[Token, int]] = []  # the brace and the indentation of its line
    indent, first = 1, True

    def close(before: Token | None) -> None:
        brace, _ = opened.pop()
        label = () if before is None else (Label(_span(before, file), "expected `}` before this"),)
        found.append(Diagnostic("E0104", "this `{` is never closed", _span(brace, file), "", label))
        last = out[-1]
        out.append(Token("RBRACE", "}", last.line, last.end))
        out.append(Token("_SEP", "\n", last.line, last.end))

    for token in tokens:
        if _is_newline(token):
            first = True
            out.append(token)
            continue
        if first:
            first, indent = False, token.col
            while missing and opened and token.line > opened[-1][0].line:
                closes = token.kind == "RBRACE"
                if token.col > opened[-1][1] or (closes and token.col == opened[-1][1]):
                    break
                close(token)
                missing -= 1
        if token.kind == "LBRACE":
            opened.append((token, indent))
        elif token.kind == "RBRACE":
            if not opened:  # its block was closed above, where the indentation said so
                continue
            opened.pop()
        out.append(token)
    while opened:
        close(None)
    return out


def _open_lost(tokens: list[Token], extra: int, file: str, found: list[Diagnostic]) -> list[Token]:
    """Opens a block after a bare word that is followed by a deeper line, `extra` times; drops `}` that stay stray."""
    lines: list[list[Token]] = [[]]
    for token in tokens:
        lines[-1].append(token)
        if _is_newline(token):
            lines.append([])
    for n, line in enumerate(lines):
        lines[n], stray = _drop_unopened(line, extra, file, found)
        extra -= stray
    starts = [next((t for t in line if t.kind != "_SEP"), None) for line in lines]
    out: list[Token] = []
    depth = 0
    for n, line in enumerate(lines):
        start = starts[n]
        deeper = next((s for s in starts[n + 1 :] if s is not None), None)
        body = [t for t in line if not _is_newline(t)]
        if (
            extra
            and start is not None
            and deeper is not None
            and start.kind == "WORD"
            and deeper.kind == "WORD"
            and deeper.col > start.col
            and not any(t.kind in ("LBRACE", "RBRACE") for t in body)
        ):
            last = body[-1]
            at = Span(file, last.line, last.end, last.end + 1)
            found.append(Diagnostic("E0104", f"the block of `{start.text}` has no `{{`", at, "expected `{`"))
            line = [*body, Token("LBRACE", "{", last.line, last.end), *line[len(body) :]]
            extra -= 1
        for token in line:
            if token.kind == "RBRACE" and depth == 0:
                found.append(Diagnostic("E0105", "this `}` closes nothing", _span(token, file)))
                continue
            depth += (token.kind == "LBRACE") - (token.kind == "RBRACE")
            out.append(token)
    return _close_lost(out, depth, file, found) if depth > 0 else out


def _drop_unopened(line: list[Token], extra: int, file: str, found: list[Diagnostic]) -> tuple[list[Token], int]:
    """`use cpu isa native, cores 2 }`: a `}` after other tokens of a line that never opened it. Drops and reports it.

    Where the `{` was lost nobody knows, so nothing more is said about the line.
    """
    depth = 0
    for i, token in enumerate(line):
        depth += (token.kind == "LBRACE") - (token.kind == "RBRACE")
        if depth < 0 and extra and i and any(t.kind == "WORD" for t in line[:i]):
            found.append(
                Diagnostic("E0105", "this `}` closes nothing", _span(token, file), "its `{` is missing on this line")
            )
            return [t._replace(bad=True) for t in line[:i]] + line[i + 1 :], 1
    return line, 0
