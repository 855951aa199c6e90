"""Damaged bundles are refused before ready, each with a message that names the file; unsuited ones with exit code 6."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from platform import machine
from typing import Any

import pytest

from .bundles import Fixture, Json, digests, write_manifest, write_manifest_bytes
from .conftest import MakeBundle
from .serving import environment, run


def contents(bundle: Path) -> list[Path]:
    return sorted(p for p in bundle.rglob("*") if p.is_file() and not p.name.startswith("manifest."))


@pytest.fixture(scope="module")
def sound(make_bundle: MakeBundle) -> Path:
    return make_bundle(Fixture(kind="embed"))


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[Json], None]) -> None:
    manifest: Json = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    write_manifest(bundle, manifest)


def rehash(bundle: Path) -> None:
    """Digests as they would be if the present files had been written by a build."""

    def change(manifest: Json) -> None:
        for entry in manifest["files"]:
            path = bundle / entry["path"]
            entry |= {"bytes": path.stat().st_size, "sha256": digests(path)}

    edit(bundle, change)


def test_a_sound_bundle_passes_check(serve_binary: Path, bundle: Path) -> None:
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    assert (report["ok"], report["models"], report["files"]) == (True, ["fixture"], 4)


def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(serve_binary: Path, bundle: Path) -> None:
    chooser = random.Random(3)
    for path in contents(bundle):
        sound = path.read_bytes()
        for _ in range(2):
            data = bytearray(sound)
            data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
            path.write_bytes(data)
            result = run(serve_binary, bundle, "check")
            assert result.returncode == 7, result.stderr
            assert f"{path.relative_to(bundle)} does not match its digest" in result.stderr
        path.write_bytes(sound)


def test_truncation_anywhere_is_found_and_the_file_named(serve_binary: Path, bundle: Path) -> None:
    chooser = random.Random(4)
    for path in contents(bundle):
        data = path.read_bytes()
        for length in (0, chooser.randrange(len(data)), len(data) - 1):
            path.write_bytes(data[:length])
            result = run(serve_binary, bundle, "check")
            assert result.returncode == 7
            assert f"{path.relative_to(bundle)} has {length} bytes and should have {len(data)}" in result.stderr
        path.write_bytes(data + b"x")
        assert run(serve_binary, bundle, "check").returncode == 7
        path.unlink()
        missing = run(serve_binary, bundle, "check")
        assert missing.returncode == 7
        assert f"{path.relative_to(bundle)}: No such file" in missing.stderr
        path.write_bytes(data)
    assert run(serve_binary, bundle, "check").returncode == 0


def test_the_server_ends_with_7_before_it_is_ready(serve_binary: Path, bundle: Path) -> None:
    (bundle / "models/0/variants/0/weights.bin").write_bytes(b"\0" * 32)
    command = [str(serve_binary), "--bundle", str(bundle), "--port", "0"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment())
    assert result.returncode == 7
    assert "models/0/variants/0/weights.bin does not match its digest" in result.stderr


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "models/../../x", ""])
def test_paths_that_leave_the_folder_are_refused(serve_binary: Path, bundle: Path, path: str) -> None:
    def change(manifest: Json) -> None:
        manifest["files"].append({"path": path, "bytes": 0, "executable": False, "sha256": []})

    edit(bundle, change)
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 7
    assert "leaves the bundle's folder" in result.stderr
    assert "root:" not in result.stderr


FIRST = "models.0"
CONTRADICTIONS: list[tuple[str, Any, str]] = [
    ("format", 3, "manifest.json has format 3, and this server reads format 5"),
    ("format", 6, "manifest.json has format 6, and this server reads format 5"),
    ("new", 1, "unknown field `new`"),
    (f"{FIRST}.inputs.0.new", 1, "unknown field `new`"),
    (f"{FIRST}.task.new", 1, "unknown field `new`"),
    ("serve.batch.new", 1, "unknown field `new`"),
    ("files.0.new", 1, "unknown field `new`"),
    (f"{FIRST}.outputs.0.shape", ["batch", 9], "describes other inputs or outputs"),
    (f"{FIRST}.dims.tokens", [1, 65], "describes other dimensions"),
    (f"{FIRST}.length_dim", None, "describes other dimensions"),
    (f"{FIRST}.dims.batch", [0, 2**40], "the upper bound of dimension"),
    (f"{FIRST}.name", "a\nb", "without control characters"),
    ("serve.queue", 0, "serve.queue is 0"),
    ("serve.protocols", ["soap"], "unknown protocol"),
    ("serve.deadline_s", -1.0, "deadline_s"),
    ("files.0.bytes", 2**64 - 1, "is said to have"),
    ("files.0.path", "manifest.sha256", "lists itself"),
    ("models", [], "no models"),
    (f"{FIRST}.golden", "../g", "leaves the bundle's folder"),
    (f"{FIRST}.variants.0.library", "other.so", "has no digest"),
    (f"{FIRST}.aliases", ["fixture"], "two models have the name"),
    (f"{FIRST}.dims.batch", [5, 1], "empty range 5..1"),
    (f"{FIRST}.inputs.0.name", "other", "describes other inputs"),
    (f"{FIRST}.task.limit", 1, "leaves no room for the special tokens"),
    ("files", None, "manifest.json"),
]


@pytest.mark.parametrize(("place", "value", "part"), CONTRADICTIONS)
def test_contradictions_in_the_manifest_are_named(
    serve_binary: Path, bundle: Path, place: str, value: Any, part: str
) -> None:
    def change(manifest: Json) -> None:
        *parents, last = place.split(".")
        target: Any = manifest
        for step in parents:
            target = target[int(step)] if step.isdigit() else target[step]
        target[last] = value

    edit(bundle, change)
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 7
    assert part in result.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00", '{"format": 1, "files": "x"}'])
def test_a_broken_manifest_is_refused(serve_binary: Path, bundle: Path, text: str) -> None:
    write_manifest_bytes(bundle, text.encode())
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 7
    assert "manifest.json" in result.stderr


def test_a_folder_that_is_no_bundle_is_named(serve_binary: Path, tmp_path: Path) -> None:
    result = run(serve_binary, tmp_path, "check")
    assert result.returncode == 7
    assert "manifest.json: No such file" in result.stderr


def test_mutated_tokenizers_and_golden_files_with_right_digests_do_not_panic(serve_binary: Path, bundle: Path) -> None:
    chooser = random.Random(5)
    for name in ("models/0/task/tokenizer.json", "models/0/golden.json"):
        path = bundle / name
        data = path.read_bytes()
        for cut in (0, 1, chooser.randrange(len(data)), len(data) - 2):
            path.write_bytes(data[:cut])
            rehash(bundle)
            result = run(serve_binary, bundle, "check")
            assert result.returncode == 7, result.stderr
            assert "panicked" not in result.stderr
        path.write_bytes(data)
    rehash(bundle)
    assert run(serve_binary, bundle, "check").returncode == 0


def test_what_is_no_library_or_lacks_a_function_is_refused(serve_binary: Path, bundle: Path) -> None:
    library = bundle / "models/0/variants/0/model.so"
    sound = library.read_bytes()
    for broken in (b"not a library", b"", sound.replace(b"infc_run\0", b"infc_ran\0")):
        library.write_bytes(broken)
        rehash(bundle)
        result = run(serve_binary, bundle, "check")
        assert result.returncode == 7, result.stderr
        assert "models/0/variants/0/model.so" in result.stderr


def test_a_wrong_known_answer_is_refused(serve_binary: Path, make_bundle: MakeBundle) -> None:
    result = run(serve_binary, make_bundle(Fixture(defines=("DRIFT",))), "check")
    assert result.returncode == 6, "the files are whole: it is the machine that differs"
    assert "gives another answer here than where it was built, although the files are whole" in result.stderr
    assert 'known answer 0, output "score": element 0' in result.stderr


def test_a_cpu_without_the_features_is_6_with_the_features_name(serve_binary: Path, make_bundle: MakeBundle) -> None:
    foreign = "sve" if machine() == "x86_64" else "avx512f"
    for bundle, part in (
        (make_bundle(Fixture(cpu_features=(foreign,))), f"needs {foreign}"),
        (make_bundle(Fixture(defines=("REFUSE_CPU",))), "this CPU lacks avx1024"),
    ):
        for arguments in (["check"], ["--port", "0"]):
            result = run(serve_binary, bundle, *arguments)
            assert result.returncode == 6, result.stderr
            assert part in result.stderr


def test_a_bundle_for_another_architecture_is_6(serve_binary: Path, make_bundle: MakeBundle) -> None:
    def change(manifest: Json) -> None:
        manifest["platform"]["arch"] = "riscv64"

    result = run(serve_binary, make_bundle(edit=change), "check")
    assert result.returncode == 6
    assert "built for linux riscv64" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(serve_binary: Path, bundle: Path) -> None:
    (bundle / "models/0/golden.json").chmod(0)
    assert "models/0/golden.json: Permission denied" in run(serve_binary, bundle, "check").stderr
