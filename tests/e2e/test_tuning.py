"""Measured choices of kernels: taken from the user's table, measured where it lacks them, kept by the lock; same results."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.build import build
from infc.compiler.cache import Cache
from infc.compiler.driver import Request, emit
from infc.compiler.errors import Exit, InfcError
from infc.runtime import load
from infc.targets.cpu.isa import native
from infc.targets.cpu.tuning.table import section_of

from .support import infc, refused, write_spec

MODEL = """import torch
from torch import nn

def make():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 72))
"""
SHAPES = ("float32 40x24", "float32 72x40")
"""Its layers; no table that ships has them."""
CHOSEN = "rows 5, tiles 1, no ahead"
"""As no formula has it."""
LIBRARY = "models/0/variants/0/model.so"
PLENTY_S = 120.0
"""A bound of measuring that such small layers never reach."""


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """A build of the model, with a cache of its own."""
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec" / "model.py").write_text(MODEL)
    lines = ('source torch("model.py:make")', 'input "input" as x: float32[batch, 24]', "dim batch in 1..40")
    return Request(write_spec(tmp_path / "spec", *lines), cache=Cache(tmp_path / "cache"), jobs=1)


def table_of(request: Request) -> Path:
    assert request.cache is not None
    return request.cache.folder / "tuning" / "cpu.toml"


def write_table(request: Request, choice: str, shape: str = SHAPES[0]) -> None:
    table_of(request).parent.mkdir(parents=True, exist_ok=True)
    table_of(request).write_text(f'["{section_of(native())}"]\n"{shape}" = "{choice}"\n')


def lines_of(request: Request) -> dict[str, str]:
    """The table's lines for this machine."""
    return tomllib.loads(table_of(request).read_text())[section_of(native())]


def test_nothing_is_measured_unless_asked_for(request_: Request) -> None:
    outcome = build(request_)
    assert outcome.report["tuning"] == {"choices": {}, "known": 0, "measured": 0, "missing": 2}
    assert not table_of(request_).exists()
    assert "tuning" not in tomllib.loads(request_.spec.with_name("m.infer.lock").read_text())


def test_a_build_with_tune_measures_what_the_table_lacks_once(request_: Request) -> None:
    write_table(request_, CHOSEN)
    tuned = replace(request_, tune=PLENTY_S)
    outcome = build(tuned)
    assert (outcome.report["tuning"]["known"], outcome.report["tuning"]["measured"]) == (1, 1)
    found = lines_of(request_)
    assert sorted(found) == sorted(SHAPES)
    assert found[SHAPES[0]] == CHOSEN, "a line that a person wrote was replaced"
    text = table_of(request_).read_text()
    assert build(tuned).reused
    assert request_.cache is not None
    shutil.rmtree(request_.cache.folder / "objects")
    again = build(tuned)
    assert not again.reused
    assert (again.report["tuning"]["known"], again.report["tuning"]["measured"]) == (2, 0)
    assert again.digest == outcome.digest
    assert table_of(request_).read_text() == text


@pytest.mark.full
def test_a_budget_that_is_too_short_ends_cleanly_and_the_next_one_goes_on(request_: Request) -> None:
    outcome = build(replace(request_, tune=1e-6))
    assert (outcome.report["tuning"]["measured"], outcome.report["tuning"]["missing"]) == (0, 2)
    assert not table_of(request_).exists()
    assert build(request_).reused
    assert not build(replace(request_, tune=1e-6)).reused


@pytest.mark.full
def test_an_edited_table_makes_another_build_with_the_same_results(request_: Request, tmp_path: Path) -> None:
    before = build(replace(request_, output=tmp_path / "usual.bundle"))
    write_table(request_, CHOSEN)
    after = build(replace(request_, output=tmp_path / "chosen.bundle"))
    assert not after.reused
    assert after.report["tuning"]["choices"] == {SHAPES[0]: CHOSEN}
    assert json.loads((after.bundle / "evidence" / "build.json").read_text())["tuning"] == after.report["tuning"]
    assert (before.bundle / LIBRARY).read_bytes() != (after.bundle / LIBRARY).read_bytes()
    x = np.random.default_rng(0).standard_normal((40, 24)).astype(np.float32)
    with load(before.bundle) as usual, load(after.bundle) as chosen:
        for rows in (1, 2, 5, 6, 40):
            (a, b) = (next(iter(m.run(x=x[:rows]).values())) for m in (usual, chosen))
            assert a.tobytes() == b.tobytes(), rows


@pytest.mark.full
def test_the_lock_keeps_choices_so_that_locked_needs_no_table(request_: Request, tmp_path: Path) -> None:
    write_table(request_, CHOSEN)
    first = build(replace(request_, output=tmp_path / "first.bundle"))
    lock = request_.spec.with_name("m.infer.lock")
    assert tomllib.loads(lock.read_text())["tuning"]["m"]["0"] == {SHAPES[0]: CHOSEN}
    write_table(request_, "rows 4, tiles 2, ahead")  # another machine's, say: it has no say
    for cache in (Cache(tmp_path / "empty"), request_.cache, None):
        locked = replace(request_, locked=True, cache=cache, output=tmp_path / "locked.bundle")
        for again in range(2 if cache else 1):
            outcome = build(locked)
            assert outcome.reused == bool(again)
            assert outcome.digest == first.digest
            assert (outcome.bundle / LIBRARY).read_bytes() == (first.bundle / LIBRARY).read_bytes()
    assert emit(locked, "source") != emit(request_, "source")
    lock.write_text(lock.read_text().replace(CHOSEN, "rows 99, tiles 1, ahead"))
    with pytest.raises(InfcError, match="rows must be") as caught:
        build(replace(request_, locked=True, cache=None))
    assert caught.value.exit_code == Exit.USAGE


def test_a_build_for_another_machine_takes_nothing_from_this_ones_table(request_: Request) -> None:
    other = "aarch64-neon" if native().arch == "x86_64" else "x86-64-v3"
    write_table(request_, CHOSEN)
    text = table_of(request_).read_text()
    outcome = build(replace(request_, tune=PLENTY_S, use=f"cpu {{ isa {other}, cores 2 }}"))
    assert outcome.report["tuning"] == {"choices": {}, "known": 0, "measured": 0, "missing": 0}
    assert table_of(request_).read_text() == text


@pytest.mark.full
def test_the_command_says_where_choices_are_from_and_which_line_is_wrong(request_: Request) -> None:
    write_table(request_, CHOSEN)
    assert request_.cache is not None
    env = {"INFC__CACHE_DIR": str(request_.cache.folder)}
    done = infc("build", request_.spec, **env)
    assert done.returncode == 0, done.stderr
    assert "tuned: 1 shapes from the table, 0 measured now; 1 not as usual" in done.stdout
    write_table(request_, "rows 5")
    refused(infc("build", request_.spec, **env), Exit.USAGE, f"{table_of(request_)}, line 2", "rows 14, tiles 7, ahead")
    refused(infc("build", request_.spec, "--tune", "soon"), Exit.USAGE, "--tune: 'soon' is not a number of seconds")
    refused(infc("build", request_.spec, "--tune", "5", "--locked"), Exit.USAGE, "--locked", "give one of them")
    assert os.environ["INFC__CACHE_DIR"] != env["INFC__CACHE_DIR"]
