"""`infc check --explain`: every word of the language with the value that holds, and where it comes from.

Also `infc build --emit ast`: the statements of one file as the grammar sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from .check import CheckResult
from .keywords import SCOPED, Keyword, words_of
from .lexer import decode
from .parse import parse_text
from .resolved import origin_of
from .syntax import Statement
from .write import write_groups

_SKIP = ("infer", "include", "let", "profile", "drop", "model", *SCOPED, "hardware", "serve")


def explain_spec(result: CheckResult, limits: Mapping[str, tuple[str, str]]) -> str:
    """One line a word: its value, then whether it was written or is the default, then what it means. `limits`: by model the
    bounds of `tokens` that its source says, and where."""
    rows: list[tuple[str, str, str, str]] = []
    for name in result.models:
        rows.append((f"model {name}", "", "", ""))
        rows += _words(result, name, "model", name not in limits)
        if name in limits:
            rows.append(("  dim", *limits[name], "the most tokens of a text, special ones included"))
        for block in SCOPED:
            rows.append((f"  {block}" if len(result.models) > 1 else block, "", "", ""))
            rows += _words(result, name, block)
    if len(result.models) > 1:
        rows.append(("targets of the bundle", "", "", ""))
        rows += [row for row in _words(result, None, "targets") if row[2] != "default"]
    for block in ("hardware", "serve"):
        rows.append((block, "", "", ""))
        rows += _words(result, None, block)
    widths = [max((len(row[i]) for row in rows if len(row[i]) <= 64), default=0) for i in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def _words(
    result: CheckResult, model: str | None, block: str, tokens: bool = True
) -> Iterator[tuple[str, str, str, str]]:
    for word, keyword in words_of(block).items():
        if word in _SKIP:
            continue
        written = [e for e in result.entries if (e.model, e.block, e.word) == (model, block, word)]
        for entry in written:
            yield (f"  {word}", entry.text().partition(" ")[2], origin_of(entry), _help(keyword))
        if not written:
            yield (f"  {word}", _default(result, model, keyword, tokens), "default", _help(keyword))


def _default(result: CheckResult, model: str | None, keyword: Keyword, tokens: bool) -> str:
    """The default, with what the spec makes of it where that is known; without `tokens`, of `batch` alone."""
    spec = result.spec
    if spec is not None and model is not None and keyword.word == "dim":
        owner = next(m for m in spec.models if m.name == model)
        bounds = [owner.dim(name) for name in ("batch", "tokens")[: 1 + tokens]]
        return ", ".join(f"{d.name} in {d.lo}..{d.hi}" for d in bounds if d is not None)
    if keyword.word == "use":
        return "cpu { isa native }: this machine's CPU"
    return keyword.default or "none"


def _help(keyword: Keyword) -> str:
    if keyword.honoured is True:
        return keyword.help
    note = "not honoured by build yet" if keyword.honoured is False else f"build honours {keyword.honoured}"
    return f"{keyword.help} ({note})"


def print_ast(path: str | os.PathLike[str]) -> str:
    """The statements of a file, one a line with its place, blocks indented; layers are not applied.

    Raises OSError when the file cannot be read. A statement with an error of form is marked `# not understood`.
    """
    with open(path, "rb") as file:
        text, _ = decode(file.read(), os.fspath(path))
    statements, _ = parse_text(text, os.fspath(path))
    return "".join(f"{line}\n" for statement in statements for line in _ast_lines(statement, 0))


def _ast_lines(statement: Statement, depth: int) -> Iterator[str]:
    text = f"{statement.word.text} {write_groups(statement.groups)}".rstrip()
    note = "  # not understood" if statement.bad else ""
    at = statement.word.span
    yield f"{'  ' * depth}{text}{' {' if statement.block is not None else ''}  # {at.line}:{at.col}{note}"
    if statement.block is not None:
        for inner in statement.block.statements:
            yield from _ast_lines(inner, depth + 1)
        yield f"{'  ' * depth}}}"
