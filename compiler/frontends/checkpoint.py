"""Checkpoints on disk: one safetensors file, several with an index, or tensors-only `.bin`; weights mapped from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..ir.graph import Array, Weight
from ..ir.types import TensorType
from .errors import FrontendError
from .files import read_json_file
from .safetensors_header import Stored, read_header

_NUMPY: Mapping[str, str] = {"F32": "float32", "I64": "int64", "I32": "int32", "BOOL": "bool"}
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
        if not plain or not (folder / file).exists():
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


def mapped_weight(stored: Stored, type_: TensorType) -> Weight:
    """A weight that is mapped from its file when loaded."""
    return Weight(type_, _mapper(stored, type_))


def _mapper(stored: Stored, type_: TensorType) -> Callable[[], Array]:
    def load() -> Array:
        shape = tuple(int(d) for d in type_.shape if isinstance(d, int))
        return np.memmap(stored.file, dtype=_NUMPY[stored.dtype], mode="r", offset=stored.offset, shape=shape)

    return load


class Locator:
    """Finds the stored tensor that a tensor's storage is mapped from, by address."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        files = {str(f.resolve()) for f in checkpoint.files}
        self._regions: list[tuple[int, int, int, str]] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and parts[5] in files:
                start, end = (int(v, 16) for v in parts[0].split("-"))
                self._regions.append((start, end, int(parts[2], 16), parts[5]))
        self._stored = {(str(t.file.resolve()), t.offset): t for t in checkpoint.tensors.values() if t.size}

    def find(self, address: int, type_: TensorType) -> Stored | None:
        """The stored tensor that begins at address and has this type; None where the bytes live elsewhere."""
        for start, end, offset, file in self._regions:
            if start <= address < end:
                found = self._stored.get((file, offset + address - start))
                if found is not None and found.shape == type_.shape and _NUMPY.get(found.dtype) == type_.dtype:
                    return found
        return None
