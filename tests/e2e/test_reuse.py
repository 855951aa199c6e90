"""A build with nothing changed hands out a whole bundle, and measures again what was void."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infc.compiler import measure
from infc.compiler.build import Missed, Request, build
from infc.compiler.bundle.manifest import is_whole
from infc.compiler.cache import Cache
from infc.compiler.measure.server import Evidence, prove

MODEL = "import torch\n\nclass M(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = torch.nn.Linear(16, 4)\n    def forward(self, x):\n        return self.l(x)\n"
SPEC = """infer 1
model m {
  source torch("model.py:M")
  input x: float32[batch, 16]
  targets { latency p99 <= 60s }
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


@pytest.mark.full
def test_what_was_void_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    spec = tmp_path / "m.infer"
    spec.write_text(SPEC)
    request = Request(spec, cache=Cache(tmp_path / "cache", 1 << 30), jobs=2)
    bundle = build(request).bundle
    path = bundle / "evidence" / "targets.json"
    (row,) = json.loads(path.read_text())

    def said(valid: bool, seconds: float) -> None:
        def answer(*given: object) -> Evidence:
            document = prove(*given).document  # pyright: ignore[reportArgumentType]
            return Evidence({**document, "valid": valid, "latency_s": {"p99": seconds}})

        monkeypatch.setattr(measure, "prove", answer)
        path.write_text(json.dumps([row | {"met": None, "note": "void: this machine was too busy"}]))

    said(valid=True, seconds=0.5)
    outcome = build(request)
    assert (outcome.reused, [(m.met, m.value) for m in outcome.measured]) == (True, [(True, 0.5)])
    assert json.loads(path.read_text())[0]["met"] is True
    monkeypatch.setattr(measure, "prove", None)
    assert [(m.met, m.value) for m in build(request).measured] == [(True, 0.5)], "what is proved stays"
    said(valid=False, seconds=100.0)
    outcome = build(request)
    assert [m.is_void for m in outcome.measured] == [True]
    said(valid=True, seconds=100.0)
    with pytest.raises(Missed, match="is missed"):
        build(request)
