"""Attention on every instruction set and in every precision, at its edges, against the reference in float64."""

from __future__ import annotations

import pytest
from attention_cases import attention_cases
from kernel_harness import BASES, Case, need, suite

from infc.compiler.errors import InfcError
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import ISAS
from infc.targets.cpu.kernels.attention import supports_attention
from infc.targets.cpu.kernels.table import TESTED

HALF = "x86-64-v4-bf16"
ALL: dict[str, tuple[Case, ...]] = {
    **{name: tuple(attention_cases("float32")) for name in BASES},
    HALF: tuple(attention_cases("bfloat16")),
}
RUNS = [
    pytest.param(name, case, id=f"{name}-{case.name}", marks=pytest.mark.xdist_group(f"attention {name}"))
    for name, cases in ALL.items()
    for case in cases
]


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_attention_matches_float64_and_has_the_same_bits_however_it_is_split(name: str, case: Case) -> None:
    isa = ISAS[name]
    need(isa)
    case.check(suite(name, ALL[name]), case.build(isa))


def test_the_table_of_attention_kernels_is_what_the_tests_run() -> None:
    run = {(case.build(ISAS[name]).kind, name) for name, cases in ALL.items() for case in cases}
    assert run == {row for row in TESTED if row[0].startswith("attention")}


def test_bfloat16_is_taken_where_the_instructions_are_and_refused_elsewhere() -> None:
    assert supports_attention(ISAS["x86-64-v4-bf16"], "bfloat16", 32) == ""
    assert supports_attention(ISAS["x86-64-v3"], "float32", 33) == ""
    assert "x86-64-v4-vnni has no bfloat16" in supports_attention(ISAS["x86-64-v4-vnni"], "bfloat16", 32)
    assert "has no q8" in supports_attention(ISAS["x86-64-v4-vnni"], "q8", 32)
    assert "odd" in supports_attention(ISAS["x86-64-v4-bf16"], "bfloat16", 33)
    with pytest.raises(InfcError, match="heads of 33 are odd") as caught:
        kernels.attention(ISAS["x86-64-amx"], 1, 1, 33, 33, 1.0, False, None, False, False, "bfloat16")
    assert caught.value.hint
