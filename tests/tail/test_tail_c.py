"""Loop forms printed as C: every op at its edges against its NumPy reference, and token by token against row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tail_harness as harness
from tail_cases import SMALL, SYMBOLS, Case, all_cases, case

from infc.compiler.errors import InfcError
from infc.compiler.ir.dims import Dim, evaluate, parse_dim, substitute, sym
from infc.compiler.ir.graph import Array
from infc.compiler.ir.loops import Axis, Literal, Load, Loop, Prim, Reduce, Size
from infc.compiler.ir.types import TensorType, numpy_dtype, parse_type
from infc.compiler.passes.placement import Place
from infc.targets.cpu import tail
from infc.targets.cpu.isa import ISAS, Isa, native
from infc.targets.cpu.tail.spell import float_literal

TOLERANCE = 2e-5
"""Of the largest reference value, float64: 65 * 7 products of float32 added one after another lose at most
455 * 2^-24 = 2.7e-5 of the sum of magnitudes, and typically a tenth of that; functions lose a few ulp (1.2e-7)."""
LONGEST = "longest"
ALL_SYMBOLS = (*SYMBOLS, LONGEST)


def kernel_of(c: Case, isa: Isa | None = None) -> tail.LoopKernel:
    operands = tuple(tail.OperandDesc(t) for t in c.operands)
    return tail.loop_c(c.loop, operands, tail.Mode.DENSE, SYMBOLS, isa or native())


def check_case(library: harness.Library, number: int, c: Case, seed: int) -> None:
    """Case c under each env: equal to the reference in float64, and the same bits however the range is cut."""
    rng = np.random.default_rng(seed)
    type_ = c.op.infer(*c.operands)
    for env in c.envs:
        operands = [harness.random_array(t, env, rng, c.below.get(k)) for k, t in enumerate(c.operands)]
        want = c.op.reference(env, *(harness.widened(o) for o in operands))
        dim = [env[s] for s in SYMBOLS]
        total = evaluate(library.kernels[number].outer, env)
        out = np.full(harness.shape_of(type_, env), 7, numpy_dtype(type_.dtype))
        got = library.run(number, out, operands, dim, total)
        harness.check_close(f"{c.name} under {dict(env)}", got, want, TOLERANCE)
        again = np.full(out.shape, 7, out.dtype)
        library.run(
            number,
            again,
            operands,
            dim,
            total,
            sorted({total // 3, total // 3 + 1, total - total // 4}) if total > 2 else (),
        )
        assert again.tobytes() == got.tobytes(), f"{c.name} under {dict(env)}: the bits depend on how the range is cut"


def test_every_op_with_a_loop_form_matches_its_reference_at_the_edges(tmp_path: Path) -> None:
    cases = all_cases()
    library = harness.build([kernel_of(c) for c in cases], tmp_path)
    for number, c in enumerate(cases):
        check_case(library, number, c, number)


def test_no_op_with_a_loop_form_is_left_out() -> None:
    from infc.compiler.ir.graph import Op
    from infc.compiler.ir.ops import known

    tried = {c.op.mnemonic for c in all_cases()}
    with_loop = {name for name, op in known().items() if op.loop is not Op.loop} - {"fused"}  # made of the others
    assert with_loop <= tried, f"no case for {sorted(with_loop - tried)}"


@pytest.mark.full
@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_every_instruction_set_matches(tmp_path: Path, name: str) -> None:
    isa = ISAS[name]
    if native().arch != isa.arch or not set(native().features) >= set(isa.features):
        pytest.skip(f"this machine has no {name}")
    cases = all_cases()
    library = harness.build([kernel_of(c, isa) for c in cases], tmp_path, isa)
    for number, c in enumerate(cases):
        check_case(library, number, c, 1000 + number)


# Flat over tokens.


def places_of(c: Case) -> tuple[Place, ...]:
    """Where a flat loop's operands are stored, by their shapes."""
    found: list[Place] = []
    for t in c.operands:
        batch, tokens = sym("batch") in t.shape, sym("tokens") in t.shape
        found.append(
            {(True, True): Place.TOKEN, (True, False): Place.ROW, (False, True): Place.PREFIX}.get(
                (batch, tokens), Place.SHARED
            )
        )
    return tuple(found)


