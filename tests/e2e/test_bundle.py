"""A bundle stands alone, is sound or says which file is not, and comes out the same from every build."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.build import build
from infc.compiler.cache import Cache
from infc.compiler.driver import Request
from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.verdict import binding
from infc.runtime import InferError, load
from infc.runtime.document import manifest_sum
from tests.server.serving import environment

from .conftest import BundleOf, copy_example, link_or_copy, plain_spec
from .support import ROOT, infc, refused, write_spec

GLIBC = {"linux-vdso.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"}
FLOOR = (2, 28)


@pytest.fixture(scope="module")
def fraud(bundle_of: BundleOf) -> Path:
    return bundle_of("fraud")


def needed(path: Path) -> set[str]:
    """Names of the libraries that ldd lists, the dynamic loader left out."""
    text = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    assert "not found" not in text, text
    names = {line.split()[0] for line in text.splitlines() if line.strip()}
    return {name for name in names if not name.startswith("/lib") and name != "statically"}


# ── it stands alone ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("ldd") is None, reason="needs ldd")
@pytest.mark.parametrize("name", ["serve", "models/0/variants/0/model.so"])
def test_it_needs_only_glibcs_own_libraries_of_2_28(fraud: Path, name: str) -> None:
    assert needed(fraud / name) <= GLIBC
    found = set(re.findall(rb"\0GLIBC_(\d+)\.(\d+)", (fraud / name).read_bytes()))
    versions = {(int(a), int(b)) for a, b in found}
    assert versions
    assert max(versions) <= FLOOR


def test_its_server_answers_with_an_empty_environment_from_any_folder(bundle_of: BundleOf, tmp_path: Path) -> None:
    bundle = tmp_path / "moved here"
    shutil.copytree(bundle_of("minilm"), bundle, copy_function=link_or_copy)
    command = [str(bundle / "serve"), "run", "--text=a sentence"]
    done = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["outputs"]["embedding"]
    assert len(row) == 384
    assert abs(np.linalg.norm(row) - 1) < 1e-5


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the root folder needs root")
def test_it_runs_where_there_is_nothing_but_glibc(fraud: Path, tmp_path: Path) -> None:
    """A root folder with the bundle and the C library in it: no Python, no shell, no /proc."""
    text = subprocess.run(["ldd", fraud / "serve"], capture_output=True, text=True, check=True).stdout
    for path in sorted(set(re.findall(r"(/\S+\.so\S*)", text))):
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    libc = next(tmp_path.rglob("libc.so.6"))
    for name in ("libdl.so.2", "libpthread.so.0", "libm.so.6"):
        original = Path("/") / libc.relative_to(tmp_path).with_name(name)
        if original.exists():
            shutil.copy2(original, libc.with_name(name))
    shutil.copytree(fraud, tmp_path / "bundle", copy_function=link_or_copy)
    np.save(tmp_path / "rows.npy", np.zeros((2, 64), np.float32))

    def enter() -> None:
        os.chroot(tmp_path)
        os.chdir("/")

    for arguments in (["check"], ["run", "--input", "features=/rows.npy"]):
        done = subprocess.run(
            ["/bundle/serve", *arguments, "--bundle", "/bundle"],
            preexec_fn=enter,
            capture_output=True,
            text=True,
            env={},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with load(fraud) as model:
        want = model.run(features=np.zeros((2, 64), np.float32))["score"]
    assert np.array_equal(np.asarray(json.loads(done.stdout)["outputs"]["score"], np.float32), want)


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def content_of(bundle: Path) -> list[str]:
    files: list[dict[str, str]] = json.loads((bundle / "manifest.json").read_text())["files"]
    return [file["path"] for file in files]


def copied(bundle: Path, folder: Path) -> Path:
    """The bundle again, its files shared until one is replaced."""
    return Path(shutil.copytree(bundle, folder, copy_function=link_or_copy))


def replace(path: Path, data: bytes) -> None:
    """New bytes in a file of its own: other copies of the bundle keep theirs."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def replace_manifest(bundle: Path, data: bytes) -> None:
    """A manifest as if a build had written it: with its digest beside it."""
    replace(bundle / "manifest.json", data)
    replace(bundle / "manifest.sha256", manifest_sum(data).encode())


def assert_refused(bundle: Path, server: Path, name: str) -> None:
    """Neither `serve check` nor the server itself accepts the bundle; both name the file."""
    for arguments in (["check"], ["--port", "0"]):
        command = [server, *arguments, "--bundle", bundle]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == Exit.DAMAGED, (arguments, done.returncode, done.stderr)
        assert name in done.stderr, done.stderr
        assert "panicked" not in done.stderr


def flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": flip,
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "a byte too many": lambda data, rng: data + b"\0",
    "empty": lambda data, rng: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_refused_before_ready_and_the_file_is_named(
    fraud: Path, tmp_path: Path, damage: str
) -> None:
    rng = random.Random(damage)
    for number, name in enumerate(content_of(fraud)):
        bundle = copied(fraud, tmp_path / str(number))
        replace(bundle / name, DAMAGE[damage]((bundle / name).read_bytes(), rng))
        assert_refused(bundle, fraud / "serve", name)


def test_a_lost_file_is_named(fraud: Path, tmp_path: Path) -> None:
    for number, name in enumerate(content_of(fraud)):
        bundle = copied(fraud, tmp_path / str(number))
        (bundle / name).unlink()
        assert_refused(bundle, fraud / "serve", name)


@pytest.mark.parametrize("name", ["models/0/task/tokenizer.json", "models/0/variants/0/weights.bin"])
def test_a_flipped_bit_in_a_large_file_is_found(bundle_of: BundleOf, tmp_path: Path, name: str) -> None:
    bundle = copied(bundle_of("minilm"), tmp_path / "bundle")
    replace(bundle / name, flip((bundle / name).read_bytes(), random.Random(5)))
    assert_refused(bundle, bundle_of("minilm") / "serve", name)


def test_a_damaged_manifest_is_refused(fraud: Path, tmp_path: Path) -> None:
    whole = (fraud / "manifest.json").read_bytes()
    rng = random.Random(3)
    cuts = [rng.randrange(len(whole) - 2) for _ in range(6)]
    for number, data in enumerate([b"", b"null\n", b"[]", whole[::-1], *(whole[:cut] for cut in cuts)]):
        bundle = copied(fraud, tmp_path / str(number))
        replace(bundle / "manifest.json", data)
        assert_refused(bundle, fraud / "serve", "manifest.json does not match manifest.sha256")
        replace_manifest(bundle, data)
        assert_refused(bundle, fraud / "serve", "manifest.json: ")


def test_every_reader_finds_rot_of_the_manifest(fraud: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 64), np.float32))
    for number, name in enumerate(["manifest.json", "manifest.sha256"]):
        bundle = copied(fraud, tmp_path / str(number))
        replace(bundle / name, flip((bundle / name).read_bytes(), random.Random(number)))
        assert_refused(bundle, fraud / "serve", name)
        for command in (
            ["run", bundle, "--input", f"features={tmp_path / 'rows.npy'}"],
            ["explain", bundle],
            ["serve", bundle],
        ):
            refused(infc(*command), Exit.DAMAGED, "manifest.sha256")
        with pytest.raises(InferError, match=r"manifest\.sha256"):
            load(bundle)
        (bundle / name).unlink()
        with pytest.raises(InferError, match="is no bundle"):
            load(bundle)


def test_a_key_that_is_unknown_or_there_twice_is_refused_by_every_reader(fraud: Path, tmp_path: Path) -> None:
    text = (fraud / "manifest.json").read_text()
    for number, (added, part) in enumerate([('"new": 1,', "new"), ('"format": 5,', "stands twice")]):
        bundle = copied(fraud, tmp_path / str(number))
        replace_manifest(bundle, text.replace("{", "{" + added, 1).encode())
        assert_refused(bundle, fraud / "serve", part)
        refused(infc("explain", bundle), Exit.DAMAGED, "manifest.json is damaged")


def test_what_is_no_regular_file_hangs_no_reader(fraud: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 64), np.float32))
    for number, name in enumerate(["models/0/variants/0/model.so", "manifest.sha256"]):
        bundle = copied(fraud, tmp_path / str(number))
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        assert_refused(bundle, fraud / "serve", name)
        refused(infc("run", bundle, "--input", f"features={tmp_path / 'rows.npy'}"), Exit.DAMAGED, name)
        with pytest.raises(InferError, match="regular file"):
            load(bundle)


