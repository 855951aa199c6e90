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
class Dot:
    """How an ISA multiplies rows by weights of a reduced precision: one k-step takes `ks` elements of each of
    `rows` rows against `ks` of each column. The instruction is the table's `vdot_bf16` or `vdot_q8`, `vldw_...` loads a
    vector of weights for it, and where `rows` is 2 `vldx_...` one of two rows; else a row's part is 4 bytes."""

    suffix: str
    """bf16 or q8: the end of the operations' names."""
    ks: int
    item: str
    """C type of a row's elements."""
    item_bytes: int
    weight: str
    """C type of packed weights."""
    weight_bytes: int
    sum: str
    """C type of the accumulators: float, or int32_t (exact)."""
    offset: int = 0
    """q8: an integer q is stored as q + offset (the dot product's first operand is unsigned)."""
    lanes: int = 1
    """k-steps of a row that are loaded at once: 1 where a load takes one, else a vector's."""
    rows: int = 1
    """1, or 2: an instruction multiplies two rows by two columns, and a lane of its sum is one of each."""


@dataclass(frozen=True)
class Isa:
    """An instruction set. Sizes are counts of float32 unless they say otherwise."""

    name: str
    arch: str
    """As `uname -m` says it: x86_64 or aarch64."""
    float32: str
    """The ISA whose float32 kernels this one uses; its own name for the three base sets."""
    reduced: str
    """The ISA whose kernels of reduced precision this one uses; its own name where it has instructions for them."""
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
    aliased_rows: int
    """The same where rows lie a multiple of 4 KiB apart: all are in one set of the L1 cache, which has few ways."""
    l2_bytes: int
    """L2 cache of one core that blocking may count on, bytes."""
    table: Mapping[str, Instruction] = field(compare=False, repr=False)
    zig: tuple[str, ...] = ()
    """zig's names of the features beyond `cpu` that code of reduced precision uses."""
    dots: Mapping[str, Dot] = field(default_factory=dict[str, Dot], compare=False, repr=False)
    """By the graph's dtype, bfloat16 or q8: the reduced precisions that the ISA multiplies."""

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
        return ("-target", self.triple, "-mcpu=" + "+".join((self.cpu, *self.zig)))

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
    "vbf16": (
        "vh (vf a)",
        "({ vu b = (vu)a, r = b + 0x7fff + (b >> 16 & 1); __builtin_convertvector((a != a ? b | 0x400000 : r) >> 16, vh); })",
    ),
    "vldh": ("vf (const uint16_t *p)", "(vf)(__builtin_convertvector(*(const vhu *)p, vi) << 16)"),
    "vldhn": (
        "vf (const uint16_t *p, int n)",
        "(vf)(__builtin_convertvector(__builtin_masked_load(LANES < (vi)(n), p, (vh)(0)), vi) << 16)",
    ),
    "vsth": ("void (uint16_t *p, vf a)", "*(vhu *)p = vbf16(a)"),
    "vsth2": ("void (uint16_t *p, vf a, vf b)", "vsth(p, a); vsth(p + VECTOR, b)"),
    "vsthn": (
        "void (uint16_t *p, vf a, int n)",
        '({ __asm__("" : "+r"(n)); __builtin_masked_store(LANES < (vi)(n), vbf16(a), p); })',
    ),
    "vstq": ("void (infc_q8 *p, vi a)", "*(vqu *)p = __builtin_convertvector(a, vq)"),
}
"""What each operation is. vldn and vstn touch the first n elements only (0 <= n <= vector) and read others as 0; vmax and
vmin give b where either is NaN. vbf16 rounds to nearest even and keeps NaN (the instruction takes subnormals for 0);
...h load and store bfloat16, vsth2 two vectors one behind the other (n passes through an empty asm: LLVM makes a narrowing store whose mask is known to have one
lane a 4-byte store); vstq stores the low bits of integers as elements of a q8 row."""

