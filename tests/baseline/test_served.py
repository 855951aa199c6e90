"""Real servers in turn. What they measure is not judged here: the machine may be busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from infc.compiler.bundle.manifest import read_manifest
from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.baseline_load import compare_serving, serve_measure, turns_of
from infc.compiler.proof.baseline_ops import Sides
from infc.compiler.proof.comparison import Pairs, Size, judge
from infc.compiler.proof.loads import Load
from infc.compiler.proof.rejudge import open_bundle
from tests.proof_cli.conftest import MakeClaimed, claimed, libraries, make_bundle, serve_binary, server, tokenizer

__all__ = ["claimed", "libraries", "make_bundle", "serve_binary", "server", "tokenizer"]
TARGETS = "latency p99 <= 9 s; cold_start <= 9 s; memory <= 1 GiB"


@pytest.fixture
def sides(claimed: MakeClaimed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sides:
    """Two bundles of one model; tests do not wait for each other's measurements."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    new, old = (claimed(TARGETS, traffic="rate 200 req/s", budget="6 s").folder for _ in range(2))
    return Sides(new, old, read_manifest(new), read_manifest(old), 1)


def test_equal_numbers_are_equal_requests(sides: Sides, tmp_path: Path) -> None:
    measure = serve_measure(sides, Load(200.0), None, 3, tmp_path)
    one, other, next_ = measure("old", 4), measure("new", 4), measure("new", 5)
    assert [run.blocks[0].seed for run in (one, other)] == [one.blocks[0].seed] * 2
    assert next_.blocks[0].seed != one.blocks[0].seed
    assert one.blocks[0].sent == other.blocks[0].sent == 80
    assert one.subject.cores == 1


def test_loads_and_starts_take_turns(sides: Sides, tmp_path: Path) -> None:
    bundled = open_bundle(sides.new)
    turns = turns_of(bundled.targets, bundled.model)
    said: list[str] = []
    found = compare_serving(
        sides, turns, bundled.model, bundled.targets, None, tmp_path, 1e-4, 0.02, said.append
    )  # fmt: skip
    assert said == ["comparing with the baseline: 200 req/s", "comparing with the baseline: starts"]
    assert [claim.what for claim in found] == ["latency p99", "memory", "cold_start"]
    memory = found[1]
    assert isinstance(memory, Size)
    assert memory.samples >= 1
    for claim in found:
        if isinstance(claim, Pairs):
            assert claim.new or "void" in judge(claim, 1e-4, 0.02).note


def test_a_server_that_is_gone_is_exit_7(sides: Sides, tmp_path: Path) -> None:
    (sides.old / "serve").unlink()
    with pytest.raises(InfcError, match="lost its server") as error:
        serve_measure(sides, None, None, 3, tmp_path)("old", 0)
    assert error.value.exit_code == Exit.DAMAGED


def test_a_server_of_another_time_is_exit_2(sides: Sides, tmp_path: Path) -> None:
    script = f'#!/bin/sh\necho \'{{"schema": "infc.evidence/1"}}\' > {tmp_path}/baseline-prove.json\n'
    for folder in (sides.old, sides.new):
        (folder / "serve").write_text(script)
    measure = serve_measure(sides, None, None, 3, tmp_path)
    with pytest.raises(InfcError, match="infc.evidence/1") as error:
        measure("old", 0)
    assert error.value.exit_code == Exit.USAGE
    assert "build the baseline again" in error.value.hint
