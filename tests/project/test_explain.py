"""`infc explain`: a code, or a bundle and where its time goes; and `infc.build`, which makes the bundle."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import infc
from infc.compiler.cli.main import main
from infc.compiler.errors import Exit
from infc.compiler.report.limits import bounds_of, level_of
from infc.compiler.report.profile import example_inputs, profile
from infc.compiler.target import Limits


@pytest.fixture(scope="module")
def bundle(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/fraud without its targets, so that nothing is measured."""
    folder = tmp_path_factory.mktemp("fraud")
    shutil.copytree(examples / "fraud", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bundle", "*.lock"))
    spec = folder / "fraud.infer"
    spec.write_text(re.sub(r"\n(targets|traffic|hardware) \{.*?\n\}\n", "\n", spec.read_text(), flags=re.DOTALL))
    outcome = infc.build(spec, jobs=1)
    assert outcome.exit_code == 0
    assert outcome.verdicts == ()
    return outcome.bundle


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "E0203"]) == 0
    assert "wrong unit" in capsys.readouterr().out
    assert main(["explain"]) == 0
    assert "E0101" in capsys.readouterr().out
    assert main(["explain", "E9999"]) == 2


def test_a_bundle_is_explained(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(bundle), "--rows", "7", "--threads", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["name"], document["sizes"]) == ("infc.explain/1", "fraud", {"batch": 7})
    assert sum(kind["share"] for kind in document["kinds"]) == pytest.approx(1.0)
    linear = next(kind for kind in document["kinds"] if kind["op"] == "linear")
    assert (linear["steps"], linear["rows"]) == (3, 21)
    assert main(["explain", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "provider" in out
    assert "merged into batches" in out


def test_each_step_is_held_against_the_machine(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(bundle), "--rows", "64", "--threads", "1", "--time", "--json"]) == 0
    timed = json.loads(capsys.readouterr().out)["time"]
    assert timed["ops"]["float32"] > 1e9
    assert next(iter(timed["read"])) == "L2"
    linears = [s for s in timed["steps"] if s["op"] == "linear"]
    assert [s["ops"] for s in linears] == [2 * 64 * n for n in (64 * 256, 256 * 256, 256)]
    assert all(s["least"] > 0 and s["seconds"] > 0 for s in linears)
    assert main(["explain", str(bundle), "--time"]) == 0
    out = capsys.readouterr().out
    assert "of limit" in out
    assert "limits of this machine, measured now: float32" in out


LIMITS = Limits({"float32": 100.0, "int8": 400.0}, {"L2": 50.0, "L3": 20.0, "memory": 5.0})


def step(precision: str, flops: str, weights: int, moved: str) -> dict[str, object]:
    return {"precision": precision, "flops": flops, "weight_bytes": weights, "bytes": moved}


def test_a_step_is_bound_by_the_slowest_of_its_needs() -> None:
    steps = [
        step("q8", "batch*4000", 10, "0"),
        step("float32", "8", 100, "batch*8"),
        step("float32", "0", 0, "500"),
        step("bfloat16", "300", 0, "0"),
    ]
    found = bounds_of(steps, {"batch": 2}, LIMITS, {"L2": 64, "L3": 1000})
    assert [(b.seconds, b.by) for b in found] == [
        (20.0, "int8"), (5.0, "weights from L3"), (10.0, "values from L2"), (3.0, "float32"),
    ]  # fmt: skip
    assert level_of(2000, LIMITS, {"L2": 64, "L3": 1000}) == "memory"


def test_sizes_out_of_bounds_and_folders_that_are_no_bundle(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(bundle), "--rows", "65"]) == 2
    assert "batch is 65, and must be from 1 to 64" in capsys.readouterr().err
    assert main(["explain", str(tmp_path)]) in (Exit.USAGE, Exit.DAMAGED)
    assert "is no bundle" in capsys.readouterr().err


def test_example_inputs_are_what_describe_allows(bundle: Path) -> None:
    with infc.load(bundle) as model:
        arrays = example_inputs(model, {"batch": 3})
        assert {name: (a.shape, a.dtype.name) for name, a in arrays.items()} == {"features": ((3, 64), "float32")}
        assert np.array_equal(arrays["features"], example_inputs(model, {"batch": 3})["features"])
        kinds = profile(model, arrays, runs=2)
        assert kinds == sorted(kinds, key=lambda k: -k.seconds)
