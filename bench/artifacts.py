"""Files that peers start from (exports, quantized models), kept under ~/.cache/infc/bench by the digest of what made them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

KEEP = 2
"""Digests of one model that stay; older ones go when a new one comes."""


def cache_root() -> Path:
    """`$INFC_BENCH_CACHE`, else ~/.cache/infc/bench."""
    return Path(os.environ.get("INFC_BENCH_CACHE") or Path.home() / ".cache" / "infc" / "bench")


def artifact_key(*parts: str | bytes) -> str:
    """Eight digits, for the name of a file beside what it is made from."""
    return digest(*parts)[:8]


def digest(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits of SHA-256 over the parts, each with its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:12]


def folder_of(name: str, key: str) -> Path:
    """The folder of `name` made from what `key` digests; made where it is missing, and then the oldest siblings go."""
    folder = cache_root() / f"{name}-{key}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        older = sorted(
            (p for p in folder.parent.glob(f"{name}-{'?' * len(key)}") if p != folder), key=lambda p: p.stat().st_mtime
        )
        for old in older[: max(0, len(older) - KEEP + 1)]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def made(file: Path, make: Callable[[Path], object]) -> Path:
    """`file` (or folder), made by `make(temporary)` where it is missing: it appears whole or not at all."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{os.getpid()}-{file.name}")
        try:
            make(temporary)
            temporary.replace(file)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
    return file
