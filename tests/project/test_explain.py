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
from infc.compiler.report.profile import example_inputs, profile


@pytest.fixture(scope="module")
def bundle(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/fraud without its targets, so that nothing is measured."""
    folder = tmp_path_factory.mktemp("fraud")
    shutil.copytree(examples / "fraud", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bundle", "*.lock"))
    spec = folder / "fraud.infer"
    spec.write_text(re.sub(r"\n(targets|traffic) \{.*?\n\}\n", "\n", spec.read_text(), flags=re.DOTALL))
    outcome = infc.build(spec, jobs=1)
    assert outcome.exit_code == 0
    assert outcome.measured == ()
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
