"""Cases of the recurrent layers' kernel: rows of different lengths side by side, in every order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from kernel_harness import EPS, Case, Out, Program, assert_close, blank, double, generator, normal, strided

from infc.compiler.ir.ops.recurrence import GATES, Recurrence
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import Isa
from infc.targets.cpu.kernels import Kernel


def recurrence_cases(isa: Isa) -> tuple[Case, ...]:
    vector, nr = isa.vector, isa.nr
    return (
        recurrence_case("lstm", 1),
        recurrence_case("lstm", vector, reverse=True),
        recurrence_case("lstm", 2 * vector + 3, state=True, cells=True),
        recurrence_case("lstm", vector - 1, reverse=True, state=True),
        recurrence_case("gru", nr, bias=True),
        recurrence_case("gru", vector + 1, reverse=True, bias=True, state=True),
        recurrence_case("gru", 2),
        recurrence_case("tanh", nr + 1, state=True),
        recurrence_case("relu", 3, reverse=True),
    )


def recurrence_case(
    kind: str,
    hidden: int,
    *,
    reverse: bool = False,
    bias: bool = False,
    state: bool = False,
    cells: bool = False,
) -> Case:
    op = Recurrence(kind, reverse, bias, state, cells)
    gates, width = GATES[kind] * hidden, hidden * (2 if cells else 1)

    def run(program: Program, kernel: Kernel, lengths: Sequence[int]) -> list[bytes]:
        """The results of rows of these lengths, one behind the other, checked; each row's bytes."""
        rng = generator("recurrence", kind, hidden)
        most = 5
        weight, own = normal(rng, gates, hidden) * np.float32(hidden**-0.5), normal(rng, hidden)
        full, h0, c0 = normal(rng, most, gates), normal(rng, hidden), normal(rng, hidden)
        x = np.concatenate([full[:n] for n in lengths])
        starts = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
        rows = len(lengths)
        states = [np.ascontiguousarray(np.tile(s, (rows, 1))) for s in (h0, c0)[: 2 if kind == "lstm" else 1]]
        assert isinstance(kernel.scratch, int)
        arguments = [*(states if state else []), *[None] * (2 - (len(states) if state else 0))]
        got, _ = program.call(
            kernel, strided(x, 3), gates + 3, kernels.pack_panels(program.isa, weight), own if bias else None, *arguments,
            blank(len(x), width + 2), width + 2, starts, np.array(lengths, np.int64), rows,
            Out(np.zeros(kernel.scratch, np.float32)),
        )  # fmt: skip
        assert np.isnan(got[:, width:]).all(), "written behind a vector"
        found: list[bytes] = []
        for start, n in zip(starts, lengths, strict=True):
            mine = double(full[None, :n], weight, *([own] if bias else []), *([s[:1] for s in states] if state else []))
            want = op.reference({}, *mine)[0]
            part = got[start : start + n, :width]
            assert_close(part, want, 64 * (n + 4) * (hidden + 8) * EPS * (1 + np.abs(want)), f"{n} of {lengths}")
            found.append(part.tobytes())
        return found

    def check(program: Program, kernel: Kernel) -> None:
        alone = {n: run(program, kernel, [n])[0] for n in (1, 2, 5)}
        orders = ([5, 1, 2], [1, 5], [2, 2], [1, 2, 5, 1, 5, 2, 2, 1, 1, 5, 5, 2, 1, 2, 1][: kernel.block])
        for lengths in orders:
            for n, row in zip(lengths, run(program, kernel, lengths), strict=True):
                # A row's inputs are the same wherever it stands: so are its bits.
                assert row == alone[n], f"a row of {n} has other bits among {lengths}"

    name = f"recurrence-{kind}-{hidden}{'-back' * reverse}{'-bias' * bias}{'-state' * state}{'-cells' * cells}"
    return Case(name, lambda isa: kernels.recurrence(isa, kind, hidden, reverse=reverse, bias=bias, cells=cells), check)
