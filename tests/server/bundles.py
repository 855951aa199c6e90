"""Bundles around a small C model, put together by hand: what the server's tests serve."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from platform import machine
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 4 << 20
WIDTH = 8
WEIGHTS = np.linspace(-1.0, 1.0, WIDTH, dtype=np.float32)
Json = dict[str, Any]


@dataclass(frozen=True)
class Fixture:
    """Which model of fixture_model.c, its defines, and what the manifest says on top of the usual."""

    kind: str = "score"
    defines: tuple[str, ...] = ()
    name: str = "fixture"
    serve: Json = field(default_factory=dict[str, Any])
    model: Json = field(default_factory=dict[str, Any])
    task: Json = field(default_factory=dict[str, Any])
    manifest: Json = field(default_factory=dict[str, Any])
    cpu_features: tuple[str, ...] = ()
    nan_allowed: tuple[str, ...] = ()
    """Outputs that may be NaN or infinite."""

    @property
    def width(self) -> int:
        """Values of a row of the output `score`."""
        (*_, found) = [1, *(int(d.removeprefix("REPEAT=")) for d in self.defines if d.startswith("REPEAT="))]
        return found


def compile_model(folder: Path, kind: str, defines: tuple[str, ...], arch: str = machine()) -> Path:
    """fixture_model.c as a shared library, once for each architecture and set of defines."""
    stem = "-".join([arch, kind, *(d.replace("=", "") for d in defines)])
    library = folder / f"{stem}.so"
    if not library.exists():
        source = Path(__file__).with_name("fixture_model.c")
        flags = [f"-DKIND_{kind.upper()}", *(f"-D{d}" for d in defines)]
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-std=c11",
            "-target",
            f"{arch}-linux-gnu.2.28",
            "-shared",
            "-fPIC",
            "-O2",
            "-g0",
            "-Wall",
            "-Wextra",
        ]
        command += ["-fvisibility=hidden", "-fno-sanitize=undefined", f"-I{ROOT / 'runtime' / 'abi'}", *flags]
        subprocess.run([*command, str(source), "-o", str(library), "-lm"], check=True)
    return library


def score(features: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
    """What the score model gives: [rows, 8] -> [rows, 1]."""
    total = features.astype(np.float64) @ WEIGHTS.astype(np.float64)[:, None]
    return (total if bias is None else total + bias).astype(np.float32)


def embed(rows: list[list[int]]) -> npt.NDArray[np.float32]:
    """What the embedding model gives for rows of ids, segment ids all 0: [rows, 8]."""
    out = np.zeros((len(rows), WIDTH), dtype=np.float32)
    for r, ids in enumerate(rows):
        t = np.arange(1, len(ids) + 1)[:, None]
        mixed = (np.asarray(ids)[:, None] * 31 + t * 17 + np.arange(WIDTH)[None, :] * 7) % 101
        sums = (mixed / 101.0).sum(axis=0) * WEIGHTS.astype(np.float64)
        out[r] = sums / (np.sqrt((sums * sums).sum()) or 1.0)
    return out


def encoded(array: npt.NDArray[Any]) -> Json:
    """A tensor as golden.json holds it."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def digests(path: Path) -> list[str]:
    data = path.read_bytes()
    return [hashlib.sha256(data[i : i + CHUNK]).hexdigest() for i in range(0, len(data), CHUNK)]


