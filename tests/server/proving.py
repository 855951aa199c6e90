"""`serve prove` as the tests run it, and what its documents hold."""

from __future__ import annotations

import base64
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundles import Json
from .serving import environment

FAILED = 1 << 63


def start_prove(binary: Path, bundle: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`serve prove` with a lock of its own in `folder`: tests do not wait for each other."""
    command = [str(binary), "prove", "--bundle", str(bundle), *arguments]
    env = environment({"TMPDIR": str(folder)})
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def try_prove(binary: Path, bundle: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start_prove(binary, bundle, folder, *arguments)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def prove(binary: Path, bundle: Path, folder: Path, *arguments: str) -> Json:
    """Its document."""
    result = try_prove(binary, bundle, folder, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def latencies(block: Json) -> npt.NDArray[np.uint64]:
    """Of each request in the order of sending: nanoseconds, or 2^63 + status."""
    return np.frombuffer(zlib.decompress(base64.b64decode(block["latency"])), dtype="<u8")


def statuses(block: Json) -> dict[str, int]:
    """How many requests have no latency, by status."""
    found = latencies(block)
    values, counts = np.unique(found[found >= FAILED] - np.uint64(FAILED), return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def children(pid: int) -> list[int]:
    """Processes that this one started."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
            found.append(int(folder.name))
    return found


def status_of(path: Path, key: str) -> str:
    """A line of a /proc/…/status."""
    (value,) = [v for k, _, v in (line.partition(":") for line in path.read_text().splitlines()) if k == key]
    return value.strip()


def cpus(text: str) -> set[int]:
    """`0-2,5` as numbers."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def sha(value: Any) -> str:
    """The digest of a JSON value, by the rule of prove/subject.rs."""
    import hashlib

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
