"""A worker's session for tests: tries what it is asked to try, and says what came of it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)


def open_session() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Answers {"do": attempt, ...}: {"came": what it gave} or {"refused": the error}."""
    return _handle


def user_error(error: BaseException, request: Mapping[str, Any]) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {error}"


def _handle(request: Mapping[str, Any]) -> dict[str, Any]:
    if request["do"] == "shout":
        return {"text": "x" * request["count"]}
    attempt = ATTEMPTS[request["do"]]
    try:
        return {"came": repr(attempt(request))}
    except OSError as error:
        return {"refused": type(error).__name__, "errno": error.errno}
    except ValueError as error:  # Python's own word for EPERM of setrlimit
        return {"refused": str(error)}


def _syscall(number: int, *arguments: Any) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def _thread(_: Mapping[str, Any]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    return len(found)


def _fork(_: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def _fill(request: Mapping[str, Any]) -> None:
    for i in range(1000):
        (Path(request["folder"]) / f"part{i}").write_bytes(bytes(1 << 20))
    time.sleep(600)


def _allocate(request: Mapping[str, Any]) -> int:
    kept = [bytearray(b"x" * (64 << 20)) for _ in range(request["pieces"])]
    time.sleep(60)
    return len(kept)


def _sleep(_: Mapping[str, Any]) -> None:
    time.sleep(600)


def _die(_: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise(request: Mapping[str, Any]) -> None:
    raise RuntimeError(request["text"])


X86 = sys.maxsize > 2**32 and os.uname().machine == "x86_64"
ATTEMPTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "read": lambda r: len(Path(r["path"]).read_bytes()),
    "list": lambda r: os.listdir(str(r["path"])),
    "write": lambda r: Path(r["path"]).write_bytes(b"x"),
    "remove": lambda r: os.unlink(r["path"]),
    "truncate": lambda r: os.truncate(r["path"], 0),
    "chmod": lambda r: os.chmod(r["path"], 0o777),
    "chown": lambda r: os.chown(r["path"], 0, 0),
    "utime": lambda r: os.utime(r["path"]),
    "symlink": lambda r: os.symlink("/etc/passwd", os.path.join(r["folder"], "link")),
    "hard link": lambda r: os.link(r["path"], os.path.join(r["folder"], "hard")),
    "fifo": lambda r: os.mkfifo(os.path.join(r["folder"], "fifo")),
    "exec": lambda r: os.execv("/bin/true", ["true"]),
    "run": lambda r: subprocess.run(["/bin/true"], check=True),
    "fork": _fork,
    "socket": lambda r: socket.socket(socket.AF_INET, socket.SOCK_STREAM).fileno(),
    "unix socket": lambda r: socket.socket(socket.AF_UNIX).fileno(),
    "socket pair": lambda r: socket.socketpair()[0].fileno(),
    "kill parent": lambda r: os.kill(os.getppid(), 0),
    "kill group": lambda r: os.kill(0, 0),
    "kill self": lambda r: os.kill(os.getpid(), 0),
    "memfd": lambda r: os.memfd_create("x"),
    "ptrace": lambda r: _syscall(101 if X86 else 117, 0, 0, 0, 0),
    "io_uring": lambda r: _syscall(425, 1, 0),
    "process_vm_readv": lambda r: _syscall(310 if X86 else 270, os.getppid(), 0, 0, 0, 0, 0),
    "pidfd_open": lambda r: _syscall(434, os.getppid(), 0),
    "bpf": lambda r: _syscall(321 if X86 else 280, 0, 0, 0),
    "keyctl": lambda r: _syscall(250 if X86 else 219, 0, 0, 0, 0, 0),
    "mount": lambda r: _syscall(165 if X86 else 40, 0, 0, 0, 0, 0),
    "unshare": lambda r: _syscall(272 if X86 else 97, 0),
    "shmget": lambda r: _syscall(29 if X86 else 194, 0, 4096, 0o1600),
    "userfaultfd": lambda r: _syscall(323 if X86 else 282, 0),
    "perf": lambda r: _syscall(298 if X86 else 241, 0, 0, 0, 0, 0),
    "unlimited files": lambda r: __import__("resource").setrlimit(__import__("resource").RLIMIT_FSIZE, (-1, -1)),
    "own terminal": lambda r: __import__("fcntl").fcntl(1, 8, os.getppid()),
    "unknown number": lambda r: _syscall(999),
    "thread": _thread,
    "sleep a little": lambda r: time.sleep(0.01),
    "read itself": lambda r: len(Path("/proc/self/maps").read_bytes()) > 0,
    "read parent": lambda r: len(Path(f"/proc/{os.getppid()}/environ").read_bytes()),
    "environment": lambda r: sorted(os.environ),
    "loaded": lambda r: [m for m in ("numpy", "torch") if m in sys.modules],
    "numpy": lambda r: float(__import__("numpy").ones(3).sum()),
    "fill": _fill,
    "sleep": _sleep,
    "allocate": _allocate,
    "die": _die,
    "raise": _raise,
}
