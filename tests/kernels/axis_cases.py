"""Cases of the kernels that run along one axis: cumsum, argmax, argmin, argsort."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from kernel_harness import Case, Out, Program, generator, normal

from infc.compiler.ir.ops.argmax import Argmax
from infc.compiler.ir.ops.argmin import Argmin
from infc.compiler.ir.ops.argsort import Argsort
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.targets.cpu import kernels
from infc.targets.cpu.kernels import Kernel

NUMBERS = ("float32", "int64", "int32")


def axis_cases() -> tuple[Case, ...]:
    return (
        *(cumsum_case(dtype) for dtype in NUMBERS),
        *(argsort_case(dtype, down) for dtype in NUMBERS for down in (False, True)),
        *(arg_case(kind, dtype) for kind in ("argmax", "argmin") for dtype in NUMBERS),
    )


def middle_axis_shapes() -> Iterator[tuple[int, int, int]]:
    yield from ((1, 1, 1), (2, 17, 1), (3, 5, 19), (1, 64, 16))


def cumsum_case(dtype: str) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        for outer, n, inner in middle_axis_shapes():
            rng = generator("cumsum", n)
            x = (
                normal(rng, outer, n, inner)
                if dtype == "float32"
                else rng.integers(-9, 9, (outer, n, inner)).astype(dtype)
            )
            (got,) = program.call(kernel, x, Out(np.zeros_like(x)), outer, n, inner)
            assert np.array_equal(got, Cumsum(1).reference({}, x))

    return Case(f"cumsum-{dtype}", lambda isa: kernels.cumsum(isa, dtype), check)


def arg_case(kind: str, dtype: str) -> Case:
    op = {"argmax": Argmax, "argmin": Argmin}[kind](1)

    def check(program: Program, kernel: Kernel) -> None:
        for outer, n, inner in middle_axis_shapes():
            rng = generator("arg", n)
            x = rng.integers(-3, 3, (outer, n, inner)).astype(dtype)
            if dtype == "float32" and n > 4:
                x[0, 3, 0], x[0, 4, 0] = np.nan, np.nan
            (got,) = program.call(kernel, x, Out(np.zeros((outer, inner), np.int64)), outer, n, inner)
            assert np.array_equal(got, op.reference({}, x))

    make = getattr(kernels, kind)
    return Case(f"{kind}-{dtype}", lambda isa: make(isa, dtype), check)


def argsort_case(dtype: str, descending: bool) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        assert callable(kernel.scratch)
        for (outer, n, inner), few in itertools.product(
            (*middle_axis_shapes(), (1, 0, 2), (2, 1000, 1), (1, 65, 3)), (0, 1, 5, 64, 10**6)
        ):
            rng = generator("argsort", n)
            x = rng.integers(-9, 9, (outer, n, inner)).astype(dtype)
            if dtype == "float32" and n > 4:
                x[0, [1, 3, 4], 0] = np.nan, np.inf, np.nan
            elif n > 4:
                x[0, 1:3, 0] = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
            count = min(few, n)
            scratch = Out(np.zeros(kernel.scratch(n), np.float32))
            (got, _) = program.call(
                kernel, x, Out(np.zeros((outer, count, inner), np.int64)), outer, n, inner, count, scratch
            )
            assert np.array_equal(got, Argsort(1, count, descending).reference({}, x))

    name = "down" if descending else "up"
    return Case(f"argsort-{dtype}-{name}", lambda isa: kernels.argsort(isa, dtype, descending), check)
