"""One small spec a diagnostic: `broken/*.infer`, with what `infc check` prints as its trailing comment (`#> ...`).

A first line `# args: --profile ci` gives the options. `pytest tests/dsl --update-golden` rewrites the comments (reviewers read the difference).
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path

import pytest

from infc.dsl import CheckResult, check_text, render_diagnostics
from infc.dsl.codes import CODES

HERE = Path(__file__).parent / "broken"
SPECS = sorted(HERE.glob("*.infer"))
NOT_IN_A_TEXT = {"E0109", "E0110", "E0801", "E0901", "W0901"}
"""Codes whose tests are elsewhere: bytes that are not UTF-8, texts that are too large, what build refuses."""


def _split(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    body = [line for line in lines if not line.startswith("#>")]
    golden = [line.removeprefix("#>").removeprefix(" ") for line in lines if line.startswith("#>")]
    return "\n".join(body).rstrip("\n") + "\n", "\n".join(golden)


def _check(path: Path, body: str) -> CheckResult:
    parser = ArgumentParser()
    parser.add_argument("--profile")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--use")
    first = body.split("\n", 1)[0]
    args = parser.parse_args(shlex.split(first.removeprefix("# args:")) if first.startswith("# args:") else [])
    return check_text(body, file=path.name, folder=HERE, profile=args.profile, sets=args.set, use=args.use)


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_broken_spec_prints_what_its_trailing_comment_says(path: Path, update_golden: bool) -> None:
    body, golden = _split(path.read_text(encoding="utf-8"))
    result = _check(path, body)
    shown = render_diagnostics(result.diagnostics, result.texts).rstrip("\n")
    if update_golden:
        comment = "\n".join(f"#> {line}".rstrip() for line in shown.split("\n"))
        path.write_text(f"{body}\n{comment}\n", encoding="utf-8")
        return
    assert shown == golden
    assert path.stem[:5] in {d.code for d in result.diagnostics}, "the file is named after the code that it shows"
    assert len(result.diagnostics) == 1 or "-and-" in path.stem, "one mistake, one diagnostic"


def test_every_code_has_a_broken_spec() -> None:
    shown = {path.stem[:5] for path in SPECS}
    assert set(CODES) - shown - NOT_IN_A_TEXT == set()


def test_there_are_enough_broken_specs() -> None:
    assert len(SPECS) >= 60
