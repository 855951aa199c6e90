"""Locks the calling process in, for good: nothing here can be undone, and children would inherit it.

Called first of all in a worker: it imports nothing but the standard library, since importing is already work on files.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import site
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import landlock
from .syscalls import MACHINES, filter_program

_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _TSYNC = 1, 1

SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/localtime",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/vm", "/proc/filesystems",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/dev/urandom", "/dev/random",
)  # fmt: skip
"""What libraries read to load and to learn about the machine."""


@dataclass(frozen=True)
class Locked:
    """What holds: Landlock's version (0: none) and whether system calls are filtered. `missing` says in words what the
    kernel does not have."""

    landlock: int
    seccomp: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Empty where both are there."""
        return tuple(
            name for name, there in (("Landlock", self.landlock), ("seccomp filters", self.seccomp)) if not there
        )


def enter(read: Sequence[str], write: Sequence[str], most_file_bytes: int) -> Locked:
    """Reading is left under `read`, the interpreter, its packages and system libraries; writing under `write`, files of at
    most so many bytes. No core is dumped, no other program started, no connection made. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    restricted = landlock.restrict(libc, [*read, *interpreter(), *SYSTEM], [*write, "/dev/null"])
    return Locked(restricted, _filter(libc))


PACKAGES = ("numpy", "torch", "torch_mlir", "transformers", "tokenizers", "safetensors", "huggingface_hub")
"""What a worker imports, wherever it is installed."""


def interpreter() -> list[str]:
    """Folders of the running interpreter, of installed packages, of libraries (those that are loaded already, and where the
    loader is told to look) and of infc itself."""
    package = Path(__file__).resolve().parents[1]
    own = [package.parent / name for name in ("infc", "compiler", "dsl", "targets", "runtime")]
    packages = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    roots = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    # A prefix such as /usr would open everything under it: its libraries are enough.
    folders = [os.path.join(r, "lib") if r in ("/usr", "/usr/local", "/") else r for r in roots]
    specs = filter(None, (importlib.util.find_spec(name) for name in PACKAGES))
    packages += [place for spec in specs for place in spec.submodule_search_locations or ()]
    return [*folders, *packages, *map(str, own), *_libraries()]


def _libraries() -> set[str]:
    """Folders of shared libraries: of those mapped now, and of LD_LIBRARY_PATH."""
    lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    mapped = {parts[5] for parts in (line.split(maxsplit=5) for line in lines) if len(parts) == 6}
    told = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return {os.path.dirname(p) for p in mapped if ".so" in p and p.startswith("/")} | {
        p for p in told if p.startswith("/")
    }


def install(libc: ctypes.CDLL, program: bytes) -> bool:
    """Puts a filter on every thread; False where the kernel takes none. Raises OSError."""
    number = _SECCOMP.get(platform.machine())
    if number is None:
        return False
    buffer = ctypes.create_string_buffer(program, len(program))
    descriptor = _Program(len(program) // 8, ctypes.addressof(buffer))
    if libc.syscall(number, _SET_MODE_FILTER, _TSYNC, ctypes.byref(descriptor)) == 0:
        return True
    if ctypes.get_errno() in (_ENOSYS, _EINVAL):
        return False
    raise OSError(ctypes.get_errno(), "seccomp")


_EINVAL, _ENOSYS = 22, 38


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter(libc: ctypes.CDLL) -> bool:
    machine = platform.machine()
    return machine in MACHINES and sys.maxsize > 2**32 and install(libc, filter_program(machine, os.getpid()))
