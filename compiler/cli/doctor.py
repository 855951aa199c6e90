"""`infc doctor`: what this machine has and lacks, and how to get what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..bundle.server import ARCHES, find
from ..env import Settings
from ..errors import Exit, InfcError
from .options import command_parser, settings_of
from .output import Ui, format_bytes, format_table, print_json

DESCRIPTION = """Check this machine: Python, packages, the C compiler, the server, disk and memory.
Exit 0 when `infc build` can work here, 6 when something that it needs is missing."""

LEAST_DISK_BYTES = 2 << 30
LEAST_MEMORY_BYTES = 2 << 30
BUILD_PACKAGES = (
    "torch", "torch-mlir", "apache-tvm", "ziglang", "transformers", "safetensors", "tokenizers", "jinja2", "numpy", "pydantic",
)  # fmt: skip
PEERS = ("onnxruntime", "openvino", "iree-base-compiler", "iree-base-runtime")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, whether `infc build` needs it, and how to get it."""

    name: str
    found: bool
    detail: str
    needed: bool = True
    hint: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `MISSING` (needed) or `absent` (something works without it)."""
        return "ok" if self.found else "MISSING" if self.needed else "absent"


def run(argv: Sequence[str]) -> int:
    """Prints every finding; 6 when one that build needs is missing."""
    args = command_parser("doctor", DESCRIPTION).parse_args(argv)
    settings = settings_of(args)
    findings = [finding for look in LOOKS for finding in look(settings)]
    missing = [f for f in findings if f.needed and not f.found]
    code = Exit.MISSING if missing else Exit.OK
    if args.json:
        rows = [{"name": f.name, "state": f.mark, "detail": f.detail, "hint": f.hint} for f in findings]
        print_json("infc.doctor/1", code, {"findings": rows})
        return code
    print(format_table([(f.mark, f.name, f.detail) for f in findings]))
    for f in findings:
        if not f.found and f.hint:
            print(f"\n{f.name} is {f.mark.lower()}: {f.hint}")
    Ui.from_args(args).status(
        f"{len(missing)} needed and missing" if missing else "everything that `infc build` needs is here"
    )
    return code


def _look_at_system(_: Settings) -> list[Finding]:
    linux = sys.platform == "linux"
    machine = platform.machine()
    return [
        Finding("system", linux, f"{platform.system()} {platform.release()}", hint="infc builds on Linux"),
        Finding(
            "processor",
            machine in ARCHES,
            f"{machine}, {len(os.sched_getaffinity(0))} CPUs for this process",
            hint=f"bundles can be built for {' and '.join(ARCHES)} only",
        ),
        Finding("python", sys.version_info >= (3, 11), platform.python_version(), hint="Python 3.11 or later"),
    ]


def _look_at_packages(_: Settings) -> list[Finding]:
    rows = [_package(name, needed=True, extra="build") for name in BUILD_PACKAGES]
    return rows + [_package(name, needed=False, extra="bench") for name in PEERS]


def _package(name: str, *, needed: bool, extra: str) -> Finding:
    try:
        return Finding(name, True, version(name), needed)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", needed, f"pip install 'infc[{extra}]'")


def _look_at_tools(_: Settings) -> list[Finding]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True, check=False, timeout=60
        )
        zig = Finding("zig cc", done.returncode == 0, (done.stdout or done.stderr).strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError) as error:
        zig = Finding("zig cc", False, f"does not run: {error}", hint="pip install --force-reinstall ziglang")
    qemu = shutil.which("qemu-aarch64")
    sysroot = Path("/usr/aarch64-linux-gnu").is_dir()
    return [
        zig,
        Finding(
            "qemu-aarch64",
            qemu is not None and sysroot,
            qemu or "not found",
            needed=False,
            hint="to run aarch64 bundles here (Debian): apt-get install qemu-user libc6-arm64-cross",
        ),
    ]


def _look_at_servers(_: Settings) -> list[Finding]:
    return [_server(arch) for arch in ARCHES]


def _server(arch: str) -> Finding:
    needed = arch == platform.machine()
    try:
        return Finding(f"server {arch}", True, str(find(arch)), needed)
    except InfcError as error:
        return Finding(f"server {arch}", False, error.message, needed, error.hint)


def _look_at_space(settings: Settings) -> list[Finding]:
    folder = settings.cache_dir
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    memory = _available_memory()
    return [
        Finding(
            "cache",
            writable and free >= LEAST_DISK_BYTES,
            f"{folder}, {format_bytes(free)} free" + ("" if writable else ", not writable"),
            hint=f"a writable folder with {format_bytes(LEAST_DISK_BYTES)} free: --cache-dir or INFC__CACHE_DIR",
        ),
        Finding(
            "memory",
            memory is None or memory >= LEAST_MEMORY_BYTES,
            "unknown" if memory is None else f"{format_bytes(memory)} available",
            hint=f"building takes {format_bytes(LEAST_MEMORY_BYTES)} and more, by the model's size",
        ),
    ]


def _available_memory() -> int | None:
    """Bytes that a new process can have: MemAvailable of /proc/meminfo; None where that is not told."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kib[0]) * 1024 if kib else None


LOOKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    _look_at_system,
    _look_at_packages,
    _look_at_tools,
    _look_at_servers,
    _look_at_space,
)
