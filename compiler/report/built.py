"""evidence/build.json, how a bundle's model was compiled, as the report reads it. Its texts come from the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import Exit, InfcError


class Part(BaseModel):
    """Base of what the build says: immutable; names that a later infc adds are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OpTime(Part):
    """Steps of one op by one provider. `share` of a request's time, `of_limit`: the least time that this machine could take
    over the time taken, and what that is bound by; None where it was not measured."""

    op: str
    provider: str
    steps: int
    share: float | None = None
    of_limit: float | None = None
    bound: str | None = None


class Layer(Part):
    """A layer's precision, and the reason where it is not the one that was asked for."""

    layer: str
    precision: str
    reason: str = ""


class Island(Part):
    """Steps that run row by row."""

    steps: list[str]
    why: str


class Built(Part):
    """evidence/build.json: how the model was compiled."""

    model: str = ""
    precision: str = ""
    tools: dict[str, str | int | float | None] = {}
    ops: list[OpTime] = []
    layers: list[Layer] = []
    tail: dict[str, str] = {}
    islands: list[Island] = []
    notes: list[str] = []
    batchable: bool = True
    batchable_reason: str = ""
    trim: bool = True
    trim_reason: str = ""


def built_of(report: Mapping[str, Any]) -> Built:
    """Raises InfcError (exit 7) where something is of another type than it should be."""
    try:
        return Built.model_validate(report)
    except ValidationError as error:
        said = str(error).splitlines()[1:3]
        raise InfcError(
            f"evidence/build.json is no report of a build: {': '.join(map(str.strip, said))}",
            exit_code=Exit.DAMAGED,
            hint="build the bundle again",
        ) from None
