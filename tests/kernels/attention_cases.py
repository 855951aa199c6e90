"""Attention kernels at one setting: calls at their edges, compared with the reference in float64."""

from __future__ import annotations

import numpy as np
from kernel_harness import EPS, Case, Out, Program, assert_close, blank, double, generator, normal, strided

from infc.compiler.ir.ops.attention import Attention
from infc.targets.cpu import kernels
from infc.targets.cpu.kernels import Kernel


def attention_case(
    heads: tuple[int, int],
    d: int,
    dv: int,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    mask: bool = False,
    bias: bool = False,
    lengths: tuple[tuple[int, int], ...] = ((1, 1), (7, 7), (17, 17), (33, 33), (70, 70), (5, 90)),
) -> Case:
    heads_q, heads_k = heads
    scale = d**-0.5
    op = Attention(scale, causal, window, mask, bias)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("attention", heads, d, dv)
        for queries, keys in lengths:
            q, k = normal(rng, queries, heads_q, d), normal(rng, keys, heads_k, d)
            v = normal(rng, keys, heads_k, dv)
            kept = rng.random(keys) < 0.6
            kept[: keys // 3] = False
            offset = normal(rng, heads_q, queries, keys)
            k_in, v_in = k.copy(), v.copy()
            if mask:
                k_in[~kept], v_in[~kept] = np.nan, np.nan  # a masked key is never read into a result
            blocks = -(-queries // kernel.block)
            assert callable(kernel.scratch)
            inputs = [
                *(strided(q.reshape(queries, -1), 2), heads_q * d + 2, strided(k_in.reshape(keys, -1), 1)),
                *(heads_k * d + 1, strided(v_in.reshape(keys, -1), 3), heads_k * dv + 3, kept.astype(np.uint8)),
                *(offset if bias else None, queries * keys, keys, blank(queries, heads_q * dv + 1), heads_q * dv + 1),
                *(queries, keys),
            ]
            scratch = blank(kernel.scratch(keys))
            tasks = heads_q * blocks
            got, _ = program.call(kernel, *inputs, 0, 0, tasks, scratch)
            operands = [x[None] for x in (q, k, v)] + ([kept[None]] if mask else []) + ([offset[None]] if bias else [])
            want = op.reference({}, *double(*operands))[0].reshape(queries, -1)
            size = (np.abs(q).max() * np.abs(k).max() * d * scale + 4) * np.abs(v).max()
            assert_close(got[:, :-1], want, (d + keys + 16) * EPS * size, f"{queries} queries, {keys} keys")
            assert np.isnan(got[:, -1]).all()
            for cut in sorted({1, kernel.block // 2 + 1, queries - 1} & set(range(1, queries))):
                parts = [
                    program.call(
                        kernel,
                        *(strided(q[a:b].reshape(b - a, -1), 2), *inputs[1:10], blank(b - a, heads_q * dv + 1)),
                        *(heads_q * dv + 1, b - a, keys, a, 0, heads_q * -(-(b - a) // kernel.block), scratch),
                    )[0]
                    for a, b in ((0, cut), (cut, queries))
                ]
                assert np.concatenate(parts).tobytes() == got.tobytes(), f"split at {cut}"
            if tasks > 1:  # a range of tasks writes its own part, with the same bits
                half, _ = program.call(kernel, *inputs, 0, 0, tasks // 2, scratch)
                inputs[10] = Out(half)
                both, _ = program.call(kernel, *inputs, 0, tasks // 2, tasks, scratch)
                assert both.tobytes() == got.tobytes()

    flags = f"{'-causal' if causal else ''}{f'-window{window}' if window else ''}{'-mask' if mask else ''}"
    return Case(
        f"attention-{heads_q}/{heads_k}-{d}-{dv}{flags}{'-bias' if bias else ''}",
        lambda isa: kernels.attention(isa, heads_q, heads_k, d, dv, scale, causal, window, mask, bias),
        check,
    )
