"""The cache is never needed: whatever stands in its place, a build ends well, with at most one warning."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.compiler.build_key import find_build, remember_build
from infc.compiler.cache import Cache, Spare, cache_key

ROOT = Path(__file__).parents[2]
MODEL = "import torch\n\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n"
SPEC = 'infer 1\nmodel m {\n  source torch("model.py:M")\n  input x: float32[batch, 16]\n}\n'
KEY = cache_key("build")


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "objects").glob("*/*"))


def file_at(*parts: str) -> Callable[[Path], None]:
    def make(cache: Path) -> None:
        place = cache.joinpath(*parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"no folder")

    return make


def dangling(cache: Path) -> None:
    cache.symlink_to("nowhere/at/all")


def null(cache: Path) -> None:
    cache.symlink_to("/dev/null")


def loop(cache: Path) -> None:
    cache.symlink_to(cache.name)


def link_to_file_at_entry(cache: Path) -> None:
    place = cache / "objects" / KEY[:2] / KEY
    place.parent.mkdir(parents=True)
    place.symlink_to("/dev/null")


def dangling_entry(cache: Path) -> None:
    place = cache / "objects" / KEY[:2] / KEY
    place.parent.mkdir(parents=True)
    place.symlink_to("nowhere")


BROKEN = {
    "a file in place": file_at(),
    "a file at objects": file_at("objects"),
    "a file at a group": file_at("objects", KEY[:2]),
    "a file at an entry": file_at("objects", KEY[:2], KEY),
    "a file at tmp": file_at("tmp"),
    "a dangling link": dangling,
    "a device": null,
    "a link to itself": loop,
    "a link to a file at an entry": link_to_file_at_entry,
    "a dangling link at an entry": dangling_entry,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cache_is_said_at_most_once(tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    BROKEN[name](cache)
    used, bundle, said = tmp_path / "model.py", tmp_path / "m.bundle", list[str]()
    used.write_text(MODEL, encoding="utf-8")
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}", encoding="utf-8")
    spare = Spare(Cache(cache), said.append)
    assert spare.ask(lambda c: find_build(c, KEY)) is None
    spare.ask(lambda c: remember_build(c, KEY, [used], bundle))
    found = spare.ask(lambda c: find_build(c, KEY))
    assert found is not None or len(said) == 1, said
    assert len(said) <= 1


@pytest.mark.parametrize("damage", ["half", "unreadable form", "no digests", "gone", "folder for a file"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    used, bundle, said = tmp_path / "model.py", tmp_path / "m.bundle", list[str]()
    used.write_text(MODEL, encoding="utf-8")
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}", encoding="utf-8")
    cache = Cache(tmp_path / "cache")
    remember_build(cache, KEY, [used], bundle)
    for entry in entries(cache.folder):
        meta, files = entry / ".entry.json", [p for p in entry.iterdir() if p.name != ".entry.json"]
        if damage == "half":
            files[0].write_bytes(b"")
        elif damage == "unreadable form":
            meta.write_bytes(b"[[[[")
        elif damage == "no digests":
            meta.write_text('{"format": 1, "files": 3}', encoding="utf-8")
        elif damage == "gone":
            shutil.rmtree(entry)
        else:
            files[0].unlink()
            files[0].mkdir()
    spare = Spare(cache, said.append)
    assert spare.ask(lambda c: find_build(c, KEY)) is None
    spare.ask(lambda c: remember_build(c, KEY, [used], bundle))
    assert spare.ask(lambda c: find_build(c, KEY)) is not None
    assert said == []


def start(folder: Path, cache: Path, out: str = "m.bundle") -> subprocess.Popen[str]:
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "m.infer").write_text(SPEC, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "infc", "build", "-q", "m.infer", "-o", out, "--cache-dir", str(cache)],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_build_ends_well_with_a_file_for_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(b"")
    build = start(tmp_path, cache)
    _, said = build.communicate(timeout=240)
    assert build.returncode == 0, said
    assert (said.count("\n"), said.startswith("warning: "), str(cache) in said) == (1, True, True), said


@pytest.mark.full
def test_a_build_ends_well_with_a_cache_that_is_read_only(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for step in (["--bind", cache, cache], ["-o", "remount,bind,ro", cache]):
        done = subprocess.run(["mount", *step], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        build = start(tmp_path, cache)
        _, said = build.communicate(timeout=240)
    finally:
        subprocess.run(["umount", "-l", cache], check=True)
    assert build.returncode == 0, said
    assert (said.count("\n"), said.startswith("warning: ")) == (1, True), said


@pytest.mark.full
def test_parallel_builds_share_a_cache_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    builds = [start(tmp_path, cache, f"{name}.bundle") for name in "ab"]
    while any(build.poll() is None for build in builds):
        shutil.rmtree(cache, ignore_errors=True)
    for build in builds:
        said = build.communicate()[1]
        assert build.returncode == 0, said
        assert said.count("\n") <= 1, said
