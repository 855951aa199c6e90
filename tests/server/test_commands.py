"""`serve run`, and arguments of all commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .bundles import WIDTH, Fixture, embed, score
from .conftest import MakeBundle
from .serving import run

ROWS = np.random.default_rng(5).standard_normal((2, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def score_bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle()


@pytest.fixture(scope="module")
def embed_bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle(Fixture(kind="embed"))


def test_run_takes_npy_json_or_stdin(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    for dtype, name in ((np.float32, "a.npy"), (np.float64, "b.npy")):
        np.save(tmp_path / name, ROWS.astype(dtype))
    (tmp_path / "c.json").write_text(json.dumps(ROWS.tolist()))
    for name in ("a.npy", "b.npy", "c.json"):
        result = run(serve_binary, score_bundle, "run", "--input", f"features={tmp_path / name}")
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert np.allclose(answer["outputs"]["score"], score(ROWS), atol=1e-6)
    result = run(serve_binary, score_bundle, "run", stdin=json.dumps({"features": ROWS.tolist()}))
    assert np.allclose(json.loads(result.stdout)["outputs"]["score"], score(ROWS), atol=1e-6)


def test_run_takes_texts(serve_binary: Path, embed_bundle: Path) -> None:
    result = run(serve_binary, embed_bundle, "run", "--text", "hello", "--text", "")
    expected = np.concatenate([embed([[101, 7592, 102]]), embed([[101, 102]])])
    assert np.allclose(json.loads(result.stdout)["outputs"]["embedding"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "stdin", "part"),
    [
        (["--input", "features"], "", "expected NAME=FILE"),
        (["--input", "x=y.npy"], "", "the model takes features, bias"),
        (["--input", "features=absent.npy"], "", "absent.npy: No such file"),
        (["--model", "z"], "", "no model called"),
        (["--text", "a"], "", "does not take text"),
        ([], "{", "not JSON"),
        ([], '{"features": [[NaN,1,1,1,1,1,1,1]]}', "features[0][0]: expected a finite number, got NaN"),
    ],
)
def test_run_names_what_is_wrong_and_ends_with_2(
    serve_binary: Path, score_bundle: Path, arguments: list[str], stdin: str, part: str
) -> None:
    result = run(serve_binary, score_bundle, "run", *arguments, stdin=stdin)
    assert (result.returncode, result.stdout) == (2, "")
    assert part in result.stderr


def test_run_refuses_npy_files_of_another_dtype_or_order(
    serve_binary: Path, score_bundle: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "i.npy", ROWS.astype(np.int64))
    np.save(tmp_path / "f.npy", np.asfortranarray(ROWS))
    (tmp_path / "z.npy").write_bytes(b"PK")
    for name, part in (("i", "expected float32"), ("f", "Fortran"), ("z", "not a .npy file")):
        result = run(serve_binary, score_bundle, "run", "--input", f"features={tmp_path / name}.npy")
        assert result.returncode == 2
        assert part in result.stderr


def test_unknown_arguments_end_with_2(serve_binary: Path, score_bundle: Path) -> None:
    assert run(serve_binary, score_bundle, "--prot", "1").returncode == 2
    assert run(serve_binary, score_bundle, "--port", "70000").returncode == 2
