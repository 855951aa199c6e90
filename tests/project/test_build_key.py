"""A finished build is used again only while every file that it read, and every name that it looked for, is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infc.compiler.build_key import find_build, remember_build
from infc.compiler.cache import Cache, cache_key

KEY = cache_key("build")


@pytest.fixture
def remembered(tmp_path: Path) -> Cache:
    """A build of a model folder, remembered."""
    folder, bundle, cache = tmp_path / "model", tmp_path / "made", Cache(tmp_path / "cache")
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "elsewhere.json").write_text("{}")
    (folder / "linked.json").symlink_to("../elsewhere.json")
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    remember_build(cache, KEY, [folder / "config.json", folder / "linked.json", folder], bundle)
    assert find_build(cache, KEY) is not None
    return cache


def relink(folder: Path) -> None:
    (folder.parent / "other.json").write_text("[]")
    (folder / "linked.json").unlink()
    (folder / "linked.json").symlink_to("../other.json")


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda f: (f / "config.json").write_text("[]"),
    "removed": lambda f: (f / "config.json").unlink(),
    "added": lambda f: (f / "modules.json").write_text("[]"),
    "added below": lambda f: (f / "1_Pooling" / "config.json").write_text("{}"),
    "a link added": lambda f: (f / "adapter_config.json").symlink_to("nowhere"),
    "changed behind a link": lambda f: (f.parent / "elsewhere.json").write_text("[]"),
    "a link to another file": relink,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_changed_in_the_folder_makes_another_build(remembered: Cache, tmp_path: Path, change: str) -> None:
    CHANGES[change](tmp_path / "model")
    assert find_build(remembered, KEY) is None


def test_what_a_build_writes_beside_the_model_changes_nothing(remembered: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "m.bundle").mkdir()
    (folder / "m.bundle" / "manifest.json").write_text("{}")
    (folder / "m.infer.lock").write_text("")
    (folder / ".git").mkdir()
    assert find_build(remembered, KEY) is not None
