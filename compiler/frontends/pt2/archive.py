"""The zip of a .pt2 file as hostile data: which entries it has and where their bytes lie. Nothing is unpacked.

    File := (LocalHeader name extra data descriptor?)*  Central*  Zip64End?  End

torch stores entries uncompressed, one after the other, with no comments. So an entry is a range of the file's bytes, and
an archive whose parts do not tile the file exactly, or whose two descriptions of an entry differ, is refused.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .refused import Refused, pickled, shown

MAX_ENTRIES = 100_000
MAX_DIRECTORY = 32 << 20
MAX_JSON = 64 << 20
"""Bytes of one JSON entry."""
READ = ("archive_format", "archive_version", "byteorder", "models/model.json")
_NAME = r"[A-Za-z0-9_.\-]+"
_KNOWN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/[A-Za-z0-9_]+|models/NAME\.json"
    r"|data/weights/(?:weight_\d+|NAME_weights_config\.json)"
    r"|data/constants/(?:tensor_\d+|NAME_constants_config\.json)"
    r"|data/sample_inputs/NAME\.pt|extra/[^\\\x00-\x1f]+".replace("NAME", _NAME)
)
_PICKLED = re.compile(
    r"(?:.*/)?(?:custom_obj_|opaque_obj_)[^/]*(?:/.*)?|data/(?:weights|constants)/.*\.pt|.*\.(?:pkl|pickle)"
)
_CONTROL = re.compile(r"[\x00-\x1f]")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_UTF8, _DESCRIPTOR = 0x800, 0x8
_MARK = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """`size` bytes of the file, stored as they are, from `offset` on."""

    offset: int
    size: int


@dataclass(frozen=True)
class Archive:
    """A checked archive: entries by name, without the root folder. What has no use here (sample inputs, extra files) is left out."""

    file: Path
    entries: Mapping[str, Entry]

    def read(self, name: str, limit: int = MAX_JSON) -> bytes:
        """The bytes of entry `name`. Raises Refused where it is missing or longer than limit."""
        entry = self.entries.get(name)
        if entry is None:
            raise Refused(f"the entry {name!r} is missing")
        if entry.size > limit:
            raise Refused(f"the entry {name!r} has {entry.size} bytes, and {limit} are read at most")
        with self.file.open("rb") as source:
            return _read(source.fileno(), entry.offset, entry.size)


def read_archive(file: Path) -> Archive:
    """The entries of a .pt2 file. Raises Refused."""
    try:
        with file.open("rb") as source:
            return Archive(file, _checked_names(_entries(source.fileno())))
    except OSError as error:
        raise Refused(f"it cannot be read: {error.strerror}") from None


def _entries(descriptor: int) -> dict[str, Entry]:
    """Every entry by its full name, in the order of their bytes."""
    length = os.fstat(descriptor).st_size
    count, start, size = find_directory(descriptor, length)
    directory = _read(descriptor, start, size)
    found: dict[str, Entry] = {}
    ranges: list[tuple[int, int, int, str]] = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > size:
            raise _broken("its directory ends too early")
        (magic, _, _, flags, method, _, _, _, packed, plain, n, e, comment, disk, _, _, header) = _CENTRAL.unpack_from(
            directory, at
        )
        at += _CENTRAL.size
        raw, extra = directory[at : at + n], directory[at + n : at + n + e]
        at += n + e + comment
        if magic != b"PK\x01\x02" or comment or at > size:
            raise _broken("its directory is damaged")
        name = _text(raw)
        packed, plain, header, disk = _wide(extra, packed, plain, header, disk)
        if flags & ~(_UTF8 | _DESCRIPTOR):
            raise _broken(f"the entry {shown(name)} is encrypted or of an unknown kind (flags {flags:#x})")
        if method or packed != plain:
            raise Refused(f"the entry {shown(name)} is compressed, and torch stores entries as they are")
        if disk:
            raise _broken("it is one part of several")
        if name in found:
            raise Refused(f"the entry {shown(name)} is there twice")
        data = _local(descriptor, length, header, raw, name, flags, plain)
        found[name] = Entry(data, plain)
        ranges.append((header, data + plain, flags, name))
    if at != size:
        raise _broken("its directory holds more than its entries")
    _check_tiling(ranges, start)
    return found


def find_directory(descriptor: int, length: int) -> tuple[int, int, int]:
    """(entries, offset, bytes) of the central directory of a zip file of `length` bytes. Raises Refused where it is not at
    the file's end, or is larger than is ever read."""
    if length < _END.size:
        raise _broken("it is too short")
    magic, disk, other, here, count, size, start, comment = _END.unpack(
        _read(descriptor, length - _END.size, _END.size)
    )
    if magic != b"PK\x05\x06" or comment:
        raise _broken("it does not end as a zip file does")
    end = length - _END.size
    if end >= _LOCATOR.size + _END64.size:
        magic, on, where, disks = _LOCATOR.unpack(_read(descriptor, end - _LOCATOR.size, _LOCATOR.size))
        if magic == b"PK\x06\x07":
            end -= _LOCATOR.size + _END64.size
            magic, own, _, _, disk64, other64, here64, count64, size64, start64 = _END64.unpack(
                _read(descriptor, end, _END64.size)
            )
            narrow = ((here, here64, 0xFFFF), (count, count64, 0xFFFF), (size, size64, _MARK), (start, start64, _MARK))
            agrees = all(a in (b, mark) for a, b, mark in narrow)
            if (
                (magic, own, where, on, disk64, other64) != (b"PK\x06\x06", 44, end, 0, 0, 0)
                or disks != 1
                or not agrees
            ):
                raise _broken("its two ends differ")
            here, count, size, start = here64, count64, size64, start64
    if disk or other or here != count or start + size != end:
        raise _broken("its directory is not where its end says")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise Refused(f"it has {count} entries, and {MAX_ENTRIES} are read at most")
    return count, start, size


