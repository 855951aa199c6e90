"""The parent's side of a worker: starts it, asks it, watches what it takes, and believes nothing of what it says.

Requests and answers are JSON lines over two pipes (see `child`); arrays travel as files in the worker's folder. A
confined worker has no more than `Bounds` allows: whatever goes beyond is ended, and the error says which bound it was.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..disk import disk_full, has_little
from ..errors import Exit, InfcError
from ..frontends.errors import FrontendError
from ..processes import ended, started

POLL_S = 0.05
LOOK_S = 0.5
"""Seconds between two looks at the folder's size."""
MOST_FILES = 10_000
SAID = 4000
"""Characters of a message that are shown."""

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from {package}.child import main; sys.path.append(sys.path.pop(0)); "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
KEPT_ENV = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "INFC__DEBUG")
KEPT_PREFIXES = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "GOTO_", "BLIS_", "MALLOC_", "ATEN_", "ONEDNN_")
"""Variables that a confined worker has too; what else the environment holds (keys, tokens) is not its business."""


@dataclass(frozen=True)
class Bounds:
    """What one worker may take: private memory and files that it writes, in bytes; the length of an answer, in bytes;
    seconds for one request."""

    memory_bytes: int = 8 << 30
    disk_bytes: int = 8 << 30
    answer_bytes: int = 64 << 20
    seconds: float = 900.0


@dataclass(frozen=True)
class Confined:
    """How a worker is locked in: the files that it may read beside the interpreter's, and its bounds."""

    read: tuple[str, ...]
    bounds: Bounds = field(default_factory=Bounds)
    required: bool = False
    """Refuse where the kernel has no Landlock or no seccomp filters."""


