"""Checkpoints on disk: one safetensors file, several with an index, or tensors-only `.bin`; weights mapped from them."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..ir.graph import Place
from ..ir.types import ITEM_BYTES, TensorType
from .errors import FrontendError
from .files import open_regular, read_json_file
from .places import fixed_shape
from .safetensors_header import Stored, read_header

NAMES: Mapping[str, str] = {
    "F32": "float32", "I64": "int64", "I32": "int32", "BOOL": "bool", "F16": "float16", "BF16": "bfloat16", "F64": "float64",
}  # fmt: skip
"""Our names of the stored dtypes that weights are read in."""
WIDENED = ("F16", "BF16", "F64")
"""Those that become float32."""
INDEX_BYTES = 64 << 20


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
        return Checkpoint((legacy_index, *_bin_shards(folder, legacy_index)), {}, pickled=True)
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    found = f"; it has {', '.join(others)}" if others else ""
    raise FrontendError(
        f"{folder.name} has no model.safetensors{found}",
        hint="save the model with `model.save_pretrained(folder)`; a folder of several files needs "
        "model.safetensors.index.json",
    )


def read_index(folder: Path, index: Path) -> dict[str, str]:
    """The index of a sharded checkpoint: tensor name -> name of a file in folder. Raises FrontendError."""
    listed: object = read_json_file(index, dict, INDEX_BYTES).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise FrontendError(f"{index.name} is no checkpoint index: it has no object `weight_map`")
    found = cast(dict[str, Any], listed)
    for name, file in found.items():
        if not isinstance(file, str):
            raise FrontendError(f"{index.name} is no checkpoint index: {name[:120]!r} names no file")
    for file in set(found.values()):
        plain = file not in ("", ".", "..") and not set(file) & set("/\\\0")
        if not plain or not os.path.exists(folder / file):  # Path.exists raises for a name that is too long
            raise FrontendError(f"{index.name} names the file {file[:120]!r}, which is not in {folder.name}")
    return found


def _sharded(folder: Path, index: Path) -> Checkpoint:
    listed = read_index(folder, index)
    shards = [folder / name for name in sorted(set(listed.values()))]
    tensors: dict[str, Stored] = {}
    for shard in shards:
        for name, stored in read_header(shard).items():
            if listed.get(name) != shard.name:
                said = f"says it is in {listed[name]}" if name in listed else "does not list it"
                raise FrontendError(f"{shard.name} has the tensor {name[:120]!r}, and {index.name} {said}")
            tensors[name] = stored
    for name, file in listed.items():
        if name not in tensors:
            raise FrontendError(f"{index.name} says the tensor {name[:120]!r} is in {file}, and it is not there")
    return Checkpoint((index, *shards), tensors)


def _bin_shards(folder: Path, index: Path) -> list[Path]:
    return [folder / name for name in sorted(set(read_index(folder, index).values()))]


def check_unpacked(file: Path) -> None:
    """Raises FrontendError where a zip says that it holds more than its own bytes: what torch saves is never compressed."""
    try:
        with os.fdopen(open_regular(file), "rb") as opened, zipfile.ZipFile(opened) as archive:
            held = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise FrontendError(f"{file.name} is no checkpoint that torch.save wrote: {str(error)[:200]}") from None
    if held > file.stat().st_size:
        raise FrontendError(f"{file.name} has {file.stat().st_size:,} bytes and says that it holds {held:,}")


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
