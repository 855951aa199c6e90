"""config.json against the checkpoint beside it, by arithmetic, before a module is made.

A config multiplies: a number in it makes as many layers, or as wide tables, as it says. What a module of that config
would need is bounded by what the checkpoint holds: no more layers than it has tensors, no extent far beyond its
largest, no more elements than a small multiple of its own. The checks run in milliseconds whatever the config says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from .errors import FrontendError
from .files import path_of

_STRUCTURE = re.compile(
    r"(^|_)(n_?layers?|layers?|depths?|stages?|blocks?|hidden_groups|experts?|inner_group_num)($|_num$|_blocks$)"
)
"""Keys that say how many modules there are."""
_PLACES = re.compile(r"^(?!(num|n|encoder|decoder)_).+_layers$")
"""Keys that may list places of layers, such as moe_layers."""
_FREE = re.compile(
    r"(ids?|index|indices|theta|base|seed|version|length|token|timestamp|factor|scale|2id|2label|param(eter)?s|chunk_size|dtype|date)$"
)
"""Keys whose numbers make nothing larger: ids, angles, limits of generation."""
_NEVER_ZERO = re.compile(
    r"^(vocab_size|hidden_size|(d|embed|hidden)?_?(dim|model)|n_embd|(num_attention_|n_|num_)heads?|intermediate_size|"
    r"embedding_size|image_size|patch_size|num_channels|max_position_embeddings|n_positions)$"
)
_LAYERS_BESIDE = 64
"""Layers without tensors of their own (shared ones) that a small checkpoint may have."""
_EXPERTS = 1024
"""Experts that one tensor of a checkpoint may hold."""
_WIDTH = 1 << 16
_WIDER = 16
"""An extent may be so many times the largest of the checkpoint (image sides, positions that are computed), or _WIDTH."""
_MORE = 4
_SPARE_ELEMENTS = 1 << 24
"""Elements that a module may have beyond the checkpoint: poolers and heads that are not used."""
_LONGEST_LIST = 1 << 16


_INDEX = re.compile(r"\.[0-9]+(?=\.)")


@dataclass(frozen=True)
class Held:
    """What a checkpoint holds: how many tensors, the largest extent in any, and elements in all."""

    tensors: int
    extent: int
    elements: int


def held_by(shapes: Iterable[tuple[int, ...]]) -> Held:
    """The sums over a checkpoint's shapes."""
    tensors = extent = elements = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        tensors, extent, elements = tensors + 1, max(extent, *shape, 0), elements + size
    return Held(tensors, extent, elements)


def check_plain(config: Mapping[str, Any], folder: Path) -> None:
    """Raises FrontendError where other files are to be read, or the weights are not what the model uses: quantization,
    adapters."""
    for key in ("quantization_config", "compression_config"):
        if config.get(key) is not None:
            raise FrontendError(
                f"{folder.name}/config.json has {key}: the checkpoint is quantized, and float ones are read",
                hint="name the checkpoint that it was made from; `search` in the spec chooses the precision",
            )
    for key in ("id2label", "label2id"):
        if config.get(key) is not None and not isinstance(config[key], dict):
            raise FrontendError(
                f"{folder.name}/config.json: {key} is {_short(config[key])}, and an object is needed",
                hint='as in `"id2label": {"0": "no", "1": "yes"}`',
            )
    for key in ("transformers_weights", "configuration_files"):
        if config.get(key) is not None:
            raise FrontendError(
                f"{folder.name}/config.json has {key}, which names other files to read, and config.json and the usual "
                "checkpoint are read",
                hint="save the model again with `save_pretrained(folder)`",
            )
    if os.path.lexists(folder / "adapter_config.json"):
        raise FrontendError(
            f"{folder.name} has adapter_config.json: adapters are not applied",
            hint="save the merged model: `model.merge_and_unload().save_pretrained(folder)`",
        )