def test_the_declared_ceiling_is_the_one_that_its_server_prints(fraud: Path) -> None:
    declared = json.loads((fraud / "manifest.json").read_text())["memory"]["serving_bytes"]
    command = [fraud / "serve", "check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=True)
    printed = json.loads(done.stdout)["memory_ceiling"]["total"]
    # The compiler counts the arena; the library's workspace has some room for alignment beside it.
    assert abs(printed - declared) < 1 << 20, (printed, declared)


def test_another_format_is_refused_by_number(fraud: Path, tmp_path: Path) -> None:
    bundle = copied(fraud, tmp_path / "bundle")
    document = json.loads((bundle / "manifest.json").read_text())
    replace_manifest(bundle, json.dumps(document | {"format": 99}).encode())
    assert_refused(bundle, fraud / "serve", "99")


def test_paths_that_leave_the_bundle_are_refused(fraud: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for number, path in enumerate(["../secret", str(secret), "models/../../secret"]):
        bundle = copied(fraud, tmp_path / str(number))
        document = json.loads((bundle / "manifest.json").read_text())
        digest = hashlib.sha256(secret.read_bytes()).hexdigest()
        document["files"].append({"path": path, "bytes": 6, "executable": False, "sha256": [digest]})
        replace_manifest(bundle, json.dumps(document).encode())
        assert_refused(bundle, fraud / "serve", path)


@pytest.mark.parametrize("name", ["models/0/variants/0/weights.bin", "models/0/variants/0/model.so"])
def test_infc_run_refuses_a_damaged_bundle(fraud: Path, tmp_path: Path, name: str) -> None:
    bundle = copied(fraud, tmp_path / "bundle")
    replace(bundle / name, flip((bundle / name).read_bytes(), random.Random(1)))
    np.save(tmp_path / "rows.npy", np.zeros((2, 64), np.float32))
    done = infc("run", bundle, "--input", f"features={tmp_path / 'rows.npy'}")
    refused(done, Exit.DAMAGED, name)


def test_batches_that_no_memory_holds_are_6(fraud: Path) -> None:
    env = environment({"INFC__BATCH__MAX_REQUESTS": "2147483647"})
    done = subprocess.run([fraud / "serve", "check"], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == Exit.MISSING, done.stderr
    assert "workspace" in done.stderr


def test_an_output_that_is_not_finite_is_refused_in_python_too(fraud: Path, tmp_path: Path) -> None:
    rows = np.zeros((3, 64), np.float32)
    rows[1] = 3e38
    with load(fraud) as model:
        with pytest.raises(InferError, match=r"score\[1\]\[0\]: the model's output is nan \(non_finite\)") as caught:
            model.run(features=rows)
        assert (caught.value.kind, caught.value.code) == ("INTERNAL", 6)
        bad, good = model.run_batch([{"features": rows}, {"features": rows[:1]}])
        assert isinstance(bad, InferError)
        assert not isinstance(good, InferError)
    np.save(tmp_path / "rows.npy", rows)
    refused(
        infc("run", fraud, "--input", f"features={tmp_path / 'rows.npy'}"), Exit.USAGE, "score[1][0]", "nan allowed"
    )


def test_where_nan_is_allowed_it_is_null_in_json(tmp_path: Path) -> None:
    path = write_spec(
        tmp_path,
        'source torch("model.py:make")',
        "input x: float32[batch, 2]",
        "output y: float32[batch, 2], nan allowed",
    )
    (tmp_path / "model.py").write_text(
        "import torch\nclass Log(torch.nn.Module):\n    def forward(self, x):\n        return x.log()\ndef make():\n    return Log()\n"
    )
    said = path.read_text()
    path.write_text(said.replace(", nan allowed", ""))
    with pytest.raises(
        InfcError, match=r"within the ranges that the spec says, y\[\d\]\[\d\]: the model's output is nan"
    ) as caught:
        build(Request(path, jobs=2))
    assert caught.value.exit_code == Exit.USAGE
    path.write_text(said)
    bundle = build(Request(path, jobs=2)).bundle
    (tmp_path / "x.json").write_text("[[-1, 1], [0, 1]]")
    done = infc("run", bundle, "--input", f"x={tmp_path / 'x.json'}")
    assert json.loads(done.stdout) == {"outputs": {"y": [[None, 0.0], [None, 0.0]]}}


# ── builds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_builds_in_different_folders_are_identical_byte_for_byte(fraud: Path, examples: Path, tmp_path: Path) -> None:
    spec = copy_example(examples, "fraud", tmp_path / "some where" / "else")
    outcome = build(Request(spec, output=tmp_path / "out.bundle", jobs=2))
    assert not outcome.reused
    assert content_of(outcome.bundle) == content_of(fraud)
    for name in [*content_of(fraud), "manifest.json", "manifest.sha256"]:
        assert (outcome.bundle / name).read_bytes() == (fraud / name).read_bytes(), name
    assert outcome.digest == hashlib.sha256((fraud / "manifest.json").read_bytes()).hexdigest()


def test_no_path_of_this_machine_is_in_a_bundle(fraud: Path) -> None:
    for name in content_of(fraud):
        data = (fraud / name).read_bytes()
        for path in (str(ROOT), str(fraud.parent), str(Path.home())):
            assert path == "/" or f"{path}/".encode() not in data, (name, path)


def test_a_rebuild_with_nothing_changed_is_reused_and_imports_nothing_heavy(fraud: Path) -> None:
    before = (fraud / "manifest.json").stat().st_ino
    command = [sys.executable, "-X", "importtime", "-m", "infc", "build", fraud.parent / "fraud.infer", "--json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment({"INFC__CACHE_DIR": os.environ["INFC__CACHE_DIR"]}),
        check=True,
    )
    document = json.loads(done.stdout)
    assert document["reused"] is True
    assert document["bundle"] == str(fraud)
    modules = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "infc" in modules
    assert not modules & {"torch", "tvm", "torch_mlir", "transformers", "scipy", "numba"}
    assert (fraud / "manifest.json").stat().st_ino == before, "the bundle at its place was written again"


@pytest.mark.full
def test_a_changed_model_or_data_file_is_not_reused(examples: Path, tmp_path: Path) -> None:
    spec = copy_example(examples, "fraud", tmp_path / "fraud")
    cache = Cache(tmp_path / "cache", 1 << 30)
    first = build(Request(spec, cache=cache))
    assert build(Request(spec, cache=cache)).reused
    model = spec.parent / "model.py"
    text = model.read_text()
    model.unlink()
    model.write_text(text.replace("nn.ReLU(), nn.Linear(256, 1)", "nn.Tanh(), nn.Linear(256, 1)"))
    second = build(Request(spec, cache=cache))
    assert not second.reused
    assert second.digest != first.digest
    shutil.rmtree(second.bundle)
    third = build(Request(spec, cache=cache))
    assert (third.reused, third.digest) == (True, second.digest)
    locked = build(Request(spec, locked=True, cache=cache))
    assert locked.digest == second.digest
    model.write_text(text)
    with pytest.raises(InfcError) as caught:
        build(Request(spec, locked=True))
    assert caught.value.exit_code == Exit.USAGE
    assert "model.py" in str(caught.value)
    assert "infc build" in (caught.value.hint or "")


def test_locked_without_a_lock_says_what_writes_it(fraud: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fraud"
    shutil.copytree(
        fraud.parent, folder, ignore=shutil.ignore_patterns("*.bundle", "*.lock"), copy_function=link_or_copy
    )
    refused(infc("build", folder / "fraud.infer", "--locked"), Exit.USAGE, "fraud.infer.lock", "infc build")
    (folder / "fraud.infer.lock").write_bytes(b"\xff\xfe no toml")
    refused(infc("build", folder / "fraud.infer", "--locked"), Exit.USAGE, "fraud.infer.lock", "is no lock")


def test_what_is_no_bundle_is_never_overwritten(fraud: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("also dear")
    for place in ("thesis", "file"):
        done = infc("build", fraud.parent / "fraud.infer", "-o", tmp_path / place)
        refused(done, Exit.USAGE, place, "no bundle", "-o")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "also dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "thesis"]
    (tmp_path / "thesis" / "manifest.json").write_text('{"name": "a web app"}')
    refused(infc("build", fraud.parent / "fraud.infer", "-o", tmp_path / "thesis"), Exit.USAGE, "thesis", "no bundle")


def test_of_an_older_bundle_what_no_build_wrote_is_kept(fraud: Path, tmp_path: Path) -> None:
    out = copied(fraud, tmp_path / "out.bundle")
    (out / "serve.toml").write_text("port = 0\n")
    (out / "models" / "notes.txt").write_text("dear")
    for damage in (False, True):
        if damage:
            replace(out / "manifest.sha256", b"")
            (out / "models" / "notes.txt").rename(out / "notes.txt")
        done = infc("build", fraud.parent / "fraud.infer", "-o", out, "--allow-unproved")
        refused(done, Exit.USAGE, "notes.txt", "which no build wrote")
    (out / "notes.txt").unlink()
    assert infc("build", fraud.parent / "fraud.infer", "-o", out, "--allow-unproved").returncode == 0
    assert (out / "serve.toml").read_text() == "port = 0\n"
    assert (out / "manifest.sha256").read_bytes() == (fraud / "manifest.sha256").read_bytes()


@pytest.mark.full
def test_a_missed_target_leaves_no_bundle(examples: Path, tmp_path: Path) -> None:
    spec = copy_example(examples, "fraud", tmp_path / "fraud")
    spec.write_text(spec.read_text() + "targets { accuracy max_abs_error <= 1e-30 vs float32 }\n")
    outcome = build(Request(spec))
    assert (outcome.exit_code, outcome.bundle) == (Exit.UNMET, tmp_path / "fraud" / "fraud.failed")
    assert [v.statistic for v in binding(outcome.verdicts)] == ["max_abs_error"]
    assert (outcome.bundle / "evidence" / "001.json").exists()
    assert not (tmp_path / "fraud" / "fraud.bundle").exists()
    assert not list((tmp_path / "fraud").glob(".fraud*"))


def test_plain_spec_drops_what_is_measured() -> None:
    text = 'infer 1\nmodel m {\n  source torch("m.py:f")\n}\n\ntargets {\n  latency p99 <= 1 ms\n}\n'
    assert "latency" not in plain_spec(text)