def write_manifest(folder: Path, manifest: Json) -> None:
    """manifest.json, and its digest beside it."""
    write_manifest_bytes(folder, (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode())


def write_manifest_bytes(folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


def rewritten(bundle: Path, path: Path, text: str) -> None:
    """The file with that text, and a manifest as if a build had written it."""
    path.write_text(text)
    manifest: Json = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["files"]:
        if bundle / entry["path"] == path:
            entry |= {"bytes": path.stat().st_size, "sha256": digests(path)}
    write_manifest(bundle, manifest)


def _golden(fixture: Fixture) -> Json:
    if fixture.kind == "embed":
        ids = np.array([[101, 7, 9, 102], [101, 30521, 0, 102]], dtype=np.int64)
        inputs, outputs = {"input_ids": encoded(ids)}, {"embedding": encoded(embed(ids.tolist()))}
    else:
        x = np.random.default_rng(7).standard_normal((3, WIDTH)).astype(np.float32)
        inputs, outputs = {"features": encoded(x)}, {"score": encoded(np.repeat(score(x), fixture.width, axis=1))}
        outputs["label"] = encoded((score(x)[:, 0] > 0).astype(np.int64))
    return {"format": 1, "cases": [{"inputs": inputs, "outputs": outputs}], "max_abs_error": 1e-5, "sha256": None}


def _model(fixture: Fixture, library: Path, index: int) -> Json:
    # In a process of its own: a library once loaded stays.
    code = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).infc_describe; f.restype = ctypes.c_char_p; print(f().decode())"
    described = subprocess.run([sys.executable, "-c", code, str(library)], check=True, capture_output=True)
    describe: Json = json.loads(described.stdout)
    task: Json = {"kind": "tensor"}
    if fixture.kind == "embed":
        task = {
            "kind": "embed",
            "texts": ["text"],
            "tokenizer": f"models/{index}/task/tokenizer.json",
            "limit": 64,
            "overflow": "reject",
        }
        task |= {"prompt": "", "pooling": "mean", "normalize": True}
    task |= fixture.task
    folder = f"models/{index}/variants/0"
    variant = {"id": 0, "precision": "float32", "isa": "any", "cpu_features": list(fixture.cpu_features)}
    variant |= {"library": f"{folder}/model.so", "weights": f"{folder}/weights.bin"}
    model: Json = {"name": fixture.name, "version": "1", "aliases": [], "task": task, "variants": [variant]}
    model |= {key: describe[key] for key in ("inputs", "outputs", "dims", "batchable", "length_dim", "batch_dim")}
    model["outputs"] = [o | {"nan_allowed": o["name"] in fixture.nan_allowed} for o in model["outputs"]]
    return model | {"golden": f"models/{index}/golden.json"} | fixture.model


def write_bundle(
    folder: Path,
    models: list[tuple[Fixture, Path]],
    serve_binary: Path | None = None,
    tokenizer: Path | None = None,
    edit: Callable[[Json], None] | None = None,
    arch: str = machine(),
) -> Path:
    """A bundle of compiled fixtures in `folder`; `edit` changes the manifest after its digests were taken.

    For another architecture the libraries given are this machine's (they describe themselves), with the other's beside
    them, compiled into the same folder.
    """
    entries: list[Json] = []
    for index, (fixture, library) in enumerate(models):
        home = folder / "models" / str(index)
        variant = home / "variants" / "0"
        variant.mkdir(parents=True)
        compiled = library if arch == machine() else compile_model(library.parent, fixture.kind, fixture.defines, arch)
        (variant / "model.so").write_bytes(compiled.read_bytes())
        (variant / "weights.bin").write_bytes(WEIGHTS.tobytes())
        (home / "golden.json").write_text(json.dumps(_golden(fixture)))
        if fixture.kind == "embed" and tokenizer is not None:
            (home / "task").mkdir()
            (home / "task" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        entries.append(_model(fixture, library, index))
    if serve_binary is not None:
        (folder / "serve").write_bytes(serve_binary.read_bytes())
        (folder / "serve").chmod(0o755)
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = [
        {
            "path": str(p.relative_to(folder)),
            "bytes": p.stat().st_size,
            "executable": p.name == "serve",
            "sha256": digests(p),
        }
        for p in paths
    ]
    serve: Json = {"protocols": ["kserve", "openai"], "queue": 256, "deadline_s": 10.0, "threads": 1, "instances": 1}
    serve |= {"batch": {"max_requests": 8, "max_rows": 16, "max_tokens": 256, "wait_s": 0.0}, "max_body_bytes": 1 << 20}
    platform = {"os": "linux", "arch": arch, "glibc": "2.28"}
    manifest: Json = {"format": 5, "infc": "0.1.0", "platform": platform, "models": entries, "files": files}
    manifest |= {"serve": serve, "traffic": None, "targets": [], "memory": {}}
    for fixture, _ in models:
        manifest["serve"] = manifest["serve"] | fixture.serve
        manifest |= fixture.manifest
    if edit is not None:
        edit(manifest)
    write_manifest(folder, manifest)
    return folder
