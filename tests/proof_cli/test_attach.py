"""`infc attach`: evidence from elsewhere, admitted only where it speaks of the bundle, and every verdict made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infc.compiler.bundle.evidence import write_evidence
from infc.compiler.cli.main import main
from infc.compiler.proof.loads import Load
from infc.compiler.proof.rejudge import differences, judge_again, open_bundle

from .conftest import MakeClaimed
from .support import Made, even, top1

TARGETS = "latency p50 <= 10 ms; latency p99 <= 1 s at 50 req/s"
AT_50 = Load(50.0)


@pytest.fixture
def empty(claimed: MakeClaimed) -> Made:
    """A bundle with targets and no evidence yet."""
    return claimed(TARGETS)


def verdicts(folder: Path) -> dict[str, str]:
    found = json.loads((folder / "evidence" / "targets.json").read_text())
    return {v["target"]: v["verdict"] for v in found}


def test_documents_decide_what_they_speak_of(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(verdicts(empty.folder).values()) == {"not proved"}
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    two = empty.file(tmp_path / "two.json", AT_50, even(0.004))
    assert main(["attach", str(empty.folder), str(one)]) == 4
    out = capsys.readouterr().out
    assert "latency p50 <= 10 ms" in out
    assert "1 of 1 documents added, 1 in all" in out
    assert main(["attach", str(empty.folder), str(two), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["exit_code"], said["verdict"]) == ("infc.attach/1", 0, "met")
    assert [t["verdict"] for t in said["targets"]] == ["met", "met"]
    assert set(verdicts(empty.folder).values()) == {"met"}
    opened = open_bundle(empty.folder)
    assert [d.name for d in opened.documents] == ["001.json", "002.json"]
    assert differences(opened.stored, judge_again(opened, opened.documents)) == []
    assert "build.json" in opened.others


def test_a_document_is_not_added_twice(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    again = tmp_path / "again.json"
    again.write_text(json.dumps(json.loads(one.read_text()), indent=2))
    assert main(["attach", str(empty.folder), str(one), str(one), str(again)]) == 4
    out, err = capsys.readouterr()
    assert err.count("is there already") == 2
    assert "1 of 3 documents added, 1 in all" in out


def test_a_miss_is_missed_only_by_fresh_load(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = [empty.file(tmp_path / f"{n}.json", Load(), even(0.04, seed=n, least=0.1)) for n in (1, 2)]
    assert main(["attach", str(empty.folder), str(slow[0])]) == 4
    assert "not measured again" in capsys.readouterr().out
    assert main(["attach", str(empty.folder), str(slow[1]), "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["binding"] == ["latency p50 <= 10 ms"]
    assert [d.kind for d in open_bundle(empty.folder).documents] == ["look", "repeat"]


def test_another_machine_than_the_declared_one_decides_nothing(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = claimed("latency p50 <= 10 ms; bundle_size <= 1 GiB", hardware="cores 1, memory 4 GiB")
    small = {**made.about.fingerprint, "memory_bytes": 1 << 30}
    document = made.file(tmp_path / "small.json", Load(), even(0.004), fingerprint=small)
    assert main(["attach", str(made.folder), str(document)]) == 4
    assert "this machine has 1024 MiB" in capsys.readouterr().out
    assert verdicts(made.folder) == {"latency p50 <= 10 ms": "not proved", "bundle_size <= 1 GiB": "met"}
    fitting = made.file(tmp_path / "fits.json", Load(), even(0.004))
    assert main(["attach", str(made.folder), str(fitting)]) == 0


def test_several_machines_are_as_many_chances(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = claimed("latency p50 <= 10 ms")
    other = {**made.about.fingerprint, "model_name": "Another Chip"}
    fast = made.file(tmp_path / "fast.json", Load(), even(0.004))
    slow = made.file(tmp_path / "slow.json", Load(), even(0.04, least=0.1), fingerprint=other)
    again = made.file(tmp_path / "again.json", Load(), even(0.04, seed=2, least=0.1), fingerprint=other)
    assert main(["attach", str(made.folder), str(fast)]) == 0
    assert main(["attach", str(made.folder), str(slow)]) == 0, "one machine meets it, and the other was not asked again"
    assert "one of 2 machines" in capsys.readouterr().out
    assert main(["attach", str(made.folder), str(again)]) == 3


def refused(made: Made, document: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `attach` says of a document that it does not take; the bundle is as it was."""
    before = {p.name: p.read_bytes() for p in (made.folder / "evidence").iterdir()}
    assert main(["attach", str(made.folder), str(document)]) == 2
    assert {p.name: p.read_bytes() for p in (made.folder / "evidence").iterdir()} == before
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"files": {"serve": "0" * 64}}, "another serve"),
        ({"files": {"models/9/x": "0" * 64}}, "models/9/x, which this bundle has not"),
        ({"model": "0" * 64}, "describes its models otherwise"),
        ({"cores": 64}, "made on 64 cores"),
    ],
)
def test_evidence_of_another_bundle_is_refused(
    empty: Made, tmp_path: Path, members: dict[str, object], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = empty.file(tmp_path / "a.json", Load(), even(0.004), subject=empty.subject(**members))
    assert part in refused(empty, document, capsys)


def test_evidence_of_other_settings_is_refused(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value in (("queue", 7), ("max_connections", 7)):
        settings = {**empty.about.subject.settings, key: value}
        document = empty.file(tmp_path / "a.json", Load(), even(0.004), subject=empty.subject(settings=settings))
        assert f"made with {key} = 7" in refused(empty, document, capsys)


def test_a_subject_that_is_not_its_digest_is_refused(
    empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = {**empty.subject(), "cores": 2}
    document = empty.file(tmp_path / "a.json", Load(), even(0.004), subject=subject)
    assert "another digest than it says" in refused(empty, document, capsys)


def test_a_load_of_which_no_target_speaks_is_refused_by_name(
    empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = empty.file(tmp_path / "a.json", Load(80.0), even(0.004))
    said = refused(empty, document, capsys)
    assert "at 80 req/s, of which no target speaks" in said
    assert "latency at one request at a time; latency at 50 req/s" in said


def test_generated_requests_are_no_rows(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = claimed("latency p50 <= 10 ms", data='npz("rows.npz")')
    document = made.file(tmp_path / "a.json", Load(), even(0.004))
    assert "generated requests, and the spec declares rows: rows.npz" in refused(made, document, capsys)


def test_the_same_load_once_more_is_refused(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    assert main(["attach", str(empty.folder), str(one)]) == 4
    capsys.readouterr()
    same = empty.file(tmp_path / "same.json", Load(), even(0.005))
    assert "blocks of the same seeds as 001.json" in refused(empty, same, capsys)
    load = empty.document(Load())["load"]
    requests = {**load["requests"], "digest": "7" * 64}
    other = tmp_path / "other.json"
    other.write_text(
        json.dumps({**empty.document(Load(), even(0.005, seed=5)), "load": {**load, "requests": requests}})
    )
    assert "other requests than 001.json" in refused(empty, other, capsys)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is no evidence"),
        ("{}", "is no evidence"),
        ('{"schema": "infc.evidence/9"}', "is no evidence"),
        ('{"schema": "infc.accuracy/1"}', "is no evidence of accuracy"),
        ("[" * 100000, "is no evidence"),
    ],
)
def test_what_is_no_evidence_is_said_to_be_none(
    empty: Made, tmp_path: Path, text: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert part in refused(empty, path, capsys)


def test_a_document_without_a_measurement_adds_nothing(
    empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nothing was measured" in refused(empty, empty.file(tmp_path / "a.json"), capsys)


def test_a_file_that_cannot_be_read_is_named(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent.json cannot be read: No such file" in refused(empty, tmp_path / "absent.json", capsys)
    assert "cannot be read" in refused(empty, tmp_path, capsys)


def test_no_bundle_and_a_damaged_one(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = empty.file(tmp_path / "one.json", Load(), even(0.004))
    assert main(["attach", str(tmp_path), str(document)]) == 2
    assert "is no bundle" in capsys.readouterr().err
    (empty.folder / "evidence" / "build.json").write_text("{}")
    assert main(["attach", str(empty.folder), str(document), "--json"]) == 7
    out, err = capsys.readouterr()
    assert "has changed since it was written" in err
    assert json.loads(out)["schema"] == "infc.error/1"


def test_what_serve_prove_writes_is_taken(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "real.json"
    command = [
        str(empty.folder / "serve"),
        "prove",
        "--cores",
        "1",
        "--closed",
        "1",
        "--blocks",
        "2",
        "--block-seconds",
        "0.1",
    ]
    subprocess.run([*command, "--warmup", "0.05", "--out", str(path)], check=True, capture_output=True)
    assert main(["attach", str(empty.folder), str(path)]) in (3, 4)
    assert "1 of 1 documents added" in capsys.readouterr().out


def test_the_report_is_written_anew_or_removed(
    empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = empty.folder / "report.html"
    report.write_text("old")
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    monkeypatch.setitem(sys.modules, "infc.compiler.report.page", None)
    assert main(["attach", str(empty.folder), str(one)]) == 4
    assert "report.html told of the evidence before and is removed" in capsys.readouterr().err
    assert not report.exists()


def test_evidence_that_cannot_be_written_stays_as_it_was(
    empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    before = {p.name: p.read_bytes() for p in (empty.folder / "evidence").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infc.compiler.bundle.evidence.write_evidence", full)
    assert main(["attach", str(empty.folder), str(one)]) == 6
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (empty.folder / "evidence").iterdir()} == before


def test_accuracy_travels(claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = claimed("accuracy top1 >= 50 % vs float32", data='npz("rows.npz")')
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(top1(made)))
    assert main(["attach", str(made.folder), str(path)]) == 0
    assert [d.kind for d in open_bundle(made.folder).documents] == ["accuracy"]
    capsys.readouterr()
    path.write_text(json.dumps({**top1(made), "data": "1"}))
    assert "accuracy was measured already (001.json)" in refused(made, path, capsys)
    path.write_text(json.dumps({**top1(made), "subject": "1"}))
    assert "its answers are those of other model files" in refused(made, path, capsys)


def test_verdicts_of_older_rules_are_made_anew(empty: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = empty.file(tmp_path / "one.json", Load(), even(0.004))
    assert main(["attach", str(empty.folder), str(one)]) == 4
    opened = open_bundle(empty.folder)
    older = opened.others["targets.json"].replace(b'"met"', b'"not proved"')
    write_evidence(empty.folder, [(d.kind, d.data) for d in opened.documents], {**opened.others, "targets.json": older})
    assert main(["verify", str(empty.folder), "--quick"]) == 7
    assert main(["attach", str(empty.folder), str(one)]) == 4
    assert main(["verify", str(empty.folder), "--quick"]) == 0
