"""The header of a safetensors file, checked whole before any other reader opens the file.

A file is: 8 bytes length N (little endian), N bytes of JSON {name: {dtype, shape, data_offsets}}, data.
Tensors fill the data from end to end: no holes, no overlaps, nothing behind the last.
(https://huggingface.co/docs/safetensors, format section)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .errors import FrontendError
from .files import open_regular, parse_json

ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U16": 2, "U32": 4,
    "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "F8_E8M0": 1,
}  # fmt: skip
HEADER_BYTES = 100_000_000
"""The reference implementation reads no longer header."""
MOST_RANK = 32
MOST_EXTENT = (1 << 63) - 1
_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `offset` in bytes from the start of the file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name. Raises FrontendError naming the file, the tensor and what is wrong."""
    with os.fdopen(open_regular(file), "rb") as handle:
        length = os.fstat(handle.fileno()).st_size
        count = header_bytes(handle.read(8), length, file.name)
        text = handle.read(count)
    return parse_header(text, length, file)


def header_bytes(head: bytes, length: int, name: str) -> int:
    """How long the header is, from a file's first 8 bytes and its length. Raises FrontendError."""
    if len(head) < 8:
        raise FrontendError(f"{name} is truncated: {length} bytes are no safetensors file")
    count = int.from_bytes(head, "little")
    if count > length - 8:
        raise FrontendError(
            f"{name} is truncated or no safetensors file: its header is said to have {count} bytes, "
            f"and the file has {length}",
            hint="copy the file again (a git-lfs pointer is a small text file)",
        )
    if count > HEADER_BYTES:
        raise FrontendError(f"{name} has a header of {count:,} bytes, and at most {HEADER_BYTES:,} are allowed")
    return count


def parse_header(text: bytes, length: int, file: Path) -> dict[str, Stored]:
    """The tensors that a header lists, for a file of length bytes. Raises FrontendError."""
    if not text.startswith(b"{"):
        raise FrontendError(f"{file.name} has a malformed safetensors header: it does not begin with {{")
    header: object = parse_json(text, f"{file.name} has a malformed safetensors header, which", depth=4)
    assert isinstance(header, dict)
    rows = cast(dict[str, Any], header)
    _check_metadata(rows.pop("__metadata__", None), file.name)
    begin = 8 + len(text)
    tensors = {name: _stored(file, name, row, begin) for name, row in rows.items()}
    _check_layout(tensors, begin, length, file.name)
    return tensors


def _check_metadata(said: object, name: str) -> None:
    if said is None:
        return
    fine = isinstance(said, dict) and all(isinstance(v, str) for v in cast(dict[str, object], said).values())
    if not fine:
        raise FrontendError(f"{name} has a malformed safetensors header: __metadata__ maps strings to strings only")


def _stored(file: Path, name: str, row: object, begin: int) -> Stored:
    where = f"{file.name}: tensor {name[:120]!r}"
    if not isinstance(row, dict) or set(cast(dict[str, Any], row)) != _KEYS:
        raise FrontendError(f"{where} is malformed: it needs dtype, shape and data_offsets, and nothing else")
    said = cast(dict[str, Any], row)
    dtype, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise FrontendError(f"{where} has the unknown dtype {str(dtype)[:40]}")
    if not _whole_numbers(shape) or len(shape) > MOST_RANK:
        raise FrontendError(f"{where} has a shape that is no list of at most {MOST_RANK} extents of 0 or more")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FrontendError(f"{where} has data_offsets that are no pair begin <= end")
    expected = ITEM_BYTES[dtype]
    for extent in shape:
        expected *= extent
        if expected > MOST_EXTENT:
            raise FrontendError(f"{where} has the shape {shape}, which no file can hold")
    size = offsets[1] - offsets[0]
    if size != expected:
        raise FrontendError(f"{where} takes {size} bytes, and {dtype} of shape {list(shape)} takes {expected}")
    return Stored(file, name, dtype, tuple(shape), begin + offsets[0], size)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v <= MOST_EXTENT for v in cast(list[Any], value))


def _check_layout(tensors: Mapping[str, Stored], begin: int, length: int, name: str) -> None:
    """The tensors follow one another without holes or overlaps, up to the file's last byte."""
    at, before = begin, ""
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.size)):
        where = f"{name}: tensor {tensor.name[:120]!r} ({tensor.dtype} {list(tensor.shape)})"
        end = tensor.offset + tensor.size
        if end > length:
            raise FrontendError(
                f"{where} ends at byte {end}, and the file has {length}: it is truncated", hint="copy the file again"
            )
        if tensor.offset < at:
            raise FrontendError(f"{where} overlaps {before[:120]!r}: it begins at byte {tensor.offset}, before {at}")
        if tensor.offset > at:
            raise FrontendError(f"{where} begins at byte {tensor.offset}, and {at} is free: the file has a hole")
        at, before = end, tensor.name
    if at != length:
        raise FrontendError(f"{name} has {length - at} bytes behind its last tensor, which belong to none")
