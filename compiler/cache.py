"""The build cache: content-addressed entries in one folder, shared by parallel builds, bounded by size.

    cache = Cache(folder, limit_bytes=10 << 30)
    key = cache_key("object", compiler_version, flags, source_bytes)
    entry = cache.get(key) or cache.put(key, lambda folder: compile_into(folder))

An entry is a folder of files. It is written under a temporary name and renamed, so a reader sees all of it or nothing;
whoever renames first wins and the other copy is thrown away (equal keys mean equal content). Each entry records the
digests of its files and is checked when it is read: a damaged one counts as absent. Least recently used entries go
first when the folder outgrows its limit; one used within the last quarter of an hour never goes by itself, since a
parallel build may be reading it. Code lies in it, so entries of other users (root apart) are not read, wherever the folder
is. The cache is never needed for a correct result.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from .errors import Exit, InfcError
from .temporary import sweep, temporary_folder

WITHOUT_CACHE = "; building without it"
"""How a warning about an unusable part of the cache ends."""
DEFAULT_LIMIT_BYTES = 10 << 30
GRACE_S = 15 * 60.0
"""An entry used this recently is not pruned unless asked for explicitly."""
STALE_S = 24 * 3600.0
"""A temporary folder this old was left by a build that died."""
PRUNE_EVERY_S = 60.0
_META = ".entry.json"
_TEMPORARY = "put-"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as `Cache.entries` lists it: `used` is seconds since the epoch, `size` bytes of its files."""

    key: str
    folder: Path
    size: int
    used: float


_T = TypeVar("_T")


