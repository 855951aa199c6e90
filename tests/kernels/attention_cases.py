"""Attention kernels at one setting: calls at their edges, compared with the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from kernel_harness import EPS, Array, Case, Out, Program, assert_close, double, generator, normal

from infc.compiler.ir.ops.attention import Attention
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import Isa
from infc.targets.cpu.kernels import Kernel

Lengths = tuple[tuple[int, int], ...]
"""(queries, keys) of each call."""
LEAST = float(np.finfo(np.float32).min)
SHORT: Lengths = ((1, 1), (7, 7), (17, 17), (33, 33), (70, 70), (5, 90))
EDGES: Lengths = tuple((n, n) for n in (1, 13, 14, 15, 31, 32, 33, 127, 128, 129))


@dataclass(frozen=True)
class Setting:
    """An attention and the types of what it reads and writes; heads: of q and of k."""

    heads: tuple[int, int]
    d: int
    dv: int
    op: Attention
    dtype: str
    out: str

    def kernel(self, isa: Isa) -> Kernel:
        op = self.op
        options = (op.scale, op.causal, op.window, op.mask, op.bias, self.dtype, self.out, op.empty, op.low)
        return kernels.attention(isa, *self.heads, self.d, self.dv, *options)

    def name(self) -> str:
        op = self.op
        parts = ["attention" if self.dtype == "float32" else f"attention-{self.dtype}-{self.out}"]
        parts += [f"{self.heads[0]}/{self.heads[1]}-{self.d}-{self.dv}"]
        parts += [word for word in ("causal", "mask", "bias") if getattr(op, word)]
        parts += [f"window{op.window}"] if op.window else []
        parts += [f"{op.empty}{op.low:g}"] if op.empty != "zeros" else []
        return "-".join([*parts, f"scale{op.scale:.3}"])


@dataclass(frozen=True)
class Call:
    """One segment's operands (float32 values), and what to call the kernel with."""

    setting: Setting
    kernel: Kernel
    q: Array
    k: Array
    v: Array
    kept: Array
    offset: Array

    def run(self, program: Program, first: int, past: int, tasks: tuple[tuple[int, int], ...] = ()) -> Array:
        """out[past - first, heads_q * dv + 1] of queries first..past, as the kernel stores it, in the given tasks."""
        setting, keys = self.setting, len(self.k)
        heads_q, heads_k = setting.heads
        k, v = self.k.copy(), self.v.copy()
        if setting.op.mask and (self.kept.any() or setting.op.empty == "zeros"):
            k[~self.kept], v[~self.kept] = np.nan, np.nan  # a masked key is never read into a result
        result = _empty((past - first, heads_q * setting.dv + 1), setting.out)
        for task0, task1 in tasks or ((0, heads_q * -(-(past - first) // self.kernel.block)),):
            found = program.call(
                self.kernel,
                *(_rows(self.q[first:past], setting.dtype, 2), heads_q * setting.d + 2),
                *(_rows(k, setting.dtype, 1), heads_k * setting.d + 1),
                *(_rows(v, setting.dtype, 3), heads_k * setting.dv + 3, self.kept.astype(np.uint8)),
                *(self.offset if setting.op.bias else None, self.offset[0].size, keys),
                *(result, heads_q * setting.dv + 1, past - first, keys, first, task0, task1),
                _empty((_scratch(self.kernel, keys),), "float32"),
            )
            result = Out(found[0])
        return result.start

    def expected(self) -> tuple[Array, Array]:
        """The reference in float64, [queries, heads_q * dv], and how far a result may be from it.

        A weight is wrong by its score's error (sums of d products, rounded), that of the power of two, and that of its
        rounding; errors of weights and of their sum show in the mean of |v|.
        """
        setting, op = self.setting, self.setting.op
        rest = [self.kept] * op.mask + [self.offset] * op.bias
        want, spread = (
            op.reference({}, *(x[None] for x in double(self.q, self.k, values, *rest)))[0].reshape(len(self.q), -1)
            for values in (self.v, np.abs(self.v))
        )
        products = np.abs(self.q).max((0, 1)) @ np.abs(self.k).max((0, 1)) * abs(op.scale)
        scores = products + np.abs(self.offset).max() * op.bias
        weight = 4 * EPS if setting.dtype == "float32" else 2.0**-8 + 1e-4
        bound = (2 * (setting.d + 8) * EPS * scores + weight + (len(self.k) + 8) * EPS) * spread
        return want, bound + (0 if setting.out == "float32" else 2.0**-8 * (np.abs(want) + bound)) + 1e-37


def attention_case(
    heads: tuple[int, int],
    d: int,
    dv: int,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    mask: bool = False,
    bias: bool = False,
    lengths: Lengths = SHORT,
    scale: float | None = None,
    dtype: str = "float32",
    out: str = "float32",
    empty: Literal["zeros", "mean", "low"] = "zeros",
    low: float = 0.0,
) -> Case:
    """Calls of every length against the reference; then the queries, and the tasks, in parts: the same bits."""
    op = Attention(d**-0.5 if scale is None else scale, causal, window, mask, bias, empty=empty, low=low)
    setting = Setting(heads, d, dv, op, dtype, out)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("attention", heads, d, dv)
        for number, (queries, keys) in enumerate(lengths):
            kept = rng.random(keys) < (0.6 if number % 4 != 1 else 0.0)  # some calls have no key at all
            kept[: keys // 3] = False
            q = _values(rng, dtype, queries, heads[0], d)
            k, v = _values(rng, dtype, keys, heads[1], d), _values(rng, dtype, keys, heads[1], dv)
            call = Call(setting, kernel, q, k, v, kept, normal(rng, heads[0], queries, keys))
            got = call.run(program, 0, queries)
            result = _floats(got, out)
            assert_close(result[:, :-1], *call.expected(), f"{queries} queries, {keys} keys")
            assert np.isnan(result[:, -1]).all(), "written behind a row"
            for cut in sorted({1, kernel.block // 2 + 1, queries - 1} & set(range(1, queries))):
                parts = [call.run(program, 0, cut), call.run(program, cut, queries)]
                assert np.concatenate(parts).tobytes() == got.tobytes(), f"split at {cut}"
            tasks = heads[0] * -(-queries // kernel.block)
            if tasks > 1:
                halves = ((0, tasks // 2), (tasks // 2, tasks))
                assert call.run(program, 0, queries, halves).tobytes() == got.tobytes()

    return Case(setting.name(), setting.kernel, check)


def attention_cases(dtype: str) -> Iterator[Case]:
    """Every head size, length and option at its edge; results in float32, and in dtype."""
    full, same = partial(attention_case, dtype=dtype), partial(attention_case, dtype=dtype, out=dtype)
    yield full((2, 2), 8, 8, mask=True)
    yield same((2, 2), 32, 32, lengths=EDGES)
    yield full((2, 2), 32, 32, mask=True, lengths=EDGES)
    yield same((4, 2), 20, 33, mask=True, bias=True)
    yield same((2, 1), 64, 64, causal=True, lengths=EDGES)
    yield full((2, 2), 40, 40, causal=True, mask=True)
    yield full((1, 1), 80, 5, window=(4, 2), mask=True)
    yield same((1, 1), 16, 96, causal=True, window=(9, 0), bias=True)
    yield same((1, 1), 96, 96, window=(40, 7), lengths=((129, 129), (300, 300)))
    yield same((3, 1), 128, 128, bias=True)
    yield full((1, 1), 256, 40, lengths=((3, 3), (20, 200)))
    yield same((2, 1), 256, 256, lengths=((3, 3), (20, 200)))
    yield full((1, 1), 50, 50, lengths=((9, 70),))
    yield full((1, 1), 1022 if dtype == "float32" else 2046, 8, lengths=((40, 40),))  # rows of q lie 4 KiB apart
    yield same((2, 2), 160, 160, mask=True, lengths=((17, 40),))
    yield same((3, 3), 34, 31, lengths=((30, 30),))
    yield same((1, 1), 64, 256, lengths=((512, 512),))
    yield full((2, 2), 32, 32, mask=True, scale=-0.5)
    yield full((2, 2), 32, 32, scale=0.0)
    yield full((2, 1), 32, 32, mask=True, lengths=EDGES, empty="mean")
    yield same((2, 2), 24, 17, mask=True, bias=True, empty="mean")
    yield full((1, 1), 16, 16, window=(5, 3), mask=True, empty="mean")
    yield full((2, 2), 32, 32, mask=True, lengths=EDGES, empty="low", low=LEAST)
    yield same((2, 1), 16, 20, causal=True, mask=True, bias=True, lengths=EDGES, empty="low", low=-3e6)
    yield full((2, 2), 32, 32, mask=True, scale=8.0, empty="low", low=-4e8)
    yield full((1, 1), 8, 8, mask=True, scale=-0.5, empty="low", low=-1e9)


def _values(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """float32 values around 0, those of dtype."""
    x = normal(rng, *shape)
    return x if dtype == "float32" else _floats(_halves(x), dtype)


def _rows(x: Array, dtype: str, extra: int) -> Array:
    """x[rows, heads, n] as rows of dtype, with NaN in `extra` columns behind each: what must not be read."""
    flat = x.reshape(len(x), -1)
    padded = np.full((len(x), flat.shape[1] + extra), np.nan, np.float32)
    padded[:, : flat.shape[1]] = flat
    return padded if dtype == "float32" else _halves(padded)


def _empty(shape: tuple[int, ...], dtype: str) -> Out:
    blank = np.full(shape, np.nan, np.float32)
    return Out(blank if dtype == "float32" else _halves(blank))


def _scratch(kernel: Kernel, keys: int) -> int:
    assert callable(kernel.scratch)
    return kernel.scratch(keys)


def _halves(x: Array) -> Array:
    """The bfloat16 nearest to each float32, as uint16."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def _floats(x: Array, dtype: str) -> Array:
    """float32 of what a kernel wrote."""
    return x if dtype == "float32" else (x.astype(np.uint32) << 16).view(np.float32)
