"""The formatter: tokens and comments → text, one layout for everybody.

    two spaces a level; one blank line at most; words of a block padded to the longest, two spaces before the value
    `20ms` → `20 ms`, `4 x` → `4x`; one space before `{`; comments kept, those at line ends aligned
    a block that was on one line stays there when it fits; `;` elsewhere becomes a newline
    a bracket with a comment in it, or too long for a line, gets one argument a line

It never changes the AST (and checks that before it returns), keeps LF or CRLF, and is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .diagnostics import Diagnostic
from .lexer import tokenize
from .parse import parse_text
from .syntax import Token
from .write import join

WIDTH = 120
_OPEN, _CLOSE = ("LPAR", "LSQB"), ("RPAR", "RSQB")


@dataclass(slots=True)
class _Line:
    """A statement, or (no tokens) a comment on its own line, or a blank line (no comment either)."""

    tokens: list[Token] = field(default_factory=list[Token])
    comment: str = ""
    block: list[_Line] | None = None
    inline: bool = False
    close_comment: str = ""

    @property
    def blank(self) -> bool:
        return not self.tokens and not self.comment


def format_text(text: str, file: str = "<text>") -> tuple[str | None, list[Diagnostic]]:
    """The formatted text; None, with what is wrong, where the text does not parse."""
    before, found = parse_text(text, file)
    if found:
        return None, found
    tokens, _ = tokenize(text, file)
    lines, _ = _read(tokens, 0)
    out = "".join(f"{line}\n" for line in _write(lines, 0))
    after, broken = parse_text(out, file)
    if broken or after != before or _comments(out, file) != [t.text.rstrip() for t in tokens if t.kind == "COMMENT"]:
        raise AssertionError(f"formatting would change {file}; please report it with the file")
    return (out.replace("\n", "\r\n") if _uses_crlf(text) else out), []


def _uses_crlf(text: str) -> bool:
    first = text.find("\n")
    return first > 0 and text[first - 1] == "\r"


def _comments(text: str, file: str) -> list[str]:
    return [t.text.rstrip() for t in tokenize(text, file)[0] if t.kind == "COMMENT"]


# ── tokens → lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def _read(tokens: list[Token], i: int) -> tuple[list[_Line], int]:
    """The lines from token `i` to the end of the block, and where that is."""
    lines: list[_Line] = []
    newlines = 1
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "_SEP":
            newlines += token.text != ";"
            i += 1
        elif token.kind == "RBRACE":
            break
        elif token.kind == "COMMENT":
            if newlines == 0 and lines and not lines[-1].blank and not _taken(lines[-1]):
                _attach(lines[-1], token.text.rstrip())
            else:
                _blank(lines, newlines)
                lines.append(_Line(comment=token.text.rstrip()))
            newlines = 0
            i += 1
        else:
            _blank(lines, newlines)
            line, i = _read_statement(tokens, i)
            lines.append(line)
            newlines = 0
    while lines and lines[-1].blank:
        lines.pop()
    return lines, i


def _taken(line: _Line) -> bool:
    """Whether there is already a comment at the end of a statement."""
    return bool(line.close_comment if line.block is not None and not line.inline else line.comment)


def _attach(line: _Line, comment: str) -> None:
    if line.block is not None and not line.inline:
        line.close_comment = comment
    else:
        line.comment = comment


def _blank(lines: list[_Line], newlines: int) -> None:
    if newlines > 1 and lines and not lines[-1].blank:
        lines.append(_Line())


def _read_statement(tokens: list[Token], i: int) -> tuple[_Line, int]:
    line = _Line()
    depth = 0
    while i < len(tokens):
        token = tokens[i]
        if depth == 0 and token.kind in ("_SEP", "COMMENT", "LBRACE", "RBRACE"):
            break
        depth += (token.kind in _OPEN) - (token.kind in _CLOSE)
        if token.kind != "_SEP":
            line.tokens.append(token)
        i += 1
    if i < len(tokens) and tokens[i].kind == "LBRACE":
        opened = tokens[i]
        i += 1
        if i < len(tokens) and tokens[i].kind == "COMMENT":
            line.comment = tokens[i].text.rstrip()
            i += 1
        line.block, i = _read(tokens, i)
        closed = tokens[i]
        line.inline = opened.line == closed.line or (not line.block and not line.comment)
        i += 1
    return line, i


# ── lines → text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(lines: list[_Line], depth: int) -> list[str]:
    out: list[str] = []
    run: list[_Line] = []
    for line in [*lines, _Line()]:
        multi = line.block is not None and not _fits_inline(line, depth)
        if line.blank or multi:
            out += _write_run(run, depth)
            run = []
        else:
            run.append(line)
            continue
        if multi:
            out += _write_block(line, depth)
        elif line is not lines[-1] if lines else False:
            out.append("")
    while out and not out[-1]:
        out.pop()
    return out


def _fits_inline(line: _Line, depth: int) -> bool:
    if line.block is None:
        return True
    return line.inline and len(_inline(line)) + 2 * depth <= WIDTH


def _write_block(line: _Line, depth: int) -> list[str]:
    pad = "  " * depth
    assert line.block is not None
    head = _statement(line.tokens, depth, 0)
    head[-1] += " {" + (f"  {line.comment}" if line.comment else "")
    tail = pad + "}" + (f"  {line.close_comment}" if line.close_comment else "")
    return [*head, *_write(line.block, depth + 1), tail]


def _write_run(run: list[_Line], depth: int) -> list[str]:
    """Neighbouring statements: words padded to one column, trailing comments aligned."""
    words = [line.tokens[0].text for line in run if line.tokens]
    width = max(map(len, words), default=0) + 2 if depth and len(set(words)) > 1 else 0
    texts: list[tuple[list[str], str]] = []
    for line in run:
        if not line.tokens:
            texts.append((["  " * depth + line.comment], ""))
            continue
        rows = _statement(line.tokens, depth, width)
        if line.block is not None:
            gap = " " if len(line.tokens) > 1 or not width else " " * (width - len(line.tokens[0].text))
            rows[-1] += gap + _inline_block(line.block)
        texts.append((rows, line.comment))
    column = max((len(rows[-1]) for rows, comment in texts if comment), default=0) + 2
    out: list[str] = []
    for rows, comment in texts:
        out += rows[:-1]
        out.append(f"{rows[-1]:<{column}}{comment}" if comment else rows[-1])
    return out


def _inline(line: _Line) -> str:
    text = join(t.text for t in line.tokens)
    return text if line.block is None else f"{text} {_inline_block(line.block)}"


def _inline_block(block: list[_Line]) -> str:
    inner = "; ".join(_inline(line) for line in block if line.tokens)
    return f"{{ {inner} }}" if inner else "{}"


def _statement(tokens: list[Token], depth: int, width: int) -> list[str]:
    """A statement's own rows: one, or several where a bracket has to be broken."""
    pad = "  " * depth
    word, rest = tokens[0].text, tokens[1:]
    if rest and width and rest[0].kind not in (*_OPEN, "COMMA"):
        lead = f"{pad}{word:<{width}}"
        text = join(t.text for t in rest if t.kind != "COMMENT")
    else:
        lead, rest = pad, tokens
        text = join(t.text for t in rest if t.kind != "COMMENT")
    commented = any(t.kind == "COMMENT" for t in rest)
    if not commented and len(lead) + len(text) <= WIDTH or not any(t.kind in _OPEN for t in rest):
        return [lead + text]
    return _broken(rest, lead, pad)


def _broken(tokens: list[Token], lead: str, pad: str) -> list[str]:
    """One argument of each outermost bracket a row."""
    rows: list[str] = []
    row: list[str] = []
    notes: list[str] = []
    start = lead
    depth = 0

    def flush(next_start: str) -> None:
        nonlocal start
        if row:
            text = start + join(row)
            rows.append(f"{text}  {notes.pop(0)}" if notes else text)
            row.clear()
        rows.extend(pad + "    " + note for note in notes)
        notes.clear()
        start = next_start

    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.kind == "COMMENT":
            notes.append(token.text.rstrip())
            if following is None or following.kind != "COMMENT":
                comma_next = following is not None and following.kind == "COMMA"
                if not comma_next and (not row or row[-1] in (",", "(", "[")):
                    flush(pad + "    ")
        else:
            if depth == 1 and token.kind in _CLOSE:
                flush(pad)
            row.append(token.text)
            depth += (token.kind in _OPEN) - (token.kind in _CLOSE)
            opens = depth == 1 and token.kind in _OPEN
            if (opens or (depth == 1 and token.kind == "COMMA")) and not (
                following is not None and following.kind == "COMMENT" and following.line == token.line
            ):
                flush(pad + "    ")
    flush(pad)
    return rows
