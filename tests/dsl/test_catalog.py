"""The catalogue: the same language, each machine with its source and date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infc.dsl import check_text, format_text
from infc.dsl.catalog import FOLDER, catalog, read_catalog
from infc.dsl.spec import CPU_ISAS

from .samples import FRAUD

FILES = sorted(Path(FOLDER).glob("*.infer"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_catalogue_file_reads_and_is_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    machines, found = read_catalog(text, path.name)
    assert found == []
    assert machines
    assert format_text(text)[0] == text


def test_the_catalogue_has_a_dozen_machines_of_every_kind() -> None:
    machines = set(catalog().values())
    assert len(machines) >= 12
    assert {m.kind for m in machines} == {"cpu", "cuda", "rocm", "tpu"}


def test_each_machine_says_what_it_is_and_where_that_was_read() -> None:
    for machine in set(catalog().values()):
        assert machine.source, machine.name
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", machine.date or ""), machine.name
        assert machine.peaks, machine.name
        if machine.kind == "cpu":
            assert machine.isa in CPU_ISAS
            assert machine.cores
            assert machine.memory_bytes
        else:
            assert machine.device_memory_bytes
            assert machine.bandwidth_bytes_per_s


def test_names_and_aliases_are_unique() -> None:
    names = [n for path in FILES for m in read_catalog(path.read_text(), path.name)[0] for n in (m.name, *m.aliases)]
    assert len(names) == len(set(names))


def test_every_machine_can_be_used() -> None:
    for name, machine in catalog().items():
        spec = check_text(FRAUD, use=f'{machine.kind} "{name}"').spec
        assert spec is not None
        assert spec.hardware[0].machine == machine


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('machine "a" { kind cpu }\n', "E0307"),
        ('infer 1\nmachine "a" { kind cpu; cores 2 }\n', "E0306"),
        ('infer 1\nmachine "a" { kind cpu; date "today"; from "x" }\n', "E0219"),
        ('infer 1\nmodel m { source torch("a.py:b") }\n', "E0301"),
    ],
)
def test_a_damaged_catalogue_file_is_reported(text: str, code: str) -> None:
    assert code in {d.code for d in read_catalog(text, "x.infer")[1]}
