"""Writes a bundle: everything under a temporary name, then one rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ...runtime.document import SUM, manifest_sum
from ..errors import Exit, InfcError
from .manifest import File, Manifest, digest_file, manifest_bytes, read_manifest

EVIDENCE = ("evidence", "report.html", "signature")
"""What may be added later and is not content."""

Content = bytes | str | Path
"""A file of a bundle: its bytes, its text, or a file to copy."""


COPIED = 8 << 20
"""Bytes of a write. The kernel's page cache is as contiguous as the writes are large, and products of few rows, which read
weights as fast as memory gives them, are 2 to 15 % slower on scattered pages (measured: 64 KiB and 4 KiB against 2 MiB)."""


def write_content(folder: Path, content: Mapping[str, Content], executables: Sequence[str]) -> list[File]:
    """Writes files (path in the bundle to content) below folder, and returns their manifest entries by path."""
    for name, item in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item, Path):
            with item.open("rb") as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy, COPIED)
        elif isinstance(item, bytes):
            path.write_bytes(item)
        else:
            path.write_text(item, encoding="utf-8")
        path.chmod(0o755 if name in executables else 0o644)
    return [digest_file(folder, folder / name) for name in sorted(content)]


def finish(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json and its digest beside it, last."""
    data = manifest_bytes(manifest)
    (folder / "manifest.json").write_bytes(data)
    (folder / SUM).write_text(manifest_sum(data), encoding="ascii")


def temporary_beside(out: Path) -> Path:
    """An empty folder beside `out`, on the same file system. Raises InfcError (exit 6) where the disk refuses."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        folder.chmod(0o755)
    except OSError as error:
        raise InfcError(f"{out} cannot be written: {error.strerror}", exit_code=Exit.MISSING) from error
    return folder


def check_replaceable(out: Path) -> None:
    """Raises InfcError (exit 2) where `out` exists and is no bundle: it would be lost."""
    if not out.exists() and not out.is_symlink():
        return
    try:
        read_manifest(out)
    except InfcError as error:
        if error.exit_code == Exit.DAMAGED:
            return
        raise InfcError(
            f"{out} exists and is no bundle; it is not overwritten", hint="remove it, or choose another place with -o"
        ) from None


def publish(folder: Path, out: Path) -> None:
    """Makes `folder` the bundle at `out`; an older bundle there is replaced."""
    old = None
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
        os.rename(out, old / out.name)
    try:
        os.rename(folder, out)
    except OSError:
        if old is not None:
            with suppress(OSError):
                os.rename(old / out.name, out)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
