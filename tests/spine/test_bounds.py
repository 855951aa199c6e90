"""Bounds of dimensions against memory: what no machine holds is refused by name, and what fits never is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infc.compiler.bounds import batch_of, check_inputs, check_plan, memory_of
from infc.compiler.build import build
from infc.compiler.codegen.plan import Plan, arena_bytes
from infc.compiler.driver import Request
from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends.fields import example_size
from infc.compiler.ir.dims import Range
from infc.dsl.spec import Dim, Hardware, Input, Model, Source

from .models import encoder, mlp
from .support import plan_of

GIB = 1 << 30
HERE = (16 * GIB, "this machine")


def plan(**dims: Range) -> Plan:
    made = plan_of(encoder())
    return replace(made, graph=replace(made.graph, dims=dims))


def model(shape: tuple[int | str, ...], dtype: str = "float32", **dims: Range) -> Model:
    return Model(
        name="m",
        source=Source(kind="torch", path="/m.py", entry="make", written="m.py:make"),
        inputs=(Input(name="x", dtype=dtype, dims=shape),),
        dims=tuple(Dim(name=name, lo=low, hi=high) for name, (low, high) in dims.items()),
    )


def test_an_input_larger_than_memory_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(InfcError) as caught:
        check_inputs(model(("batch", 64), batch=(1, 10**10)), HERE)
    assert caught.value.message == (
        "input 'x' is float32[batch, 64]: 4 bytes × 10,000,000,000 × 64 = 2.3 TiB at batch 10,000,000,000, and this "
        "machine has 16.0 GiB"
    )
    assert caught.value.exit_code == Exit.USAGE
    assert "`memory` in `hardware`" in caught.value.hint


@pytest.mark.parametrize("shape", [("batch", 3, 10**6, 10**6), (2**62, 2**62, 2**62), ("batch", "side", "side")])
def test_images_and_products_beyond_64_bits_are_counted_exactly(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(InfcError, match="this machine has"):
        check_inputs(model(shape, side=(1, 2**40)), HERE)


def test_an_input_that_just_fits_is_taken() -> None:
    limit = 16 * GIB // (4 * 64)
    check_inputs(model(("batch", 64), batch=(1, limit)), HERE)
    with pytest.raises(InfcError):
        check_inputs(model(("batch", 64), batch=(1, limit + 1)), HERE)
    check_inputs(model(("batch", 64), dtype="bool", batch=(1, 4 * limit)), HERE)


def test_a_workspace_larger_than_memory_is_refused_and_the_hint_fits() -> None:
    large = plan(batch=(1, 8), tokens=(1, 10**8))
    with pytest.raises(InfcError) as caught:
        check_plan(large, HERE)
    said = caught.value
    assert said.exit_code == Exit.USAGE
    assert "the bounds of batch 8, tokens 100,000,000 takes a workspace of" in said.message
    assert said.message.endswith("and this machine has 16.0 GiB")
    assert said.hint.startswith("`dim ")
    name, bound = said.hint.split("`")[1].removeprefix("dim ").split(" in 1..")
    dims: dict[str, Range] = {"batch": (1, 8), "tokens": (1, 10**8)}
    check_plan(plan(**{**dims, name: (1, int(bound))}), HERE)
    with pytest.raises(InfcError):
        check_plan(plan(**{**dims, name: (1, int(bound) + 1)}), HERE)


def test_what_is_checked_is_what_the_bundle_says_a_server_takes() -> None:
    small = plan(batch=(1, 8), tokens=(1, 64))
    assert batch_of(small) == (8, 512)
    size = arena_bytes(small, 8, 512)
    check_plan(small, (size, "this machine"))
    with pytest.raises(InfcError):
        check_plan(small, (size - 1, "this machine"))


def test_rows_and_tokens_beyond_32_bits_are_refused_whatever_the_memory() -> None:
    with pytest.raises(InfcError, match=r"6,400,000,000 tokens \(batch 64 × tokens 100,000,000\)") as caught:
        check_plan(plan(batch=(1, 64), tokens=(1, 10**8)), (1 << 60, "the machine"))
    assert caught.value.hint == "lower the bound of `dim tokens`"
    with pytest.raises(InfcError, match="3,000,000,000 rows"):
        check_plan(plan(batch=(1, 3 * 10**9), tokens=(1, 1)), (1 << 60, "the machine"))


def test_declared_memory_counts_before_that_of_this_machine() -> None:
    have = memory_of(Hardware(memory_bytes=1000), here=True)
    with pytest.raises(InfcError, match="the machine has 1,000 bytes") as caught:
        check_plan(plan_of(mlp()), have)
    assert caught.value.exit_code == Exit.UNMET
    assert memory_of(Hardware(), here=True)[0] >= GIB
    with pytest.raises(InfcError, match="no machine has more"):
        check_inputs(model(("batch", 2**40)), memory_of(Hardware(), here=False))


def test_an_example_size_is_found_without_listing_the_range() -> None:
    assert example_size((1, 10**18), {3, 4}) == 5
    assert example_size((10**17, 10**18), set()) == 10**17


def test_a_build_refuses_before_the_factory_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("raise SystemExit('read')\n")
    spec = tmp_path / "m.infer"
    spec.write_text(
        'infer 1\nmodel m {\n  source torch("m.py:make")\n  input x: float32[batch, 64]\n  dim batch in 1..10_000_000_000_000\n}\n'
    )
    with pytest.raises(InfcError, match="input 'x' is float32"):
        build(Request(spec=spec))
    assert not (tmp_path / "m.bundle").exists()