def _wide(extra: bytes, packed: int, plain: int, header: int, disk: int) -> tuple[int, int, int, int]:
    """Sizes and offset with those of the zip64 field where they stand for it."""
    field = _field64(extra)
    at = 0
    out: list[int] = []
    for value in (plain, packed, header):
        if value == _MARK:
            if at + 8 > len(field):
                raise _broken("a size is missing in its directory")
            value = int.from_bytes(field[at : at + 8], "little")
            at += 8
        out.append(value)
    return out[1], out[0], out[2], disk


def _field64(extra: bytes) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _local(descriptor: int, length: int, header: int, raw: bytes, name: str, flags: int, size: int) -> int:
    """Where an entry's data begins, after its local header says what the directory says."""
    if header + _LOCAL.size + len(raw) > length:
        raise _broken(f"the entry {shown(name)} lies outside of the file")
    head = _read(descriptor, header, _LOCAL.size + len(raw))
    magic, _, own, method, _, _, _, packed, plain, n, e = _LOCAL.unpack_from(head)
    data = header + _LOCAL.size + n + e
    if data + size > length:
        raise _broken(f"the entry {shown(name)} lies outside of the file")
    if packed == plain == _MARK:
        field = _field64(_read(descriptor, data - e, e))
        plain, packed = (int.from_bytes(field[i : i + 8], "little") for i in (0, 8))
    later = bool(own & _DESCRIPTOR) and packed == plain == 0
    same = magic == b"PK\x03\x04" and own == flags and not method and head[_LOCAL.size :] == raw and n == len(raw)
    if not same or not (later or packed == plain == size):
        raise Refused(f"the entry {shown(name)} is described in two ways that differ")
    return data


def _check_tiling(ranges: list[tuple[int, int, int, str]], end: int) -> None:
    """Raises Refused unless entries lie one after the other from the first byte to the directory. A descriptor of 12 to 24
    bytes may follow an entry whose flags announce it."""
    ranges.sort()
    starts = [first for first, _, _, _ in ranges][1:] + [end]
    if ranges and ranges[0][0] != 0:
        raise _broken("bytes before its first entry belong to none")
    for (_, last, flags, name), following in zip(ranges, starts, strict=True):
        if following < last:
            raise Refused(f"the entry {shown(name)} overlaps what follows it")
        if following - last not in ((12, 16, 20, 24) if flags & _DESCRIPTOR else (0,)):
            raise _broken(f"bytes after the entry {shown(name)} belong to none")


def _checked_names(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries without their root folder; those that are dropped are left out. Raises Refused."""
    roots = {name.partition("/")[0] for name in entries}
    if not any(name.partition("/")[2].startswith("models/") for name in entries):
        legacy = any(name.startswith("serialized_") for name in entries)
        raise Refused(
            f"it {'has the archive format of old versions' if legacy else 'holds no exported program'}", _NEWER
        )
    found: dict[str, Entry] = {}
    for full, entry in entries.items():
        root, _, name = full.partition("/")
        if len(roots) > 1 or root in ("", ".", "..") or "\\" in full or _CONTROL.search(full):
            raise Refused(f"the entry {shown(full)} is not in the archive's one folder")
        if _PICKLED.fullmatch(name):
            raise pickled(name)
        parts = name.split("/")
        if not _KNOWN.fullmatch(name) or any(p in ("", ".", "..") for p in parts):
            raise Refused(
                f"the entry {shown(name)} is none that is read", f"torch.export.save writes no such entry: {_AGAIN}"
            )
        if name in found:
            raise Refused(f"the entry {shown(name)} is there twice")
        if not name.startswith(("data/sample_inputs/", "extra/")):
            found[name] = entry
    models = [name for name in found if name.startswith("models/")]
    if models != ["models/model.json"]:
        raise Refused(f"it holds {len(models)} programs ({shown(models[0])}, ...), and one called 'model' is needed")
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _broken("an entry's name is not UTF-8") from None


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise _broken("it ends too early")
    return data


def _broken(message: str) -> Refused:
    return Refused(f"it is no .pt2 archive: {message}")


_AGAIN = "save it again"
_NEWER = "save it with `torch.export.save(program, file)` of torch 2.9 or later"
