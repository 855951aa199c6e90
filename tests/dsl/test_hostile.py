"""Whatever stands in a file, `check` and `fmt` answer with diagnostics: no exception, no endless loop."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infc.dsl import check_file, check_text, format_text, render_diagnostics
from infc.dsl.machine import to_github, to_json, to_sarif

from .samples import EMBEDDINGS, EVERYTHING, FRAUD

_PIECES = (
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "\n",
    "\r\n",
    '"',
    "\\",
    "#",
    "..",
    "<=",
    ">=",
    "=",
    ":",
    "%",
    "/",
    "<",
    "infer 1",
    "model",
    "targets",
    "use cpu",
    "let a = a",
    "let b = 20 ms",
    'include "x.infer"',
    "profile p {",
    "drop",
    "latency p99",
    "-",
    "1e999",
    "0x10",
    "9" * 50,
    "1x1",
    "p99.9",
    "é",
    "\x00",
    "\u202e",
    "😀",
    "\t",
    "20msx",
    "5 GiB",
    "float32[batch, 64]",
    "accuracy metric(",
    "use {",
    "degrade {",
    "up to",
    "nan",
    "1..",
    "..5",
    "a.b.c",
    "_",
    "x" * 300,
)


def _survives(text: str) -> None:
    result = check_text(text, file="x.infer")
    shown = render_diagnostics(result.diagnostics, result.texts)
    assert result.ok or result.errors
    assert "Traceback" not in shown
    to_github(result.diagnostics)
    to_sarif(result.diagnostics, "0")
    for d in result.diagnostics:
        to_json(d)
        assert d.span is None or (d.span.line >= 1 and d.span.col >= 1 and d.span.end > d.span.col), d
    formatted, found = format_text(text)
    assert (formatted is None) == bool(found)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=6), max_size=25), st.booleans())
def test_no_mixture_of_pieces_raises(pieces: list[str], spaced: bool) -> None:
    _survives((" " if spaced else "").join(pieces))


@pytest.mark.parametrize("sample", [EMBEDDINGS, FRAUD, EVERYTHING], ids=["embeddings", "fraud", "everything"])
def test_no_mutation_of_a_good_spec_raises(sample: str) -> None:
    rng = random.Random(20260101)
    for _ in range(40):
        text = sample
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            end = min(len(text), at + rng.choice([0, 1, 1, 1, 2, 8, 40]))
            piece = rng.choice(["", "", rng.choice(_PIECES), text[(start := rng.randrange(len(text))) : start + 12]])
            text = text[:at] + piece + text[end:]
        _survives(text)


@pytest.mark.parametrize("sample", [EMBEDDINGS, FRAUD, EVERYTHING], ids=["embeddings", "fraud", "everything"])
def test_losing_any_one_bracket_is_one_error_of_form(sample: str) -> None:
    lines = sample.split("\n")
    for n, line in enumerate(lines):
        code = line.split("#")[0]
        for col, char in enumerate(code):
            if char not in "{}()[]":
                continue
            broken = "\n".join([*lines[:n], line[:col] + line[col + 1 :], *lines[n + 1 :]])
            found = [d for d in check_text(broken, file="x.infer").diagnostics if d.is_error]
            assert found, f"line {n + 1}, col {col + 1}: losing {char} goes unnoticed"
            assert len(found) == 1, f"line {n + 1}, col {col + 1}: losing {char} gives {[d.title for d in found]}"


@pytest.mark.parametrize(
    "text",
    [
        "infer 1\n" + "model m {" * 5000,
        "infer 1\n" + "(" * 5000,
        "infer 1\nmodel m { input x: " + "float32[" * 3000,
        "infer 1\n" + "}" * 1000,
        "infer 1\n" + ")" * 1000,
        "infer 1\n" + '"' * 5000,
        "infer 1\n" + "a" * 200_000,
        "infer 1\n" + "1" * 200_000,
        "infer 1\nlet a = " + "1" * 100_000,
        "infer 1\n" + "é" * 20_000,
        "infer 1\n" + "let a = b\n" * 500,
        "infer 1\n" + "".join(f"let a{i} = a{i + 1} a{i + 1}\n" for i in range(200)) + "traffic { rate a0 }",
        "infer 1\n" + ";" * 20_000,
        "infer 1\n" + "x, " * 20_000,
        "infer 1\n" + "\r" * 2000,
        "\ufeffinfer 1\n",
        "",
        "\n\n",
        "#",
        "infer",
        "infer 1e400",
        "infer -1",
        "infer 1 1",
        "infer 1, 2",
        "infer {}",
    ],
    ids=lambda t: repr(t[:24]) + str(len(t)),
)
def test_extreme_texts_are_answered_in_time(text: str) -> None:
    start = time.perf_counter()
    _survives(text)
    assert time.perf_counter() - start < 20, "an extreme text must not take for ever (this is no benchmark)"


def test_a_text_above_the_limit_is_refused_unread() -> None:
    result = check_text("infer 1\n" + "# comment\n" * 200_000)
    assert [d.code for d in result.diagnostics] == ["E0110"]


def test_bytes_that_are_not_utf8_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "x.infer"
    path.write_bytes(b"infer 1\nmodel m {\n  # caf\xe9\n}\n")
    (diagnostic,) = check_file(path).diagnostics
    assert diagnostic.code == "E0109"
    assert "0xe9" in diagnostic.title
    assert diagnostic.span is not None
    assert (diagnostic.span.line, diagnostic.span.col) == (3, 8)


def test_an_unreadable_spec_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "model.infer").write_text("infer 1\n")
    (missing,) = check_file(tmp_path / "modle.infer").diagnostics
    assert missing.code == "E0701"
    assert "model.infer" in missing.help[0]
    (folder,) = check_file(tmp_path).diagnostics
    assert folder.code == "E0701"


def test_carriage_returns_change_nothing() -> None:
    plain = check_text(FRAUD)
    crlf = check_text(FRAUD.replace("\n", "\r\n"))
    assert crlf.spec == plain.spec
    assert crlf.diagnostics == plain.diagnostics


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    path = tmp_path / "x.infer"
    path.write_bytes(b"\xef\xbb\xbf" + FRAUD.encode())
    assert check_file(path).ok


def test_control_characters_never_reach_a_terminal() -> None:
    result = check_text('infer 1\nmodel m { source torch("a\x1b[31m.py:f") }\n\x1b[2J')
    assert "\x1b" not in render_diagnostics(result.diagnostics, result.texts)