class Worker:
    """A Python process that runs a session's code (see `child`), and the folder that it writes to.

    `session` is a module with `open_session`; `subject` what errors call the thing that it works on. Without `confined`
    it runs as its user does. What it prints goes to stderr, and of a confined one nowhere. `missing` says which parts of
    the sandbox the kernel lacks. The folder outlives `close` while weights are mapped from it: a temporary one goes when
    this object does. Raises FrontendError, and InfcError (exit 6) where `confined.required` cannot be had.
    """

    def __init__(
        self,
        session: str,
        subject: str,
        *,
        folder: Path | None = None,
        confined: Confined | None = None,
        cwd: Path | None = None,
        python: str | None = None,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="infc-import-", ignore_cleanup_errors=True)
            folder = Path(self._temporary.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._subject = subject
        self._confined = confined
        self._buffer = b""
        self._start(cwd or self.folder, python or sys.executable)
        hello = {
            "do": "enter", "session": session, "parent": os.getpid(), "confine": confined is not None,
            "read": list(confined.read) if confined else [], "write": [str(self.folder)],
            "most_file_bytes": confined.bounds.disk_bytes if confined else 0,
        }  # fmt: skip
        try:
            self.missing = tuple(str(m) for m in self.ask(hello)["missing"])
        except BaseException:
            self.close()
            raise
        if self.missing and confined is not None and confined.required:
            self.close()
            raise InfcError(
                f"this kernel has no {' and no '.join(self.missing)}, and --require-sandbox asks for them",
                exit_code=Exit.MISSING,
                hint="build on Linux 5.13 or later with Landlock switched on (`lsm=landlock,...`)",
            )

    def _start(self, cwd: Path, python: str) -> None:
        to_child, from_parent = os.pipe()
        from_child, to_parent = os.pipe()
        flags = ["-P"] if self._confined is None else ["-E", "-P"]
        package = __name__.rpartition(".")[0]
        root = Path(__file__).parents[len(package.split(".")) - 1]
        if package.split(".")[0] == "infc" and not (root / "infc").is_dir():
            root = _import_root(package.split(".")[0])
        command = [
            python, *flags, "-c", START.format(package=package), str(root), str(to_child), str(to_parent)
        ]  # fmt: skip
        shown = self._confined is None or os.environ.get("INFC__DEBUG", "") not in ("", "0")
        stream = sys.stderr.fileno() if shown and _has_descriptor(sys.stderr) else subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=_environment(self.folder, confined=self._confined is not None),
                pass_fds=(to_child, to_parent),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=None if self._confined is None else stream,
                start_new_session=True,
            )
            started(self._process)
        finally:
            os.close(to_child)
            os.close(to_parent)
        self._requests, self._answers = from_parent, from_child
        os.set_blocking(self._requests, False)
        os.set_blocking(self._answers, False)

    def ask(self, request: Mapping[str, Any], *, seconds: float | None = None) -> dict[str, Any]:
        """The answer to one request. Raises the error that the worker met (FrontendError; InfcError where its exit code
        is another), and FrontendError where it died or took more than it may."""
        line = self._exchange(json.dumps({**request, "folder": str(self.folder)}).encode() + b"\n", seconds)
        try:
            answer = json.loads(line)
            if "error" in answer:
                said = answer["error"]
                message, hint, code = printable(said["message"]), printable(said["hint"]), Exit(said["code"])
                if code not in (Exit.USAGE, Exit.MISSING):
                    raise ValueError(code)
            else:
                return _object(answer["ok"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self.damaged("it is not in the form of one") from None
        raise FrontendError(message, hint=hint) if code == Exit.USAGE else InfcError(message, exit_code=code, hint=hint)

    def damaged(self, what: str) -> FrontendError:
        """The error of an answer that is not what was asked for."""
        self.close()
        return FrontendError(f"the process that reads {self._subject} gave an answer that cannot be used: {what}")

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            if self._confined is None:
                with suppress(subprocess.TimeoutExpired):
                    self._shut()
                    self._process.wait(timeout=5)
            self._process.kill()
            self._process.wait()
        ended(self._process)
        self._shut()

    def _shut(self) -> None:
        for name in ("_requests", "_answers"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                setattr(self, name, -1)
                os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self._process.kill()
            self._process.wait()
            self._shut()

    # ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _exchange(self, request: bytes, seconds: float | None) -> bytes:
        """Sends a line and waits for one, within the bounds."""
        bounds = self._confined.bounds if self._confined is not None else None
        limit = seconds if seconds is not None else bounds.seconds if bounds is not None else None
        start = looked = time.monotonic()
        rest = memoryview(request)
        while b"\n" not in self._buffer:
            if self._requests < 0:
                raise FrontendError(f"the process that reads {self._subject} has ended")
            wanted = [self._requests] if rest else []
            readable, writable, _ = select.select([self._answers], wanted, [], POLL_S)
            if writable:
                with suppress(BlockingIOError, BrokenPipeError):
                    rest = rest[os.write(self._requests, rest[: 1 << 16]) :]
            if readable:
                chunk = os.read(self._answers, 1 << 20)
                if not chunk:
                    raise self._died()
                self._buffer += chunk
            now = time.monotonic()
            if limit is not None and now - start > limit:
                raise self._beyond(f"took more than {limit:.0f} s", "INFC__IMPORT_SECONDS allows more")
            if bounds is None:
                continue
            if len(self._buffer) > bounds.answer_bytes:
                raise self._beyond(f"gave an answer of more than {bounds.answer_bytes >> 20} MiB", "")
            if private_bytes(self._process.pid) > bounds.memory_bytes:
                more = "INFC__IMPORT_MEMORY allows more"
                raise self._beyond(f"took more than {bounds.memory_bytes / 2**30:.1f} GiB of memory", more)
            if now - looked > LOOK_S:
                looked = now
                if _too_large(self.folder, bounds.disk_bytes):
                    raise self._beyond(f"wrote more than {bounds.disk_bytes / 2**30:.1f} GiB", "")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _died(self) -> InfcError:
        code = self._process.wait()
        self.close()
        if has_little(self.folder):  # a mapped file that cannot grow is a SIGBUS
            return disk_full(self.folder)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = "what is in there makes its reader fail" if self._confined is not None else (
            "its own messages are above; `sys.exit` and `os._exit` have no place in a factory"
        )  # fmt: skip
        return FrontendError(f"the process that reads {self._subject} {how}", hint=hint)

    def _beyond(self, what: str, hint: str) -> FrontendError:
        self._process.kill()
        self.close()
        return FrontendError(f"the process that reads {self._subject} {what}, and was ended", hint=hint)


def printable(value: Any, most: int = SAID) -> str:
    """A worker's words as they may be shown: a string, not endless, without what a terminal would obey. Raises
    TypeError."""
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    kept = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value[: most + 1])
    return kept if len(kept) <= most else kept[:most] + "…"


def private_bytes(pid: int) -> int:
    """Resident memory of a process that no file stands behind (mapped weights can be dropped at any time); 0 when gone."""
    found: dict[str, int] = {}
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon", "RssShmem"):
                found[name] = int(value.split()[0]) << 10
    return found["RssAnon"] + found.get("RssShmem", 0) if "RssAnon" in found else found.get("VmRSS", 0)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(type(value).__name__)
    return value  # pyright: ignore[reportUnknownVariableType] - keys of a JSON object are strings


def _too_large(folder: Path, most: int) -> bool:
    total = count = 0
    for place, _, files in os.walk(folder):
        count += 1 + len(files)
        if count > MOST_FILES:
            return True
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total > most


def _environment(folder: Path, *, confined: bool) -> dict[str, str]:
    if not confined:  # what torch caches for itself is not left in the user's folder for temporary files
        return {"TORCHINDUCTOR_CACHE_DIR": str(folder / "torchinductor"), **os.environ}
    kept = {k: v for k, v in os.environ.items() if k in KEPT_ENV or k.startswith(KEPT_PREFIXES)}
    own = {"HOME": str(folder), "TMPDIR": str(folder), "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _import_root(name: str) -> Path:
    """The folder on sys.path that holds package name."""
    for entry in sys.path:
        if (Path(entry or ".") / name).is_dir():
            return Path(entry or ".").resolve()
    return Path.cwd()
