"""What the ragged analysis finds: where each value lives when rows of different lengths share one run.

    Place  := SHARED | PREFIX | ROW | TOKEN | LOCAL
    flat   := the node is computed once over all rows (ROW) or all tokens (TOKEN) of a run, or once per run
    island := a group of nodes run per row, at the row's exact length, with batch = 1

A value's place says where it is *stored*; `flat` says how it is *computed*: an island may well write a ROW or TOKEN
value, which everything else then reads flat. Only LOCAL values never leave their island.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..ir.graph import Node


class Place(Enum):
    """Where a value is stored in a run over several rows."""

    SHARED = "shared"
    """No batch and no length in its shape or its computation: the same for all, computed once per run."""
    PREFIX = "prefix"
    """No batch; one or more length axes, but no element depends on the length (position tables, position biases):
    computed once per run for the longest row. Its strides are those of the longest row."""
    ROW = "row"
    """[batch, ...no length], stored flat as [rows, ...]."""
    TOKEN = "token"
    """[batch, length, ...no length], stored flat as [sum of lengths, ...]."""
    LOCAL = "local"
    """Anything else with a batch or a length in it: exists inside an island, per row."""


@dataclass(frozen=True)
class Placement:
    """The result of `ragged.analyse`."""

    batchable: bool
    """True: each row's result is proved to be the model run on that row alone, so that requests may be merged."""
    batchable_reason: str
    """Where not batchable: which node stands in the way and why. "" otherwise."""
    trim: bool
    """True: in a row whose mask is 1...10...0, the positions behind the kept ones are proved to be without influence
    on kept positions and on outputs without a length (finite values and at least one kept position given), so that the
    row may be cut to its kept length."""
    trim_reason: str
    """Where not trim: which node stands in the way and why. "" otherwise."""
    place: Mapping[Node, Place]
    flat: Mapping[Node, bool]
    islands: tuple[tuple[Node, ...], ...]
    """Groups of nodes that run per row, in an order that may be executed: group k reads LOCAL values of group k only.
    A LOCAL node that several groups need is listed in each of them."""
    reasons: Mapping[Node, str]
    """For each node that is not flat, why; a phrase for reports."""
    output_places: Mapping[str, Place]
