"""The weights of an archive: each one's bytes in the file, checked against its shape, and mapped without a copy."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import schema, strict_json
from .archive import Archive, Entry
from .refused import Refused, pickled, shown

ITEM_SIZES: Mapping[int, int] = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2, 29: 1, 30: 1, 31: 1,
    32: 1, 33: 1, 34: 4, 35: 8,
}  # fmt: skip
"""Bytes of an element by the schema's number of its type."""
STRIDED = 7
HOST = "cpu"
"""torch's word for tensors in the memory of the host."""
MAX_RANK = 64
MAX_REPEATED = 64 << 20
"""Elements that a weight may have beyond those that are stored (of an expanded one)."""


@dataclass(frozen=True)
class Stored:
    """One weight: `entry` holds its storage; sizes, strides and the storage offset count elements."""

    name: str
    entry: Entry
    dtype: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    storage_offset: int
    parameter: bool

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEM_SIZES[self.dtype]

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in C order, one after the other."""
        expected = 1
        for size, stride in zip(reversed(self.sizes), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def offset(self) -> int:
        """Bytes from the file's start to the first element."""
        return self.entry.offset + self.storage_offset * self.item


def read_stored(archive: Archive) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """Weights (parameters and buffers) and constants by the file's names. Raises Refused."""
    weights = _config(archive, "data/weights/", "model_weights_config.json", "weight_")
    constants = _config(archive, "data/constants/", "model_constants_config.json", "tensor_")
    return weights, constants


def _config(archive: Archive, folder: str, file: str, prefix: str) -> dict[str, Stored]:
    what = f"the entry {folder + file!r}"
    rows = schema.check("PayloadConfig", strict_json.parse(archive.read(folder + file), what), what)["config"]
    found: dict[str, Stored] = {}
    for name, row in rows.items():
        path = row["path_name"]
        if row["use_pickle"] or row["tensor_meta"] is None or path.startswith(("custom_obj_", "opaque_obj_")):
            raise pickled(folder + path)
        digits = path.removeprefix(prefix)
        if (
            not path.startswith(prefix)
            or not digits.isascii()
            or not digits.isdigit()
            or folder + path not in archive.entries
        ):
            raise Refused(f"the weight {shown(name)} is said to be in {shown(path)}, which is no entry of weights")
        found[name] = _stored(name, row["tensor_meta"], archive.entries[folder + path], row["is_param"])
    return found


def _stored(name: str, meta: dict[str, Any], entry: Entry, parameter: bool) -> Stored:
    """The weight of a tensor_meta. Raises Refused where it is not within its entry."""
    what = f"the weight {shown(name)}"
    sizes = _integers(meta["sizes"], what)
    strides = _integers(meta["strides"], what)
    offset = _integers([meta["storage_offset"]], what)[0]
    item = ITEM_SIZES.get(meta["dtype"])
    if item is None or meta["layout"] != STRIDED or meta["device"]["type"] != HOST:
        raise Refused(f"{what} is no plain tensor of a CPU", "move the module to the CPU before it is exported")
    if len(sizes) != len(strides) or len(sizes) > MAX_RANK:
        raise Refused(f"{what} has {len(sizes)} sizes and {len(strides)} strides")
    elements = math.prod(sizes)
    reach = offset + sum((s - 1) * t for s, t in zip(sizes, strides, strict=True)) + 1 if elements else 0
    if entry.size % item or reach * item > entry.size:
        raise Refused(f"{what} has the shape {shown(list(sizes))}, and {entry.size} bytes are stored")
    if elements * item > entry.size + MAX_REPEATED:
        raise Refused(f"{what} has {elements} elements, and {entry.size} bytes are stored")
    return Stored(name, entry, meta["dtype"], sizes, strides, offset, parameter)


def _integers(sizes: list[Any], what: str) -> tuple[int, ...]:
    found = tuple(size.get("as_int", -1) for size in sizes)
    if any(not 0 <= n < 1 << 48 for n in found):
        raise Refused(f"{what} has a size that is no number from 0 to 2^48")
    return found


def map_tensors(archive: Archive, stored: Mapping[str, Stored]) -> dict[str, Any]:
    """torch tensors over the file's own bytes (private, copied on write), by name. Raises Refused.

    Weights of one entry, type and alignment share a storage, as they did when they were saved.
    """
    import torch
    from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE as dtypes  # pyright: ignore[reportPrivateUsage]

    with archive.file.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_COPY)
    storages: dict[tuple[int, int], Any] = {}
    found: dict[str, Any] = {}
    for name, each in stored.items():
        dtype = dtypes[each.dtype]
        key = (each.entry.offset, each.dtype)
        if key not in storages:
            count = each.entry.size // each.item
            if not count:
                storages[key] = torch.empty(0, dtype=dtype)
            elif each.entry.offset % each.item:
                data = bytearray(mapped[each.entry.offset : each.entry.offset + each.entry.size])
                storages[key] = torch.frombuffer(data, dtype=dtype)
            else:
                storages[key] = torch.frombuffer(mapped, dtype=dtype, count=count, offset=each.entry.offset)
            if dtype == torch.bool and count and int(storages[key].view(torch.uint8).max()) > 1:
                raise Refused(f"the weight {shown(each.name)} is of true and false, and its bytes are neither")
        flat = storages[key]
        tensor = (
            torch.as_strided(flat, each.sizes, each.strides, each.storage_offset)
            if each.elements
            else torch.empty_strided(each.sizes, each.strides, dtype=dtype)
        )
        found[name] = torch.nn.Parameter(tensor, requires_grad=False) if each.parameter else tensor
    return found
