"""Instruction sets: what the code generator knows about each, as data.

An `Isa` says how wide a vector is, how many registers there are, which shape the GEMM's micro-kernel takes in them, which
CPU features the code needs, how zig is told, and how each vector operation is spelt in C. Templates use the operations'
names (`vld`, `vfma`, ...), which `templates/prelude.h.j2` defines from the table, and never an ISA's own words.

Most spellings are Clang's vector extensions: they are chosen where they give the one right instruction, and `emits`
names that instruction; a test compiles every row and looks for it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from ...compiler.errors import InfcError

GLIBC = "2.28"
"""The oldest glibc that generated code runs with."""


@dataclass(frozen=True)
class Instruction:
    """One vector operation: `c` is a C expression over the parameters that `signature` names; `emits` is what its
    assembly must hold ("" where it is a loop)."""

    signature: str
    c: str
    emits: str = ""


@dataclass(frozen=True)
class Isa:
    """An instruction set. Sizes are counts of float32 unless they say otherwise."""

    name: str
    arch: str
    """As `uname -m` says it: x86_64 or aarch64."""
    float32: str
    """The ISA whose float32 kernels this one uses; its own name for the three base sets."""
    cpu: str
    """zig's -mcpu, which compiles float32 code."""
    features: tuple[str, ...]
    """CPU features that code for this ISA may use, named as /proc/cpuinfo names them."""
    vector: int
    """Floats in a vector register."""
    registers: int
    """Vector registers."""
    panel_vectors: int
    """Vectors in a weight panel: the micro-kernel computes rows x panel_vectors accumulators."""
    max_rows: int
    """Most rows of the micro-kernel."""
    l2_bytes: int
    """L2 cache of one core that blocking may count on, bytes."""
    table: Mapping[str, Instruction] = field(compare=False, repr=False)

    @property
    def nr(self) -> int:
        """Columns of a weight panel."""
        return self.vector * self.panel_vectors

    @property
    def triple(self) -> str:
        """zig's -target, with the oldest glibc."""
        return f"{self.arch}-linux-gnu.{GLIBC}"

    @property
    def flags(self) -> tuple[str, ...]:
        """zig cc's flags that choose this ISA."""
        return ("-target", self.triple, f"-mcpu={self.cpu}")

    @property
    def baseline_flags(self) -> tuple[str, ...]:
        """Flags for code that runs before the CPU was checked: nothing beyond the architecture's first version."""
        return ("-target", self.triple, "-mcpu=baseline" if self.arch == "x86_64" else "-mcpu=generic")


def isa(name: str) -> Isa:
    """The ISA called name, or this machine's for "native". Raises InfcError (exit 2) that lists the known names."""
    if name == "native":
        return native()
    found = ISAS.get(name)
    if found is None:
        raise InfcError(f"no instruction set is called {name!r}", hint=f"known: native, {', '.join(ISAS)}")
    return found


@cache
def native() -> Isa:
    """The best ISA in the table whose features this machine has. Raises InfcError (exit 2) where it has none of them."""
    arch, have = machine_features()
    for candidate in reversed([*ISAS.values()]):
        if candidate.arch == arch and have.issuperset(candidate.features):
            return candidate
    raise InfcError(
        f"this machine's CPU ({arch}) fits none of the instruction sets infc generates code for",
        hint=f"name the server's one: use cpu {{ isa ... }}; known: {', '.join(ISAS)}",
    )


@cache
def machine_features() -> tuple[str, frozenset[str]]:
    """(architecture, features) of this machine as /proc/cpuinfo names them; no features where that file is missing."""
    found: set[str] = set()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found.update(value.split())
            break
    return platform.machine(), frozenset(found)


_SPELLING: dict[str, tuple[str, str]] = {  # operation: signature, C
    "vld": ("vf (const float *p)", "*(const vfu *)p"),
    "vst": ("void (float *p, vf a)", "*(vfu *)p = a"),
    "vldn": ("vf (const float *p, int n)", "__builtin_masked_load(LANES < (vi)(n), p, (vf)(0.0f))"),
    "vstn": ("void (float *p, vf a, int n)", "__builtin_masked_store(LANES < (vi)(n), a, p)"),
    "vset": ("vf (float x)", "(vf)(x)"),
    "vadd": ("vf (vf a, vf b)", "a + b"),
    "vmul": ("vf (vf a, vf b)", "a * b"),
    "vdiv": ("vf (vf a, vf b)", "a / b"),
    "vfma": ("vf (vf a, vf b, vf c)", "__builtin_elementwise_fma(a, b, c)"),
    "vsqrt": ("vf (vf a)", "__builtin_elementwise_sqrt(a)"),
    "vround": ("vf (vf a)", "__builtin_elementwise_roundeven(a)"),
    "vmax": ("vf (vf a, vf b)", "a > b ? a : b"),
    "vmin": ("vf (vf a, vf b)", "a < b ? a : b"),
}
"""What each operation is. vldn and vstn touch the first n elements only (0 <= n <= vector) and read others as 0; vmax and
vmin give b where either is NaN."""

