"""A full disk: the build names it (exit 6) and leaves nothing; a full cache costs a warning."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infc.compiler.bundle.lock import write_lock
from infc.compiler.cache import Cache, Spare, cache_key
from infc.compiler.disk import disk_full, is_full
from infc.compiler.frontends.errors import FrontendError

ROOT = Path(__file__).parents[2]
MODEL = """import torch

class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(16, 32768)

    def forward(self, x):
        return self.a(x)
"""
SPEC = 'infer 1\nmodel m {\n  source torch("model.py:M")\n  input x: float32[batch, 16]\n}\n'


@contextmanager
def small_disk(place: Path, size: str) -> Generator[Path]:
    """A file system of `size` at place; the test is skipped where nothing may be mounted."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def build(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "m.infer").write_text(SPEC, encoding="utf-8")
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), **env}
    return subprocess.run(
        [sys.executable, "-m", "infc", "build", "-q", "m.infer", *arguments],
        cwd=folder, capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_full_output_disk_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "out", "1m") as out:
        old = out / "m.bundle"
        (old / "models").mkdir(parents=True)
        (old / "serve").touch()
        (old / "manifest.json").write_text("{}", encoding="utf-8")  # of another format, say
        done = build(tmp_path, "-o", str(old), "--cache-dir", str(tmp_path / "cache"))
        assert done.returncode == 6, done.stderr
        assert str(out) in done.stderr
        assert names(out) == ["m.bundle"]
        assert (old / "manifest.json").read_text() == "{}"
    assert names(tmp_path / "tmp") == []


@pytest.mark.full
def test_a_full_work_disk_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "work", "1m") as work:
        done = build(tmp_path, "--cache-dir", str(tmp_path / "cache"), TMPDIR=str(work))
        assert done.returncode == 6, done.stderr
        assert str(work) in done.stderr
        assert names(work) == []
    assert not (tmp_path / "m.bundle").exists()
    assert [p.name for p in tmp_path.glob(".m.*")] == []


@pytest.mark.full
def test_a_full_cache_costs_one_warning(tmp_path: Path) -> None:
    with small_disk(tmp_path / "cache", "256k") as cache:
        done = build(tmp_path, "--cache-dir", str(cache))
        assert done.returncode == 0, done.stderr
        assert (done.stderr.count("\n"), done.stderr.startswith("warning: ")) == (1, True), done.stderr
        assert names(cache / "tmp") == []
    assert (tmp_path / "m.bundle" / "manifest.json").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_a_library_says_of_a_full_disk_is_known(number: int) -> None:
    def fail() -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise FrontendError("the program cannot be rewritten") from error

    with pytest.raises(FrontendError) as found:
        fail()
    assert is_full(found.value)
    assert is_full(RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})"))
    assert is_full(OSError("524288 requested and 229376 written"))
    assert not is_full(OSError(errno.EACCES, os.strerror(errno.EACCES)))
    said = disk_full("/tmp", "/var")
    assert (said.exit_code, "/tmp" in said.message) == (6, True)


def test_a_worker_says_of_a_full_disk_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infc.compiler.sandbox.process import Worker

    (tmp_path / "session.py").write_text(
        "import os\n"
        "def open_session():\n"
        "    def handle(request):\n"
        "        try:\n"
        "            raise OSError(28, os.strerror(28))\n"
        "        except OSError as error:\n"
        "            raise RuntimeError('the writer failed') from error\n"
        "    return handle\n"
        "def user_error(error, request):\n"
        "    return str(error)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("session", "'m.pt2'", folder=tmp_path / "work")
    try:
        with pytest.raises(Exception, match="is full") as found:
            worker.ask({"do": "import"})
    finally:
        worker.close()
    assert getattr(found.value, "exit_code", None) == 6
    assert str(tmp_path / "work") in str(found.value)


def test_a_cache_that_takes_no_more_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    spare = Spare(Cache(tmp_path / "cache"), said.append)

    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("a", "b"):
        spare.ask(lambda cache, name=name: cache.put(cache_key(name), fill))
    assert len(said) == 1
    assert names(tmp_path / "cache" / "tmp") == []


def test_a_lock_that_cannot_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "m.infer.lock"
    write_lock(lock, "old\n")

    def full(path: Path, text: str, **kind: str) -> int:
        path.write_bytes(text[:2].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_lock(lock, "new\n")
    assert lock.read_text() == "old\n"
    assert names(tmp_path) == ["m.infer.lock"]
