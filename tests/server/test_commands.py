"""`serve run`, `serve check` and `serve prove`."""

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


def prove(serve_binary: Path, bundle: Path, out: Path, *arguments: str) -> dict[str, object]:
    quick = ["--duration", "0.5", "--warmup", "0.1", "--throughput", "0.05", "--starts", "2", "--out", str(out)]
    result = run(serve_binary, bundle, "prove", *quick, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text())


def test_prove_writes_the_evidence(serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    targets = [
        {"kind": "latency", "statistic": "p99", "op": "<=", "bound": 1e-9, "unit": "s"},
        {"kind": "throughput", "statistic": None, "op": ">=", "bound": 1.0, "unit": "req/s"},
        {"kind": "accuracy", "statistic": "cosine", "op": ">=", "bound": 0.9, "unit": None},
    ]
    bundle = make_bundle(Fixture(manifest={"targets": targets, "traffic": {"rate": 120.0, "arrival": "steady"}}))
    evidence = prove(serve_binary, bundle, tmp_path / "e.json", "--seed", "9")
    assert evidence["format"] == 1
    assert evidence["load"] == {
        "rate": 120.0, "arrival": "steady", "duration_s": 0.5, "warmup_s": 0.1, "seed": 9, "connections": 64,
        "requests": "generated from the seed",
    }  # fmt: skip
    requests = evidence["requests"]
    assert isinstance(requests, dict)
    assert 55 <= requests["sent"] <= 60
    assert requests["ok"] == requests["sent"]
    assert requests["errors"] == {}
    latency = evidence["latency_s"]
    assert isinstance(latency, dict)
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 30
    assert isinstance(evidence["histogram"], str)
    assert len(evidence["cold_start_s"]) == 2  # type: ignore[arg-type]
    assert evidence["memory"]["peak_rss_bytes"] > 1 << 20  # type: ignore[index]
    judged = {t["kind"]: t["met"] for t in evidence["targets"]}  # type: ignore[attr-defined]
    assert judged == {"latency": False, "throughput": True, "accuracy": None}


def test_prove_takes_texts_from_a_file(serve_binary: Path, embed_bundle: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('"hello"\n{"body": "hello world"}\n\n')
    arguments = ["--rate", "50", "--text-file", str(rows), "--field", "body"]
    evidence = prove(serve_binary, embed_bundle, tmp_path / "e.json", *arguments)
    assert evidence["requests"]["errors"] == {}  # type: ignore[index]
    assert evidence["load"]["arrival"] == "poisson"  # type: ignore[index]
    rows.write_text('{"other": 1}\n')
    result = run(serve_binary, embed_bundle, "prove", "--text-file", str(rows))
    assert result.returncode == 2
    assert "line 1" in result.stderr


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--duration", "-1"], ["--connections", "0"], ["--model", "z"]])
def test_prove_refuses_wrong_arguments(serve_binary: Path, score_bundle: Path, arguments: list[str]) -> None:
    assert run(serve_binary, score_bundle, "prove", *arguments).returncode == 2


def test_unknown_arguments_end_with_2(serve_binary: Path, score_bundle: Path) -> None:
    assert run(serve_binary, score_bundle, "--prot", "1").returncode == 2
    assert run(serve_binary, score_bundle, "--port", "70000").returncode == 2
