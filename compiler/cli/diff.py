"""`infc diff`: two bundles, locks or documents of evidence side by side; what is equal is summed up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Exit, InfcError
from .options import command_parser
from .output import format_table, plain, print_json
from .plot import drawable

if TYPE_CHECKING:
    from .sides import Section

DESCRIPTION = """Two bundles, two locks (infer.lock, NAME.infer.lock) or two documents of evidence (evidence/NNN.json) side by side: inputs,
tools, choices, each op's share of the time, sizes, and every target with its interval. Things of different kinds are
compared in what both have, and the rest is named. The exit code does not tell whether they differ."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError: exit 2 for what is none of the three, 7 for a damaged bundle."""
    parser = command_parser("diff", DESCRIPTION)
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument("--markdown", action="store_true", help="tables for a pull request")
    args = parser.parse_args(argv)
    if args.json and args.markdown:
        raise InfcError("--json and --markdown exclude each other")
    from .sides import compare, read_side

    a, b = read_side(args.a), read_side(args.b)
    sections = compare(a, b)
    if args.json:
        print_json(
            "infc.diff/1",
            Exit.OK,
            {
                "a": {"path": str(args.a), "kind": a.kind},
                "b": {"path": str(args.b), "kind": b.kind},
                "equal": all(s.equal_all for s in sections if not s.why),
                "sections": [_as_json(section) for section in sections],
            },
        )
        return Exit.OK
    names = (str(args.a), str(args.b))
    text = _markdown(sections, names) if args.markdown else _text(sections, names)
    print(drawable(plain(text), sys.stdout))
    return Exit.OK


def _as_json(section: Section) -> dict[str, object]:
    rows = [{"name": row.name, "a": row.a, "b": row.b, "equal": row.equal} for row in section.rows]
    return {"name": section.name, "equal": section.equal, "rows": rows, "not_compared": section.why or None}


def _text(sections: Sequence[Section], names: tuple[str, str]) -> str:
    parts: list[str] = []
    for section in sections:
        if section.rows:
            table = [(row.name, row.a or "absent", row.b or "absent") for row in section.rows]
            parts.append(format_table(table, header=(section.name, *names)) + _rest(section))
    parts += _summed(sections)
    return "\n\n".join(parts)


def _rest(section: Section) -> str:
    return f"\n({section.equal} more are equal)" if section.equal else ""


def _summed(sections: Sequence[Section]) -> list[str]:
    """One line of what is equal, one of what could not be compared."""
    equal = [f"{s.name} ({s.equal})" for s in sections if s.equal and not s.rows]
    lines = [f"equal: {', '.join(equal)}"] if equal else []
    reasons: dict[str, list[str]] = {}
    for section in sections:
        if section.why:
            reasons.setdefault(section.why, []).append(section.name)
    lines += [f"not compared: {', '.join(found)}: {why}" for why, found in reasons.items()]
    return ["\n".join(lines)] if lines else []


def _markdown(sections: Sequence[Section], names: tuple[str, str]) -> str:
    parts: list[str] = []
    for section in sections:
        if section.rows:
            rows = [(section.name, *names), ("---", "---", "---")]
            rows += [(row.name, row.a or "absent", row.b or "absent") for row in section.rows]
            cells = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
            parts.append("\n".join(cells) + _rest(section).replace("\n", "\n\n"))
    return "\n\n".join(parts + [part.replace("\n", "\n\n") for part in map(_escaped, _summed(sections))])


def _cell(text: str) -> str:
    return _escaped(text.replace("\n", " ")).replace("|", "\\|")


def _escaped(text: str) -> str:
    """text that Markdown takes as it is: names of files and layers must not become links, tags or emphasis."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#~&@" else c for c in text)
