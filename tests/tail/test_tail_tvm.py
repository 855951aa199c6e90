"""Loop forms compiled by TVM: the same bits as the C printer's, and objects that need nothing of TVM."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tail_harness as harness
from tail_cases import SYMBOLS, Case, all_cases, case

from infc.compiler.errors import require
from infc.compiler.ir.dims import evaluate
from infc.compiler.ir.types import numpy_dtype
from infc.compiler.passes.placement import Place
from infc.targets.cpu import tail
from infc.targets.cpu.isa import ISAS, Isa, native
from infc.targets.cpu.tail.formulas import formulas
from infc.targets.cpu.tail.tvm_object import ALLOWED_UNDEFINED, compile_function, undefined_symbols, without_debug

pytestmark = pytest.mark.xdist_group("tvm")  # one process imports it, seconds

SAMPLE: tuple[Case, ...] = (
    case("map", "f32[batch,tokens,48] f32[batch,tokens,48]", fn="add"),
    case("map", "f32[batch,tokens,16] f32[16]", fn="mul"),
    case("map", "f32[batch,tokens,32]", fn="gelu"),
    case("map", "f32[batch,tokens,32]", fn="tanh"),
    case("map", "f32[batch,tokens,32]", fn="silu"),
    case("map", "b1[batch,tokens,1] f32[batch,tokens,16] f32[]", fn="where"),
    case("map", "b1[batch,tokens,16] b1[batch,1,16]", fn="xor"),
    case("cast", "f32[batch,tokens,8]", dtype="int64"),
    case("cast", "b1[batch,tokens,8]", dtype="float32"),
    case("permute", "f32[batch,tokens,4,8]", perm=(0, 2, 1, 3)),
    case("embedding", "f32[40,16] i64[batch,tokens]", {1: "40"}),
    case("softmax", "f32[batch,tokens,20]", axis=2),
    case("layer_norm", "f32[batch,tokens,40] f32[40] f32[40]"),
    case("permute", "f32[batch,tokens,h]", perm=(1, 0, 2)),
    case("permute", "f32[batch,tokens,17]", perm=(1, 0, 2)),
    case("map", "i64[tokens,h] i64[]", fn="lt"),
    case("reduce", "f32[batch,tokens,40]", kind="max", axes=(2,)),
)


def kernel_of(c: Case, isa: Isa | None = None) -> tail.LoopKernel | tail.Refused:
    operands = tuple(tail.OperandDesc(t) for t in c.operands)
    return tail.loop_tvm(c.loop, operands, tail.Mode.DENSE, SYMBOLS, isa or native())


def check_same_bits(cases: list[Case], folder: Path) -> int:
    """Every case that TVM takes gives the bits that C gives; returns how many there are."""
    kernels: list[tail.LoopKernel] = []
    taken: list[Case] = []
    for c in cases:
        kernel = kernel_of(c)
        if isinstance(kernel, tail.Refused):
            continue
        operands = tuple(tail.OperandDesc(t) for t in c.operands)
        kernels += [kernel, tail.loop_c(c.loop, operands, tail.Mode.DENSE, SYMBOLS, native())]
        taken.append(c)
    library = harness.build(kernels, folder)
    rng = np.random.default_rng(5)
    for number, c in enumerate(taken):
        type_ = c.op.infer(*c.operands)
        for env in c.envs:
            operands = [harness.random_array(t, env, rng, c.below.get(k)) for k, t in enumerate(c.operands)]
            if c.op.name in ("tanh", "gelu", "add", "silu"):
                operands[0].flat[:7] = [np.nan, np.inf, -np.inf, -0.0, 1e-40, 90.0, -90.0]
            results: list[bytes] = []
            for k in (2 * number, 2 * number + 1):
                total = evaluate(library.kernels[k].outer, env)
                out = np.full(harness.shape_of(type_, env), 7, numpy_dtype(type_.dtype))
                library.run(k, out, operands, [env[s] for s in SYMBOLS], total, (total // 2,))
                results.append(out.tobytes())
            assert results[0] == results[1], f"{c.name} under {dict(env)}: TVM and C differ"
    return len(taken)


def test_tvm_gives_the_bits_of_c(tmp_path: Path) -> None:
    assert check_same_bits(list(SAMPLE), tmp_path) == len(SAMPLE)


@pytest.mark.full
def test_tvm_gives_the_bits_of_c_for_every_loop_it_takes(tmp_path: Path) -> None:
    assert check_same_bits(all_cases(), tmp_path) > 250


def test_tvm_flat_over_tokens_gives_the_bits_of_c(tmp_path: Path) -> None:
    places = (Place.TOKEN, Place.ROW, Place.PREFIX)
    c = case("map", "b1[batch,tokens,1] f32[batch,1,16] f32[tokens,16]", fn="where")
    symbols = (*SYMBOLS, "longest")
    operands = tuple(tail.OperandDesc(t, p) for t, p in zip(c.operands, places, strict=True))
    made = [make(c.loop, operands, tail.Mode.FLAT, symbols, native()) for make in (tail.loop_tvm, tail.loop_c)]
    kernels = [k for k in made if isinstance(k, tail.LoopKernel)]
    assert [k.provider for k in kernels] == ["tvm", "c"]
    library = harness.build(kernels, tmp_path)
    lengths = (3, 1, 7)
    rng = np.random.default_rng(1)
    arrays = [
        rng.integers(0, 2, (11, 1)).astype(bool),
        rng.standard_normal((3, 16)).astype(np.float32),
        rng.standard_normal((7, 16)).astype(np.float32),
    ]
    rows = (
        np.repeat(np.arange(3, dtype=np.int32), lengths),
        np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
    )
    results = [library.run(k, np.zeros((11, 16), np.float32), arrays, [3, 7, 1, 7], 11, (4,), rows) for k in (0, 1)]
    assert results[0].tobytes() == results[1].tobytes()
    want = np.where(arrays[0], arrays[1][rows[0]], arrays[2][rows[1]])
    np.testing.assert_array_equal(results[0], want)


@pytest.mark.parametrize(
    ("c", "reason"),
    [
        (case("pad", "f32[batch,tokens,16]", low=(0, 1, 0), high=(0, 0, 0), value=0), "guarded"),
        (case("reduce", "f32[batch,tokens,16]", kind="sum", axes=(1,)), "changes along the innermost axis"),
        (case("map", "f32[batch,16] f32[16]", fn="pow"), "more than one formula"),
        (case("map", "i64[batch,16] i64[16]", fn="floordiv"), "divide by zero"),
        (case("map", "i64[batch,16] i64[16]", fn="add"), "wrap around"),
        (case("map", "f32[0,16]", fn="relu"), "empty"),
        (case("slice", "bf16[batch,tokens,16]", axis=2, start=1, stop=9), "bfloat16 is moved by C"),
    ],
)
def test_tvm_refuses_by_reason_and_c_takes_over(c: Case, reason: str) -> None:
    made = kernel_of(c)
    assert isinstance(made, tail.Refused)
    assert reason in made.reason
    operands = tuple(tail.OperandDesc(t) for t in c.operands)
    kernel = tail.render(c.loop, operands, tail.Mode.DENSE, SYMBOLS, native(), tvm=True)
    assert (kernel.provider, kernel.reason) == ("c", made.reason)


def test_a_step_that_takes_much_time_is_printed_as_c() -> None:
    c = SAMPLE[0]
    operands = tuple(tail.OperandDesc(t) for t in c.operands)
    kernel = tail.render(c.loop, operands, tail.Mode.DENSE, SYMBOLS, native(), tvm=True, share=0.2)
    assert kernel.provider == "c"
    assert "20% of the time" in kernel.reason


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64-neon"])
def test_objects_need_nothing_and_hold_no_debug_sections(name: str) -> None:
    isa = ISAS[name]
    for c in (case("map", "f32[batch,tokens,32]", fn="gelu"), case("softmax", "f32[batch,tokens,48]", axis=2)):
        kernel = kernel_of(c, isa)
        assert isinstance(kernel, tail.LoopKernel)
        assert kernel.object is not None
        content = kernel.object[1]
        assert undefined_symbols(content) <= ALLOWED_UNDEFINED
        assert b".debug_info" not in without_debug(content)[: -64 * 30] or without_debug(content) == content
        machine = struct.unpack_from("<H", content, 18)[0]
        assert machine == {"x86_64": 62, "aarch64": 183}[isa.arch]


def test_an_object_with_another_undefined_symbol_is_seen() -> None:
    tir: Any = require("tvm.tirx")
    x, y = (tir.decl_buffer((16,), "float32", n) for n in "xy")
    at = tir.Var("i", "int32")
    body = tir.For(at, 0, 16, tir.ForKind.SERIAL, tir.BufferStore(y, tir.exp(tir.BufferLoad(x, [at])), [at]))
    content = compile_function(tir.PrimFunc([x, y], body).with_attr("global_symbol", "k"), "k", native())
    assert "expf" in undefined_symbols(content)


def test_512_bit_registers_are_used_for_v4(tmp_path: Path) -> None:
    kernel = kernel_of(case("map", "f32[batch,tokens,32]", fn="gelu"), ISAS["x86-64-v4"])
    assert isinstance(kernel, tail.LoopKernel)
    assert kernel.object is not None
    evex_512 = sum(
        kernel.object[1].count(bytes([0x62, 0xF2, p, q])) for p in (0x7D, 0x75, 0x6D, 0x65, 0x5D) for q in (0x48, 0x40)
    )
    assert evex_512 > 5, "EVEX instructions with a vector length of 512"


def test_formulas_of_the_prelude_are_read() -> None:
    found = formulas(native())
    assert {"infc_expf", "infc_tanhf", "infc_erff", "infc_gelu", "infc_logf", "infc_maxf"} <= set(found)
    assert "infc_powf" not in found, "it has branches"
    assert len(found["infc_expf"].statements) > 8


def test_the_same_loop_gives_the_same_object() -> None:
    first, second = kernel_of(SAMPLE[0]), kernel_of(SAMPLE[0])
    assert first == second
    other = kernel_of(SAMPLE[1])
    assert isinstance(first, tail.LoopKernel)
    assert isinstance(other, tail.LoopKernel)
    assert first.symbol != other.symbol