class Spare:
    """A cache (None: there is none) that may fail: the first failure is said, and then it is not asked again."""

    def __init__(self, cache: Cache | None, notice: Callable[[str], None]) -> None:
        self._cache, self._notice = cache, notice

    def ask(self, question: Callable[[Cache], _T]) -> _T | None:
        """What `question` gives; None where the cache fails, or has failed."""
        if self._cache is None:
            return None
        try:
            return question(self._cache)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.failed(error)
        except InfcError as error:
            if error.exit_code != Exit.MISSING:
                raise
            self.failed(error)
        return None

    def failed(self, error: Exception) -> None:
        """Says so, once."""
        if self._cache is None:
            return
        said = (
            error.message
            if isinstance(error, InfcError)
            else f"the build cache at {self._cache.folder} failed: {error}"
        )
        self._cache = None
        self._notice(f"{said}{WITHOUT_CACHE}")


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache in `folder` (made when first written) that keeps at most about `limit_bytes`."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def get(self, key: str) -> Path | None:
        """The entry's folder, checked against its digests, and marked as used; None where it is absent or damaged.

        Raises InfcError (exit 6) where others may write it.
        """
        entry = self._place(key)
        self._check_owner(entry)
        meta = entry / _META
        files = _read_meta(meta)
        if files is None or any(_digest(entry / name) != want for name, want in files.items()):
            if os.path.lexists(entry):
                self._discard(entry)
            return None
        try:
            os.utime(meta)
        except OSError:
            return entry if meta.exists() else None  # a read-only cache still serves; a pruned entry does not
        return entry

    def put(self, key: str, fill: Callable[[Path], object]) -> Path:
        """Calls `fill(folder)` with an empty folder, stores what it wrote under `key` and returns the entry's folder.

        Raises what `fill` raises (nothing is stored then), and InfcError (exit 6) where the disk refuses.
        """
        entry = self._place(key)
        with self._temporary() as temporary:
            self._store(entry, key, temporary, fill)
        self._prune_sometimes()
        return entry

    def _store(self, entry: Path, key: str, temporary: Path, fill: Callable[[Path], object]) -> None:
        try:
            fill(temporary)
            names = sorted(p.relative_to(temporary).as_posix() for p in temporary.rglob("*") if p.is_file())
            files = {name: _digest(temporary / name) for name in names}
            (temporary / _META).write_text(json.dumps({"format": _FORMAT, "files": files}), encoding="utf-8")
            entry.parent.mkdir(parents=True, exist_ok=True)
            if not _rename(temporary, entry):
                existing = self.get(key)  # the other build's copy; a damaged one is discarded by get
                if existing is None and not _rename(temporary, entry):
                    raise FileExistsError(errno.EEXIST, "a damaged entry cannot be replaced", str(entry))
        except OSError as error:
            raise cache_unusable(self.folder, error) from error

    def get_bytes(self, key: str) -> bytes | None:
        """The bytes stored by `put_bytes`, or None."""
        entry = self.get(key)
        if entry is None:
            return None
        try:
            return (entry / "data").read_bytes()
        except FileNotFoundError:
            return None

    def put_bytes(self, key: str, data: bytes) -> None:
        """Stores `data` under `key`."""
        self.put(key, lambda folder: (folder / "data").write_bytes(data))

    def entries(self) -> list[Entry]:
        """All entries, least recently used first."""
        found: list[Entry] = []
        for meta in (self.folder / "objects").glob(f"*/*/{_META}"):
            try:
                used = meta.stat().st_mtime
                size = sum(p.stat().st_size for p in meta.parent.rglob("*") if p.is_file())
            except FileNotFoundError:
                continue  # pruned by another process meanwhile
            found.append(Entry(meta.parent.name, meta.parent, size, used))
        return sorted(found, key=lambda e: (e.used, e.key))

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(e.size for e in self.entries())

    def prune(self, limit_bytes: int | None = None, *, grace_s: float = GRACE_S) -> int:
        """Removes least recently used entries until at most `limit_bytes` stay; returns the bytes freed.

        Entries used within the last `grace_s` seconds stay whatever the limit; temporary folders older than a day go.
        """
        limit = self.limit_bytes if limit_bytes is None else limit_bytes
        now = time.time()
        entries = self.entries()
        total = sum(e.size for e in entries)
        freed = 0
        for entry in entries:
            if total - freed <= limit or now - entry.used < grace_s:
                break
            self._discard(entry.folder)
            freed += entry.size
        for left in (self.folder / "tmp").glob("*"):
            try:
                stale = now - left.stat().st_mtime > STALE_S
            except FileNotFoundError:
                continue
            if stale:
                shutil.rmtree(left, ignore_errors=True)
        return freed

    def _prune_sometimes(self) -> None:
        """Prunes at most once in `PRUNE_EVERY_S`: looking at every entry costs more than storing one."""
        mark = self.folder / "pruned"
        try:
            if time.time() - mark.stat().st_mtime < PRUNE_EVERY_S:
                return
        except FileNotFoundError:
            mark.touch()  # the first prune may wait too: a new cache is small
            return
        mark.touch()
        self.prune()

    def _place(self, key: str) -> Path:
        if len(key) != 64 or any(c not in "0123456789abcdef" for c in key):
            raise ValueError(f"a cache key is 64 hexadecimal digits (see cache_key), not {key!r}")
        return self.folder / "objects" / key[:2] / key

    def _check_owner(self, entry: Path) -> None:
        """Raises InfcError (exit 6) where somebody else may have put the entry there, or may yet exchange it."""
        for folder in (self.folder, entry.parent.parent, entry.parent, entry):
            try:
                status = folder.lstat() if folder == entry else folder.stat()
            except OSError:
                return  # absent, or not to be reached: found out by whoever reads
            open_to_all = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH
            if status.st_uid not in (os.geteuid(), 0) or open_to_all:
                raise InfcError(
                    f"the build cache at {self.folder} may be written by others: {folder} is another user's or open to all",
                    exit_code=Exit.MISSING,
                    hint="choose a folder of your own with --cache-dir or INFC__CACHE_DIR",
                )

    @contextmanager
    def _temporary(self) -> Generator[Path]:
        place = self.folder / "tmp"
        try:
            place.mkdir(parents=True, exist_ok=True)
            sweep(place, _TEMPORARY)
            made = temporary_folder(place, _TEMPORARY)
            folder = made.__enter__()
        except OSError as error:
            raise cache_unusable(self.folder, error) from error
        with ExitStack() as stack:
            stack.push(made)
            yield folder

    def _discard(self, entry: Path) -> None:
        """Renames first, so that nobody ever sees half an entry."""
        with suppress(OSError, InfcError), self._temporary() as trash:
            os.rename(entry, trash / "entry")  # else gone, or the cache is read-only: nothing of it will be used
            with suppress(OSError):
                os.unlink(trash / "entry")  # where it was a file or a link


def cache_key(*parts: bytes | str | float | bool | None | Sequence[Any] | Mapping[str, Any]) -> str:
    """64 hexadecimal digits: sha256 over the parts, each with its kind and length, so that no two lists collide.

    Sequences and mappings (string keys) are taken as canonical JSON. The first part should name what the entry is.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            kind, data = b"b", part
        elif isinstance(part, str):
            kind, data = b"s", part.encode()
        else:
            kind, data = b"j", json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        digest.update(kind + len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, 64 hexadecimal digits. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_unusable(folder: Path, error: OSError) -> InfcError:
    """Exit 6: the cache folder cannot be written (permissions, disk full)."""
    return InfcError(
        f"the build cache at {folder} cannot be written: {error.strerror or error}",
        exit_code=Exit.MISSING,
        hint="free some disk space, or choose another folder with --cache-dir or INFC__CACHE_DIR",
    )


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _read_meta(path: Path) -> dict[str, str] | None:
    try:
        document: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    meta = cast("dict[str, object]", document)
    files = meta.get("files")
    if meta.get("format") != _FORMAT or not isinstance(files, dict):
        return None
    return {str(k): str(v) for k, v in cast("dict[object, object]", files).items()}


def _rename(source: Path, target: Path) -> bool:
    """Whether `source` became `target`; False where `target` is there already."""
    try:
        os.rename(source, target)
    except OSError:
        if target.exists():
            return False
        raise
    return True
