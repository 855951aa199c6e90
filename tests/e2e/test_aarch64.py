"""Models built here for aarch64: their own server and the C driver that comes with it, run by qemu."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.build import build
from infc.compiler.driver import Request
from infc.compiler.ir.interpret import run as interpret
from infc.runtime import load
from infc.targets.cpu.isa import ISAS
from tests.server.serving import Server, environment, running

from .conftest import BundleOf, copy_example
from .support import ROOT, Array, agree, compiled
from .test_precisions import write_small

SYSROOT = Path("/usr/aarch64-linux-gnu")
QEMU = shutil.which("qemu-aarch64")
SERVER = ROOT / "build" / "serve" / "aarch64" / "serve"
MISSING = (
    "this machine is no x86-64"
    if platform.machine() != "x86_64"
    else "needs qemu-aarch64 and its C library: make deps-debian"
    if QEMU is None or not SYSROOT.is_dir()
    else "needs the server for aarch64: make build/serve/aarch64/serve"
    if not SERVER.exists()
    else ""
)
LEAST_COSINE = 0.99999
TEXTS = ["A man is playing the guitar on stage.", "", "tide", "the harbour is closed today " * 6]

pytestmark = [pytest.mark.qemu, pytest.mark.full, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


@pytest.fixture(scope="module")
def bundle(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/minilm for aarch64-neon."""
    spec = copy_example(examples, "minilm", tmp_path_factory.mktemp("arm") / "minilm")
    return build(Request(spec, use="cpu { isa aarch64-neon, cores 2 }", jobs=2)).bundle


@contextmanager
def emulated(bundle: Path, folder: Path) -> Generator[Server]:
    """The bundle's own server under qemu; a script stands for it, since qemu takes the program as an argument."""
    script = folder / "serve-under-qemu"
    script.write_text(f'#!/bin/sh\nexec {QEMU} -L {SYSROOT} "{bundle / "serve"}" "$@"\n')
    script.chmod(0o755)
    with running(script, bundle, ready=False) as server:
        yield server.ready(timeout=240)


def embeddings(server: Server) -> Array:
    answer = server.post("/v1/embeddings", {"model": "minilm", "input": TEXTS}, {"x-request-deadline-ms": "60000"})
    assert answer.status == 200, answer.body
    return np.array([item["embedding"] for item in answer.json["data"]], np.float64)


def test_its_server_answers_the_same_embeddings_over_http(bundle: Path, bundle_of: BundleOf, tmp_path: Path) -> None:
    native = bundle_of("minilm")
    with running(native / "serve", native) as server:
        want = embeddings(server)
    with emulated(bundle, tmp_path) as server:
        got = embeddings(server)
    cosines = np.sum(got * want, axis=1) / (np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1))
    assert cosines.min() >= LEAST_COSINE


def driven(bundle: Path, folder: Path, *given: str) -> Array:
    """The outputs, raw float32, of the C driver that comes with a bundle, compiled and run under qemu."""
    driver = folder / "run"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28", "-O1", "-Wall", "-Werror"]
    files = ["-I", bundle / "include", bundle / "examples" / "run.c", "-o", driver, "-ldl"]
    done = subprocess.run([*compiler, *files], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    variant = bundle / "models" / "0" / "variants" / "0"
    command = [str(QEMU), "-L", str(SYSROOT), driver, variant / "model.so", variant / "weights.bin", *given]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, "<f4")


def test_the_c_driver_in_the_bundle_gives_the_same_numbers(bundle: Path, bundle_of: BundleOf, tmp_path: Path) -> None:
    ids = np.array([[101, 1037, 2158, 2003, 2652, 1996, 2858, 102]])
    ids.astype("<i8").tofile(tmp_path / "ids.bin")
    with load(bundle_of("minilm")) as model:
        want = model.run(input_ids=ids)["embedding"]
        given = ["-" if info.name != "input_ids" else f"int64:1x8:{tmp_path / 'ids.bin'}" for info in model.inputs]
    assert np.abs(driven(bundle, tmp_path, *given).reshape(want.shape) - want).max() <= 1e-5


def test_int8_gives_the_same_bits_on_every_aarch64_and_what_the_interpreter_says(tmp_path: Path) -> None:
    """Their products are other instructions, whose integer sums are exact; what is not, is the same code."""
    spec = write_small(tmp_path, 0.9)
    x = np.random.default_rng(6).standard_normal((7, 32)).astype(np.float32)
    with compiled(spec, tmp_path / "here") as here:
        (want,) = interpret(here.compiled.imported.graph, {"x": x}).values()
    found: dict[str, Array] = {}
    for isa in (name for name in ISAS if name.startswith("aarch64")):
        outcome = build(Request(spec, use=f"cpu {{ isa {isa}, cores 1 }}", output=tmp_path / isa))
        rows = [x[:1], x]
        for part in rows:
            part.tofile(tmp_path / "x.bin")
            got = driven(outcome.bundle, tmp_path, f"float32:{len(part)}x32:{tmp_path / 'x.bin'}").reshape(-1, 9)
            agree(got, want[: len(part)], f"{isa}, {len(part)} rows", tolerance=2e-2)
            found[f"{isa}, {len(part)} rows"] = got
    first = found["aarch64-neon, 7 rows"]
    for what, got in found.items():
        assert got.tobytes() == first[: len(got)].tobytes(), what


def test_it_is_not_started_on_this_cpu(bundle: Path, bundle_of: BundleOf) -> None:
    """The x86-64 server, given the aarch64 bundle, says whose it is."""
    server = bundle_of("minilm") / "serve"
    done = subprocess.run(
        [server, "check", "--bundle", bundle], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 6, done.stderr
    assert "aarch64" in done.stderr
