"""Ops with many switches, at every combination of them: reference against torch, loop form against reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from infc.compiler.ir.evaluate import evaluate_loop
from infc.compiler.ir.graph import Array, Op
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.group_norm import GroupNorm
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.rms_norm import RmsNorm
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.prims import ACTIVATIONS
from infc.compiler.ir.types import TensorType

from .torch_ops import torch_apply

BOTH = (False, True)


def check(op: Op, *arrays: Array) -> None:
    """op on float64 (or bool) arrays: torch, the reference and the loop form agree to rounding."""
    types = [TensorType("bool" if a.dtype == bool else "float32", a.shape) for a in arrays]
    out = op.infer(*types)
    result = op.reference({}, *arrays)
    assert result.shape == out.shape, op
    np.testing.assert_allclose(result, torch_apply(op, {}, list(arrays)), rtol=1e-10, atol=1e-12, err_msg=str(op))
    loop = op.loop(out, *types)
    if loop is not None:
        np.testing.assert_allclose(evaluate_loop(loop, {}, arrays), result, rtol=1e-10, atol=1e-12, err_msg=str(op))


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("extent", [3, 6])
def test_pool(kind: str, extent: int) -> None:
    for k, s, low, high, ceil, counted in product((1, 2, 3), (1, 2, 3), (0, 1, 2), (0, 1, 2), BOTH, BOTH):
        if max(low, high) < k <= extent + low + high:
            check(Pool(kind, (k,), (s,), ((low, high),), (1,), counted, ceil), normal(1, 2, extent))
    check(Pool(kind, (2, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), False, True), normal(2, 1, extent, 5))


def test_dilated_max_pool() -> None:
    for k, d, s, ceil in product((1, 2, 3), (1, 2), (1, 2), BOTH):
        check(Pool("max", (k,), (s,), ((0, 0),), (d,), ceil_mode=ceil), normal(2, 2, 7))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv(groups: int) -> None:
    for k, s, d, low, high in product((1, 3), (1, 2), (1, 2), (0, 2), (0, 1)):
        op = Conv((s,), ((low, high),), (d,), groups, bias=low > 0)
        check(op, normal(2, 4, 6), normal(8, 4 // groups, k), *([normal(8)] if low else []))


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_conv_and_linear_epilogues(activation: str | None) -> None:
    for bias, residual in product(BOTH, BOTH):
        extra = [*([normal(3)] if bias else []), *([normal(2, 5, 3)] if residual else [])]
        check(Linear(bias, residual, activation), normal(2, 5, 4), normal(3, 4), *extra)
        extra = [*([normal(3)] if bias else []), *([normal(2, 3, 4, 2)] if residual else [])]
        conv = Conv((1, 2), ((1, 1), (0, 0)), (1, 1), 1, bias, residual, activation)
        check(conv, normal(2, 2, 4, 4), normal(3, 2, 3, 2), *extra)


def test_attention() -> None:
    keep = np.array([[True, False, True, True, False], [False] * 5])
    for causal, window, mask, bias, heads in product(BOTH, (None, (1, 0), (0, 2)), BOTH, BOTH, (2, 4)):
        op = Attention(0.5, causal, window, mask, bias)
        extra = [*([keep] if mask else []), *([normal(1, heads, 5, 5)] if bias else [])]
        check(op, normal(2, 5, heads, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 3), *extra)
    for low, bias in product((0.0, -1e9, -3.4e38, -64.0), BOTH):
        op = Attention(0.5, mask=True, bias=bias, empty="low" if low else "mean", low=low)
        extra = [keep, *([normal(1, 4, 5, 5)] if bias else [])]
        check(op, normal(2, 5, 4, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 3), *extra)
    check(Attention(0.5, causal=True), normal(1, 2, 1, 4), normal(1, 5, 1, 4), normal(1, 5, 1, 4))


def test_softmax_over_minus_infinities_is_zeros_and_no_other_bit_changes() -> None:
    x = np.array([[-np.inf] * 3, [-np.inf, 0.5, -2.0], [3.0, -1.0, 88.0]], np.float32)
    got = Softmax(1).reference({}, x)
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(1, keepdims=True))
        np.testing.assert_array_equal(got[1:], (e / e.sum(1, keepdims=True))[1:])
    assert not got[0].any()
    type_ = TensorType("float32", x.shape)
    loop = Softmax(1).loop(type_, type_)
    np.testing.assert_allclose(evaluate_loop(loop, {}, [x]), got, rtol=1e-6)


def test_large_scores_do_not_overflow() -> None:
    q = np.full((1, 2, 1, 4), 1e3, dtype=np.float32)
    out = Attention(1.0).reference({}, q, q, np.ones((1, 2, 1, 4), dtype=np.float32))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, 1)


def test_norms() -> None:
    for weight, bias, residual in product(BOTH, BOTH, BOTH):
        vectors = [normal(5)] * (weight + bias)
        check(
            LayerNorm(1e-5, weight, bias, residual), normal(2, 3, 5), *vectors, *([normal(2, 3, 5)] if residual else [])
        )
        for groups in (1, 2, 3, 6):
            check(GroupNorm(groups, 1e-5, weight, bias), normal(2, 6, 2, 3), *([normal(6)] * (weight + bias)))
    for weight in BOTH:
        check(RmsNorm(1e-6, weight), normal(2, 3, 5), *([normal(5)] if weight else []))


def test_reshape() -> None:
    shapes = [(24,), (2, 12), (2, 3, 4), (4, 6), (6, 4), (1, 24, 1), (3, 8), (2, 2, 6), (12, 1, 2), (2, 3, 2, 2)]
    for source, target in product(shapes, shapes):
        check(Reshape(target), normal(*source))
    check(Reshape((1, 1)), normal())
    check(Reshape((0, 7)), normal(3, 0))
