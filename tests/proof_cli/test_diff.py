"""`infc diff`: bundles, locks and evidence side by side, equal things in a line, and no failure on different kinds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.cli.main import main
from infc.compiler.proof.answers import pack
from infc.compiler.proof.loads import Load
from tests.proof.documents import fill_of

from .conftest import MakeClaimed
from .support import LOCK, Json, Made, even, looked

TARGETS = "latency p50 <= {bound}; bundle_size <= 1 GiB"


@pytest.fixture(scope="module")
def one(claimed: MakeClaimed) -> Made:
    return claimed(TARGETS.format(bound="10 ms"), looked(even(0.004)))


@pytest.fixture(scope="module")
def two(claimed: MakeClaimed) -> Made:
    return claimed(TARGETS.format(bound="6 ms"), looked(even(0.005, seed=2)))


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["diff", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def sections(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Json]:
    found = json.loads(said(capsys, *arguments, "--json"))
    assert found["schema"] == "infc.diff/1"
    return {section["name"]: section for section in found["sections"]}


def test_targets_of_two_bundles_stand_side_by_side(one: Made, two: Made, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, one.folder, two.folder)
    row = next(line for line in text.splitlines() if line.startswith("latency p50 "))
    assert "latency p50 <= 10 ms: 3.99" in row
    assert "latency p50 <= 6 ms: 5.0" in row
    assert row.count(", met") == 2
    assert "equal: subject (4), settings (10), inputs (2), tools (2), choices (2), ops (1)" in text


def test_equal_bundles_are_equal(one: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, one.folder, one.folder, "--json"))
    assert found["equal"] is True
    assert all(row["equal"] for section in found["sections"] for row in section["rows"])
    text = said(capsys, one.folder, one.folder)
    assert "latency p50 <= 10 ms" in text, "targets are always shown"
    assert "sizes (8)" in text


def test_locks_are_compared_by_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.infer.lock", tmp_path / "b.infer.lock"
    a.write_text(LOCK.replace("{model}", "a" * 64))
    b.write_text(
        LOCK.replace("{model}", "b" * 64).replace("float32", "int8") + '[tuning.fixture.0]\n"linear 8" = "4x2"\n'
    )
    found = sections(capsys, a, b)
    assert found["inputs"]["rows"] == [{"name": "model.py", "a": "a" * 12, "b": "b" * 12, "equal": False}]
    assert found["inputs"]["equal"] == 1
    assert found["choices"]["rows"][0]["name"] == "fixture.0.precision"
    assert found["tuning"]["rows"][0] == {"name": "fixture.0.linear 8", "a": "", "b": "4x2", "equal": False}
    assert found["tools"]["rows"] == []
    assert "absent" in said(capsys, a, b)


def test_layers_of_a_lock_are_compared_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.lock", tmp_path / "b.lock"
    for path, layer in ((a, "int8"), (b, "float32")):
        path.write_text(LOCK.replace('variant = "any"', f'layers = ["head=float32", "body.0={layer}"]'))
    found = sections(capsys, a, b)
    assert found["layers"]["rows"] == [{"name": "body.0", "a": "int8", "b": "float32", "equal": False}]


def test_documents_are_compared_by_what_they_measured(
    one: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = one.file(tmp_path / "a.json", Load(), even(0.004))
    starts = [{"s": 0.02, "cold": True, "pages_left": 0}] * 80
    full = fill_of(7 << 20).fill
    assert full is not None
    b = one.file(tmp_path / "b.json", Load(50.0), even(0.008), starts=starts, fill=full.model_dump())
    found = sections(capsys, a, b)
    rows = {row["name"]: row for row in found["measured"]["rows"]}
    assert rows["latency p50"]["a"].startswith("4 ms (3.9")
    assert rows["latency p50"]["b"].startswith("8 ms (7.9")
    assert rows["cold start p95"]["b"].startswith("20 ms")
    assert rows["memory with the queue full"] == {
        "name": "memory with the queue full", "a": "", "b": "7.0 MiB", "equal": False,
    }  # fmt: skip
    assert found["load"]["rows"][0]["b"] == "50 req/s"
    assert found["subject"]["rows"] == []


def test_accuracy_is_compared_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths: list[Path] = []
    for name, hits in (("a", 90), ("b", 70)):
        values = (np.arange(100) < hits).astype(np.float64)[:, None]
        scores: Json = {
            "metric": "top1",
            "versus": "labels",
            "output": "score",
            "kind": "rows",
            "rows": 100,
            "columns": 1,
        }
        scores |= {"single": True, "values": pack(values), "problem": ""}
        head: Json = {"schema": "infc.accuracy/1", "utc": "", "subject": "0", "isa": "any", "data": "0", "rows": 100}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({**head, "labels": "", "scores": [scores]}))
    row = sections(capsys, *paths)["measured"]["rows"][0]
    assert row["name"] == "accuracy top1 vs labels, score"
    assert row["a"].startswith("0.9 (0.8")
    assert row["b"].startswith("0.7 (0.6")


def test_different_kinds_are_compared_in_what_both_have(
    one: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = one.file(tmp_path / "a.json", Load(), even(0.004))
    text = said(capsys, one.folder, one.folder / "infer.lock")
    assert "equal: inputs (2), tools (2), choices (2)" in text
    assert "not compared: targets, subject, settings, ops, sizes: B is a lock, which has none" in text
    text = said(capsys, document, one.folder)
    assert "equal: subject (4), settings (10)" in text
    assert "A is evidence, which has none" in text
    assert sections(capsys, document, one.folder / "infer.lock")["measured"]["not_compared"] is not None


def test_markdown_takes_any_name(one: Made, two: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = tmp_path / "a|b_<img>"
    shutil.copytree(two.folder, named)
    text = said(capsys, one.folder, named, "--markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].endswith("a\\|b\\_\\<img\\> |")
    assert lines[1] == "| --- | --- | --- |"
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines)


def test_a_bundle_without_evidence_has_no_targets(
    one: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(one.folder, bare, ignore=shutil.ignore_patterns("evidence"))
    found = sections(capsys, one.folder, bare)
    assert found["targets"]["rows"][0]["b"] == ""


def test_control_characters_are_spelled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.lock", tmp_path / "b.lock"
    a.write_text(LOCK + '"\\u001b[2J" = "1"\n')
    b.write_text(LOCK)
    assert "\x1b" not in said(capsys, a, b)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is no evidence"),
        ('{"schema": "other"}', "is no evidence"),
        ("format = 1\n", "does not name inputs and tools"),
        ("inputs = 1\ntools = 2\n", "does not name inputs and tools"),
        ("\x00", "is no lock"),
        ("", "does not name inputs and tools"),
    ],
)
def test_what_is_none_of_the_three_is_exit_2(
    tmp_path: Path, text: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    assert main(["diff", str(path), str(path)]) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "infc diff takes bundles" in err


def test_what_is_absent_or_no_bundle_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path / "x"), str(tmp_path / "x")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 2
    assert "is no bundle" in capsys.readouterr().err
    assert main(["diff", str(tmp_path), str(tmp_path), "--json", "--markdown"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_damaged_bundle_is_exit_7(one: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(one.folder, tmp_path / "copy"))
    (folder / "evidence" / "001.json").write_text("{}")
    assert main(["diff", str(one.folder), str(folder)]) == 7
    assert "has changed" in capsys.readouterr().err
