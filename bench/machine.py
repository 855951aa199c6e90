"""The machine: its name, and what its multipliers can do (peak.c, compiled by zig)."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("peak.c")


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
    program = folder / "peak"
    command = [
        sys.executable, "-m", "ziglang", "cc", "-O3", "-fno-sanitize=undefined", "-target",
        f"{platform.machine()}-linux-gnu.2.28", f"-mcpu={cpu}", f"-DBYTES={width}", str(SOURCE), "-o", str(program),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"zig cc failed on peak.c: {done.stderr.strip()[-400:]}")
    return program


def measure_peak(program: Path, threads: int, milliseconds: int = 40) -> float:
    """float32 GFLOP/s of `threads` threads together, in the best slice of the time given."""
    done = subprocess.run([program, str(threads), str(milliseconds)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
