"""The aarch64 server under qemu: the same answers from a bundle that was made here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from platform import machine

import numpy as np
import pytest

from .bundles import ROOT, Fixture, embed
from .conftest import MakeBundle
from .serving import running

SERVE = ROOT / "build" / "serve" / "aarch64" / "serve"
LIBRARIES = Path("/usr/aarch64-linux-gnu")

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(machine() == "aarch64", reason="this machine is one"),
    pytest.mark.skipif(not SERVE.exists(), reason="make build/serve/aarch64/serve has not been run"),
    pytest.mark.skipif(
        shutil.which("qemu-aarch64") is None or not LIBRARIES.exists(),
        reason="needs Debian's qemu-user and libc6-arm64-cross",
    ),
]


@pytest.fixture
def emulated(tmp_path: Path) -> Path:
    """The server as a program of this machine."""
    script = tmp_path / "serve"
    script.write_text(f'#!/bin/sh\nexec qemu-aarch64 -L {LIBRARIES} {SERVE} "$@"\n')
    script.chmod(0o755)
    return script


def test_it_checks_and_serves_embeddings(emulated: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(Fixture(kind="embed"), arch="aarch64")
    checked = subprocess.run([str(emulated), "check", "--bundle", str(bundle)], capture_output=True, check=True)
    assert json.loads(checked.stdout)["ok"]
    with running(emulated, bundle) as server:
        answer = server.post("/v1/embeddings", {"model": "fixture", "input": "hello"})
        assert np.allclose(answer.json["data"][0]["embedding"], embed([[101, 7592, 102]])[0], atol=1e-6)
        assert server.stop() == 0


def test_a_bundle_for_this_machine_is_refused_with_6(emulated: Path, make_bundle: MakeBundle) -> None:
    command = [str(emulated), "check", "--bundle", str(make_bundle())]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 6
    assert f"built for linux {machine()}, and this is linux aarch64" in refused.stderr
