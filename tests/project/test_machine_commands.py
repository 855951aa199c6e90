"""`infc targets` and `infc doctor`: what is found is shown, what is missing is named with how to get it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from infc.compiler.bundle import server
from infc.compiler.cli import doctor
from infc.compiler.cli.main import main
from infc.compiler.errors import Exit, InfcError
from infc.compiler.target import Target, discover, find_target

ROOT = Path(__file__).resolve().parents[2]


def test_every_target_folder_is_found() -> None:
    folders = {p.parent.name for p in (ROOT / "targets").glob("*/target.py")}
    found = discover()
    assert set(found) == folders
    for name, target in found.items():
        assert target.name == name
        assert target.title
        names = [v.name for v in target.variants()]
        assert len(names) == len(set(names))
        json.dumps(dict(target.fingerprint()))


def test_an_unknown_target_gets_the_known_ones() -> None:
    with pytest.raises(InfcError, match="no target 'cpuu'") as caught:
        find_target("cpuu")
    assert caught.value.exit_code == Exit.USAGE
    assert caught.value.hint == "did you mean 'cpu'?"
    with pytest.raises(InfcError) as caught:
        find_target("abacus")
    assert "cpu" in caught.value.hint


def test_a_folder_whose_target_is_none_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ModuleType("infc.targets.cpu.target")
    wrong.TARGET = object()  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(__import__("sys").modules, "infc.targets.cpu.target", wrong)
    with pytest.raises(TypeError, match="TARGET lacks part of"):
        discover()


def test_targets_prints_variants_and_fingerprint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    assert "cpu: " in capsys.readouterr().out
    assert main(["targets", "cpu"]) == 0
    assert "arch" in capsys.readouterr().out
    assert main(["targets", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "infc.targets/1"
    cpu = next(t for t in document["targets"] if t["name"] == "cpu")
    assert all(isinstance(t, Target) for t in discover().values())
    for variant in cpu["variants"]:
        assert variant["measures"] or variant["why"], "what cannot be measured says why"


def test_doctor_reports_everything_with_a_state(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code
    states = {f["name"]: f["state"] for f in document["findings"]}
    assert {"python", "torch", "zig cc", "cache", "memory", "server x86_64", "server aarch64"} <= set(states)
    assert set(states.values()) <= {"ok", "MISSING", "absent"}
    assert (code == Exit.MISSING) == ("MISSING" in states.values())


def test_doctor_names_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BUILD_PACKAGES", ("numpy", "no-such-package-of-ours"))
    assert main(["doctor"]) == Exit.MISSING
    out = capsys.readouterr().out
    assert "no-such-package-of-ours is missing: pip install 'infc[build]'" in out


def test_doctor_says_how_to_get_a_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INFC__SERVE_DIR", str(tmp_path))
    assert main(["doctor"]) == Exit.MISSING
    assert "must name a folder that holds x86_64/serve" in capsys.readouterr().out
    assert server.ARCHES == ("x86_64", "aarch64")


def test_doctor_wants_a_cache_that_can_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK_BYTES", 1 << 60)
    assert main(["doctor", "--cache-dir", str(tmp_path / "not" / "yet")]) == Exit.MISSING
    assert "cache is missing: a writable folder" in capsys.readouterr().out
