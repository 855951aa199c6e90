"""The machine: its name, and what it can do (the CPU target's peak.c, compiled by zig)."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infc.targets.cpu.limits import SOURCE, read_sizes


@dataclass(frozen=True, slots=True)
class Kind:
    """One limit of arithmetic: peak.c's word for it, for people, the precision, and the CPU flags that it needs."""

    name: str
    title: str
    precision: str
    flags: tuple[str, ...]


X86 = (
    Kind("fma", "float32 multiply-add", "float32", ()),
    Kind("bf16", "bfloat16 dot product (AVX512-BF16)", "bfloat16", ("avx512_bf16",)),
    Kind("amx-bf16", "bfloat16 tiles (AMX)", "bfloat16", ("amx_tile", "amx_bf16")),
    Kind("int8-256", "int8 dot product, 256 bits (AVX-VNNI)", "int8", ("avx_vnni",)),
    Kind("int8", "int8 dot product, 512 bits (AVX512-VNNI)", "int8", ("avx512_vnni",)),
    Kind("amx-int8", "int8 tiles (AMX)", "int8", ("amx_tile", "amx_int8")),
)
ARM = (
    Kind("fma", "float32 multiply-add", "float32", ()),
    Kind("bf16", "bfloat16 matrix product (bfmmla)", "bfloat16", ("bf16",)),
    Kind("int8-256", "int8 dot product (sdot)", "int8", ("asimddp",)),
    Kind("int8", "int8 matrix product (smmla)", "int8", ("i8mm",)),
)
KINDS = ARM if platform.machine() == "aarch64" else X86


def cpu_name() -> str:
    """As /proc/cpuinfo says it, else the architecture."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def cpu_flags() -> set[str]:
    """The first CPU's feature flags; empty where they are not told."""
    for line in _cpuinfo():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def vector() -> tuple[int, str]:
    """Bytes of the widest vector that multiplies float32 here, and zig's -mcpu for it."""
    flags = cpu_flags()
    if platform.machine() == "aarch64":
        return 16, "generic"
    if "avx512f" in flags:
        return 64, "x86_64_v4-prefer_256_bit"
    return (32, "x86_64_v3") if {"avx2", "fma"} <= flags else (16, "baseline")


def build_probe(folder: Path) -> Path:
    """Compiles peak.c into `folder`. Raises RuntimeError with zig's message."""
    width, cpu = vector()
    return compile_c(SOURCE, folder / "peak", f"-mcpu={cpu}", f"-DBYTES={width}")


def compile_c(source: Path, output: Path, *flags: str) -> Path:
    """One C file for this machine; the output appears whole (another run may be using it). Raises RuntimeError with zig's
    message."""
    temporary = output.with_name(f"{os.getpid()}-{output.name}")
    command = [
        sys.executable, "-m", "ziglang", "cc", "-O3", "-fno-sanitize=undefined", "-target",
        f"{platform.machine()}-linux-gnu.2.28", *flags, str(source), "-o", str(temporary),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"zig cc failed on {source.name}: {done.stderr.strip()[-400:]}")
    temporary.replace(output)
    return output


def supported() -> dict[str, Kind]:
    """The limits of arithmetic that this CPU has, by name."""
    flags = cpu_flags()
    return {kind.name: kind for kind in KINDS if flags.issuperset(kind.flags)}


def best_kind(precision: str) -> str:
    """The widest limit of a precision here; where there is none, float32's."""
    return next((kind.name for kind in reversed(supported().values()) if kind.precision == precision), "fma")


def measure_peak(program: Path, kind: str, threads: int, milliseconds: int = 40) -> float:
    """GFLOP/s (for int8 GOP/s) of `threads` threads together, in the best slice of the time given; 0: not to be had."""
    return _probe(program, kind, str(threads), str(milliseconds))


def measure_limits(program: Path, threads: int) -> dict[str, float]:
    """Every limit: arithmetic by kind in GFLOP/s, and what is read from `L2`, `L3` and `memory` in GB/s."""
    found = {name: measure_peak(program, name, threads, 60) for name in supported()}
    for name, size in read_sizes(threads).items():
        found[name] = _probe(program, "read", str(threads), "100", str(size))
    return {name: rate for name, rate in found.items() if rate > 0}


def _probe(program: Path, *arguments: str) -> float:
    unsupported = 3
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == unsupported:
        return 0.0
    if done.returncode:
        raise RuntimeError(f"peak {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return float(done.stdout)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
