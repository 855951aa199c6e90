"""The grammar: tables up to date, our driver agrees with Lark's, and the grammar stays structural."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infc.dsl import keywords
from infc.dsl.balance import balance_brackets
from infc.dsl.generate import GRAMMAR, TABLES, build_tables
from infc.dsl.lexer import tokenize
from infc.dsl.parse import parse_text
from infc.dsl.syntax import Atom, Call, Statement, Term

from .samples import EMBEDDINGS, EVERYTHING, FRAUD

lark: Any = pytest.importorskip("lark")


def test_the_tables_are_those_of_the_grammar() -> None:
    text = build_tables(GRAMMAR.read_text(encoding="utf-8"))
    assert text == TABLES.read_text(encoding="utf-8"), "run `python -m infc.dsl.generate`"


def test_the_tables_do_not_depend_on_the_hash_seed(root: Path) -> None:
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "infc.dsl.generate", "--check"]
        assert subprocess.run(command, cwd=root, env={"PYTHONHASHSEED": seed, "PATH": ""}, check=False).returncode == 0


@pytest.mark.parametrize("text", [EMBEDDINGS, FRAUD, EVERYTHING], ids=["embeddings", "fraud", "everything"])
def test_our_parser_reads_what_lark_reads(text: str) -> None:
    tokens = [t for t in tokenize(text, "x")[0] if t.kind != "COMMENT"]
    tokens, found = balance_brackets(tokens, "x")
    assert not found
    parser = lark.Lark(GRAMMAR.read_text(encoding="utf-8"), parser="lalr", lexer="basic", strict=True)
    tree = parser.parse(" ".join(t.text for t in tokens))
    assert [_statement(s) for s in parse_text(text, "x")[0]] == [_lark_statement(s) for s in tree.children[0].children]


def _statement(statement: Statement) -> object:
    block = None if statement.block is None else [_statement(s) for s in statement.block.statements]
    return (statement.word.text, [[_term(t) for t in g] for g in statement.groups], block)


def _term(term: Term) -> object:
    if isinstance(term, Atom):
        return term.text
    assert isinstance(term, Call)
    return (term.open, term.name.text, [[_term(t) for t in g] for g in term.groups])


def _lark_statement(tree: Any) -> object:
    word, groups, block = str(tree.children[0]), [], None
    for child in tree.children[1:]:
        if child is None:
            continue
        if child.data == "groups":
            groups = [[_lark_term(t) for t in g.children] for g in child.children]
        else:
            block = [_lark_statement(s) for s in child.children[0].children]
    return (word, groups, block)


def _lark_term(term: Any) -> object:
    if isinstance(term, str):
        return str(term)
    groups = [[_lark_term(t) for t in g.children] for c in term.children[1:] if c is not None for g in c.children]
    return ("(" if term.data == "call" else "[", str(term.children[0]), groups)


def test_no_keyword_stands_in_the_grammar() -> None:
    rules = re.sub(r"//.*", "", GRAMMAR.read_text(encoding="utf-8"))
    names = {"start", "body", "statement", "block", "groups", "group", "term", "call", "index", "ignore"}
    words = set(re.findall(r"\b[a-z_]{3,}\b", re.sub(r"/.*/", "", rules))) - names
    assert not words & {k.word for k in keywords.KEYWORDS}
    assert len([line for line in rules.splitlines() if line.strip()]) <= 26


def test_a_line_may_be_broken_inside_brackets() -> None:
    for text in ("a f(\n1,\n2\n)", "a f(1\n, 2)", "a f(x =\n 1)", "a f[\n\n1\n]", "a f(g(1),\r\n g(2))"):
        (statement,), found = parse_text(text, "x")
        assert not found, text
        assert len(statement.groups) == 1
