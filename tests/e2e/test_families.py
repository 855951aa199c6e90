"""Every encoder and image family, small and random: compiled code against torch, ragged batches, equal bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.frontends.families import FAMILIES, MOST_ROWS, MOST_TOKENS, SHAPES, inputs_of, save_family

from .support import Array, Built, agree, answered, compiled, kept_of, write_spec

TEXT = tuple(name for name, family in FAMILIES.items() if family.image is None)
ISLANDS = ("mpnet", "deberta-v2", "gpt-oss")
"""Families whose attention, with its relative positions, may run per row."""
LENGTHS = (1, 8, 31, MOST_TOKENS)
MOST_NEIGHBOURS = 29
"""More than two tiles of rows of every kernel (14 rows at most), and one."""


SLOW = ("gpt-oss", "xlm-roberta")
"""Built by `make test-all` only: their parts are in other families too."""


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.full if n in SLOW else ()) for n in FAMILIES])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Built]]:
    """A family's name, and its model compiled from a spec."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    save_family(name, folder / "model")
    image = FAMILIES[name].image
    lines = ['source huggingface("model")', f"dim batch in 1..{MOST_ROWS}"]
    if image is None:
        lines.append(f"dim tokens in 1..{MOST_TOKENS}")
    elif name == "resnet":
        lines.append(f"input pixel_values: float32[batch, 3, {image[0]}, {image[1]}]")
    with compiled(write_spec(folder, *lines), folder / "work") as built:
        yield name, built


def rows_of(name: str, built: Built, lengths: tuple[int, ...]) -> list[dict[str, Array]]:
    """One row for each length, without a mask; images all have the same one."""
    rows: list[dict[str, Array]] = []
    for number, length in enumerate(lengths):
        made = inputs_of(name, built.given, 1, length)
        made.pop("attention_mask", None)
        if FAMILIES[name].image is not None:
            made = {k: v + np.float32(number) for k, v in made.items()}
        rows.append(made)
    return rows


def test_it_matches_torch_at_both_bounds_and_between(family: tuple[str, Built]) -> None:
    name, built = family
    for rows, tokens in SHAPES:
        inputs = inputs_of(name, built.given, rows, tokens)
        got, want = built.two.run(inputs), built.compiled.imported.reference(inputs)
        assert list(got) == list(want)
        for output, value in want.items():
            agree(got[output], value, f"{name} {output} at {rows} x {tokens}", kept_of(built.two, output, inputs))


def test_excluded_positions_hold_zeros_where_rows_are_cut(family: tuple[str, Built]) -> None:
    name, built = family
    if name not in TEXT or not built.one.description["trim"]:
        pytest.skip("rows of this family are not cut")
    inputs = inputs_of(name, built.given, 3, 17)
    for output, value in built.one.run(inputs).items():
        if value.ndim == 3:
            assert not value[inputs["attention_mask"] == 0].any(), output


def test_every_gemm_computes_the_sum_of_lengths_and_no_padding(family: tuple[str, Built]) -> None:
    name, built = family
    if name not in TEXT:
        pytest.skip("images have no length")
    built.two.profile()
    for result in built.two.run_batch(rows_of(name, built, LENGTHS)):
        answered(result)
    times = built.two.step_times()
    built.two.profile(False)
    steps = built.two.description["steps"]
    flat = {t.rows for t, s in zip(times, steps, strict=True) if t.op == "linear" and not s["island"]}
    assert flat - {len(LENGTHS)} == {sum(LENGTHS)}, "of each row only its first token goes through a pooler"
    per_row = [s["name"] for s in steps if s["island"] and s["op"] in ("linear", "matmul", "attention")]
    assert not per_row or name in ISLANDS, per_row


def test_rows_with_a_mask_cost_what_they_keep(family: tuple[str, Built]) -> None:
    name, built = family
    if name not in TEXT or not built.one.description["trim"]:
        pytest.skip("rows of this family are not cut")
    inputs = inputs_of(name, built.given, 3, 17)
    built.one.profile()
    built.one.run(inputs)
    rows = {t.rows for t in built.one.step_times() if t.op == "linear"}
    built.one.profile(False)
    assert int(inputs["attention_mask"].sum()) in rows
    assert max(rows) == int(inputs["attention_mask"].sum())


def test_bits_do_not_depend_on_batch_slot_threads_or_neighbours(family: tuple[str, Built]) -> None:
    name, built = family
    rows = rows_of(name, built, (7, 1, MOST_TOKENS, 16, 33))
    alone = [built.one.run(row) for row in rows]
    sizes = range(1, MOST_NEIGHBOURS + 1) if name in TEXT else (1, 2, 5)
    for size in sizes:
        chosen = [(slot * 3 + size) % len(rows) for slot in range(size)]
        for model in (built.one, built.two):
            for slot, result in zip(chosen, model.run_batch([rows[i] for i in chosen]), strict=True):
                for output, value in answered(result).items():
                    assert np.array_equal(value, alone[slot][output]), (size, slot, output)


def test_a_request_of_many_rows_has_the_bits_of_its_rows(family: tuple[str, Built]) -> None:
    name, built = family
    inputs = inputs_of(name, built.given, MOST_ROWS, 11)
    inputs.pop("attention_mask", None)
    alone = [built.one.run({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(MOST_ROWS)]
    for rows in range(1, MOST_ROWS + 1):
        for output, value in built.two.run({k: v[:rows] for k, v in inputs.items()}).items():
            for i in range(rows):
                assert np.array_equal(value[i], alone[i][output][0]), (rows, i, output)


def test_no_rows_give_no_rows(family: tuple[str, Built]) -> None:
    name, built = family
    empty = {k: v[:0] for k, v in inputs_of(name, built.given, 1, 5).items()}
    assert all(value.shape[0] == 0 for value in built.one.run(empty).values())
