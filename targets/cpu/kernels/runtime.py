"""The runtime C that goes into every model.so: the thread pool, and the check of the CPU's features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..isa import Isa
from .render import render

RUNTIME = Path(__file__).parent.parent / "runtime"

_AVX = 0x6  # XCR0: SSE and AVX state
_AVX512 = 0xE6  # and opmask, upper halves, upper registers
_AMX = 0x60000  # tile configuration and data


@dataclass(frozen=True)
class Feature:
    """Where a CPU says that it has a feature. x86-64: CPUID leaf, subleaf, register (0 eax .. 3 edx), bit, and the XCR0
    bits it needs. aarch64: auxiliary vector key (16 AT_HWCAP, 26 AT_HWCAP2) as `leaf`, and bit. Names are Linux's."""

    name: str
    leaf: int
    bit: int
    word: int = 0
    subleaf: int = 0
    state: int = 0


_ECX, _EBX, _EDX, _EAX = 2, 1, 3, 0
FEATURES: dict[str, Feature] = {
    f.name: f
    for f in (
        Feature("sse4_2", 1, 20, _ECX),
        Feature("popcnt", 1, 23, _ECX),
        Feature("cx16", 1, 13, _ECX),
        Feature("movbe", 1, 22, _ECX),
        Feature("xsave", 1, 26, _ECX),
        Feature("avx", 1, 28, _ECX, state=_AVX),
        Feature("f16c", 1, 29, _ECX, state=_AVX),
        Feature("fma", 1, 12, _ECX, state=_AVX),
        Feature("avx2", 7, 5, _EBX, state=_AVX),
        Feature("bmi1", 7, 3, _EBX),
        Feature("bmi2", 7, 8, _EBX),
        Feature("abm", 0x80000001, 5, _ECX),
        Feature("avx512f", 7, 16, _EBX, state=_AVX512),
        Feature("avx512dq", 7, 17, _EBX, state=_AVX512),
        Feature("avx512cd", 7, 28, _EBX, state=_AVX512),
        Feature("avx512bw", 7, 30, _EBX, state=_AVX512),
        Feature("avx512vl", 7, 31, _EBX, state=_AVX512),
        Feature("avx512_vnni", 7, 11, _ECX, state=_AVX512),
        Feature("avx_vnni", 7, 4, _EAX, subleaf=1, state=_AVX),
        Feature("avx512_bf16", 7, 5, _EAX, subleaf=1, state=_AVX512),
        Feature("amx_bf16", 7, 22, _EDX, state=_AMX),
        Feature("amx_tile", 7, 24, _EDX, state=_AMX),
        Feature("amx_int8", 7, 25, _EDX, state=_AMX),
        Feature("fp", 16, 0),
        Feature("asimd", 16, 1),
        Feature("asimddp", 16, 20),
        Feature("i8mm", 26, 13),
    )
}


@dataclass(frozen=True)
class CpuCheckContext:
    """What cpu_check.c.j2 reads."""

    isa: Isa
    features: tuple[Feature, ...]


def cpu_check(isa: Isa) -> str:
    """cpu_check.c for isa: `const char *infc_cpu_missing(void)`, the first missing feature's name or NULL."""
    return render("cpu_check.c.j2", CpuCheckContext(isa, tuple(FEATURES[name] for name in isa.features)))


def pool_sources() -> tuple[tuple[str, str], ...]:
    """(file name, text) of the pool's sources; they include `infc_model.h`."""
    names = ("cpus.h", "cpus.c", "pool.h", "pool.c")
    return tuple((name, (RUNTIME / name).read_text(encoding="utf-8")) for name in names)
