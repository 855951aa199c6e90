"""Tail kernels for aarch64, C's and TVM's, run under qemu against the kernels of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tail_harness as harness
from tail_cases import SYMBOLS, Case, case

from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.types import numpy_dtype
from infc.targets.cpu import tail
from infc.targets.cpu.compile import compile_objects, link_executable
from infc.targets.cpu.isa import ISAS, Isa, native
from infc.targets.cpu.kernels.prelude import prelude

pytestmark = [pytest.mark.qemu, pytest.mark.xdist_group("tvm")]

ENV = {"batch": 2, "tokens": 19, "h": 5}
CASES: tuple[Case, ...] = (
    case("map", "f32[batch,tokens,48] f32[48]", fn="add"),
    case("map", "f32[batch,tokens,16]", fn="gelu"),
    case("map", "f32[batch,tokens,16]", fn="tanh"),
    case("softmax", "f32[batch,tokens,32]", axis=2),
    case("softmax", "f32[batch,tokens,33]", axis=1),
    case("layer_norm", "f32[batch,tokens,40] f32[40] f32[40]"),
    case("pad", "f32[batch,tokens,16]", low=(0, 1, 3), high=(0, 2, 1), value=1),
    case("concat", "i64[batch,tokens,3] i64[batch,tokens,6]", axis=2),
    case("embedding", "f32[40,16] i64[batch,tokens]", {1: "40"}),
    case("cast", "b1[batch,tokens,16]", dtype="float32"),
)
MAIN = """
#include <stdio.h>
#include <stdlib.h>
static void *get(size_t bytes) { void *p = aligned_alloc(64, (bytes + 127) & ~(size_t)63); if (fread(p, 1, bytes, stdin) != bytes) exit(2); return p; }
int main(void) {
    const int64_t dim[] = {%s};
%s
    return 0;
}
"""


def test_aarch64_gives_what_this_machine_gives(tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64") is None or not Path("/usr/aarch64-linux-gnu/lib").is_dir():
        pytest.skip("SKIPPED aarch64: needs qemu-aarch64 (Debian: apt-get install qemu-user libc6-arm64-cross)")
    rng = np.random.default_rng(3)
    inputs = [[harness.random_array(t, ENV, rng, c.below.get(k)) for k, t in enumerate(c.operands)] for c in CASES]
    here = [kernel for c in CASES for kernel in _kernels(c, native())]
    there = [kernel for c in CASES for kernel in _kernels(c, ISAS["aarch64-neon"])]
    assert [k.provider for k in here] == [k.provider for k in there]
    assert sum(k.provider == "tvm" for k in there) >= 5
    owners = [n for n, c in enumerate(CASES) for _ in _kernels(c, native())]
    answers = _under_qemu(there, owners, inputs, tmp_path / "there")
    library = harness.build(here, tmp_path / "here")
    for number, owner in enumerate(owners):
        c = CASES[owner]
        type_ = c.op.infer(*c.operands)
        out = np.zeros(harness.shape_of(type_, ENV), numpy_dtype(type_.dtype))
        want = library.run(number, out, inputs[owner], [ENV[s] for s in SYMBOLS], evaluate(here[number].outer, ENV))
        got = np.frombuffer(answers[: out.nbytes], out.dtype).reshape(out.shape)
        answers = answers[out.nbytes :]
        harness.check_close(f"{c.name} by {here[number].provider}", got, want, 1e-6)  # a few ulp: bits are an ISA's own


def _kernels(c: Case, isa: Isa) -> list[tail.LoopKernel]:
    operands = tuple(tail.OperandDesc(t) for t in c.operands)
    by_c = tail.loop_c(c.loop, operands, tail.Mode.DENSE, SYMBOLS, isa)
    by_tvm = tail.loop_tvm(c.loop, operands, tail.Mode.DENSE, SYMBOLS, isa)
    return [by_c] if isinstance(by_tvm, tail.Refused) else [by_c, by_tvm]


def _under_qemu(
    kernels: list[tail.LoopKernel], owners: list[int], inputs: list[list[np.ndarray]], folder: Path
) -> bytes:
    """The outputs of all kernels, one after the other; operands go in through stdin."""
    isa = ISAS["aarch64-neon"]
    calls: list[str] = []
    data: list[bytes] = []
    for kernel, owner in zip(kernels, owners, strict=True):
        c = CASES[owner]
        type_ = c.op.infer(*c.operands)
        size = int(np.prod(harness.shape_of(type_, ENV))) * numpy_dtype(type_.dtype).itemsize
        data += [a.tobytes() for a in inputs[owner]]
        gets = ", ".join(f"get({a.nbytes})" for a in inputs[owner])
        calls.append(f"    {{ const void *const in[] = {{{gets}}}; void *out = calloc(1, {size});")
        calls.append(f"      {kernel.symbol}(out, in, dim, NULL, NULL, 0, {evaluate(kernel.outer, ENV)});")
        calls.append(f"      fwrite(out, 1, {size}, stdout); }}")
    body = MAIN % (", ".join(str(ENV[s]) for s in SYMBOLS), "\n".join(calls))
    text = "\n".join(['#include "prelude.h"', *{k.symbol: k.source for k in kernels}.values(), body])
    objects = compile_objects(isa, [("prelude.h", prelude(isa)), ("main.c", text)], folder)
    for name, content in {k.object for k in kernels if k.object is not None}:
        (folder / name).write_bytes(content)
        objects.append(folder / name)
    program = link_executable(isa, objects, folder / "main")
    command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(program)]
    done = subprocess.run(command, input=b"".join(data), capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