FLAT_CASES: tuple[Case, ...] = (
    case("map", "f32[batch,tokens,17] f32[batch,tokens,17]", fn="add"),
    case("map", "f32[batch,tokens,16] f32[batch,1,16]", fn="mul"),
    case("map", "f32[batch,tokens,16] f32[tokens,16]", fn="sub"),
    case("map", "f32[batch,tokens,16] f32[1,tokens,1]", fn="max"),
    case("map", "i64[batch,tokens] i64[batch,1]", fn="floordiv"),
    case("map", "i64[batch,tokens] i64[tokens]", fn="lt"),
    case("map", "i32[batch,tokens] i32[]", fn="mod"),
    case("map", "b1[batch,tokens,1] f32[batch,tokens,5] f32[5]", fn="where"),
    case("map", "f32[batch,tokens,4,9]", fn="gelu"),
    case("cast", "b1[batch,tokens]", dtype="float32"),
    case("reshape", "f32[batch,tokens,12]", shape=(sym("batch"), sym("tokens"), 3, 4)),
    case("reshape", "f32[batch,tokens,3,4]", shape=(sym("batch"), sym("tokens"), 12)),
    case("permute", "f32[batch,tokens,3,16]", perm=(0, 1, 3, 2)),
    case("expand", "f32[batch,1,h]", shape=(sym("batch"), sym("tokens"), sym("h"))),
    case("expand", "f32[tokens,h]", shape=(sym("batch"), sym("tokens"), sym("h"))),
    case("iota", "", shape=(sym("batch"), sym("tokens")), axis=1, start=2),
    case("concat", "f32[batch,tokens,3] f32[batch,tokens,40]", axis=2),
    case("slice", "f32[batch,tokens,20]", axis=2, start=3, stop=20, step=2),
    case("embedding", "f32[40,16] i64[batch,tokens]", {1: "40"}),
    case("reduce", "f32[batch,tokens,33]", kind="sum", axes=(2,)),
    case("reduce", "f32[batch,tokens,9]", kind="max", axes=(2,), keepdims=True),
    case("reduce", "f32[batch,tokens,5,20]", kind="mean", axes=(2,)),
    case("softmax", "f32[batch,tokens,20]", axis=2),
    case("softmax", "f32[batch,tokens,6,20]", axis=2),
    case("layer_norm", "f32[batch,tokens,40] f32[40] f32[40] f32[batch,tokens,40]", residual=True),
    case("var", "f32[batch,tokens,4,40]", axes=(3,), correction=0),
    case("matmul", "f32[batch,tokens,3,24] f32[24,h]"),
)  # fmt: skip
LENGTHS = ((1,), (5, 1, 64), (17, 17), (2, 3, 1, 130))


def test_flat_over_tokens_gives_the_bits_of_each_row_alone(tmp_path: Path) -> None:
    kernels: list[tail.LoopKernel] = []
    for c in FLAT_CASES:
        stored = tuple(tail.OperandDesc(_stored(t, p), p) for t, p in zip(c.operands, places_of(c), strict=True))
        kernels.append(tail.loop_c(c.loop, stored, tail.Mode.FLAT, ALL_SYMBOLS, native()))
    count = len(kernels)
    library = harness.build([*kernels, *(kernel_of(c) for c in FLAT_CASES)], tmp_path)
    for number, c in enumerate(FLAT_CASES):
        for lengths in LENGTHS:
            _check_flat(library, number, count + number, c, lengths)


def _stored(type_: TensorType, place: Place) -> TensorType:
    if place is not Place.PREFIX:
        return type_
    return TensorType(type_.dtype, tuple(substitute(d, {"tokens": sym(LONGEST)}) for d in type_.shape))


