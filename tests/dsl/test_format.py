"""The formatter: idempotent, keeps the AST and every comment, and gives the one layout."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infc.dsl import format_text
from infc.dsl.lexer import tokenize
from infc.dsl.parse import parse_text

from .samples import EMBEDDINGS, EVERYTHING, FRAUD


def formatted(text: str) -> str:
    out, found = format_text(text)
    assert out is not None, found
    return out


def comments(text: str) -> list[str]:
    return [t.text.strip() for t in tokenize(text, "x")[0] if t.kind == "COMMENT"]


# ── any text of the grammar ──────────────────────────────────────────────────────────────────────────────────────────

_WORDS = ("rate", "use", "x", "p99.9", "min", "MiB", "a-b", "float32", "very_long_word_indeed")
_ATOMS = (
    *_WORDS,
    "1",
    "-0.5",
    "1_000",
    "1M",
    "1e-4",
    "2x2",
    '"text"',
    '"a # b"',
    '"\\"\\\\\\n"',
    "req/s",
    "<=",
    "..",
    "=",
    ":",
    "%",
)
_NOTES = ("", "", "", "# note", "#", '# a } b ( "', "#   trailing   ")
_ENDS = ("\n", "\n", "\n\n", "\n\n\n\n", "\r\n")


class _Writer:
    """Texts of the grammar, laid out as badly as it allows. (Hypothesis gives the seed: its own strategies for a

    recursive grammar take most of a second a text.)"""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def text(self) -> str:
        return "".join(self.statement(3) + self.separator() for _ in range(self.rng.randint(0, 7)))

    def separator(self) -> str:
        return self.pick(" ; ", ";") if self.rng.random() < 0.2 else f" {self.pick(*_NOTES)}{self.pick(*_ENDS)}"

    def statement(self, depth: int) -> str:
        groups = " , ".join(self.group(2) for _ in range(self.rng.randint(0, 3)))
        simple = self.pick(*_WORDS) + self.pick(" ", "  ", "\t") + groups
        if not depth or self.rng.random() < 0.6:
            return simple
        body = "".join(self.statement(depth - 1) + self.separator() for _ in range(self.rng.randint(0, 4)))
        start = self.pick("{", "{ ", "{\n", "{ # open\n", "{\n\n\n")
        return simple + start + body + self.pick("}", " }", "# last\n}")

    def group(self, depth: int) -> str:
        return " ".join(self.term(depth) for _ in range(self.rng.randint(1, 4)))

    def term(self, depth: int) -> str:
        if not depth or self.rng.random() < 0.85:
            return self.pick(*_ATOMS)
        opened, closed = self.pick("()", "[]")
        out = self.pick(*_WORDS) + opened + self.pick("", "\n", " # first\n  # second\n")
        for _ in range(self.rng.randint(0, 3)):
            out += self.group(depth - 1) + self.pick(",", ", ", ",\n   ", ",  # why\n", "  # why\n ,", ", # a\n # b\n")
        return out + self.group(depth - 1) + self.pick("", "\n", " # end\n") + closed


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_formatting_is_idempotent_and_keeps_the_ast_and_the_comments(seed: int) -> None:
    text = _Writer(seed).text()
    before, found = parse_text(text, "x")
    once, complaints = format_text(text)
    assert (once is None) == bool(found)
    if once is None:
        assert complaints
        return
    assert formatted(once) == once
    assert parse_text(once, "x")[0] == before
    assert comments(once) == comments(text)
    assert not any(line.rstrip("\r") != line.rstrip() for line in once.split("\n")), "no space at the end of a line"


@pytest.mark.parametrize("text", [EMBEDDINGS, FRAUD, EVERYTHING], ids=["embeddings", "fraud", "everything"])
def test_the_samples_keep_their_meaning(text: str) -> None:
    once = formatted(text)
    assert formatted(once) == once
    assert parse_text(once, "x")[0] == parse_text(text, "x")[0]
    assert comments(once) == comments(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("infer   1", "infer 1\n"),
        ("", ""),
        ("\n\n# only a comment\n\n", "# only a comment\n"),
        ("a;b;;c", "a\nb\nc\n"),
        ("a\n\n\n\nb", "a\n\nb\n"),
        (
            "traffic{rate 40req/s,burst 4 x for 10s every 1min}",
            "traffic { rate 40 req/s, burst 4x for 10 s every 1 min }\n",
        ),
        ("t {\n\n  a 1\n\n}", "t {\n  a 1\n}\n"),
        ("t {\n a 1\n longer 2 # x\n b\n}", "t {\n  a       1\n  longer  2  # x\n  b\n}\n"),
        ("t {\n use a\n use b\n}", "t {\n  use a\n  use b\n}\n"),
        ("t {\n a 1\n\n longer 2\n c 3\n}", "t {\n  a 1\n\n  longer  2\n  c       3\n}\n"),
        ("a 1 .. 64 , - 5", None),
        ("a 1 .. 64 , -5 .. 5 ms", "a 1..64, -5..5 ms\n"),
        ("x: float32 [ batch , 64 ]", None),
        ("in x : float32[ batch , 64 ]", "in x: float32[batch, 64]\n"),
        ("a # one\nbbb # two", "a    # one\nbbb  # two\n"),
        ("a {} # x", "a {}  # x\n"),
        ("a {\n} # x", "a {}  # x\n"),
        ("a {\n b\n} # x", "a {\n  b\n}  # x\n"),
        ("a { # x\n b\n}", "a {  # x\n  b\n}\n"),
        ("a f(\n 1,\n 2\n)", "a f(1, 2)\n"),
        ("a f(1, # x\n 2)", "a f(\n    1,  # x\n    2\n)\n"),
        ("a b\r\nc\r\n", "a b\r\nc\r\n"),
    ],
)
def test_the_layout(text: str, expected: str | None) -> None:
    out, found = format_text(text)
    if expected is None:
        assert (out is None) == bool(found)
        return
    assert out == expected
    assert formatted(expected) == expected


def test_a_line_that_is_too_long_gets_one_argument_a_line() -> None:
    text = "evaluate csv(" + ", ".join(f'"column number {n}"' for n in range(12)) + "), rows 5"
    lines = formatted(text).splitlines()
    assert lines[0] == "evaluate csv("
    assert lines[1] == '    "column number 0",'
    assert lines[-1] == "), rows 5"
    assert formatted(formatted(text)) == formatted(text)


def test_a_block_on_one_line_that_is_too_long_is_opened() -> None:
    text = "targets { " + "; ".join(f"latency p{n} <= {n} ms" for n in range(10, 20)) + " }"
    lines = formatted(text).splitlines()
    assert lines[0] == "targets {"
    assert lines[1] == "  latency p10 <= 10 ms"


def test_a_text_with_an_error_is_not_touched() -> None:
    out, found = format_text("model m {\n")
    assert out is None
    assert [d.code for d in found] == ["E0104"]
