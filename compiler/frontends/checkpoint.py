"""Checkpoints on disk: safetensors headers read and checked, weights mapped from the file, tensors-only `.bin`.

A safetensors file is: 8 bytes length N (little endian), N bytes of JSON {name: {dtype, shape, data_offsets}}, data.
(https://huggingface.co/docs/safetensors, format section)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.graph import Place
from ..ir.types import ITEM_BYTES, TensorType
from .errors import FrontendError
from .places import fixed_shape

NAMES: Mapping[str, str] = {
    "F32": "float32", "I64": "int64", "I32": "int32", "BOOL": "bool", "F16": "float16", "BF16": "bfloat16", "F64": "float64",
}  # fmt: skip
"""Our names of the stored dtypes that weights are read in."""
WIDENED = ("F16", "BF16", "F64")
"""Those that become float32."""
_ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U16": 2, "U32": 4,
    "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "F8_E8M0": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `offset` in bytes from the start of the file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, and its tensors by name (empty for `.bin` files)."""

    files: tuple[Path, ...]
    tensors: Mapping[str, Stored]
    pickled: bool = False


def find_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in folder: model.safetensors, a sharded one by its index, or pytorch_model.bin.

    Raises FrontendError naming the file (and tensor) that is missing, truncated or malformed.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        stored = read_header(single)
        return Checkpoint((single,), stored)
    if index.is_file():
        return _sharded(folder, index)
    legacy, legacy_index = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if legacy.is_file():
        return Checkpoint((legacy,), {}, pickled=True)
    if legacy_index.is_file():
        return Checkpoint((legacy_index, *_shards(folder, legacy_index)), {}, pickled=True)
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    found = f"; it has {', '.join(others)}" if others else ""
    raise FrontendError(
        f"{folder.name} has no model.safetensors{found}",
        hint="save the model with `model.save_pretrained(folder)`; a folder of several files needs "
        "model.safetensors.index.json",
    )


def _shards(folder: Path, index: Path) -> list[Path]:
    try:
        listed: Any = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted({str(v) for v in listed.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrontendError(f"{index.name} is no checkpoint index: {error}") from None
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise FrontendError(f"{index.name} names the file {name!r}, which is not in {folder.name}")
    return [folder / name for name in names]


def _sharded(folder: Path, index: Path) -> Checkpoint:
    shards = _shards(folder, index)
    tensors: dict[str, Stored] = {}
    for shard in shards:
        tensors.update(read_header(shard))
    listed: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
    for name, file in listed.items():
        if name not in tensors or tensors[name].file.name != file:
            raise FrontendError(f"{index.name} says the tensor {name!r} is in {file}, and it is not there")
    return Checkpoint((index, *shards), tensors)


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, checked against its size. Raises FrontendError."""
    length = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(8)
        if len(head) < 8:
            raise FrontendError(f"{file.name} is truncated: {length} bytes are no safetensors file")
        count = int.from_bytes(head, "little")
        if count > length - 8:
            raise FrontendError(
                f"{file.name} is truncated or no safetensors file: its header is said to have {count} bytes, "
                f"and the file has {length}",
                hint="copy the file again (a git-lfs pointer is a small text file)",
            )
        text = handle.read(count)
    try:
        header: dict[str, Any] = json.loads(text)
        rows = {name: row for name, row in header.items() if name != "__metadata__"}
        stored = {
            name: Stored(
                file, name, str(row["dtype"]), tuple(int(d) for d in row["shape"]), 8 + count + int(row["data_offsets"][0]),
                int(row["data_offsets"][1]) - int(row["data_offsets"][0]),
            )
            for name, row in rows.items()
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FrontendError(f"{file.name} has a malformed safetensors header: {error}") from None
    for tensor in stored.values():
        _check_stored(tensor, length)
    return stored


def _check_stored(tensor: Stored, length: int) -> None:
    where = f"{tensor.file.name}: tensor {tensor.name!r}"
    if tensor.dtype not in _ITEM_BYTES:
        raise FrontendError(f"{where} has the unknown dtype {tensor.dtype}")
    expected = int(np.prod(tensor.shape, dtype=np.int64)) * _ITEM_BYTES[tensor.dtype]
    if tensor.size != expected:
        raise FrontendError(
            f"{where} takes {tensor.size} bytes, and {tensor.dtype} of shape {list(tensor.shape)} takes {expected}"
        )
    end = tensor.offset + tensor.size
    if end > length:
        raise FrontendError(
            f"{where} ({tensor.dtype} {list(tensor.shape)}) ends at byte {end}, and the file has {length}: it is truncated",
            hint="copy the file again",
        )


def stored_place(stored: Stored) -> Place:
    """Where a stored tensor's bytes are."""
    return Place(stored.file.absolute(), stored.offset, NAMES[stored.dtype])


class Locator:
    """Finds where in a checkpoint's files a tensor lies that was mapped from them, by its address."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        files = {str(f.resolve()): f for f in checkpoint.files}
        self._regions: list[tuple[int, int, int, Path]] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and parts[5] in files:
                start, end = (int(v, 16) for v in parts[0].split("-"))
                self._regions.append((start, end, int(parts[2], 16), files[parts[5]].absolute()))

    def find(self, address: int, type_: TensorType) -> Place | None:
        """Where the bytes of a contiguous tensor of this type at address are; None where they are in no file."""
        for start, end, offset, file in self._regions:
            if start <= address and address + math.prod(fixed_shape(type_)) * ITEM_BYTES[type_.dtype] <= end:
                return Place(file, offset + address - start, type_.dtype)
        return None
