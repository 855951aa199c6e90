"""Turns `infer.lark` into `_tables.py`: `python -m infc.dsl.generate` (`--check`: exit 1 when it is out of date).

Lark builds the LALR(1) tables (strict: any conflict between rules or terminals is an error); what is written is only
those tables and the terminals' regular expressions, which `lexer.py` and `parse.py` drive. Lark's own standalone
parser does the same job, but reading its module costs more than the whole of `infc check` may take where Python writes
no bytecode (135 of 200 ms); the tables cost 3. A test holds both parsers against each other.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GRAMMAR = HERE / "infer.lark"
TABLES = HERE / "_tables.py"

_HEAD = '''"""LALR(1) tables of `infer.lark`, written by `python -m infc.dsl.generate`. Do not edit."""

# fmt: off
# (name, regular expression), in the order in which the lexer tries them
TERMINALS: tuple[tuple[str, str], ...] = (
'''


def build_tables(grammar: str) -> str:
    """The text of `_tables.py` for a grammar; the same text for the same grammar, whatever the hash seed.

    Raises lark.exceptions.GrammarError (or LexError) when the grammar is not LALR(1) or two terminals collide.
    """
    import lark
    from lark.parsers.lalr_analysis import Shift

    parser = lark.Lark(grammar, parser="lalr", lexer="basic", strict=True, maybe_placeholders=True)
    lalr: Any = parser.parser
    table: Any = lalr.parser._parse_table
    rules: list[Any] = sorted(parser.rules, key=lambda r: (r.origin.name, [s.name for s in r.expansion]))
    number = {rule: n for n, rule in enumerate(rules)}

    states: dict[Any, int] = {table.start_states["start"]: 0}
    order = [table.start_states["start"]]
    for state in order:  # grows while it runs: breadth first from the start state
        for _, (action, target) in sorted(table.states[state].items()):
            if action is Shift and target not in states:
                states[target] = len(states)
                order.append(target)

    text = _HEAD
    for name, pattern in _ordered_terminals(parser):
        text += f"    ({name!r}, {pattern!r}),\n"
    text += ")\n# (left side, names of the right side, which of them are kept)\n"
    text += "RULES: tuple[tuple[str, tuple[str, ...], tuple[bool, ...]], ...] = (\n"
    for rule in rules:
        keep = tuple(not getattr(s, "filter_out", False) for s in rule.expansion)
        text += f"    ({str(rule.origin.name)!r}, {tuple(str(s.name) for s in rule.expansion)!r}, {keep!r}),\n"
    text += ")\n# per state: symbol -> n: go to state n (n >= 0), or reduce by rule ~n (n < 0)\n"
    text += "STATES: tuple[dict[str, int], ...] = (\n"
    for state in order:
        row = {
            str(symbol): states[target] if action is Shift else ~number[target]
            for symbol, (action, target) in sorted(table.states[state].items())
        }
        text += f"    {row!r},\n"
    text += f")\nEND: int = {states[table.end_states['start']]}\n"
    return text


def _ordered_terminals(parser: Any) -> list[tuple[str, str]]:
    """Highest priority first; among equals the order of the grammar file, then punctuation."""
    terminals = [(str(t.name), t.pattern.to_regexp(), t.priority) for t in parser.terminals]
    return [(name, pattern) for name, pattern, _ in sorted(terminals, key=lambda t: -t[2])]


def main(argv: list[str]) -> int:
    """Writes `_tables.py`, or with `--check` says whether it is up to date."""
    text = build_tables(GRAMMAR.read_text(encoding="utf-8"))
    if "--check" in argv:
        return 0 if TABLES.exists() and TABLES.read_text(encoding="utf-8") == text else 1
    TABLES.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