_LOOP = {  # where the ISA has no masked loads and stores: element by element through a register's worth of stack
    "vldn": "({ float t[VECTOR] = {0}; for (int i = 0; i < n; i++) t[i] = p[i]; vld(t); })",
    "vstn": "({ float t[VECTOR]; vst(t, a); for (int i = 0; i < n; i++) p[i] = t[i]; })",
}


def _table(vector: int, emits: Mapping[str, str], spelled: Mapping[str, str] | None = None) -> dict[str, Instruction]:
    """The operations for vectors of `vector` floats; `spelled` replaces the common C of some."""
    lanes = ", ".join(str(i) for i in range(vector))
    table: dict[str, Instruction] = {}
    for name, (signature, common) in _SPELLING.items():
        c = (spelled or {}).get(name, common).replace("VECTOR", str(vector))
        if "LANES" in c:
            c = c.replace("LANES < (vi)(n)", f"__builtin_convertvector((vi){{{lanes}}} < (vi)(n), vb)")
        table[name] = Instruction(signature, c, emits.get(name, ""))
    return table


_X86_EMITS = {
    "vld": "vmovups",
    "vst": "vmovups",
    "vset": "vbroadcastss",
    "vadd": "vaddps",
    "vmul": "vmulps",
    "vdiv": "vdivps",
    "vfma": "vfmadd",
    "vsqrt": "vsqrtps",
    "vmax": "vmaxps",
    "vmin": "vminps",
}
_V3_EMITS = {**_X86_EMITS, "vround": "vroundps", "vldn": "vmaskmovps", "vstn": "vmaskmovps"}
_V4_EMITS = {**_X86_EMITS, "vround": "vrndscaleps", "vldn": "{%k", "vstn": "{%k"}
_NEON_EMITS = {
    "vld": "ldr\tq",
    "vst": "str\tq",
    "vset": "dup",
    "vadd": "fadd",
    "vmul": "fmul",
    "vdiv": "fdiv",
    "vfma": "fmla",
    "vsqrt": "fsqrt",
    "vround": "frintn",
    "vmax": "fcmgt",
    "vmin": "fcmgt",
}

_V3 = Isa(
    name="x86-64-v3",
    arch="x86_64",
    float32="x86-64-v3",
    cpu="x86_64_v3",
    features=("sse4_2", "popcnt", "cx16", "movbe", "xsave", "avx", "avx2", "f16c", "fma", "bmi1", "bmi2", "abm"),
    vector=8,
    registers=16,
    panel_vectors=2,
    max_rows=6,
    l2_bytes=512 << 10,
    table=_table(8, _V3_EMITS),
)
_V4 = replace(
    _V3,
    name="x86-64-v4",
    float32="x86-64-v4",
    cpu="x86_64_v4-prefer_256_bit",  # v4 alone means 256-bit vectors to LLVM
    features=(*_V3.features, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    vector=16,
    registers=32,
    max_rows=14,
    l2_bytes=1 << 20,
    table=_table(16, _V4_EMITS),
)
_NEON = Isa(
    name="aarch64-neon",
    arch="aarch64",
    float32="aarch64-neon",
    cpu="generic",
    features=("fp", "asimd"),
    vector=4,
    registers=32,
    panel_vectors=4,
    max_rows=6,
    l2_bytes=512 << 10,
    table=_table(4, _NEON_EMITS, _LOOP),
)

ISAS: Mapping[str, Isa] = {
    i.name: i
    for i in (
        _V3,
        _V4,
        replace(_V4, name="x86-64-v4-vnni", features=(*_V4.features, "avx512_vnni")),
        replace(_V4, name="x86-64-v4-bf16", features=(*_V4.features, "avx512_vnni", "avx512_bf16")),
        replace(
            _V4,
            name="x86-64-amx",
            features=(*_V4.features, "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
        ),
        _NEON,
        replace(_NEON, name="aarch64-dotprod", features=(*_NEON.features, "asimddp")),
        replace(_NEON, name="aarch64-i8mm", features=(*_NEON.features, "asimddp", "i8mm")),
    )
}
"""Every ISA the language names, poorer ones first. float32 code of the richer ones is their base's."""