def _check_flat(library: harness.Library, flat: int, dense: int, c: Case, lengths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(flat)
    rows, tokens = len(lengths), sum(lengths)
    env = {"batch": rows, "h": 5, "tokens": max(lengths)}
    places = places_of(c)
    operands = [
        _random_stored(t, p, env, tokens, rng, c.below.get(k))
        for k, (t, p) in enumerate(zip(c.operands, places, strict=True))
    ]
    type_ = c.op.infer(*c.operands)
    rest = harness.shape_of(TensorType(type_.dtype, type_.shape[2:]), env)
    out = np.full((tokens, *rest), 7, numpy_dtype(type_.dtype))
    row_of = np.repeat(np.arange(rows, dtype=np.int32), lengths)
    pos_of = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    dim = [rows, -1, env["h"], max(lengths)]  # a row's length is not one number here
    library.run(flat, out, operands, dim, tokens, (tokens // 2,), (row_of, pos_of))
    start = 0
    for row, length in enumerate(lengths):
        own = {**env, "batch": 1, "tokens": length}
        mine = [_of_row(o, t, p, row, start, length) for o, t, p in zip(operands, c.operands, places, strict=True)]
        want = np.full((1, length, *rest), 7, out.dtype)
        total = evaluate(library.kernels[dense].outer, own)
        library.run(dense, want, mine, [own[s] for s in SYMBOLS], total)
        got = out[start : start + length]
        assert got.tobytes() == want.tobytes(), f"{c.name}, lengths {lengths}: row {row} differs"
        harness.check_close(c.name, want, c.op.reference(own, *(harness.widened(o) for o in mine)), TOLERANCE)
        start += length


def _random_stored(
    type_: TensorType, place: Place, env: dict[str, int], tokens: int, rng: np.random.Generator, below: Dim | None
) -> Array:
    if place is not Place.TOKEN:
        return harness.random_array(type_, env, rng, below)
    return harness.random_array(TensorType(type_.dtype, (tokens, *type_.shape[2:])), env, rng, below)


def _of_row(array: Array, type_: TensorType, place: Place, row: int, start: int, length: int) -> Array:
    if place is Place.TOKEN:
        return np.ascontiguousarray(array[None, start : start + length])
    if place is Place.ROW:
        return np.ascontiguousarray(array[row : row + 1])
    if place is Place.PREFIX:
        cut = tuple(slice(length) if d == sym("tokens") else slice(None) for d in type_.shape)
        return np.ascontiguousarray(array[cut])
    return array


def test_flat_refuses_a_row_length_as_a_value() -> None:
    out = parse_type("i64[batch,tokens]")
    loop = Loop(out, Prim("sub", (Size(sym("tokens")), Axis(1)), "int64"))
    with pytest.raises(InfcError, match="size tokens of a row is needed"):
        tail.loop_c(loop, (), tail.Mode.FLAT, SYMBOLS, native())


def test_flat_refuses_a_reduction_over_tokens() -> None:
    out, x = parse_type("f32[batch,tokens]"), parse_type("f32[tokens,tokens]")
    body = Reduce("sum", ((2, sym("tokens")),), Load(0, (Axis(1), Axis(2)), "float32"), "float32")
    with pytest.raises(InfcError, match="reduction over tokens"):
        tail.loop_c(Loop(out, body), (tail.OperandDesc(x, Place.PREFIX),), tail.Mode.FLAT, SYMBOLS, native())


def test_flat_refuses_a_token_operand_read_elsewhere() -> None:
    t = parse_type("f32[batch,tokens]")
    before = Prim("max", (Prim("sub", (Axis(1), Literal(1, "int64")), "int64"), Literal(0, "int64")), "int64")
    loop = Loop(t, Load(0, (Axis(0), before), "float32"))
    with pytest.raises(InfcError, match="not read at the result's token"):
        tail.loop_c(loop, (tail.OperandDesc(t, Place.TOKEN),), tail.Mode.FLAT, SYMBOLS, native())


# Special values and structure.


def test_special_values_are_numpys(tmp_path: Path) -> None:
    special = np.array([0.0, -0.0, 1.5, -2.5, 0.5, 2.5, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-40], np.float32)
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(special[:, None], special))
    names = (
        "add",
        "sub",
        "mul",
        "div",
        "min",
        "max",
        "floor",
        "round",
        "trunc",
        "relu",
        "sign",
        "abs",
        "eq",
        "lt",
        "exp",
        "sqrt",
    )
    type_ = parse_type("f32[12,12]")
    cases: list[Case] = []
    for name in names:
        arity = 2 if name in ("add", "sub", "mul", "div", "min", "max", "eq", "lt") else 1
        cases.append(case("map", " ".join([str(type_)] * arity), fn=name))
    cases += [case("reduce", "f32[12,12]", kind=k, axes=(a,)) for k in ("max", "min", "sum") for a in (0, 1)]
    library = harness.build([kernel_of(c) for c in cases], tmp_path)
    for number, c in enumerate(cases):
        operands = [x, y][: len(c.operands)]
        with np.errstate(all="ignore"):
            want = c.op.reference({}, *operands)
        out = np.zeros(want.shape, numpy_dtype(c.op.infer(*c.operands).dtype))
        total = evaluate(library.kernels[number].outer, {})
        library.run(number, out, operands, [1, 1, 1], total)
        np.testing.assert_allclose(out, want, rtol=1e-6, err_msg=c.name)


def test_integers_wrap_and_division_by_zero_gives_zero(tmp_path: Path) -> None:
    edge = np.array([0, 1, -1, 7, -7, 2**63 - 1, -(2**63)], np.int64)
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(edge[:, None], edge))
    cases = [
        case("map", "i64[7,7] i64[7,7]", fn=name) for name in ("add", "sub", "mul", "floordiv", "mod", "min", "max")
    ]
    library = harness.build([kernel_of(c) for c in cases], tmp_path)
    for number, c in enumerate(cases):
        with np.errstate(all="ignore"):
            want = c.op.reference({}, x, y)
        out = np.zeros_like(x)
        library.run(number, out, [x, y], [1, 1, 1], evaluate(library.kernels[number].outer, {}))
        np.testing.assert_array_equal(out, want, err_msg=c.name)


def test_float_literals_are_exact() -> None:
    assert float_literal(0.1) == "0.100000001f"
    assert float_literal(-2) == "(-2.0f)"
    assert float_literal(1e40) == "__builtin_inff()"
    assert float_literal(float("nan")) == '__builtin_nanf("")'
    assert float_literal(-0.0) == "(-0.0f)"
    for value in np.random.default_rng(0).standard_normal(200).astype(np.float32):
        text = float_literal(float(value)).strip("()").removesuffix("f")
        assert np.float32(text) == value


def test_an_index_from_data_never_leaves_its_operand(tmp_path: Path) -> None:
    c = case("take", "f32[4,3] i64[6]", axis=0)
    library = harness.build([kernel_of(c)], tmp_path)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    ids = np.array([0, 3, 4, -1, 2**62, -(2**62)], np.int64)
    out = np.zeros((6, 3), np.float32)
    library.run(0, out, [x, ids], [1, 1, 1], evaluate(library.kernels[0].outer, {}))
    np.testing.assert_array_equal(out, x[[0, 3, 3, 0, 3, 0]])


def test_a_guarded_load_reads_nothing_beyond_its_operand(tmp_path: Path) -> None:
    c = case("pad", "f32[5]", low=(300000,), high=(300000,), value=2.0)  # far beyond a page on both sides
    library = harness.build([kernel_of(c)], tmp_path)
    out = np.zeros(600005, np.float32)
    library.run(0, out, [np.arange(5, dtype=np.float32)], [1, 1, 1], evaluate(library.kernels[0].outer, {}))
    assert out[300000:300005].tolist() == [0, 1, 2, 3, 4]
    assert (np.delete(out, np.arange(300000, 300005)) == 2).all()


def test_softmax_computes_its_maximum_and_sum_once_a_row() -> None:
    source = kernel_of(case("softmax", "f32[batch,tokens,64]", axis=2)).source
    assert source.count("for (int64_t chunk") == 2
    assert "for (int64_t at" not in source, "batch and tokens are one axis"
    depth = {line.strip(): len(line) - len(line.lstrip()) for line in source.splitlines()}
    exponentials = [d for line, d in depth.items() if "infc_expf" in line]
    assert len(exponentials) == 2
    assert max(exponentials) <= 16, "no loop over the row within the loop over the row"


def test_heads_are_split_and_merged_without_division() -> None:
    for c in (
        case("reshape", "f32[batch,tokens,384]", shape=(sym("batch"), sym("tokens"), 12, 32)),
        case("map", "f32[batch,tokens,384] f32[batch,tokens,384]", fn="add"),
    ):
        kernel = kernel_of(c)
        assert "%" not in kernel.source
        assert "/ " not in kernel.source
        assert kernel.outer == parse_dim("batch*tokens*384"), "one loop over all elements"


def test_equal_loops_give_one_symbol() -> None:
    a = kernel_of(case("map", "f32[batch,384]", fn="relu"))
    b = kernel_of(case("map", "f32[batch,384]", fn="relu"))
    assert (a.symbol, a.source) == (b.symbol, b.source)
    assert a.symbol in a.source


def test_an_output_without_elements_is_an_empty_function() -> None:
    kernel = kernel_of(case("map", "f32[0,3]", fn="relu"))
    assert kernel.outer == 0
    assert "for" not in kernel.source


def test_smallest_shapes_are_tried() -> None:
    assert all(set(env) == set(SYMBOLS) for env in SMALL)
