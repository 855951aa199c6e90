"""Compiles kernels into one small program per instruction set and calls them in it, natively or under qemu."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.targets.cpu.compile import compile_objects, link_executable
from infc.targets.cpu.isa import ISAS, Isa, machine_features
from infc.targets.cpu.kernels import Kernel, prelude

BASES = ("x86-64-v3", "x86-64-v4", "aarch64-neon")
"""The ISAs with float32 code of their own."""
Array = NDArray[Any]
Argument = int | Array
QEMU = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


@dataclass(frozen=True)
class Out:
    """A buffer that the kernel writes; `start` is what is in it before."""

    start: Array


class Program:
    """The compiled driver for some kernels, running; `call` has it call one of them."""

    def __init__(self, isa: Isa, path: Path, index: Mapping[str, int]) -> None:
        self.isa = isa
        self.index = index
        self.command = [str(path)] if isa.arch == machine_features()[0] else [*QEMU, str(path)]
        self.process: subprocess.Popen[bytes] | None = None

    def call(self, kernel: Kernel, *arguments: Argument | Out | None) -> list[Array]:
        """One call; the arrays of its `Out` arguments afterwards. Fails the test where the driver stops."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            weakref.finalize(self, _stop, self.process)
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        expected = [argument.start for argument in arguments if isinstance(argument, Out)]
        size = sum(array.nbytes for array in expected)
        try:
            process.stdin.write(_encode(self.index[kernel.symbol], arguments))
            process.stdin.flush()
            answer = process.stdout.read(size + 1)
        except BrokenPipeError:
            answer = b""
        if len(answer) != size + 1:
            self.process = None
            _, message = process.communicate()
            pytest.fail(f"{kernel.symbol}: the driver stopped with {process.returncode}: {message.decode()}")
        found: list[Array] = []
        at = 1
        for array in expected:
            found.append(np.frombuffer(answer[at : at + array.nbytes], array.dtype).reshape(array.shape))
            at += array.nbytes
        return found

    def run(self, calls: Sequence[tuple[Kernel, Sequence[Argument | Out | None]]]) -> list[list[Array]]:
        """Several calls, in order."""
        return [self.call(kernel, *arguments) for kernel, arguments in calls]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def program(isa: Isa, kernels: Sequence[Kernel], extra: str = "") -> Program:
    """Builds the driver around `kernels`; skips the test, loudly, where this machine cannot run isa's code."""
    need(isa)
    isa = _stand_in(isa)
    unique = {kernel.symbol: kernel for kernel in kernels}
    cases: list[str] = []
    for number, kernel in enumerate(unique.values()):
        parameters = re.search(rf"void {kernel.symbol}\(([^)]*)\)", kernel.source)
        assert parameters, kernel.symbol
        passed = [f"p[{i}]" if "*" in text else f"v[{i}]" for i, text in enumerate(parameters[1].split(","))]
        cases.append(f"    case {number}: {kernel.symbol}({', '.join(passed)}); break;\n")
    text = '#include "prelude.h"\n' + extra + "".join(k.source for k in unique.values())
    text += "void infc_test_call(int64_t function, void **p, const int64_t *v)\n{\n    switch (function) {\n"
    text += "".join(cases) + "    }\n}\n"
    folder = Path(tempfile.mkdtemp(prefix="infc-kernels-"))
    sources = [
        ("prelude.h", prelude(isa)),
        ("kernels.c", text),
        ("driver.c", (Path(__file__).parent / "driver.c").read_text()),
    ]
    path = link_executable(isa, compile_objects(isa, sources, folder, jobs=2), folder / "driver")
    return Program(isa, path, {symbol: number for number, symbol in enumerate(unique)})


def need(isa: Isa) -> None:
    """Skips where this machine cannot run isa's code, saying what is missing."""
    arch, features = machine_features()
    isa = _stand_in(isa)
    if isa.arch == arch:
        lacking = [f for f in isa.features if f not in features]
        if lacking:
            pytest.skip(f"SKIPPED {isa.name}: this machine's CPU lacks {', '.join(lacking)}")
    elif isa.arch != "aarch64" or shutil.which(QEMU[0]) is None or not Path(QEMU[2]).exists():
        pytest.skip(f"SKIPPED {isa.name}: needs qemu-aarch64 (Debian: apt-get install qemu-user libc6-arm64-cross)")


def _stand_in(isa: Isa) -> Isa:
    """isa, or what the same C is compiled for where this machine has AVX-VNNI's instruction in AVX-512's encoding only."""
    _, features = machine_features()
    lacks, has = frozenset({"avx_vnni"}), frozenset({"avx512vl", "avx512_vnni"})
    if not lacks & set(isa.features) or lacks & features or not has <= features:
        return isa
    return replace(isa, features=tuple({*isa.features} - lacks | has), zig=("avx512vl", "avx512vnni"))


@dataclass(frozen=True)
class Case:
    """One kernel at one setting. `build(isa)` gives it; `check(program, kernel)` calls it and compares."""

    name: str
    build: Callable[[Isa], Kernel]
    check: Callable[[Program, Kernel], None]


@cache
def suite(name: str, cases: tuple[Case, ...]) -> Program:
    """One program with the kernels of all cases, compiled once."""
    isa = ISAS[name]
    return program(isa, [case.build(isa) for case in cases])


def generator(*key: object) -> np.random.Generator:
    """Random numbers that depend on the key alone."""
    return np.random.default_rng([ord(c) for c in repr(key)])


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """float32 values around 0."""
    return rng.standard_normal(shape).astype(np.float32)


def double(*arrays: Array) -> list[Array]:
    """The arrays, float32 ones as float64."""
    return [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]


def strided(array: Array, extra: int) -> Array:
    """array[rows, n] with NaN in `extra` columns behind each row: what must not be read or written."""
    padded = np.full((array.shape[0], array.shape[1] + extra), np.nan, np.float32)
    padded[:, : array.shape[1]] = array
    return padded


def blank(*shape: int) -> Out:
    """A float32 buffer to write, NaN before."""
    return Out(np.full(shape, np.nan, np.float32))


EPS = float(np.finfo(np.float32).eps)


def assert_close(got: Array, want: Array, bound: Array | float, what: str = "") -> None:
    """|got - want| <= bound element by element; NaN and infinities must agree."""
    assert got.shape == want.shape, (what, got.shape, want.shape)
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - want)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    bad = ~(same | (error <= bound))
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1)), got.shape)
        limit = np.broadcast_to(bound, got.shape)[worst]
        pytest.fail(
            f"{what} at {worst}: {got[worst]} for {want[worst]}, bound {limit}, {int(bad.sum())} elements wrong"
        )


def _encode(function: int, arguments: Sequence[Argument | Out | None]) -> bytes:
    parts = [struct.pack("<qq", function, len(arguments))]
    for argument in arguments:
        if argument is None:
            parts.append(struct.pack("<qq", 0, 0))
        elif isinstance(argument, int):
            parts.append(struct.pack("<qq", 0, argument))
        else:
            array = np.ascontiguousarray(argument.start if isinstance(argument, Out) else argument)
            parts.append(struct.pack("<qq", 2 if isinstance(argument, Out) else 1, array.nbytes) + array.tobytes())
    return b"".join(parts)
