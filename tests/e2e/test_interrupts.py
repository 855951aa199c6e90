"""What ends a build early leaves nothing; what kill -9 leaves, the next build removes; a broken cache costs a warning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infc.compiler.temporary import WORK, sweep, temporary_folder

ROOT = Path(__file__).parents[2]
MODEL = """import torch

class M(torch.nn.Module):
    def forward(self, x):
        return x * 2

def make():
    return M()
"""
SPEC = 'infer 1\nmodel m {\n  source torch("model.py:make")\n  input x: float32[batch, 16]\n}\n'


def start(folder: Path, cache: str | Path) -> subprocess.Popen[str]:
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "m.infer").write_text(SPEC, encoding="utf-8")
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "infc", "build", "-q", "m.infer", "--cache-dir", str(cache)],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
    )  # fmt: skip


def left(folder: Path) -> list[str]:
    return [p.name for p in [*folder.glob(".m.bundle*"), *(folder / "tmp").glob("infc-*")]]


def wait_for_work(folder: Path) -> None:
    end = time.monotonic() + 60
    while not list((folder / "tmp").glob(f"{WORK}*")) and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.0, 1.5])
def test_a_signal_ends_a_build_with_one_line(tmp_path: Path, number: signal.Signals, after: float) -> None:
    child = start(tmp_path, tmp_path / "cache")
    wait_for_work(tmp_path)
    time.sleep(after)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (130, "error: interrupted\n")
    assert left(tmp_path) == []


def test_what_kill_leaves_the_next_build_removes(tmp_path: Path) -> None:
    child = start(tmp_path, tmp_path / "cache")
    wait_for_work(tmp_path)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert left(tmp_path)
    again = start(tmp_path, tmp_path / "cache")
    assert again.wait(timeout=240) == 0
    assert left(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "/dev/null/x", "dangling"])
def test_an_unusable_cache_costs_one_warning(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    child = start(tmp_path, tmp_path / place)
    _, said = child.communicate(timeout=240)
    assert child.returncode == 0, said
    assert (said.count("\n"), said.startswith("warning: "), place in said) == (1, True, True)


def test_a_held_folder_and_a_link_are_not_swept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p-aaaaaaaa").symlink_to("elsewhere")
    (tmp_path / "p-bbbbbbbb").mkdir()
    (tmp_path / "p-notes").mkdir()
    with temporary_folder(tmp_path, "p-") as held:
        sweep(tmp_path, "p-")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["elsewhere", "p-aaaaaaaa", "p-notes", held.name])
