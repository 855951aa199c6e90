"""Requests of different lengths in one batch: nothing is computed for padding, and nobody's bits depend on neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.bundle.golden import random_inputs
from infc.compiler.ir.graph import Array, Graph
from infc.compiler.ir.interpret import run as interpret
from infc.compiler.passes.pipeline import default_passes, run_passes
from infc.runtime import InferError, Model

from .models import encoder, images, mlp
from .support import NATIVE, TARGET, compare, plan_of, reduced

Pair = tuple[Graph, Model, Model]


MODELS: dict[str, Callable[[], Graph]] = {
    "mlp": mlp,
    "encoder": encoder,
    "encoder with an island": lambda: encoder(positions=True),
    "images": images,
}
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2, "int8": 4e-2}
"""Of the largest value. In reduced precision a difference in the last bit can move a value by a step of its grid, 2^-8 of
it (bfloat16) or 1/127 of its row's largest (q8), in each of a few layers."""


@pytest.fixture(
    scope="module",
    params=[(m, p) for m in MODELS for p in TOLERANCE if p == "float32" or m != "images"],
    ids=lambda param: " ".join(param),
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A graph, and its model with one thread and with two."""
    name, precision = request.param
    graph = reduced(run_passes(MODELS[name](), default_passes()), precision)
    if precision != "float32" and graph is None:
        pytest.skip(f"SKIPPED {precision}: {NATIVE} has no kernels for it")
    assert graph is not None
    graph = graph.replace(name=f"{name} {precision}")
    folder = tmp_path_factory.mktemp("model")
    built = TARGET.compile(TARGET.render(plan_of(graph, optimize=False), NATIVE), NATIVE, folder, 1)
    with Model(built.library, built.weights, 1) as one, Model(built.library, built.weights, 2) as two:
        yield graph, one, two


def answered(result: dict[str, Array] | InferError) -> dict[str, Array]:
    assert not isinstance(result, InferError), result
    return result


def requests_of(graph: Graph, lengths: list[int]) -> list[dict[str, Array]]:
    """One row each, without a mask."""
    return [
        {k: v for k, v in random_inputs(graph, {"batch": 1, "tokens": n}, n).items() if k != "attention_mask"}
        for n in lengths
    ]


def test_gemm_rows_equal_the_sum_of_lengths(pair: Pair) -> None:
    graph, _, model = pair
    if graph.length_dim is None:
        pytest.skip("the model has no length")
    lengths = [1, 8, 31, 64]
    model.profile()
    for result in model.run_batch(requests_of(graph, lengths)):
        answered(result)
    linears = {s.rows for s in model.step_times() if s.op == "linear"}
    assert linears == {sum(lengths)}


def test_bits_do_not_depend_on_batch_size_slot_threads_or_neighbours(pair: Pair) -> None:
    graph, one, two = pair
    rows = requests_of(graph, [5, 64, 1, 17] if graph.length_dim else [0] * 4)
    alone = [one.run(r) for r in rows]
    for count in (1, 2, 3, 13, 14, 15, 28, 29):
        for model in (one, two):
            batch = [rows[(i * 7 + count) % 4] for i in range(count)]
            for i, result in enumerate(model.run_batch(batch)):
                for name, value in answered(result).items():
                    assert np.array_equal(value, alone[(i * 7 + count) % 4][name]), (name, count, i)


def test_masked_rows_are_cut_and_other_masks_run_dense(pair: Pair) -> None:
    graph, one, _ = pair
    if graph.length_dim is None:
        pytest.skip("the model has no length")
    inputs = random_inputs(graph, {"batch": 5, "tokens": 20}, 3)
    mask = inputs["attention_mask"]
    mask[0, 7:], mask[1, 1:], mask[2, 4], mask[3, :] = 0, 0, 0, 0
    want = interpret(graph, inputs, double=True)
    got = one.run(inputs)
    kept = mask.astype(bool)
    tolerance = TOLERANCE[graph.name.split()[-1]]
    compare(got["hidden"][kept], want["hidden"][kept], "kept positions", tolerance)
    assert not got["hidden"][~kept].any(), "excluded positions hold zeros"
    compare(got["mean"], want["mean"], "mean", tolerance)
    assert not got["mean"][3].any(), "an all-masked row gives zeros"
    one.profile()
    one.run(inputs)
    computed = {s.rows for s in one.step_times() if s.op == "linear"}
    one.profile(False)
    assert computed == {7 + 1 + 20 + 0 + 20}


def test_a_bad_request_does_not_fail_its_neighbours(pair: Pair) -> None:
    graph, one, _ = pair
    good = requests_of(graph, [5, 9] if graph.length_dim else [0, 0])
    name = next(iter(good[0]))
    shape = list(good[0][name].shape)
    if graph.length_dim is not None:
        bad = {name: np.full(shape, 10_000, np.int64)}
    else:
        bad = {name: np.full(shape, np.nan, np.float32)}
    wrong = {name: np.zeros([*shape, 2], good[0][name].dtype)}
    results = one.run_batch([good[0], bad, wrong, {}, good[1]])
    for number in (1, 2, 3):
        error = results[number]
        assert isinstance(error, InferError)
        assert error.kind == "CALLER"
        assert name in error.message
    for number, request in ((0, good[0]), (4, good[1])):
        for key, value in one.run(request).items():
            assert np.array_equal(answered(results[number])[key], value)


def test_zero_rows_give_zero_rows(pair: Pair) -> None:
    graph, one, _ = pair
    (request,) = requests_of(graph, [4])
    empty = {name: value[:0] for name, value in request.items()}
    result = one.run(empty)
    assert all(value.shape[0] == 0 for value in result.values())
    first, second = one.run_batch([empty, request])
    assert all(v.shape[0] == 0 for v in answered(first).values())
    for name, value in one.run(request).items():
        assert np.array_equal(answered(second)[name], value)


def test_a_damaged_weights_file_is_refused(pair: Pair, tmp_path: Path) -> None:
    graph, one, _ = pair
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"\0" * 64)
    built = TARGET.compile(TARGET.render(plan_of(graph), NATIVE), NATIVE, tmp_path / "again", 1)
    with pytest.raises(InferError, match="weights have 64 bytes"):
        Model(built.library, weights)
    one.run(requests_of(graph, [3])[0])
