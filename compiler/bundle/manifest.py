"""manifest.json: what a bundle holds. Lists content only; the bundle's digest is sha256 of its bytes, and stands beside it
in manifest.sha256, as `sha256sum manifest.json` writes it, so that rot is found (tampering is not: that takes a signature).

Rule: readers refuse keys that they do not know and other formats, so a key is only ever added (or its meaning changed)
together with a new FORMAT, here and in runtime/server/src/bundle/manifest.rs. Format 2 added `nan_allowed` to outputs, and
manifest.sha256; 3 prompts and dimensions; 4 the texts of a request, labels, scores; 5 aggregation.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ...runtime.document import FORMAT, SUM, open_regular, read_document, strict_json
from ..errors import Exit, InfcError

CHUNK_BYTES = 4 << 20


class Record(BaseModel):
    """Base: immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Platform(Record):
    """Where the bundle runs."""

    os: str
    arch: str
    glibc: str


class Tensor(Record):
    """An input or output; `shape` has integers and dimension expressions."""

    name: str
    dtype: str
    shape: list[int | str]


class OutputTensor(Tensor):
    """An output; `nan_allowed`: NaN and infinities are answered, as null in JSON and as their bits elsewhere."""

    nan_allowed: bool = False


class InputTensor(Tensor):
    """An input: default None means it must be given; min and max are inclusive."""

    default: float | int | None = None
    min: float | int | None = None
    max: float | int | None = None
    nan: bool = False
    mask: bool = False


class Task(Record):
    """What the server does around the model. Paths are inside the bundle; `limit` counts tokens."""

    kind: Literal["tensor", "embed", "classify", "rerank", "tag"]
    texts: list[str] = []
    tokenizer: str | None = None
    limit: int | None = None
    overflow: Literal["reject", "truncate"] | None = None
    truncation_side: Literal["left", "right"] | None = None
    segments: bool = True
    prompt: str = ""
    prompts: dict[str, str] = {}
    include_prompt: bool = True
    pooling: str | None = None
    normalize: bool | None = None
    dimensions: list[int] = []
    labels: list[str] = []
    activation: Literal["softmax", "sigmoid", "none"] | None = None
    top: int | None = None
    aggregation: Literal["none", "simple", "first", "average", "max"] | None = None
    unknown: int | None = None


class Variant(Record):
    """One compiled form of a model."""

    id: int
    precision: str
    isa: str
    cpu_features: list[str]
    library: str
    weights: str


class Model(Record):
    """One model by the names that protocols call it."""

    name: str
    version: str
    aliases: list[str]
    task: Task
    inputs: list[InputTensor]
    outputs: list[OutputTensor]
    dims: dict[str, tuple[int, int]]
    batchable: bool
    batch_dim: str | None
    length_dim: str | None
    variants: list[Variant]
    golden: str


class Batch(Record):
    """Bounds of a merged batch; `wait_s`: how long a request may wait for company, seconds."""

    max_requests: int
    max_rows: int
    max_tokens: int
    wait_s: float


class Serve(Record):
    """Settings the server starts from. Times in seconds."""

    protocols: list[str]
    queue: int
    deadline_s: float | None
    threads: int
    instances: int
    batch: Batch
    max_body_bytes: int


class Traffic(Record):
    """The declared load."""

    rate: float
    arrival: str


class Target(Record):
    """A declared target in base units."""

    kind: str
    statistic: str
    op: str
    bound: float
    unit: str


class Memory(Record):
    """Ceilings of host memory in bytes, serving and while two bundles are loaded."""

    serving_bytes: int
    swapping_bytes: int


class File(Record):
    """A content file: sha256 of each 4 MiB chunk."""

    path: str
    bytes: int
    executable: bool
    sha256: list[str]


class Manifest(Record):
    """manifest.json, whole."""

    format: int
    infc: str
    platform: Platform
    models: list[Model]
    serve: Serve
    traffic: Traffic | None
    targets: list[Target]
    memory: Memory
    files: list[File]


def digest_file(root: Path, path: Path) -> File:
    """The manifest's entry of one file below root. Raises OSError where it is no regular file."""
    chunks: list[str] = []
    size = 0
    with open_regular(path) as file:
        mode = os.fstat(file.fileno()).st_mode
        while chunk := file.read(CHUNK_BYTES):
            chunks.append(hashlib.sha256(chunk).hexdigest())
            size += len(chunk)
    return File(path=path.relative_to(root).as_posix(), bytes=size, executable=bool(mode & 0o111), sha256=chunks)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical bytes: sorted keys, one space of indent, a newline at the end."""
    document = manifest.model_dump(mode="json")
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def bundle_digest(folder: Path) -> str:
    """sha256 of manifest.json."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def content_size(folder: Path, manifest: Manifest) -> int:
    """Bytes of what a build writes into a bundle: its content and its manifest, without evidence and report."""
    listed = (*(file.path for file in manifest.files), "manifest.json", SUM)
    return sum((folder / path).stat().st_size for path in listed)


def has_manifest(folder: Path, digest: str) -> bool:
    """Whether folder holds the manifest with that digest, and manifest.sha256 to it."""
    try:
        return hashlib.sha256(read_document(folder)).hexdigest() == digest
    except (OSError, ValueError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, checked against manifest.sha256 first. Raises InfcError: exit 2 where folder is no bundle,
    exit 7 where its manifest is damaged or of another format."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise InfcError(f"{folder} is no bundle: it has no manifest.json", hint="infc build SPEC writes one")
    try:
        data = read_document(folder)
        version = strict_json(data).get("format")
        if version != FORMAT:
            text = f"{path} has format {version}, and this infc reads format {FORMAT}"
            raise InfcError(text, exit_code=Exit.DAMAGED, hint="build it again, or use the infc that wrote it")
        return Manifest.model_validate_json(data)
    except (OSError, ValueError, AttributeError, RecursionError, ValidationError) as error:
        raise InfcError(
            f"{path} is damaged: {str(error).splitlines()[0]}",
            exit_code=Exit.DAMAGED,
            hint="build it again, or copy it again",
        ) from None


def is_whole(folder: Path, digest: str) -> bool:
    """Whether folder holds the bundle with that manifest, each of its files as the manifest says."""
    if not has_manifest(folder, digest):
        return False
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest, (file.path for file in manifest.files))
    except InfcError:
        return False
    return True


def verify_files(folder: Path, manifest: Manifest, paths: Iterable[str]) -> None:
    """Compares those content files with their digests. Raises InfcError (exit 7) that names the first damaged one."""
    wanted = {file.path: file for file in manifest.files}
    for path in paths:
        try:
            found = digest_file(folder, folder / path)
        except OSError as error:
            text = f"{folder / path} cannot be read: {error.strerror}"
            raise InfcError(text, exit_code=Exit.DAMAGED, hint="build it again, or copy it again") from None
        said = wanted.get(path)
        if said is None or (found.bytes, found.sha256) != (said.bytes, said.sha256):
            text = f"{folder / path} is damaged: it is not what the manifest says"
            raise InfcError(text, exit_code=Exit.DAMAGED, hint="build it again, or copy it again")
