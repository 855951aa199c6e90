"""Compiles many tail kernels as one library and runs them on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from infc.compiler.ir.dims import Dim, evaluate
from infc.compiler.ir.graph import Array
from infc.compiler.ir.types import TensorType, numpy_dtype
from infc.targets.cpu.compile import compile_objects, link
from infc.targets.cpu.isa import Isa, native
from infc.targets.cpu.kernels.prelude import prelude
from infc.targets.cpu.tail import LoopKernel

ARGUMENTS = (
    "void *out, const void *const *in, const int64_t *dim, const int32_t *row_of, const int32_t *pos_of, "
    "int64_t begin, int64_t end"
)


@dataclass(frozen=True)
class Library:
    """Compiled kernels; `functions[k]` is kernel k's."""

    handle: ctypes.CDLL
    kernels: tuple[LoopKernel, ...]

    def run(
        self,
        number: int,
        out: Array,
        operands: Sequence[Array],
        dim: Sequence[int],
        total: int,
        pieces: Sequence[int] = (),
        rows: tuple[Array, Array] | None = None,
    ) -> Array:
        """Kernel `number` over 0..total, cut at `pieces`; out is written and returned."""
        function = getattr(self.handle, f"infc_test_{number}")
        pointers = (ctypes.c_void_p * max(1, len(operands)))(*(o.ctypes.data for o in operands))
        values = (ctypes.c_int64 * max(1, len(dim)))(*dim)
        tables = (None, None) if rows is None else tuple(ctypes.c_void_p(r.ctypes.data) for r in rows)
        cuts = [0, *pieces, total]
        for begin, end in pairwise(cuts):
            function(
                ctypes.c_void_p(out.ctypes.data), pointers, values, *tables, ctypes.c_int64(begin), ctypes.c_int64(end)
            )
        return out


def build(kernels: Sequence[LoopKernel], folder: Path, isa: Isa | None = None, parts: int = 4) -> Library:
    """One shared library with all kernels."""
    isa = isa or native()
    groups: list[list[int]] = [[] for _ in range(min(parts, max(1, len(kernels))))]
    for k in range(len(kernels)):
        groups[k % len(groups)].append(k)
    sources = [("prelude.h", prelude(isa))]
    for number, group in enumerate(groups):
        unique = {kernels[k].symbol: kernels[k].source for k in group}
        wrappers = [
            f'__attribute__((visibility("default"))) void infc_test_{k}({ARGUMENTS})\n'
            f"{{ {kernels[k].symbol}(out, in, dim, row_of, pos_of, begin, end); }}"
            for k in group
        ]
        sources.append((f"part{number}.c", "\n".join(['#include "prelude.h"', *unique.values(), *wrappers])))
    objects = compile_objects(isa, sources, folder, jobs=2)
    for name, content in {k.object for k in kernels if k.object is not None}:
        path = folder / name
        path.write_bytes(content)
        objects.append(path)
    library = link(isa, objects, folder / "tail.so", ["infc_test_*"])
    return Library(ctypes.CDLL(str(library)), tuple(kernels))


def shape_of(type_: TensorType, env: Mapping[str, int]) -> tuple[int, ...]:
    """The shape under env."""
    return tuple(evaluate(d, env) for d in type_.shape)


def random_array(
    type_: TensorType, env: Mapping[str, int], rng: np.random.Generator, below: Dim | None = None
) -> Array:
    """Numbers of type_: floats around 0, integers -9..9 (or 0..below-1), bools."""
    shape = shape_of(type_, env)
    if below is not None:
        return rng.integers(0, max(1, evaluate(below, env)), shape).astype(numpy_dtype(type_.dtype))
    if type_.dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    if type_.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(-9, 10, shape).astype(numpy_dtype(type_.dtype))


def widened(array: Array) -> Array:
    """float32 as float64."""
    return array.astype(np.float64) if array.dtype == np.float32 else array


def check_close(name: str, got: Array, want: Array, tolerance: float) -> None:
    """Integers and bools are equal; floats differ by at most tolerance * max(1, largest finite |want|), NaN and
    infinities at the same places."""
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    if got.dtype.kind != "f":
        different = np.argwhere(got != want)
        assert not different.size, f"{name}: {_first(different, got, want)}"
        return
    want64: Array = want.astype(np.float64)
    finite = np.isfinite(want64)
    scale = max(1.0, float(np.abs(want64[finite]).max())) if finite.any() else 1.0
    with np.errstate(all="ignore"):
        near = np.abs(got.astype(np.float64) - want64) <= tolerance * scale
        same = near | (np.isnan(got) & np.isnan(want64)) | (got == want64)
    different = np.argwhere(~same)
    assert not different.size, f"{name}: {_first(different, got, want)}"


def _first(different: Any, got: Array, want: Array) -> str:
    at = tuple(int(i) for i in different[0])
    return f"{len(different)} elements differ, first at {at}: {got[at]} instead of {want[at]} (shape {got.shape})"
