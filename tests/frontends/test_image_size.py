"""The extents of images: what a folder says, and odd values of it by file and key."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.image_size import MOST_SIDE, image_field


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        ({}, (224, 224)),
        ({"size": 96}, (96, 96)),
        ({"size": [40, 24]}, (40, 24)),
        ({"size": {"height": 40, "width": 24}}, (40, 24)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 64, "width": 32}}, (64, 32)),
        ({"size": {"shortest_edge": 256}, "crop_size": None}, (256, 256)),
        ({"size": MOST_SIDE}, (MOST_SIDE, MOST_SIDE)),
    ],
)
def test_a_processor_says_the_extents(tmp_path: Path, said: dict[str, Any], shape: tuple[int, int]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert image_field(SimpleNamespace(), tmp_path).shape == ("batch", 3, *shape)
    assert image_field(SimpleNamespace(image_size=8), tmp_path).shape == ("batch", 3, 8, 8)


ODD: tuple[Any, ...] = (
    "224",
    "",
    -1,
    0,
    10**9,
    2**70,
    0.5,
    224.0,
    True,
    False,
    [],
    [1],
    [1, 2, 3],
    [8, "8"],
    [[8], 8],
    {"height": []},
)


@pytest.mark.parametrize("key", ["size", "crop_size"])
@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_size_that_no_image_has_is_refused_by_file_and_key(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({key: value}))
    with pytest.raises(FrontendError, match=f"{tmp_path.name}/preprocessor_config.json: {key} "):
        image_field(SimpleNamespace(), tmp_path)


@pytest.mark.parametrize("value", [*ODD, None, {"height": 1 << 40}], ids=str)
def test_a_configuration_is_held_to_the_same(tmp_path: Path, value: Any) -> None:
    if value is not None:
        with pytest.raises(FrontendError, match="config.json: image_size"):
            image_field(SimpleNamespace(image_size=value), tmp_path)
    with pytest.raises(FrontendError, match="config.json: num_channels"):
        image_field(SimpleNamespace(image_size=8, num_channels=value), tmp_path)
