"""The stream of mixed lengths: which sentences go together, and how wide they are padded.

A server that pads takes a batch's sentences to one width. How much of that is wasted depends on which sentences it puts
together; the ways here go from what comes as it comes to what needs all sentences beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .models import artifacts
from .peers import Array, Run

TIMED = 64
"""Sentences of a pass; the rest of the stream is for accuracy."""

BATCH = 16
"""Sentences together."""

BUCKETS = (16, 32, 64, 128, 256)
"""Widths of `bucketed`."""

STATIC = tuple(f"{BATCH}x{width}" for width in BUCKETS)
"""The shapes of `bucketed`, as reference.py takes them."""

PADDED, SORTED, BUCKETED, ALONE = "padded", "sorted", "bucketed", "one by one"
WAYS = {
    PADDED: f"{BATCH} at a time in order of arrival, padded to the longest of them",
    SORTED: f"all {TIMED} sorted by length first, then {BATCH} at a time, padded to the longest of them",
    BUCKETED: f"as sorted, and padded to {', '.join(map(str, BUCKETS[:-1]))} or {BUCKETS[-1]}, which suits static shapes",
    ALONE: "each sentence by itself, nothing padded",
}
RAGGED = f"{BATCH} at a time in order of arrival, nothing padded"
"""infc's way."""


@dataclass(frozen=True, slots=True)
class Stream:
    """`ids`: the tokens of each sentence; `wanted`: float32 torch's embedding of each."""

    ids: tuple[NDArray[np.int64], ...]
    wanted: NDArray[np.float32]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sentence."""
        return [len(row) for row in self.ids]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sentences by number, and the width that they are padded to."""

    members: tuple[int, ...]
    width: int


def load_stream(model: str) -> Stream:
    """The model's stream, which reference.py has made."""
    folder = artifacts(model)
    with np.load(folder / "stream.npz") as arrays:
        ids = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
    return Stream(tuple(ids), np.load(folder / "stream.npy"))


def batches(lengths: Sequence[int], way: str) -> list[Batch]:
    """How sentences of these lengths are fed in a way of WAYS."""
    order = list(range(len(lengths)))
    if way in (SORTED, BUCKETED):
        order.sort(key=lambda i: lengths[i])
    size = 1 if way == ALONE else BATCH
    found: list[Batch] = []
    for start in range(0, len(order), size):
        members = tuple(order[start : start + size])
        longest = max(lengths[i] for i in members)
        found.append(Batch(members, next(w for w in BUCKETS if w >= longest) if way == BUCKETED else longest))
    return found


def shapes(fed: Sequence[Batch]) -> list[tuple[int, int]]:
    """The different (rows, tokens) of some batches."""
    return sorted({(len(b.members), b.width) for b in fed})


def padded(stream: Stream, batch: Batch) -> tuple[Array, Array]:
    """ids and mask of a batch, int64 [rows, width]."""
    ids = np.zeros((len(batch.members), batch.width), np.int64)
    mask = np.zeros_like(ids)
    for row, number in enumerate(batch.members):
        own = stream.ids[number]
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    return ids, mask


def one_pass(run: Run, fed: Sequence[Batch], arrays: Sequence[tuple[Array, Array]]) -> NDArray[np.float32]:
    """Every batch once; the embeddings in the order of the sentences."""
    rows = [run(ids, mask) for ids, mask in arrays]
    answers = np.concatenate(rows)
    order = [number for batch in fed for number in batch.members]
    return answers[np.argsort(order)]