_BF16_LOOP = {
    "vldhn": "({ uint16_t t[VECTOR] = {0}; for (int i = 0; i < n; i++) t[i] = p[i]; vldh(t); })",
    "vsthn": "({ uint16_t t[VECTOR]; vsth(t, a); for (int i = 0; i < n; i++) p[i] = t[i]; })",
}
_LOOP = {  # where the ISA has no masked loads and stores: element by element through a register's worth of stack
    "vldn": "({ float t[VECTOR] = {0}; for (int i = 0; i < n; i++) t[i] = p[i]; vld(t); })",
    "vstn": "({ float t[VECTOR]; vst(t, a); for (int i = 0; i < n; i++) p[i] = t[i]; })",
    **_BF16_LOOP,
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


_Q8_U8 = Dot("q8", 4, "uint8_t", 1, "int8_t", 1, "int32_t", offset=128)
_Q8_PAIRS = Dot("q8", 2, "int16_t", 2, "int8_t", 1, "int32_t")
_Q8_NEON = Dot("q8", 4, "int8_t", 1, "int8_t", 1, "int32_t", lanes=4)
_Q8_I8MM = Dot("q8", 8, "int8_t", 1, "int8_t", 1, "int32_t", rows=2)
_BF16 = Dot("bf16", 2, "uint16_t", 2, "uint16_t", 2, "float")

_LOAD = ("vi (const void *p)", "*(const viu *)p")
_DOT_Q8, _DOT_BF16 = "vi (vi c, vi a, vi b)", "vf (vf c, vi a, vi b)"
_DOTS: dict[str, dict[str, Instruction]] = {
    # int8 weights become int16; pairs of products are summed exactly in 32 bits
    "pmaddwd 256": {
        "vldw_q8": Instruction(
            _LOAD[0],
            "(vi)__builtin_convertvector(*(const infc_bytes16 *)p, infc_words16)",
            "vpmovsxbw",
        ),
        "vdot_q8": Instruction(
            _DOT_Q8, "c + (vi)__builtin_ia32_pmaddwd256((infc_words16)a, (infc_words16)b)", "vpmaddwd"
        ),
    },
    "pmaddwd 512": {
        "vldw_q8": Instruction(
            _LOAD[0],
            "(vi)__builtin_convertvector(*(const infc_bytes32 *)p, infc_words32)",
            "vpmovsxbw",
        ),
        "vdot_q8": Instruction(
            _DOT_Q8, "c + (vi)__builtin_ia32_pmaddwd512((infc_words32)a, (infc_words32)b)", "vpmaddwd"
        ),
    },
    # c + four products of unsigned bytes of a with signed bytes of b, a lane; nothing saturates
    "vpdpbusd 256": {
        "vldw_q8": Instruction(*_LOAD, "vmovups"),
        "vdot_q8": Instruction(_DOT_Q8, "__builtin_ia32_vpdpbusd256(c, a, b)", "vpdpbusd"),
    },
    "vpdpbusd 512": {
        "vldw_q8": Instruction(*_LOAD, "vmovups"),
        "vdot_q8": Instruction(_DOT_Q8, "__builtin_ia32_vpdpbusd512(c, a, b)", "vpdpbusd"),
    },
    # c + two products of bfloat16, a lane: each product exact, the sums rounded to nearest even, subnormals taken for 0
    "vdpbf16ps 512": {
        "vldw_bf16": Instruction(*_LOAD, "vmovups"),
        "vdot_bf16": Instruction(
            _DOT_BF16, "__builtin_ia32_dpbf16ps_512(c, (infc_bf16x32)a, (infc_bf16x32)b)", "vdpbf16ps"
        ),
        "vbf16": Instruction("vh (vf a)", "(vh)__builtin_convertvector(a, infc_bf16x16)", "vcvtneps2bf16"),
        "vsth2": Instruction(
            "void (uint16_t *p, vf a, vf b)",
            "*(vhhu *)p = (vhh)__builtin_ia32_cvtne2ps2bf16_512(b, a)",
            "vcvtne2ps2bf16",
        ),
    },
    # four signed products a lane in 16 bits: two of at most 127 * 127 fit, the two sums are widened
    "smull 128": {
        "vldw_q8": Instruction(*_LOAD, "ldr\tq"),
        "vdot_q8": Instruction(
            _DOT_Q8,
            "(vi)vpadalq_s16(c, vpaddq_s16(vmull_s8(vget_low_s8((int8x16_t)a), vget_low_s8((int8x16_t)b)),"
            " vmull_high_s8((int8x16_t)a, (int8x16_t)b)))",
            "sadalp",
        ),
    },
    # c + four products of signed bytes, a lane; b is named first, for the instruction can take one lane of its last operand
    "sdot 128": {
        "vldw_q8": Instruction(*_LOAD, "ldr\tq"),
        "vdot_q8": Instruction(_DOT_Q8, "(vi)vdotq_s32(c, (int8x16_t)b, (int8x16_t)a)", "sdot"),
    },
    # two rows of a by two columns of b: a lane is a row and a column, c + eight products of signed bytes
    "smmla 128": {
        "vldw_q8": Instruction(*_LOAD, "ldr\tq"),
        "vldx_q8": Instruction(
            "vi (const void *p, const void *q)", "(vi)vcombine_s8(vld1_s8(p), vld1_s8(q))", "ldr\td"
        ),
        "vdot_q8": Instruction(_DOT_Q8, "(vi)vmmlaq_s32(c, (int8x16_t)a, (int8x16_t)b)", "smmla"),
    },
}

_V3 = Isa(
    name="x86-64-v3",
    arch="x86_64",
    float32="x86-64-v3",
    reduced="x86-64-v3",
    cpu="x86_64_v3",
    features=("sse4_2", "popcnt", "cx16", "movbe", "xsave", "avx", "avx2", "f16c", "fma", "bmi1", "bmi2", "abm"),
    vector=8,
    registers=16,
    panel_vectors=2,
    max_rows=6,
    aliased_rows=6,
    l2_bytes=512 << 10,
    table={**_table(8, _V3_EMITS, _BF16_LOOP), **_DOTS["pmaddwd 256"]},
    dots={"q8": _Q8_PAIRS},
)
_V4 = replace(
    _V3,
    name="x86-64-v4",
    float32="x86-64-v4",
    reduced="x86-64-v4",
    cpu="x86_64_v4-prefer_256_bit",  # v4 alone means 256-bit vectors to LLVM
    features=(*_V3.features, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    vector=16,
    registers=32,
    max_rows=14,
    aliased_rows=8,
    l2_bytes=1 << 20,
    table={**_table(16, _V4_EMITS), **_DOTS["pmaddwd 512"]},
)
_VNNI = replace(
    _V4,
    name="x86-64-v4-vnni",
    reduced="x86-64-v4-vnni",
    features=(*_V4.features, "avx512_vnni"),
    zig=("avx512vnni",),
    table={**_V4.table, **_DOTS["vpdpbusd 512"]},
    dots={"q8": _Q8_U8},
)
_V4_BF16 = replace(
    _VNNI,
    name="x86-64-v4-bf16",
    reduced="x86-64-v4-bf16",
    features=(*_VNNI.features, "avx512_bf16"),
    zig=(*_VNNI.zig, "avx512bf16"),
    table={**_VNNI.table, **_DOTS["vdpbf16ps 512"]},
    dots={"q8": _Q8_U8, "bfloat16": _BF16},
)
_NEON = Isa(
    name="aarch64-neon",
    arch="aarch64",
    float32="aarch64-neon",
    reduced="aarch64-neon",
    cpu="generic",
    features=("fp", "asimd"),
    vector=4,
    registers=32,
    panel_vectors=4,
    max_rows=6,
    aliased_rows=6,
    l2_bytes=512 << 10,
    table={**_table(4, _NEON_EMITS, _LOOP), **_DOTS["smull 128"]},
    dots={"q8": _Q8_NEON},
)
_DOTPROD = replace(
    _NEON,
    name="aarch64-dotprod",
    reduced="aarch64-dotprod",
    features=(*_NEON.features, "asimddp"),
    zig=("dotprod",),
    table={**_NEON.table, **_DOTS["sdot 128"]},
)

ISAS: Mapping[str, Isa] = {
    i.name: i
    for i in (
        _V3,
        replace(
            _V3,
            name="x86-64-v3-vnni",
            reduced="x86-64-v3-vnni",
            features=(*_V3.features, "avx_vnni"),
            zig=("avxvnni",),
            table={**_V3.table, **_DOTS["vpdpbusd 256"]},
            dots={"q8": _Q8_U8},
        ),
        _V4,
        _VNNI,
        _V4_BF16,
        replace(
            _V4_BF16,
            name="x86-64-amx",
            features=(*_V4_BF16.features, "amx_tile", "amx_int8", "amx_bf16"),
        ),
        _NEON,
        _DOTPROD,
        replace(
            _DOTPROD,
            name="aarch64-i8mm",
            reduced="aarch64-i8mm",
            features=(*_DOTPROD.features, "i8mm"),
            zig=(*_DOTPROD.zig, "i8mm"),
            table={**_DOTPROD.table, **_DOTS["smmla 128"]},
            dots={"q8": _Q8_I8MM},
        ),
    )
}
"""Every ISA the language names, poorer ones first. float32 code of the richer ones is their base's; AMX has no kernels
of its own, for no machine that tests here could run them."""
