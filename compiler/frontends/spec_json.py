"""A spec's model as JSON values, for the worker that imports it. Where it was written (spans) is left out."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from ...dsl import spec as spec_module
from ...dsl.spec import Located, Model

_KIND = "is"


def model_to_json(model: Model) -> Any:
    """The model and all its parts: objects with their class's name, tuples as lists."""
    return _encode(model)


def model_from_json(value: Any) -> Model:
    """The model that `model_to_json` gave."""
    model = _decode(value)
    assert isinstance(model, Model)
    return model


def _encode(value: Any) -> Any:
    if isinstance(value, Located):
        fields = [f.name for f in dataclasses.fields(value) if f.name not in ("span", "spans")]
        return {_KIND: type(value).__name__, **{name: _encode(getattr(value, name)) for name in fields}}
    if isinstance(value, tuple):
        return [_encode(v) for v in cast("tuple[Any, ...]", value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a spec has no values of type {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in cast("list[Any]", value))
    if isinstance(value, dict):
        fields = dict(cast("dict[str, Any]", value))
        cls = getattr(spec_module, str(fields.pop(_KIND)))
        return cls(**{name: _decode(v) for name, v in fields.items()})
    return value
