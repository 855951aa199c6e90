"""The suite `start`: from exec to the first correct answer over HTTP, resident memory then, bytes on disk.

infc's bundle starts its own `serve`; beside it a Python process with onnxruntime answers the same request. They take
turns; files are in the page cache for both.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median

import numpy as np

from .accuracy import cosines
from .bundles import bundle_folder
from .cases import FLOOR, FOLDER, OURS, ROOT
from .models import LONGEST, STREAMED, artifacts, model_folder

PEER = "Python, onnxruntime"
PACKAGES = ("onnxruntime", "numpy", "tokenizers")
"""What of Python's packages counts into the peer's size; Python itself and what these require do not."""

ROUNDS = 7
PATIENCE_S = 60.0


@dataclass(slots=True)
class Started:
    """`seconds`: each start's; `resident`: bytes after the first answer; `size`: bytes on disk; `exact`: the answer's cosine."""

    name: str
    precision: str
    size: int = 0
    failure: str = ""
    seconds: list[float] = field(default_factory=list[float])
    resident: int = 0
    exact: float = 0.0

    @property
    def least(self) -> float:
        """Seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.seconds)


class NotStarted(Exception):
    """The message says why."""


def run_start(
    precisions: Sequence[str], threads: int, refused: Callable[[str], str], say: Callable[[str], None]
) -> list[Started]:
    """Everyone in every precision. `refused(precision)`: why there is no bundle, "" where there is one."""
    rows: list[tuple[Started, list[str]]] = []
    for precision in precisions:
        ours = Started(OURS, precision, failure=refused(precision))
        bundle = bundle_folder(STREAMED, precision)
        if not ours.failure:
            ours.size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        rows.append((ours, [str(bundle / "serve"), "--port", "0", "--threads", str(threads)]))
        if precision != "bfloat16":
            rows.append(peer_of(precision, threads))
    known = json.loads((artifacts(STREAMED) / "start.json").read_text(encoding="utf-8"))
    for number in range(ROUNDS):
        say(f"start: round {number + 1} of {ROUNDS}")
        for row, command in rows:
            if not row.failure:
                try:
                    start_once(row, command, known["text"], np.array([known["embedding"]], np.float32))
                except NotStarted as error:
                    row.failure = str(error)
    return [row for row, _ in rows]


def peer_of(precision: str, threads: int) -> tuple[Started, list[str]]:
    """The peer's row and command. Its model is the fused one of the suite of encoders, with dynamic shapes."""
    row = Started(PEER, precision)
    try:
        from .peers import ort

        file = next(iter(ort.files(STREAMED, "dynamic", precision, "fused").values()))
        row.size = file.stat().st_size + sum(map(package_size, PACKAGES))
    except (ImportError, PackageNotFoundError) as error:
        row.failure, file = f"not installed: {error}", Path()
    tokenizer = model_folder(STREAMED) / "tokenizer.json"
    script = ROOT / "bench" / "start_peer.py"
    return row, [sys.executable, str(script), str(file), str(tokenizer), str(threads), str(LONGEST)]


def package_size(name: str) -> int:
    """Bytes of an installed package's files."""
    files = distribution(name).files or ()
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())


def start_once(row: Started, command: list[str], text: str, wanted: np.ndarray) -> None:
    """One start, timed. Raises NotStarted."""
    with (FOLDER / "start.log").open("w") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise NotStarted(f"it ended with {process.wait()} before it listened; see {log.name}")
            answer = first_answer(json.loads(line)["http"], text, begin)
            row.seconds.append(time.perf_counter() - begin)
            row.resident = resident(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)
    row.exact = float(cosines(np.array([answer], np.float32), wanted)[0])
    if row.exact < FLOOR[row.precision] and row.name == OURS:
        raise NotStarted(f"its answer's cosine is {row.exact:.4f}")


def first_answer(address: str, text: str, begin: float) -> list[float]:
    """Asks until there is an answer; the embedding. Raises NotStarted."""
    body = json.dumps({"model": STREAMED, "input": [text]})
    while time.perf_counter() < begin + PATIENCE_S:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == http.client.OK:
                return json.loads(content)["data"][0]["embedding"]
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.001)
    raise NotStarted(f"no answer within {PATIENCE_S:.0f} s")


def resident(pid: int) -> int:
    """VmRSS, bytes: private memory and what is mapped of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0
