"""Mutations of .pt2 files from a seed: bytes, the zip's structure, values of the JSON.

    python -m tests.frontends.fuzz_pt2 read COUNT [SEED]     the checks before torch, in this process
    python -m tests.frontends.fuzz_pt2 load COUNT [SEED]     the whole import, each in a forked child

prints counts and rates; the first input that breaks a promise is kept and ends the run.
"""

# A mutant is of any type: what is taken from it is unknown here.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from infc.compiler.frontends import FrontendError
from infc.compiler.frontends.pt2 import Refused, read_program

from .pt2_files import CONSTANTS, MODEL, WEIGHTS, Entries, entries, save_small, save_tiny, spec

SECONDS = 10
"""Processor time that one input may take."""
MEMORY = 1 << 30
"""Bytes that a child may grow by."""
Value = Any
_WORDS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**48, 2**63 - 1, -(2**63), 10**30, 0.5, 1e308, "", "x", "s0", "NaN", [], {}, [[]],
    "Infinity", "torch.ops.aten.add.Tensor", "_operator.mul", {"as_int": -1}, {"as_none": True}, "../x", "\ud800", "\0",
)  # fmt: skip


def mutants(path: Path, random_: random.Random) -> Iterator[bytes]:
    """Endless mutations of an archive."""
    whole = path.read_bytes()
    parts = entries(path)
    values = {name: json.loads(parts[name]) for name in (MODEL, WEIGHTS, CONSTANTS)}
    while True:
        kind = random_.random()
        if kind < 0.25:
            yield _bytes(whole, random_)
        elif kind < 0.4:
            yield _structure(parts, random_)
        else:
            name = random_.choices((MODEL, WEIGHTS, CONSTANTS), (8, 3, 1))[0]
            text = _json(values[name], random_)
            if random_.random() < 0.1:
                text = _bytes(text, random_)
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


def _bytes(data: bytes, random_: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 8))):
        at = random_.randrange(len(made)) if random_.random() < 0.4 else max(0, len(made) - 1 - random_.randrange(1600))
        how = random_.randrange(4)
        if how == 0:
            made[at] ^= 1 << random_.randrange(8)
        elif how == 1:
            made[at] = random_.choice((0, 1, 0x7F, 0xFF))
        elif how == 2:
            del made[at : at + random_.choice((1, 4, 100))]
        else:
            made[at:at] = made[at : at + random_.choice((1, 4, 100))]
        if not made:
            return b""
    return bytes(made)


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


def _json(value: Value, random_: random.Random) -> bytes:
    """The text of a value with some places changed."""
    text = json.dumps(value)
    made = json.loads(text)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        holder, key = _place(made, random_)
        if holder is None:
            return text.encode()
        how = random_.randrange(7)
        if how == 0:
            del holder[key]
        elif how in (1, 2):
            holder[key] = json.loads(json.dumps(random_.choice(_WORDS)))  # a copy: it may be changed in turn
        elif how == 3:
            other, there = _place(made, random_)
            if other is not None:
                holder[key] = json.loads(json.dumps(other[there]))
        elif how == 4 and isinstance(holder, dict):
            holder[random_.choice(("x", "as_int", "name", "as_none"))] = holder[key]
        elif how == 5 and isinstance(holder, list):
            cast("list[Any]", holder).insert(random_.randrange(len(cast("list[Any]", holder)) + 1), holder[key])
        elif isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += random_.choice((-1, 1, 64, 1 << 20))
        elif isinstance(holder[key], str) and holder[key]:
            at = random_.randrange(len(holder[key]))
            holder[key] = (
                holder[key][:at] + random_.choice(("", "(", "'", "\n", "0", "s9", "Pow(")) + holder[key][at + 1 :]
            )
    text = json.dumps(made)
    if random_.random() < 0.02:
        text = text.replace("[", "[" * random_.choice((50, 5000)), 1)
    return text.encode("utf-8", "surrogatepass")


def _place(value: Value, random_: random.Random) -> tuple[Any, Any]:
    """A container and a key in it: on a random way down."""
    holder: Any = None
    key: Any = None
    while type(value) in (dict, list) and value and (holder is None or random_.random() < 0.85):
        holder = value
        key = random_.choice(list(holder)) if type(holder) is dict else random_.randrange(len(holder))
        value = holder[key]
    return holder, key


def run_read(path: Path, count: int, seed: int, scratch: Path) -> Counter[str]:
    """`count` mutants through the checks before torch. Anything but a result or a refusal is raised."""
    outcomes: Counter[str] = Counter()
    source = mutants(path, random.Random(seed))
    for _ in range(count):
        data = next(source)
        scratch.write_bytes(data)
        started = time.process_time()
        try:
            read_program(scratch)
            outcomes["read"] += 1
        except Refused as error:
            outcomes["refused" if len(error.message) < 2000 else "too long a message"] += 1
        assert time.process_time() - started < SECONDS
    assert set(outcomes) <= {"read", "refused"}
    return outcomes


def run_load(path: Path, count: int, seed: int, folder: Path) -> Counter[str]:
    """`count` mutants that pass the first checks through the whole import, each in a child forked after imports."""
    from infc.compiler.frontends import load

    outcomes: Counter[str] = Counter()
    scratch, canary = folder / "fuzz.pt2", folder / "canary"
    source = mutants(path, random.Random(seed))
    load(spec(path), folder)  # what is imported on the way is imported here
    while sum(outcomes.values()) < count:
        scratch.write_bytes(next(source))
        try:
            read_program(scratch)
        except Refused:
            continue
        code = in_child(lambda: load(spec(scratch), folder))
        outcomes[code] += 1
        assert not canary.exists()
        if code not in ("loaded", "refused"):
            raise AssertionError(f"{code}: kept in {_kept(scratch)}")
    return outcomes


def in_child(act: Callable[[], object]) -> str:
    """How `act` ends in a child with bounds of memory and time: loaded, refused, error, or a signal's name."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            spent = int(time.process_time()) + SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (spent, spent + 1))
            used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            act()
            status = 0
        except FrontendError:
            status = 2
        except BaseException:  # noqa: BLE001 - the child's end is the result
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return {0: "loaded", 2: "refused"}.get(os.WEXITSTATUS(status), "error")


def _kept(scratch: Path) -> Path:
    handle, name = tempfile.mkstemp(suffix=".pt2")
    os.write(handle, scratch.read_bytes())
    os.close(handle)
    return Path(name)


def main() -> None:
    what, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        path = folder / "net.pt2"
        if what == "read":
            save_tiny(path)
        else:
            save_small(path, decomposed=seed % 2 == 1)
        started = time.monotonic()
        if what == "read":
            try:
                outcomes = run_read(path, count, seed, folder / "fuzz.pt2")
            except BaseException:
                print("kept in", _kept(folder / "fuzz.pt2"))
                raise
        else:
            outcomes = run_load(path, count, seed, folder)
        took = time.monotonic() - started
        print(f"{what}: {dict(outcomes)} in {took:.1f} s, {count / took:.0f}/s, seed {seed}")


if __name__ == "__main__":
    main()
