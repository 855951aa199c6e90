"""prelude.h: vector operations from the ISA's table, and the mathematics that stands in for libm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..isa import Isa
from .render import render

FIRST_EXPONENT = 100
"""The biased float32 exponent below which sin's argument needs no row of its own: |x| < 2^-26."""


@dataclass(frozen=True)
class Form:
    """How a mathematical function is written over one type: a float, or a vector of them."""

    title: str
    float: str
    int: str
    prefix: str
    suffix: str
    set: str
    sqrt: str
    bits: str
    from_bits: str
    convert: str


SCALAR = Form(
    title="One float; loops over these vectorize",
    float="float",
    int="int32_t",
    prefix="infc_",
    suffix="f",
    set="(float)",
    sqrt="__builtin_sqrtf",
    bits="infc_bits",
    from_bits="infc_from_bits",
    convert="(float)",
)
VECTOR = Form(
    title="A vector",
    float="vf",
    int="vi",
    prefix="infc_v",
    suffix="",
    set="(vf)",
    sqrt="vsqrt",
    bits="infc_vbits",
    from_bits="infc_vfrom_bits",
    convert="INFC_VFLOAT",
)

VECTOR_FUNCTIONS: dict[str, str] = {
    name: f"infc_v{name}"
    for name in (
        "relu",
        "gelu",
        "gelu_tanh",
        "silu",
        "sigmoid",
        "hardswish",
        "hardsigmoid",
        "tanh",
        "exp",
        "log",
        "erf",
    )
}
"""Unary primitives that have a vector form, with its C name."""

SHORT_FUNCTIONS: dict[str, str] = {**VECTOR_FUNCTIONS, "gelu": "infc_vgelu_short", "gelu_tanh": "infc_vgelu_tanh_short"}
"""The same for kernels of reduced precision: shorter polynomials where they give what bfloat16 or q8 can hold."""


@dataclass(frozen=True)
class TransposeStage:
    """One interleaving of the vectors in array `source` into array `to`; low and high are lists of lanes."""

    source: str
    to: str
    low: str
    high: str


@dataclass(frozen=True)
class PreludeContext:
    """What prelude.h.j2 reads."""

    isa: Isa
    forms: tuple[Form, ...]
    halves: tuple[int, ...]
    """Widths of the reduction tree, from half a vector down to 2."""
    transpose_stages: tuple[TransposeStage, ...]
    first_exponent: int
    turns: tuple[tuple[str, str, str], ...]
    """2^(e-150) * 2/pi modulo 4 for e = first_exponent..254, as three doubles of 28 bits each (C hexadecimal)."""


@cache
def prelude(isa: Isa) -> str:
    """The text of prelude.h for isa."""
    halves = tuple(1 << i for i in range(isa.vector.bit_length() - 2, 0, -1))
    context = PreludeContext(isa, (SCALAR, VECTOR), halves, _transpose_stages(isa.vector), FIRST_EXPONENT, _turns())
    return render("prelude.h.j2", context)


def _transpose_stages(vector: int) -> tuple[TransposeStage, ...]:
    lanes = [lane for i in range(vector) for lane in (i, vector + i)]
    low, high = (", ".join(str(lane) for lane in part) for part in (lanes[:vector], lanes[vector:]))
    count = vector.bit_length() - 1
    return tuple(TransposeStage(*(("v", "w"), ("w", "v"))[i % 2], low, high) for i in range(count))


def _turns() -> tuple[tuple[str, str, str], ...]:
    bits = 320
    two_over_pi = (2 << (2 * bits)) // _pi(bits)  # 2/pi with `bits` binary places
    rows: list[tuple[str, str, str]] = []
    for exponent in range(FIRST_EXPONENT, 255):
        shift = exponent - 150
        value = (two_over_pi << shift if shift >= 0 else two_over_pi >> -shift) % (4 << bits)
        parts: list[str] = []
        for _ in range(3):
            drop = max(value.bit_length() - 28, 0)
            head = value >> drop << drop
            value -= head
            parts.append(_ratio(head, bits).hex())
        rows.append((parts[0], parts[1], parts[2]))
    return tuple(rows)


def _ratio(numerator: int, bits: int) -> float:
    return numerator / (1 << bits)


def _pi(bits: int) -> int:
    """pi with `bits` binary places, rounded down (Machin 1706: pi = 16 arctan 1/5 - 4 arctan 1/239)."""
    guard = 32
    one = 1 << (bits + guard)

    def arctan_inverse(n: int) -> int:
        power = total = one // n
        k, sign = 1, -1
        while power:
            power //= n * n
            k += 2
            total += sign * (power // k)
            sign = -sign
        return total

    return (16 * arctan_inverse(5) - 4 * arctan_inverse(239)) >> guard
