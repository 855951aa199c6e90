"""Writes a bundle: everything under a temporary name, then one rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...runtime.document import SUM, manifest_sum
from ..errors import Exit, InfcError
from ..temporary import stale, sweep, temporary_folder
from .manifest import File, Manifest, digest_file, manifest_bytes, read_manifest

EVIDENCE = ("evidence", "report.html", "signature")
"""What may be added later and is not content."""
SETTINGS = "serve.toml"
"""Settings of the server, which people write into a bundle's folder."""
TOP = ("serve", "spec.infer", "infer.lock", "models", "include", "examples", "manifest.json", SUM, SETTINGS)
"""What a build writes at a bundle's top, and SETTINGS."""

Content = bytes | str | Path
"""A file of a bundle: its bytes, its text, or a file to copy."""


COPIED = 8 << 20
"""Bytes of a write. The kernel's page cache is as contiguous as the writes are large, and products of few rows, which read
weights as fast as memory gives them, are 2 to 15 % slower on scattered pages (measured: 64 KiB and 4 KiB against 2 MiB)."""


def write_content(folder: Path, content: Mapping[str, Content], executables: Sequence[str]) -> list[File]:
    """Writes files (path in the bundle to content) below folder, and returns their manifest entries by path. Raises InfcError
    (exit 6) where the disk refuses."""
    for name, item in content.items():
        path = folder / name
        try:
            _write(path, item, executable=name in executables)
        except OSError as error:
            raise cannot_write(path, error) from error
    return [digest_file(folder, folder / name) for name in sorted(content)]


def cannot_write(path: Path, error: OSError) -> InfcError:
    """Exit 6: the disk is full, read-only or broken."""
    named = error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
    return InfcError(
        f"{path} cannot be written: {error.strerror or error}",
        exit_code=Exit.USAGE if named else Exit.MISSING,
        hint="choose another name with -o" if named else "free some disk space, or choose another place with -o",
    )


def _write(path: Path, item: Content, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(item, Path):
        with item.open("rb") as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy, COPIED)
    elif isinstance(item, bytes):
        path.write_bytes(item)
    else:
        path.write_text(item, encoding="utf-8")
    path.chmod(0o755 if executable else 0o644)


def finish(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json and its digest beside it, last."""
    data = manifest_bytes(manifest)
    (folder / "manifest.json").write_bytes(data)
    (folder / SUM).write_text(manifest_sum(data), encoding="ascii")


@contextmanager
def temporary_beside(out: Path) -> Generator[Path]:
    """An empty folder beside `out`, on the same file system, removed at the end unless it was published. What killed builds
    of `out` left is removed first. Raises InfcError (exit 6) where the disk refuses."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        recover(out)
        made = temporary_folder(out.parent, f".{out.name}.tmp-")
        folder = made.__enter__()
        folder.chmod(0o755)
    except OSError as error:
        raise cannot_write(out, error) from error
    with ExitStack() as stack:
        stack.push(made)
        yield folder


def recover(out: Path) -> None:
    """Removes what killed builds of `out` left beside it. An older bundle that one had moved away, and not yet replaced,
    is moved back."""
    prefix = f".{out.name}.old-"
    for old in stale(out.parent, prefix):
        with suppress(OSError):
            if not out.exists() and not out.is_symlink() and (old / out.name).is_dir():
                os.rename(old / out.name, out)
    sweep(out.parent, prefix)
    sweep(out.parent, f".{out.name}.tmp-")


def check_replaceable(out: Path) -> None:
    """Raises InfcError (exit 2) where `out` exists and is no bundle, or holds what no build wrote: it would be lost."""
    if not out.exists() and not out.is_symlink():
        return
    try:
        known = {file.path for file in read_manifest(out).files} | {"manifest.json", SUM, SETTINGS}
    except InfcError as error:
        # damaged, or of another format: a bundle all the same, if it looks like one
        if error.exit_code != Exit.DAMAGED or not (out / "serve").is_file() or not (out / "models").is_dir():
            raise InfcError(
                f"{out} exists and is no bundle; it is not overwritten",
                hint="remove it, or choose another place with -o",
            ) from None
        known = None
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        ours = name.parts[0] in TOP if known is None else name.as_posix() in known
        if not ours and name.parts[0] not in EVIDENCE and (path.is_symlink() or not path.is_dir()):
            raise InfcError(
                f"{out} holds {str(name)[:200]!r}, which no build wrote; it is not overwritten",
                hint="move that file elsewhere, or choose another place with -o",
            )


def publish(folder: Path, out: Path) -> None:
    """Makes `folder` the bundle at `out`; an older bundle there is replaced, but for its serve.toml, which stays. Raises
    InfcError (exit 6) where the disk refuses; the older bundle stays then."""
    try:
        if (out / SETTINGS).is_file():
            shutil.copy2(out / SETTINGS, folder / SETTINGS)
        if not out.exists():
            os.rename(folder, out)
            return
        with temporary_folder(out.parent, f".{out.name}.old-") as old:
            os.rename(out, old / out.name)
            try:
                os.rename(folder, out)
            except BaseException:
                with suppress(OSError):
                    os.rename(old / out.name, out)
                raise
    except OSError as error:
        raise cannot_write(out, error) from error
