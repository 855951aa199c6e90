"""What a CPU can do: peaks of arithmetic and rates of reading, measured by peak.c, which zig compiles for this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ...compiler.errors import Exit, InfcError
from ...compiler.target import Limits
from .compile import run_zig
from .isa import ISAS, Isa, machine_features

SOURCE = Path(__file__).resolve().with_name("peak.c")
LARGEST = 1 << 30
"""Most bytes that are read to measure the memory's bandwidth, all threads together."""
MILLISECONDS = 60
UNSUPPORTED = 3
"""peak's exit code for an instruction that the machine lacks."""

KINDS: dict[str, dict[str, str]] = {
    "x86-64-v3": {"float32": "fma"},
    "x86-64-v3-vnni": {"float32": "fma", "int8": "int8-256"},
    "x86-64-v4": {"float32": "fma"},
    "x86-64-v4-vnni": {"float32": "fma", "int8": "int8"},
    "x86-64-v4-bf16": {"float32": "fma", "bfloat16": "bf16", "int8": "int8"},
    "x86-64-amx": {"float32": "fma", "bfloat16": "amx-bf16", "int8": "amx-int8"},
    "aarch64-neon": {"float32": "fma"},
    "aarch64-dotprod": {"float32": "fma", "int8": "int8-256"},
    "aarch64-i8mm": {"float32": "fma", "int8": "int8"},
}
"""By ISA, the word that peak.c has for the peak of each precision; a precision that is not there has float32's."""


def measure_limits(variant: str, threads: int, folder: Path) -> Limits:
    """The limits of this machine for code of an ISA, `threads` threads together; about a second. The probe is built in folder.

    Raises InfcError: exit 6 where ziglang is not installed or this machine cannot run the ISA's code.
    """
    isa = ISAS[variant]
    arch, have = machine_features()
    if isa.arch != arch or not have.issuperset(isa.features):
        raise InfcError(f"this machine cannot run {variant} code", exit_code=Exit.MISSING)
    program = build_probe(isa, folder)
    ops = {precision: measure_peak(program, kind, threads) for precision, kind in KINDS[variant].items()}
    read = {
        level: probe(program, "read", str(threads), "100", str(size)) for level, size in read_sizes(threads).items()
    }
    return Limits({p: rate for p, rate in ops.items() if rate}, {level: rate for level, rate in read.items() if rate})


def build_probe(isa: Isa, folder: Path) -> Path:
    """Compiles peak.c for this machine, with vectors as wide as the ISA's. Raises InfcError."""
    (folder / SOURCE.name).write_bytes(SOURCE.read_bytes())
    width = f"-DBYTES={4 * isa.vector}"
    run_zig(["cc", *isa.flags, "-O3", "-fno-sanitize=undefined", width, SOURCE.name, "-lpthread", "-o", "peak"], folder)
    return folder / "peak"


def measure_peak(program: Path, kind: str, threads: int, milliseconds: int = MILLISECONDS) -> float:
    """Operations a second (a multiply-add counts two) of `threads` threads together in the best slice; 0: not to be had."""
    return probe(program, kind, str(threads), str(milliseconds))


def probe(program: Path, *arguments: str) -> float:
    """What peak.c prints, in operations or bytes a second; 0 where the machine lacks it. Raises InfcError."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == UNSUPPORTED:
        return 0.0
    if done.returncode:
        said = done.stderr.strip()
        raise InfcError(
            f"measuring {' '.join(arguments)} ended with {done.returncode}: {said}", exit_code=Exit.INTERNAL
        )
    return 1e9 * float(done.stdout)


def read_sizes(threads: int) -> dict[str, int]:
    """Bytes that each thread reads to be served from each level: half its L2, four times that (or half of its part of L3,
    if less), and for memory four times L3, at most LARGEST."""
    caches = cache_sizes()
    second, third = caches.get(2, 1 << 20), caches.get(3, 0)
    sizes = {"L2": second // 2}
    if third // threads >= 4 * second:
        sizes["L3"] = min(4 * second, third // threads // 2)
    sizes["memory"] = min(LARGEST, max(4 * third, 256 << 20)) // threads
    return sizes


def cache_sizes() -> dict[int, int]:
    """Bytes of the first CPU's data and unified caches by level; empty where they are not told."""
    sizes: dict[int, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) << 10
    return sizes
