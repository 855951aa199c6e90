"""The images that a model of pixels takes: their extents, from config.json, else from preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .errors import FrontendError
from .fields import Field
from .files import read_json_file

DEFAULT_SIDE = 224
"""Pixels: images of a model whose folder does not say."""
MOST_SIDE = 1 << 15
"""Pixels of a side: what an image format can hold, and far more than a model takes."""
MOST_CHANNELS = 1 << 12
PROCESSOR = "preprocessor_config.json"


def image_field(config: Any, folder: Path) -> Field:
    """`pixel_values` of a model with that configuration. Raises FrontendError naming the file and key of a size that no
    image has."""
    size, where = getattr(config, "image_size", None), f"{folder.name}/config.json: image_size"
    processor = folder / PROCESSOR
    if size is None and processor.is_file():
        said = read_json_file(processor, dict)
        key = "crop_size" if said.get("crop_size") is not None else "size"
        size, where = said.get(key), f"{folder.name}/{PROCESSOR}: {key}"
    height, width = _sides(size, where)
    channels = getattr(config, "num_channels", 3)
    _check(channels, MOST_CHANNELS, f"{folder.name}/config.json: num_channels")
    return Field("pixel_values", "pixel_values", "float32", ("batch", channels, height, width))


def _sides(size: object, where: str) -> tuple[int, int]:
    """Height and width of one number, a pair, or an object of `height` and `width` or `shortest_edge`."""
    pair: tuple[object, object]
    if size is None:
        pair = (DEFAULT_SIDE, DEFAULT_SIDE)
    elif isinstance(size, Mapping):
        said = cast(Mapping[str, object], size)
        side = said.get("shortest_edge", DEFAULT_SIDE)
        pair = (said.get("height", side), said.get("width", side))
    elif isinstance(size, (list, tuple)):
        sides = cast("list[object]", size)
        if len(sides) != 2:
            raise FrontendError(f"{where} has {len(sides)} numbers, and height and width are needed")
        pair = (sides[0], sides[1])
    else:
        pair = (size, size)
    return _check(pair[0], MOST_SIDE, where), _check(pair[1], MOST_SIDE, where)


def _check(value: object, most: int, where: str) -> int:
    if type(value) is not int or not 0 < value <= most:
        said = repr(value)[:60].encode("utf-8", "backslashreplace").decode()
        raise FrontendError(f"{where} is {said}, and a whole number from 1 to {most:,} is needed")
    return value
