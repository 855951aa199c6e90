"""Real bundles with a fault that was planted, and without one. Timed: `make test-all`; each prints its figures."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.bundle.manifest import read_manifest
from infc.compiler.cli.output import format_table
from infc.compiler.driver import Request, check_spec, choose_machine, import_model
from infc.compiler.frontends import Imported
from infc.compiler.proof.baseline import compare, headline, rows
from infc.compiler.proof.baseline_ops import Sides, pairs_of, timed
from infc.compiler.proof.comparison import HEADER, Comparison, claims_of, judge
from infc.compiler.temporary import work_folder
from tests.e2e.conftest import copy_example

from .support import CLASSIFIER, built, clouds, slower, spec_text, write_model

pytestmark = pytest.mark.full
CLASSIFIER_SPEC = """infer 1
model net {
  source torch("model.py:make")
  input  input: float32[batch, 64]
  output logits: float32[batch, 10]
  dim    batch in 1..16
}
hardware { use cpu { cores 1 } }
"""
DATA = 'data { evaluate npz("rows.npz") }\n'
SEED = 2
EQUAL_RUNS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """The bundle without a fault."""
    return built(write_model(folder / "plain", spec_text()), "plain")


@contextmanager
def imported_from(spec: Path, work: Path) -> Generator[Imported]:
    request = Request(spec, jobs=1)
    found = import_model(check_spec(request).models[0], spec.parent, work, request)
    try:
        yield found
    finally:
        found.close()


def compared(new: Path, old: Path, spec: Path, work: Path) -> dict[str, Comparison]:
    """By the spec's targets; the figures are printed."""
    checked = check_spec(Request(spec))
    with imported_from(spec, work) as imported:
        found = compare(
            new, old, checked, checked.models[0], choose_machine(checked), imported, work, 0.02, lambda _: None
        )
    print(headline(found))
    print(format_table(rows(found), header=HEADER))
    return {c.what: c for c in found}


def test_linear_kernels_that_take_a_tenth_more(folder: Path, plain: Path) -> None:
    with slower("linear", 1):
        slow = built(write_model(folder / "slow", spec_text()), "slow")
    with work_folder() as work:
        found = compared(slow, plain, folder / "slow" / "net.infer", work)
    assert found["linear ops"].worse
    assert found["compute time"].worse
    assert found["linear ops"].ratio == pytest.approx(1.1, abs=0.03)


def test_linear_kernels_of_minilm_that_take_a_tenth_more(examples: Path, tmp_path: Path) -> None:
    spec = copy_example(examples, "minilm", tmp_path / "minilm")
    plain = built(spec, "plain")
    with slower("linear", 1):
        slow = built(spec, "slow")
    sides = Sides(slow, plain, read_manifest(slow), read_manifest(plain), 1)
    with work_folder() as work:
        told = timed(sides, "", {"batch": 1, "tokens": 64}, work)
    claims = pairs_of(told["rounds"], told["steps"], "")
    found = [judge(claim, 0.001 / claims_of(claims), 0.02) for claim in claims]
    print(format_table(rows(found), header=HEADER))
    by_name = {c.what: c for c in found}
    assert by_name["linear ops"].worse
    assert by_name["compute time"].worse
    assert not by_name["attention ops"].worse


def test_equal_bundles_of_other_code_raise_nothing(folder: Path, plain: Path) -> None:
    """The same model once more, timed as if its files were others."""
    again = built(write_model(folder / "again", spec_text()), "again")
    sides = Sides(again, plain, read_manifest(again), read_manifest(plain), 1)
    raised: list[str] = []
    for number in range(EQUAL_RUNS):
        with work_folder() as work:
            told = timed(sides, "", {"batch": 8}, work)
        claims = pairs_of(told["rounds"], told["steps"], "")
        found = [judge(claim, 0.001 / 5, 0.02) for claim in claims]
        print(number, [f"{c.what} {c.ratio:.4f}" for c in found if c.ratio is not None][:2])
        raised += [c.what for c in found if c.worse]
    assert raised == []


def classifier_of(place: Path) -> Path:
    """A spec without targets, of the classifier of clouds."""
    place.mkdir()
    (place / "model.py").write_text(CLASSIFIER)
    bare = place / "bare.infer"
    bare.write_text(CLASSIFIER_SPEC)
    return bare


def test_half_a_percent_of_top1_vs_labels(folder: Path) -> None:
    """Noise in the weights of the source that loses about half a percent of 2,000 rows; equal weights lose none."""
    found = clouds(SEED, 4, 0.2)
    bare = classifier_of(folder / "labels")
    place = bare.parent
    np.savez(place / "rows.npz", input=found.x, label=found.labels)
    spec = place / "net.infer"
    spec.write_text(CLASSIFIER_SPEC + DATA + "targets { accuracy top1 >= 10 % vs labels }\n")
    found.write(place, damaged=False)
    plain, again = built(bare, "plain"), built(bare, "again")
    with work_folder() as work:
        assert not any(c.worse for c in compared(again, plain, spec, work).values())
    found.write(place, damaged=True)
    noisy = built(bare, "noisy")
    with work_folder() as work:
        top1 = compared(noisy, plain, spec, work)["accuracy top1 vs labels"]
    assert top1.new is not None
    assert top1.old is not None
    assert 0.004 <= top1.old - top1.new <= 0.006
    assert top1.worse


def test_half_a_percent_of_top1_vs_the_source(folder: Path) -> None:
    """The same noise in the weights of the bundle alone."""
    found = clouds(SEED, 4, 0.2)
    bare = classifier_of(folder / "source")
    place = bare.parent
    np.savez(place / "rows.npz", input=found.x, label=found.labels)
    spec = place / "net.infer"
    spec.write_text(CLASSIFIER_SPEC + DATA + "targets { accuracy top1 >= 10 % vs float32 }\n")
    found.write(place, damaged=True)
    noisy = built(bare, "noisy")
    found.write(place, damaged=False)
    plain = built(bare, "plain")
    with work_folder() as work:
        assert compared(noisy, plain, spec, work)["accuracy top1 vs float32"].worse
    with work_folder() as work:
        assert not compared(plain, noisy, spec, work)["accuracy top1 vs float32"].worse
