"""Choices of tiles: none changes a bit; tables read back as they were written, and say what is wrong with them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from kernel_harness import Argument, Array, Out, generator, need, normal, program
from reduced_cases import q8_rows

from infc.compiler.errors import Exit, InfcError
from infc.compiler.ir.reduced import to_bfloat16
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import ISAS, Isa
from infc.targets.cpu.kernels.linear import usual_choice
from infc.targets.cpu.tuning.choice import LEAST_ROWS, MOST_TILES, Choice, Shape, parse_choice, parse_shape
from infc.targets.cpu.tuning.choose import read_choices
from infc.targets.cpu.tuning.measure import candidates
from infc.targets.cpu.tuning.table import (
    SHIPPED,
    Lines,
    extend_table,
    parse_table,
    read_table,
    section_of,
    table_text,
)

ISAS_RUN = ("x86-64-v3", "x86-64-v4-bf16", "aarch64-dotprod", "aarch64-i8mm")
SECTION = "x86-64-v4 L2=1024K L3=32768K"


def some_choices(isa: Isa) -> list[Choice]:
    """The usual one of a short k, and others far from it."""
    most = isa.max_rows
    return [
        Choice(most, MOST_TILES, True),
        Choice(most, MOST_TILES, False),
        Choice(most, 1, True),
        Choice(most - 1, 2, False),
        Choice(LEAST_ROWS, 1, False),
        Choice(LEAST_ROWS + 1, 3, True),
    ]


@pytest.mark.parametrize("name", ISAS_RUN)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "q8"])
def test_every_choice_gives_equal_bits(name: str, precision: str) -> None:
    isa = ISAS[name]
    need(isa)
    if precision != "float32" and precision not in isa.dots:
        pytest.skip(f"{name} has no {precision} dot product")
    shapes = [(2 * isa.nr + 5, 66), (isa.nr, 2048 if precision == "bfloat16" else 1024)]  # the second: rows 4 KiB apart
    options = {
        (n, k): [kernels.linear(isa, n, k, "gelu", True, True, precision, choice=c) for c in some_choices(isa)]
        for n, k in shapes
    }
    running = program(isa, [kernel for found in options.values() for kernel in found])
    for (n, k), found in options.items():
        rng = generator("choices", n, k)
        most = 3 * isa.max_rows + 2
        x, r, b = normal(rng, most, k), normal(rng, most, n), normal(rng, n)
        packed = kernels.pack_linear(isa, normal(rng, n, k), precision)
        rows = rows_of(isa, x, precision)
        for count in (1, 2, 3, LEAST_ROWS + 1, isa.max_rows - 1, isa.max_rows, isa.max_rows + 1, most):
            given: Sequence[Argument] = (rows[:count], rows.shape[1], packed, b, r[:count], n)
            out = Out(np.full((count, n), np.nan, np.float32))
            after = (out, n, count, 0, kernels.panels(isa, n))
            first, *others = [running.call(kernel, *given, *after)[0] for kernel in found]
            assert np.isfinite(first).all()
            for choice, other in zip(some_choices(isa)[1:], others, strict=True):
                assert other.tobytes() == first.tobytes(), f"{n}x{k}, {count} rows: {choice}"


def rows_of(isa: Isa, x: Array, precision: str) -> Array:
    """x as the kernel reads it."""
    return {"float32": lambda: x, "bfloat16": lambda: to_bfloat16(x), "q8": lambda: q8_rows(isa, x)}[precision]()


@pytest.mark.parametrize("isa", ISAS.values(), ids=ISAS)
def test_candidates_are_the_usual_choice_and_others_that_kernels_take(isa: Isa) -> None:
    for precision in ("float32", *isa.dots):
        for k in (64, 384, 1024, 4096, 30000):
            found = candidates(isa, Shape(precision, 96, k))
            assert found[0] == usual_choice(isa, precision, k)
            assert len(set(found)) == len(found)
            assert [parse_choice(str(c), isa.max_rows) for c in found] == found


def test_shapes_and_choices_are_text() -> None:
    for shape in (Shape("float32", 1, 2), Shape("bfloat16", 1024, 4096), Shape("q8", 1152, 384)):
        assert parse_shape(str(shape)) == shape
    assert str(Shape("q8", 1152, 384)) == "int8 1152x384"
    assert str(Choice(14, 7, False)) == "rows 14, tiles 7, no ahead"


TABLE: dict[str, Lines] = {
    SECTION: {Shape("q8", 9, 8): Choice(12, 3, True), Shape("float32", 10, 8): None, Shape("float32", 9, 8): None},
    "aarch64-neon": {Shape("float32", 9, 8): Choice(6, 64, False)},
}


def test_a_table_reads_back_as_it_was_written_and_is_toml() -> None:
    text = table_text(TABLE)
    assert parse_table(text, "t") == TABLE
    assert table_text(parse_table(text, "t")) == text
    assert tomllib.loads(text) == {
        "aarch64-neon": {"float32 9x8": "rows 6, tiles 64, no ahead"},
        SECTION: {"float32 9x8": "formulas", "float32 10x8": "formulas", "int8 9x8": "rows 12, tiles 3, ahead"},
    }


def test_people_may_write_comments_and_space() -> None:
    text = f'# mine\n\n  ["{SECTION}"]  # this machine\n "int8 9x8"="rows 12, tiles 3, ahead" # slower, but cooler\n'
    assert parse_table(text, "t") == {SECTION: {Shape("q8", 9, 8): Choice(12, 3, True)}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"int8 9x8" = "rows 15, tiles 3, ahead"', "rows must be 4 to 14"),
        ('"int8 9x8" = "rows 3, tiles 3, ahead"', "rows must be 4 to 14"),
        ('"int8 9x8" = "rows 14, tiles 65, ahead"', "tiles must be 1 to 64"),
        ('"int8 9x8" = "rows 14, tiles 0, ahead"', "tiles must be 1 to 64"),
        ('"int8 9x8" = "fast"', '"rows 14, tiles 7, ahead"'),
        ('"int9 9x8" = "formulas"', "float32, bfloat16, int8"),
        ('"int8 0x8" = "formulas"', '"int8 1152x384"'),
        ('"int8 9x8" = 3', "is no line of a table"),
        ("[x86-64-v4]", "is no line of a table"),
        ('"int8 1x8" = "formulas"', "stands twice"),
    ],
)
def test_a_malformed_line_is_named_with_what_would_be_right(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "cpu.toml"
    path.write_text(f'# a table\n["{SECTION}"]\n"int8 1x8" = "formulas"\n{line}\n')
    with pytest.raises(InfcError) as caught:
        read_table(path)
    assert caught.value.exit_code == Exit.USAGE
    assert f"{path}, line 4: " in caught.value.message
    assert said in caught.value.message


def test_a_line_outside_a_section_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cpu.toml"
    path.write_text('"int8 9x8" = "formulas"\n')
    with pytest.raises(InfcError, match="line 1: it stands under no section"):
        read_table(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InfcError, match=r"cpu.toml cannot be read"):
        read_table(path)
    assert read_table(tmp_path / "absent.toml") == {}


def test_what_another_build_wrote_stays_and_so_does_what_a_person_wrote(tmp_path: Path) -> None:
    path = tmp_path / "tuning" / "cpu.toml"
    mine, theirs = Shape("q8", 9, 8), Shape("float32", 9, 8)
    extend_table(path, SECTION, {theirs: Choice(14, 1, True)})
    extend_table(path, "aarch64-neon", {theirs: None})
    extend_table(path, SECTION, {mine: None, theirs: Choice(8, 2, True)})
    assert read_table(path) == {SECTION: {theirs: Choice(14, 1, True), mine: None}, "aarch64-neon": {theirs: None}}
    extend_table(path, SECTION, {theirs: None}, replace=True)
    assert read_table(path)[SECTION][theirs] is None
    assert [p.name for p in path.parent.iterdir()] == ["cpu.toml"], "a temporary file was left"


def test_a_malformed_table_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "cpu.toml"
    path.write_text("years of work\n")
    with pytest.raises(InfcError, match="line 1"):
        extend_table(path, SECTION, {Shape("q8", 9, 8): None})
    assert path.read_text() == "years of work\n"


def test_a_section_names_the_isa_and_the_caches_beyond_the_first() -> None:
    caches = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}
    assert section_of(ISAS["x86-64-v4"], caches) == SECTION
    assert section_of(ISAS["aarch64-neon"], {}) == "aarch64-neon"


def test_the_table_that_ships_can_be_read_and_is_as_it_would_be_written() -> None:
    table = read_table(SHIPPED)
    text = SHIPPED.read_text(encoding="utf-8")
    header = text[: text.index("\n[")]
    assert table_text(table, header) == text
    for section, lines in table.items():
        assert section.split()[0] in ISAS
        for shape, choice in lines.items():
            assert choice is None or choice != usual_choice(ISAS[section.split()[0]], shape.precision, shape.k)


def test_a_locks_choice_that_no_kernel_takes_is_an_error() -> None:
    with pytest.raises(InfcError, match="rows must be 4 to 6"):
        read_choices({"float32 9x8": "rows 7, tiles 1, ahead"}, ISAS["x86-64-v3"])
