"""Mutations of .pt2 files from a seed: bytes, the zip's structure, values of the JSON; and their whole import.

The import is that of the worker without its sandbox, which must not be what hides a hole.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from infc.compiler.frontends import load_here
from infc.compiler.frontends.pt2 import Refused, read_program

from .fuzz_mutate import json_text, mutated_bytes, mutated_json
from .fuzz_run import run_children
from .pt2_files import CONSTANTS, MODEL, WEIGHTS, Entries, entries, save_small, save_tiny, spec


def mutants(path: Path, random_: random.Random) -> Iterator[bytes]:
    """Endless mutations of an archive."""
    whole = path.read_bytes()
    parts = entries(path)
    texts = {name: json_text(parts[name]) for name in (MODEL, WEIGHTS, CONSTANTS)}
    while True:
        kind = random_.random()
        if kind < 0.25:
            yield mutated_bytes(whole, random_, tail=1600)
        elif kind < 0.4:
            yield _structure(parts, random_)
        else:
            name = random_.choices((MODEL, WEIGHTS, CONSTANTS), (8, 3, 1))[0]
            text = mutated_json(texts[name], random_)
            yield zipped({**parts, name: text})


def zipped(parts: Entries, names: list[tuple[str, bytes]] | None = None) -> bytes:
    """A zip of stored entries, written plainly: much faster than zipfile."""
    body: list[bytes] = []
    directory: list[bytes] = []
    at = 0
    for name, data in names if names is not None else [(f"net/{n}", d) for n, d in parts.items()]:
        raw = name.encode("utf-8", "surrogatepass")
        size = len(data)
        body += (struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, size, size, len(raw), 0), raw, data)
        directory += (
            struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, size, size, len(raw), 0, 0, 0, 0, 0, at),
            raw,
        )
        at += 30 + len(raw) + size
    listed = b"".join(directory)
    count = len(directory) // 2
    return b"".join(body) + listed + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(listed), at, 0)


def _structure(parts: Entries, random_: random.Random) -> bytes:
    """Entries missing, doubled, renamed, moved, emptied."""
    rows = [(f"net/{n}", d) for n, d in parts.items()]
    for _ in range(random_.choice((1, 1, 3))):
        at = random_.randrange(len(rows))
        name, data = rows[at]
        how = random_.randrange(6)
        if how == 0 and len(rows) > 1:
            del rows[at]
        elif how == 1:
            rows.insert(random_.randrange(len(rows)), rows[at])
        elif how == 2:
            rows[at] = (
                random_.choice(("/", "../", "a\\", "other/", "net/../", "net/data/constants/opaque_obj_")) + name,
                data,
            )
        elif how == 3:
            rows[at] = (name, data[: random_.randrange(len(data) + 1)])
        elif how == 4:
            rows[at] = (name, random_.choice(rows)[1])
        else:
            random_.shuffle(rows)
    return zipped({}, rows)


def run_load(count: int, seed: int, folder: Path) -> Counter[str]:
    """`count` mutants that pass the first checks through the whole import, each in a child forked after imports. Seeds
    0, 3, ... are of a linear layer; others of a larger program, decomposed or not."""
    scratch = folder / "fuzz.pt2"
    path = folder / "net.pt2"
    if seed % 3:
        save_small(path, decomposed=seed % 3 == 1)
    else:
        save_tiny(path)
    load_here(spec(path), folder)  # what is imported on the way is imported here

    def prepare(data: bytes) -> bool:
        scratch.write_bytes(data)
        try:
            read_program(scratch)
        except Refused:
            return False
        return True

    return run_children(
        mutants(path, random.Random(seed)), count, f"pt2-import, seed {seed}", prepare, lambda: load_here(spec(scratch), folder),
        folder,
    )  # fmt: skip
