"""Kernels of reduced precision on every instruction set, at their edges."""

from __future__ import annotations

import pytest
from kernel_harness import Case, need, program, suite
from reduced_cases import check_dot_panels, reduced_cases

from infc.compiler.errors import InfcError
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import ISAS
from infc.targets.cpu.kernels.table import FLOAT32, TESTED, WITH_REDUCED

RUNS = [
    pytest.param(name, case, id=f"{name}-{case.name}", marks=pytest.mark.xdist_group(f"reduced {name}"))
    for name in WITH_REDUCED
    for case in reduced_cases(ISAS[name])
]


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_kernel_of_reduced_precision_matches_numpy(name: str, case: Case) -> None:
    isa = ISAS[name]
    need(isa)
    case.check(suite(name, reduced_cases(isa)), case.build(isa))


@pytest.mark.parametrize(("name", "precision"), [(name, p) for name in WITH_REDUCED for p in ISAS[name].dots])
def test_reduced_linear_gives_equal_bits_for_any_split_into_panels_and_propagates_nan(
    name: str, precision: str
) -> None:
    isa = ISAS[name]
    n, k = 3 * isa.nr + 4, 22
    kernel = kernels.linear(isa, n, k, None, True, False, precision)
    check_dot_panels(program(isa, [kernel]), kernel, precision, n, k)


def test_table_of_reduced_kernels_is_what_the_tests_run() -> None:
    run = {(case.build(ISAS[name]).kind, name) for name in WITH_REDUCED for case in reduced_cases(ISAS[name])}
    assert run == {(kind, name) for kind, name in TESTED if kind not in (*FLOAT32, "attention_bf16")}


def test_a_precision_that_an_isa_cannot_multiply_is_refused_with_the_reason() -> None:
    assert kernels.supports(ISAS["x86-64-v4-bf16"], "bfloat16", 8, 384) == ""
    assert kernels.supports(ISAS["x86-64-v3"], "q8", 8, 384) == ""
    assert "x86-64-v3 has no bfloat16" in kernels.supports(ISAS["x86-64-v3"], "bfloat16", 8, 384)
    assert "odd" in kernels.supports(ISAS["x86-64-v4-bf16"], "bfloat16", 8, 3)
    assert "overflow" in kernels.supports(ISAS["x86-64-v4-vnni"], "q8", 8, 200_000)
    with pytest.raises(InfcError, match="K = 3 is odd"):
        kernels.linear(ISAS["x86-64-v4-bf16"], 8, 3, None, False, False, "bfloat16")
