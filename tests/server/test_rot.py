"""Rot of the manifest, things that are no files, and formats: refused with exit 7 and a message that names the file."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .bundles import Fixture, Json, rewritten, write_manifest, write_manifest_bytes
from .conftest import MakeBundle
from .serving import environment, run

WEIGHTS = "models/0/variants/0/weights.bin"


@pytest.fixture(scope="module")
def sound(make_bundle: MakeBundle) -> Path:
    return make_bundle()


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def everything(bundle: Path) -> list[str]:
    return sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file())


def refused(serve_binary: Path, bundle: Path, *parts: str) -> str:
    """That `serve check` ends with 7 and says each of `parts`; its words."""
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 7, (result.returncode, result.stdout, result.stderr)
    assert "panicked" not in result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr
    return result.stderr


def flips(serve_binary: Path, bundle: Path, count: int) -> None:
    """`count` single bits, spread evenly over all files of the bundle: each is refused and its file named."""
    chooser = random.Random(11)
    names = everything(bundle)
    for number in range(count):
        path = bundle / names[number % len(names)]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        path.write_bytes(data)
        refused(serve_binary, bundle, names[number % len(names)])
        path.write_bytes(whole)
    assert run(serve_binary, bundle, "check").returncode == 0


def test_no_flipped_bit_in_any_file_is_served(serve_binary: Path, bundle: Path) -> None:
    assert "manifest.json" in everything(bundle)
    assert "manifest.sha256" in everything(bundle)
    flips(serve_binary, bundle, 60)


@pytest.mark.full
def test_none_of_400_flipped_bits_is_served(serve_binary: Path, bundle: Path) -> None:
    flips(serve_binary, bundle, 400)


def test_every_bit_of_the_digest_counts(serve_binary: Path, bundle: Path) -> None:
    path = bundle / "manifest.sha256"
    whole = path.read_bytes()
    for at in (0, 30, 63, 64, 65, 66, 72, len(whole) - 1):
        for bit in (0, 5):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            refused(serve_binary, bundle, "manifest.sha256")


def test_truncation_of_the_manifest_and_its_digest_is_named(serve_binary: Path, bundle: Path) -> None:
    chooser = random.Random(12)
    for name in ("manifest.json", "manifest.sha256"):
        path = bundle / name
        whole = path.read_bytes()
        for length in (0, 1, chooser.randrange(len(whole)), len(whole) - 1):
            path.write_bytes(whole[:length])
            refused(serve_binary, bundle, name)
        path.write_bytes(whole + b"\n")
        refused(serve_binary, bundle, name)
        path.unlink()
        refused(serve_binary, bundle, f"{name}: No such file")
        path.write_bytes(whole)


def test_sha256sum_checks_the_manifest(bundle: Path) -> None:
    command = ["sha256sum", "--strict", "-c", "manifest.sha256"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "manifest.json: OK\n")
    (bundle / "manifest.json").write_text("{}")
    assert subprocess.run(command, cwd=bundle, capture_output=True, check=False).returncode == 1


def test_the_digest_is_compared_before_anything_is_parsed(serve_binary: Path, bundle: Path) -> None:
    (bundle / "manifest.json").write_text("not even JSON")
    text = refused(serve_binary, bundle, "manifest.json does not match manifest.sha256")
    assert "line 1" not in text


def test_a_bundle_of_format_1_is_told_its_format_and_not_that_it_is_rotten(serve_binary: Path, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    write_manifest(bundle, manifest | {"format": 1})
    (bundle / "manifest.sha256").unlink()
    refused(serve_binary, bundle, "manifest.json has format 1, and this server reads format 5: build the bundle again")


def replace_by(kind: str, path: Path, elsewhere: Path) -> None:
    """Puts something that is no regular file, or no file of the bundle, at `path`."""
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket is short
            try:
                server.bind(path.name)
            finally:
                os.chdir(here)


@pytest.mark.parametrize("kind", ["FIFO", "folder", "link", "link to a device", "socket"])
def test_what_is_no_regular_file_is_named_and_nothing_waits(
    serve_binary: Path, bundle: Path, tmp_path: Path, kind: str
) -> None:
    for name in everything(bundle):
        path = bundle / name
        whole = path.read_bytes()
        replace_by(kind, path, tmp_path / "elsewhere")
        refused(serve_binary, bundle, name, "must be a regular file")
        path.rmdir() if kind == "folder" else path.unlink()
        path.write_bytes(whole)
    assert run(serve_binary, bundle, "check").returncode == 0


def test_a_link_in_the_way_inside_the_bundle_is_refused_and_one_outside_is_not(
    serve_binary: Path, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "way").symlink_to(bundle)
    assert run(serve_binary, tmp_path / "way", "check").returncode == 0
    shutil.move(bundle / "models", tmp_path / "models")
    (bundle / "models").symlink_to(tmp_path / "models")
    refused(serve_binary, bundle, WEIGHTS, "is a link, or no folder")


def test_a_huge_file_is_refused_by_its_size_without_being_read(serve_binary: Path, bundle: Path) -> None:
    for name in (WEIGHTS, "manifest.json", "manifest.sha256"):
        path = bundle / name
        whole = path.read_bytes()
        os.truncate(path, 1 << 40)
        refused(serve_binary, bundle, name, str(1 << 40))
        path.write_bytes(whole)


OBJECTS = (
    "",
    "platform",
    "models.0",
    "models.0.task",
    "models.0.inputs.0",
    "models.0.outputs.0",
    "models.0.variants.0",
    "serve",
    "serve.batch",
    "memory",
    "files.0",
)


def at(document: Any, place: str) -> Any:
    for step in place.split(".") if place else ():
        document = document[int(step)] if step.isdigit() else document[step]
    return document


@pytest.mark.parametrize("place", OBJECTS)
def test_a_key_that_is_unknown_or_there_twice_is_refused_in_every_object(
    serve_binary: Path, bundle: Path, place: str
) -> None:
    manifest: Json = json.loads((bundle / "manifest.json").read_text())
    at(manifest, place)["surprise"] = 0
    write_manifest(bundle, manifest)
    refused(serve_binary, bundle, "manifest.json: unknown field `surprise`")
    del at(manifest, place)["surprise"]
    # No JSON library writes a key twice: two marks become one name.
    found = at(manifest, place)
    found["MARK1"] = found["MARK2"] = None
    text = json.dumps(manifest).replace("MARK1", "MARK2")
    write_manifest_bytes(bundle, text.encode())
    refused(serve_binary, bundle, 'manifest.json: the key "MARK2" stands twice')


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"new": 1}, "unknown field `new`"),
        ({"format": 2}, "format 2, and this server reads format 1"),
        ({"cases": []}, "it has no cases"),
        ({"max_abs_error": -1.0}, "max_abs_error is -1"),
    ],
)
def test_golden_answers_are_read_as_strictly(serve_binary: Path, bundle: Path, change: Json, part: str) -> None:
    path = bundle / "models/0/golden.json"
    rewritten(bundle, path, json.dumps(json.loads(path.read_text()) | change))
    refused(serve_binary, bundle, "models/0/golden.json", part)


def test_a_known_answer_without_one_of_the_outputs_is_refused(serve_binary: Path, bundle: Path) -> None:
    path = bundle / "models/0/golden.json"
    golden: Json = json.loads(path.read_text())
    kept = golden["cases"][0]["outputs"].pop("label")
    rewritten(bundle, path, json.dumps(golden))
    refused(serve_binary, bundle, 'output "label" is missing')
    golden["cases"][0]["outputs"] |= {"label": kept, "other": kept}
    rewritten(bundle, path, json.dumps(golden))
    refused(serve_binary, bundle, 'the model has no output "other"')


def opens(bundle: Path, command: list[str]) -> dict[str, int]:
    """How often a process opened each file of the bundle, as inotify counts it."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0
    in_open = 0x20
    folders: dict[int, Path] = {}
    for folder in {p.parent for p in bundle.rglob("*") if p.is_file()}:
        watch = libc.inotify_add_watch(fd, bytes(folder), in_open)
        assert watch >= 0
        folders[watch] = folder
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment())
        events = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    counts: dict[str, int] = {}
    while events:
        watch, _, _, length = struct.unpack("iIII", events[:16])
        name = events[16 : 16 + length].rstrip(b"\0").decode()
        events = events[16 + length :]
        path = folders[watch] / name
        if name and path.is_file():
            counts[path.relative_to(bundle).as_posix()] = counts.get(path.relative_to(bundle).as_posix(), 0) + 1
    return counts


def test_each_file_is_opened_once(serve_binary: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(Fixture(kind="embed"))
    counts = opens(bundle, [str(serve_binary), "check", "--bundle", str(bundle)])
    library = "models/0/variants/0/model.so"
    # The dynamic loader opens the library's descriptor again, by way of /proc.
    assert counts == {name: 2 if name == library else 1 for name in everything(bundle)}


def test_two_models_of_one_bundle_have_each_their_own_library(serve_binary: Path, make_bundle: MakeBundle) -> None:
    """Libraries are loaded by the number of their descriptor: were one number used twice, both models would be the first."""
    bundle = make_bundle(Fixture(name="a"), Fixture(kind="embed", name="b"), Fixture(name="c", defines=("REPEAT=3",)))
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["models"] == ["a", "b", "c"]