def check_config(config: Mapping[str, Any], held: Held, where: str) -> None:
    """Raises FrontendError naming the key of config (nested ones too) whose number the checkpoint cannot bear out."""
    layers, width = held.tensors + _LAYERS_BESIDE, max(_WIDTH, _WIDER * held.extent)
    for keys, value in _numbers(config, (), where):
        name = next((k for k in reversed(keys) if isinstance(k, str)), "")
        if any(isinstance(k, str) and _FREE.search(k) for k in keys):
            continue
        most = layers if _STRUCTURE.search(name) else width
        if "experts" in name:
            most = max(most, min(held.extent, _EXPERTS))  # one tensor may hold them all
        if abs(value) > most:
            what = f"{held.tensors} tensors" if most == layers else f"no extent above {held.extent:,}"
            raise FrontendError(
                f"{where}: {path_of(keys)} is {_short(value)}, and the checkpoint has {what}",
                hint="config.json belongs to another checkpoint, or is damaged",
            )
    for keys, lists in _lists(config, ()):
        total = sum(v for v in lists if type(v) is int and v > 0)
        if _PLACES.search(str(keys[-1])) and _rises(lists):
            continue  # which layers are of a kind, not how many there are: each was compared above
        if _STRUCTURE.search(str(keys[-1])) and total > layers:
            raise FrontendError(
                f"{where}: {path_of(keys)} makes {total:,} layers of {held.tensors} tensors",
                hint="config.json belongs to another checkpoint, or is damaged",
            )


def check_kinds(config: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raises FrontendError where config has text for a number, or a number that its key cannot have.

    `known`: the config class's own values, by key; a key that is whole and positive there is so here.
    """
    for key, value in config.items():
        usual = known.get(key)
        if type(usual) is float and isinstance(value, (str, bool)):
            raise FrontendError(f"{where}: {key} is {_short(value)}, and a number is needed, such as {usual}")
        if type(usual) is not int or value is None:
            continue
        if isinstance(value, (str, dict, bool)) or (isinstance(value, float) and not value.is_integer()):
            raise FrontendError(
                f"{where}: {key} is {_short(cast(object, value))}, and a whole number is needed, such as {usual}"
            )
        least = 1 if _NEVER_ZERO.search(key) else 0 if usual > 0 and not _FREE.search(key) else None
        if least is not None and isinstance(value, (int, float)) and value < least:
            raise FrontendError(f"{where}: {key} is {_short(value)}, and at least {least} is needed, such as {usual}")


def check_elements(sizes: Iterable[tuple[str, tuple[int, ...]]], held: Held, where: str) -> None:
    """Raises FrontendError where tensors of these names and shapes are far more than the checkpoint holds."""
    total, largest = 0, (0, "", ())
    for name, shape in sizes:
        size = 1
        for side in shape:
            size *= side
        total, largest = total + size, max(largest, (size, name, shape))
    most = _MORE * held.elements + _SPARE_ELEMENTS
    if total > most:
        size, name, shape = largest
        raise FrontendError(
            f"{where} makes a model of {total:,} elements, and the checkpoint holds {held.elements:,}; the largest "
            f"tensor is {name!r} of shape {list(shape)}",
            hint="config.json belongs to another checkpoint, or is damaged",
        )


def check_layers(missing: Iterable[str], present: Iterable[str], where: str) -> None:
    """Raises FrontendError where a layer is missing of whose kind the checkpoint has others: config.json counts more than
    there are. (Tracing them first would take as long as there are layers.)"""
    kinds = {_INDEX.sub(".#", f".{name}"): name for name in present}
    for name in missing:
        other = kinds.get(_INDEX.sub(".#", f".{name}"))
        if other is not None:
            raise FrontendError(
                f"{where} makes more layers than the checkpoint has: there is no tensor {name!r}, and there is {other!r}",
                hint="the checkpoint belongs to another config.json",
            )


def _numbers(
    value: object, keys: tuple[str | int, ...], where: str
) -> Iterator[tuple[tuple[str | int, ...], int | float]]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield keys, value
    elif isinstance(value, dict):
        for key, item in cast(dict[str, object], value).items():
            yield from _numbers(item, (*keys, key), where)
    elif isinstance(value, list):
        items = cast(list[object], value)
        if len(items) > _LONGEST_LIST:
            raise FrontendError(f"{where}: {path_of(keys)} is a list of {len(items):,}")
        for number, item in enumerate(items):
            yield from _numbers(item, (*keys, number), where)


def _lists(value: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[object]]]:
    if isinstance(value, dict):
        for key, item in cast(dict[str, object], value).items():
            if isinstance(item, list):
                yield (*keys, key), cast(list[object], item)
            else:
                yield from _lists(item, (*keys, key))


def _rises(listed: list[object]) -> bool:
    """Whether it is of whole numbers, each larger than the one before."""
    numbers = [n for n in listed if type(n) is int]
    return len(numbers) == len(listed) and all(a < b for a, b in pairwise(numbers))


def _short(value: object) -> str:
    return repr(value)[:60].encode("utf-8", "backslashreplace").decode()
