"""Whatever others send is read or refused: no crash, no internal error, no hang, no memory without end, nothing run."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from .fuzz import CHILDREN, READERS, fuzz
from .fuzz_mutate import json_text, mutated_json

MANY = int(os.environ.get("INFC_FUZZ_INPUTS", "20000"))
CHILDREN_MANY = int(os.environ.get("INFC_FUZZ_CHILDREN", "300"))


@pytest.mark.parametrize("reader", list(READERS))
def test_mutated_inputs_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    outcomes = fuzz(reader, 1500, 1, tmp_path)
    assert sum(outcomes.values()) == 1500
    assert min(outcomes["accepted"], outcomes["refused"]) > 50, outcomes


@pytest.mark.full
@pytest.mark.parametrize("reader", list(READERS))
def test_many_mutated_inputs_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    assert sum(fuzz(reader, MANY, 2, tmp_path).values()) == MANY


@pytest.mark.parametrize("reader", list(CHILDREN))
def test_what_goes_on_into_a_library_is_imported_or_refused(tmp_path: Path, reader: str) -> None:
    assert sum(fuzz(reader, 12, 3, tmp_path).values()) == 12


@pytest.mark.full
@pytest.mark.parametrize("seed", [4, 5])
@pytest.mark.parametrize("reader", list(CHILDREN))
def test_much_that_goes_on_into_a_library_is_imported_or_refused(tmp_path: Path, reader: str, seed: int) -> None:
    assert sum(fuzz(reader, CHILDREN_MANY, seed, tmp_path).values()) == CHILDREN_MANY


def test_the_places_of_a_json_text_are_its_values_members_and_keys() -> None:
    text = json.dumps({"a": [1, {"b": "x, ]"}], "c": {}}).encode()
    found = json_text(text)
    assert {text[a:b] for a, b in found.keys} == {b'"a"', b'"b"', b'"c"'}
    assert {text[a:b] for a, b in found.values} == {
        text, b'[1, {"b": "x, ]"}]', b"1", b'{"b": "x, ]"}', b'"x, ]"', b"{}"
    }  # fmt: skip
    assert {text[a:b] for a, b in found.members} == {
        b'"a": [1, {"b": "x, ]"}]', b"1", b'{"b": "x, ]"}', b'"b": "x, ]"', b'"c": {}'
    }  # fmt: skip


def test_a_seed_gives_the_same_mutants_and_most_are_json() -> None:
    source = json_text(json.dumps({"a": [1, {"b": "x"}], "c": {"d": 0.5, "e": None}}).encode())
    made = [mutated_json(source, rng) for rng in [random.Random(7)] for _ in range(500)]
    assert made == [mutated_json(source, rng) for rng in [random.Random(7)] for _ in range(500)]
    well = 0
    for text in made:
        try:
            json.loads(text)
            well += 1
        except (ValueError, RecursionError):
            continue
    assert 250 < well < 500
