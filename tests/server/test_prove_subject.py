"""What a proof speaks of: the subject and the load, under digests that anybody can recompute."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from .bundles import Fixture, Json, write_manifest
from .conftest import MakeBundle
from .proving import prove, sha


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle, serve_binary: Path) -> Path:
    return make_bundle(
        Fixture(kind="embed", manifest={"traffic": {"rate": 20.0, "arrival": "poisson"}}), serve=serve_binary
    )


@pytest.fixture(scope="module")
def own(bundle: Path) -> Path:
    """The bundle's own program."""
    return bundle / "serve"


def test_digests_are_recomputed_by_their_rule(own: Path, bundle: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "é \\u2028 \\n"}\n{"text": "b"}\n')
    about = prove(own, bundle, tmp_path, "--subject", "--text-file", str(rows))
    assert set(about) == {"subject", "load", "fingerprint"}
    manifest = json.loads((bundle / "manifest.json").read_text())
    digests = {f["path"]: hashlib.sha256("".join(f["sha256"]).encode()).hexdigest() for f in manifest["files"]}
    subject = about["subject"]
    assert set(subject["files"]) == set(digests) - {"models/0/golden.json"}
    assert all(digests[path] == digest for path, digest in subject["files"].items())
    assert subject["model"] == sha(manifest["models"])
    assert subject["settings"]["queue"] == 256
    assert not {"host", "port", "uds", "metrics_port"} & set(subject["settings"])
    load = about["load"]
    lines = [{"text": "é \u2028 \n", "model": "fixture"}, {"text": "b", "model": "fixture"}]
    text = "".join(json.dumps(r, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" for r in lines)
    assert load["requests"] == {"source": "file", "count": 2, "digest": hashlib.sha256(text.encode()).hexdigest()}
    for part in (subject, load):
        assert part["digest"] == sha({key: value for key, value in part.items() if key != "digest"})


def test_the_subject_is_the_same_in_a_document_and_on_another_day(own: Path, bundle: Path, tmp_path: Path) -> None:
    about = prove(own, bundle, tmp_path, "--subject")
    assert prove(own, bundle, tmp_path, "--subject") == about
    document = prove(own, bundle, tmp_path, "--blocks", "1", "--block-seconds", "0.2", "--warmup", "0")
    assert {key: document[key] for key in about} == about


def test_only_what_is_run_changes_the_subject_and_only_what_is_sent_the_load(
    own: Path, bundle: Path, tmp_path: Path
) -> None:
    def digests(*arguments: str, toml: str = "") -> tuple[str, str]:
        config = tmp_path / "serve.toml"
        config.write_text(toml)
        about = prove(own, bundle, tmp_path, "--subject", "--config", str(config), *arguments)
        return about["subject"]["digest"], about["load"]["digest"]

    subject, load = digests()
    assert digests(toml='port = 9\nhost = "0.0.0.0"\nmetrics_port = 10') == (subject, load)
    assert digests("--blocks", "3", "--first-block", "5", "--warmup", "1", "--starts", "2") == (subject, load)
    for settings in ("queue = 7", "[batch]\nmax_rows = 2", "deadline_s = 3"):
        other = digests(toml=settings)
        assert other[0] != subject
        assert other[1] == load
    assert digests(toml="deadline_s = 3") == digests(toml="deadline_s = 3.0")
    for arguments in (
        ["--rate", "21"],
        ["--arrival", "steady"],
        ["--items", "1..2"],
        ["--closed", "2"],
        ["--seed", "2"],
    ):
        other = digests(*arguments)
        assert other[0] == subject
        assert other[1] != load


def test_targets_and_traffic_are_no_part_of_the_subject_and_the_model_is(
    own: Path, bundle: Path, tmp_path: Path
) -> None:
    path = bundle / "manifest.json"
    written = path.read_text()

    def subject(edit: Json) -> str:
        write_manifest(bundle, json.loads(written) | edit)
        return prove(own, bundle, tmp_path, "--subject", "--rate", "20")["subject"]["digest"]

    try:
        before = subject({})
        target = {"kind": "latency", "statistic": "p99", "op": "<=", "bound": 0.1, "unit": "s"}
        assert subject({"targets": [target], "traffic": {"rate": 5.0, "arrival": "steady"}}) == before
        models = json.loads(written)["models"]
        models[0]["task"]["limit"] = 32
        assert subject({"models": models}) != before
    finally:
        write_manifest(bundle, json.loads(written))
