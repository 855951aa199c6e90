"""Mutated model folders: each import ends with a model or a refusal that says why, never with an error of ours."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from infc.dsl.spec import Model

from .families import model_of, save_family
from .fuzz_folders import mutate, run_builds, run_folders
from .test_canaries import save_sentence_folder
from .test_frontends_huggingface import embed_model

INPUTS = int(os.environ.get("INFC_FUZZ_INPUTS", "300"))
Made = Mapping[str, tuple[Path, Callable[[Path], Model]]]


def make_folders(folder: Path) -> Made:
    """Tiny folders of several families, each with what makes its model."""
    made: dict[str, tuple[Path, Callable[[Path], Model]]] = {
        "sentence": (save_sentence_folder(folder / "sentence"), embed_model)
    }
    for name in ("bert", "distilbert", "vit"):

        def model(at: Path, name: str = name) -> Model:
            return model_of(name, at)

        made[name] = (save_family(name, folder / name), model)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_folders(tmp_path_factory.mktemp("mutated"))


def test_mutated_folders_are_read_or_refused(made: Made, tmp_path: Path) -> None:
    few = {name: made[name] for name in ("sentence", "distilbert")}
    outcomes = run_folders(few, 15, 9, tmp_path)
    assert sum(outcomes.values()) == 15
    assert outcomes[2] > 0


@pytest.mark.full
def test_many_mutated_folders_are_read_or_refused(made: Made, tmp_path: Path) -> None:
    outcomes = run_folders(made, INPUTS, 20261, tmp_path)
    assert outcomes[0] > 0
    assert outcomes[2] > INPUTS // 4


@pytest.mark.full
def test_many_mutated_folders_are_built_or_refused(made: Made, tmp_path: Path) -> None:
    outcomes = run_builds(made, INPUTS, 20262, tmp_path)
    assert outcomes[0] > 0
    assert outcomes[2] > INPUTS // 4


def test_a_mutation_is_one_by_its_seed(made: Made, tmp_path: Path) -> None:
    import shutil

    found: list[dict[str, bytes]] = []
    for number in range(2):
        folder = tmp_path / str(number)
        shutil.copytree(made["sentence"][0], folder)
        for seed in range(5):
            mutate(folder, random.Random(seed))
        found.append({p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()})
    assert found[0] == found[1]
    original = {p.name: p.read_bytes() for p in made["sentence"][0].rglob("*") if p.is_file()}
    assert found[0] != original
