"""weights.bin: every parameter as its kernel wants it, 64-byte aligned, equal entries once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....compiler.ir.graph import Weight
from ....compiler.ir.types import TensorType, numpy_dtype

ALIGN = 64
Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """One packed parameter: where it stands and how its bytes are made."""

    offset: int
    bytes: int
    make: Callable[[], Array]


@dataclass
class WeightTable:
    """Collects entries while steps are rendered; offsets are final as soon as they are given."""

    source: Mapping[str, Weight]
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    size: int = 0

    def offset(self, key: str, packed_bytes: int, make: Callable[[], Array]) -> int:
        """The offset of entry `key`, added when new. `make` gives the packed array when weights.bin is written."""
        if key not in self.entries:
            self.entries[key] = Entry(self.size, packed_bytes, make)
            self.size += -(-packed_bytes // ALIGN) * ALIGN
        return self.entries[key].offset

    def raw(self, weight: str, type_: TensorType) -> int:
        """The offset of a weight, or of a constant such as `=float32:1.0`, as it is."""
        array_type = numpy_dtype(type_.dtype)
        if weight.startswith("="):
            value = parse_constant(weight)
            return self.offset(f"raw {weight}", array_type.itemsize, lambda: np.asarray(value, array_type))
        elements = 1
        for dim in self.source[weight].type.shape:
            assert isinstance(dim, int)
            elements *= dim
        load = self.source[weight].load
        return self.offset(f"raw {weight}", elements * array_type.itemsize, lambda: np.asarray(load(), array_type))

    def write(self, path: Path) -> str:
        """Writes the file and returns its sha256."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            at = 0
            for key, entry in self.entries.items():
                data = np.ascontiguousarray(entry.make()).reshape(-1).view(np.uint8)
                if data.nbytes != entry.bytes:
                    raise ValueError(f"weight {key}: {data.nbytes} bytes, planned as {entry.bytes}")
                padding = b"\0" * (-(-entry.bytes // ALIGN) * ALIGN - entry.bytes)
                for part in (data.data, padding):
                    file.write(part)
                    digest.update(part)
                at += entry.bytes + len(padding)
        return digest.hexdigest()


def parse_constant(weight: str) -> float | int | bool:
    """The value of a constant's name, such as `=float32:0.125`."""
    dtype, _, text = weight[1:].partition(":")
    if dtype == "bool":
        return text == "True"
    return float(text) if dtype == "float32" else int(text)
