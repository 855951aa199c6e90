"""A build with nothing changed hands out a whole bundle; one with other targets compiles nothing, and old evidence decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infc.compiler.build import Missed, Outcome, Request, build
from infc.compiler.bundle.evidence import read_evidence
from infc.compiler.bundle.manifest import is_whole, read_manifest
from infc.compiler.cache import Cache
from infc.compiler.errors import Exit, InfcError

MODEL = "import torch\n\nclass M(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = torch.nn.Linear(16, 4)\n    def forward(self, x):\n        return self.l(x)\n"
SPEC = """infer 1
model m {
  source torch("model.py:M")
  input x: float32[batch, 16]
  targets { bundle_size <= 1 GB }
}
"""
WEIGHTS = "models/0/variants/0/weights.bin"


def damage(bundle: Path) -> None:
    data = bytearray((bundle / WEIGHTS).read_bytes())
    data[7] ^= 4
    (bundle / WEIGHTS).write_bytes(data)


def test_what_is_damaged_is_not_reused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    spec = tmp_path / "m.infer"
    spec.write_text(SPEC)
    cache = Cache(tmp_path / "cache", 1 << 30)
    request = Request(spec, cache=cache, jobs=2)
    first = build(request)
    damage(first.bundle)
    again = build(request)
    assert (again.reused, again.digest, is_whole(again.bundle, first.digest)) == (True, first.digest, True)
    (again.bundle / WEIGHTS).unlink()
    assert is_whole(build(request).bundle, first.digest)
    damage(first.bundle)
    (remembered,) = [path.parents[4] for path in (tmp_path / "cache").rglob(WEIGHTS)]
    damage(remembered)
    third = build(request)
    assert (third.reused, is_whole(third.bundle, third.digest)) == (False, True)


def write(folder: Path, targets: str, more: str = "") -> Path:
    (folder / "model.py").write_text(MODEL)
    spec = folder / "m.infer"
    spec.write_text(SPEC.replace("bundle_size <= 1 GB", targets) + more)
    return spec


def steps(request: Request) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return build(replace(request, report=said.append)), said


def test_what_is_promised_changes_without_a_compile(tmp_path: Path) -> None:
    """Bounds, traffic, price, confidence, budget and the spec's comments: the content is that of a build from nothing."""
    request = Request(write(tmp_path, "bundle_size <= 1 GB"), cache=Cache(tmp_path / "cache", 1 << 30), jobs=2)
    first = build(request)
    more = "# a comment\ntraffic { rate 5 req/s, steady }\nsearch { budget 1 s; seed 4 }\nhardware { use cpu { price 2 USD/h } }\n"
    write(tmp_path, "bundle_size <= 900 MB; confidence 99 %", more)
    again, said = steps(request)
    assert (again.reused, again.verdict, again.digest != first.digest) == (True, "met", True)
    assert not any("compiling" in text for text in said), said
    content = {f.path: (again.bundle / f.path).read_bytes() for f in read_manifest(again.bundle).files}
    manifest, lock = (again.bundle / "manifest.json").read_bytes(), (tmp_path / "m.infer.lock").read_bytes()
    anew, said = steps(replace(request, cache=None))
    assert any("compiling" in text for text in said)
    assert {f.path: (anew.bundle / f.path).read_bytes() for f in read_manifest(anew.bundle).files} == content
    assert ((anew.bundle / "manifest.json").read_bytes(), (tmp_path / "m.infer.lock").read_bytes()) == (manifest, lock)


def test_a_miss_leaves_no_bundle_and_what_was_built_beside_it(tmp_path: Path) -> None:
    request = Request(write(tmp_path, "bundle_size <= 1 KB"), cache=Cache(tmp_path / "cache", 1 << 30), jobs=2)
    outcome = build(request)
    failed = tmp_path / "m.failed"
    assert (outcome.verdict, outcome.exit_code, outcome.bundle) == ("missed", Exit.UNMET, failed)
    assert not (tmp_path / "m.bundle").exists()
    assert not (tmp_path / "m.infer.lock").exists()
    kept = read_evidence(failed)
    assert json.loads(kept["targets.json"][1])[0]["verdict"] == "missed"
    error = Missed(outcome)
    assert error.message.startswith("bundle_size <= ")
    assert error.hint.startswith("relax it: bundle_size <= ")
    write(tmp_path, error.hint.removeprefix("relax it: "))
    relaxed, said = steps(request)
    assert (relaxed.verdict, relaxed.reused, relaxed.bundle, failed.exists()) == (
        "met",
        True,
        tmp_path / "m.bundle",
        False,
    )
    assert not any("compiling" in text for text in said), "a miss compiles once"


def test_old_evidence_decides_and_what_is_not_proved_is_looked_at_again(tmp_path: Path) -> None:
    request = Request(
        write(tmp_path, "latency p50 <= 60 s; latency p99.9 <= 60 s", "search { budget 12 s }\n"),
        cache=Cache(tmp_path / "cache", 1 << 30), jobs=2,
    )  # fmt: skip
    first = build(request)
    runs = [name for name, (kind, _) in read_evidence(first.bundle).items() if kind == "look"]
    assert len(runs) >= 1
    again, said = steps(request)
    measured = any("blocks" in text for text in said)
    kept = [name for name, (kind, _) in read_evidence(again.bundle).items() if kind == "look"]
    assert again.digest == first.digest
    assert (len(kept) > len(runs)) == measured
    if first.verdict == "met":
        assert not measured, "what is proved stays"


def test_evidence_that_was_changed_is_damaged(tmp_path: Path) -> None:
    bundle = build(Request(write(tmp_path, "bundle_size <= 1 GB"), cache=None, jobs=2)).bundle
    place = bundle / "evidence"
    for name, change in (("targets.json", b"[]"), ("more.json", b"{}"), ("build.json", None), ("index.json", b"{")):
        path, before = place / name, (place / name).read_bytes() if (place / name).exists() else None
        path.unlink(missing_ok=True)
        if change is not None:
            path.write_bytes(change)
        with pytest.raises(InfcError) as caught:
            read_evidence(bundle)
        assert caught.value.exit_code == Exit.DAMAGED
        assert name in caught.value.message
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
    assert set(read_evidence(bundle)) == {"targets.json", "build.json"}
