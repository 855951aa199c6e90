"""Every kernel on every instruction set, at its edges, against float64."""

from __future__ import annotations

import pytest
from kernel_cases import cases, check_linear_panels, check_linear_propagates, linear_case, real_cases
from kernel_harness import BASES, Case, need, program, suite

from infc.targets.cpu.isa import ISAS
from infc.targets.cpu.kernels.table import FLOAT32, TESTED, selectable

ALL = {name: cases(ISAS[name]) for name in BASES}
RUNS = [
    pytest.param(name, case, id=f"{name}-{case.name}", marks=pytest.mark.xdist_group(name))
    for name in BASES
    for case in ALL[name]
]


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_kernel_matches_float64(name: str, case: Case) -> None:
    isa = ISAS[name]
    need(isa)
    case.check(suite(name, ALL[name]), case.build(isa))


def test_table_of_selectable_kernels_is_what_the_tests_run() -> None:
    run = {(case.build(ISAS[name]).kind, name) for name in BASES for case in ALL[name]}
    assert run == {(kind, name) for kind, name in TESTED if kind in FLOAT32 and kind != "attention"}


def test_a_kernel_outside_the_table_is_not_selectable() -> None:
    assert selectable("linear", ISAS["x86-64-v4-bf16"])
    assert selectable("linear", ISAS["aarch64-i8mm"])
    assert selectable("linear_bf16", ISAS["x86-64-v4-bf16"])
    assert not selectable("linear_bf16", ISAS["x86-64-v4-vnni"])
    assert not selectable("fft", ISAS["x86-64-v4"])


@pytest.mark.parametrize("name", BASES)
def test_linear_gives_equal_bits_for_any_split_into_panels_and_propagates_nan(name: str) -> None:
    isa = ISAS[name]
    n, k = 3 * isa.nr + 4, 19
    case = linear_case(n, k)
    kernel = case.build(isa)
    running = program(isa, [kernel])
    check_linear_panels(running, kernel, n, k, isa.max_rows + 2)
    check_linear_propagates(running, kernel, n, k)


@pytest.mark.full
@pytest.mark.parametrize("name", BASES)
def test_kernels_match_float64_at_shapes_of_real_models(name: str) -> None:
    isa = ISAS[name]
    found = real_cases(isa)
    running = suite(name, found)
    for case in found:
        case.check(running, case.build(isa))
