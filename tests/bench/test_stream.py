"""The stream of mixed lengths: every sentence once, in its place, and as wide as its way says."""

from __future__ import annotations

import numpy as np
import pytest

from bench import stream
from bench.peers import Array

LENGTHS = [int(n) for n in np.random.default_rng(0).integers(4, 201, 50)]


@pytest.mark.parametrize("way", stream.WAYS)
def test_every_sentence_is_fed_once_and_answers_come_in_order(way: str) -> None:
    ids = tuple(np.full(n, i, np.int64) for i, n in enumerate(LENGTHS))
    texts = stream.Stream(ids, np.zeros((len(ids), 1), np.float32))
    fed = stream.batches(texts.lengths, way)
    assert sorted(i for batch in fed for i in batch.members) == list(range(len(ids)))
    seen: list[tuple[int, ...]] = []

    def run(tokens: Array, mask: Array) -> Array:
        seen.append(tokens.shape)
        assert all((row[: kept.sum()] == row[0]).all() for row, kept in zip(tokens, mask, strict=True))
        return tokens[:, :1].astype(np.float32)

    answers = stream.one_pass(run, fed, [stream.padded(texts, batch) for batch in fed])
    assert answers[:, 0].tolist() == list(range(len(ids)))
    assert set(seen) == set(stream.shapes(fed))


def test_sorting_pads_least_and_one_by_one_pads_nothing() -> None:
    def tokens(way: str) -> int:
        return sum(len(batch.members) * batch.width for batch in stream.batches(LENGTHS, way))

    assert tokens(stream.ALONE) == sum(LENGTHS)
    assert sum(LENGTHS) < tokens(stream.SORTED) < tokens(stream.PADDED)
    assert tokens(stream.SORTED) <= tokens(stream.BUCKETED)
    assert all(batch.width in stream.BUCKETS for batch in stream.batches(LENGTHS, stream.BUCKETED))
