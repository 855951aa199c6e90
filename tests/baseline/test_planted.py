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
from infc.compiler.proof.comparison import HEADER, Comparison, judge
from infc.compiler.temporary import work_folder

from .support import ROWS, built, slower, spec_text, write_model, write_weights

pytestmark = pytest.mark.full
TOP1 = "accuracy top1 >= 10 % vs labels; accuracy mse <= 1 vs float32"
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


def test_half_a_percent_of_top1(folder: Path, plain: Path) -> None:
    """Noise in the last layer's weights that loses 0.4 to 0.8 % of the labels on 2,000 rows; equal weights lose none."""
    place = folder / "noisy"
    write_model(place, spec_text(TOP1, 'npz("rows.npz")'))
    x = np.random.default_rng(3).normal(size=(ROWS, 64)).astype(np.float32)
    from infc.runtime import load

    with load(plain) as model:
        logits = np.concatenate([model.run(x=x[i : i + 16])["logits"] for i in range(0, ROWS, 16)])
    spread = np.random.default_rng(4).gumbel(size=logits.shape) * 0.05 * logits.std()
    np.savez(place / "rows.npz", x=x, label=np.argmax(logits + spread, axis=1))
    bare = place / "bare.infer"
    bare.write_text(spec_text())
    for noise in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        write_weights(place, noise)
        noisy = built(bare, "noisy")
        with work_folder() as work:
            found = compared(noisy, plain, place / "net.infer", work)
        top1 = found["accuracy top1 vs labels"]
        assert top1.new is not None
        assert top1.old is not None
        if top1.old - top1.new >= 0.004:
            break
    assert top1.old - top1.new <= 0.01
    assert top1.worse
    write_weights(place)
    again = built(bare, "again")
    with work_folder() as work:
        assert not any(c.worse for c in compared(again, plain, place / "net.infer", work).values())
