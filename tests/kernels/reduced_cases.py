"""Cases of the kernels of reduced precision: q8 and bfloat16 rows, and what makes them, against NumPy."""

from __future__ import annotations

from functools import cache

import numpy as np
from kernel_cases import ACTIVATIONS, norm_bound
from kernel_harness import EPS, Array, Case, Out, Program, assert_close, double, generator, normal, strided

from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.rms_norm import RmsNorm
from infc.compiler.ir.prims import apply_activation
from infc.compiler.ir.reduced import to_bfloat16, to_q8
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import Isa
from infc.targets.cpu.kernels import Kernel

BF16_EPS = 2.0**-8
"""What rounding to bfloat16 can be off, relatively: half of its last place."""
SHORT_GELU = 1.6e-4
"""How far the shorter polynomials of reduced precision are from GELU."""
UNTOUCHED = 0x7FC5
"""A bfloat16 NaN that no kernel makes: what lies in a buffer before."""


def q8_rows(isa: Isa, x: Array) -> Array:
    """x[rows, k] as the bytes of q8 rows."""
    dot = isa.dots["q8"]
    q, scale = to_q8(x)
    rows = np.zeros((len(x), kernels.q8_stride(isa, x.shape[1])), np.uint8)
    items = np.full((len(x), kernels.q8_row(isa, x.shape[1]) // dot.item_bytes), dot.offset, np.int32)
    items[:, : x.shape[1]] = q.astype(np.int32) + dot.offset
    stored = items.astype(dot.item.removesuffix("_t"))
    rows[:, : kernels.q8_row(isa, x.shape[1])] = stored.view(np.uint8)
    rows[:, kernels.q8_row(isa, x.shape[1]) :][:, :4] = scale[:, None].view(np.uint8)
    return rows


def from_bfloat16(bits: Array) -> Array:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _behind(rows: Array, extra: int, fill: int) -> Array:
    """rows with `extra` columns of `fill` behind each: what must not be used."""
    return np.concatenate([rows, np.full((len(rows), extra), fill, rows.dtype)], axis=1)


def dot_case(
    precision: str,
    n: int,
    k: int,
    activation: str | None = None,
    *,
    bias: bool = True,
    residual: bool = False,
    out: str = "float32",
    every_row_count: bool = False,
) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        isa = program.isa
        rng = generator("dot", precision, n, k)
        most = 2 * isa.max_rows + 1
        x, w, b, r = normal(rng, most, k), normal(rng, n, k), normal(rng, n), normal(rng, most, n)
        packed = kernels.pack_linear(isa, w, precision)
        assert packed.nbytes == kernels.packed_bytes(isa, n, k, precision)
        if precision == "q8":
            (qx, sx), (qw, sw) = to_q8(x), to_q8(w)
            rows, scales = _behind(q8_rows(isa, x), 64, 0xEE), np.outer(sx.astype(np.float64), sw)
            total = (qx.astype(np.int64) @ qw.T.astype(np.int64)) * scales
            # the sums are exact: what is rounded is their conversion, the product of scales, and one multiply-add
            bound = 4 * EPS * np.abs(total)
        else:
            rows, w16 = _behind(to_bfloat16(x), 2, UNTOUCHED), from_bfloat16(to_bfloat16(w)).astype(np.float64)
            x16 = from_bfloat16(rows[:, :k]).astype(np.float64)
            total, bound = x16 @ w16.T, k * EPS * (np.abs(x16) @ np.abs(w16.T))
        total = total + (b if bias else 0)
        want = total if activation is None else apply_activation(activation, total)
        want = want + (r if residual else 0)
        bound = (
            1.2 * bound
            + (SHORT_GELU if activation in ("gelu", "gelu_tanh") else 0)
            + 8 * EPS * (1 + np.abs(total) + np.abs(r) + np.abs(b))
        )
        some = {0, 1, 2, isa.max_rows - 1, isa.max_rows, isa.max_rows + 1, most}
        seen: dict[int, bytes] = {}
        for count in range(isa.max_rows + 2) if every_row_count else sorted(some):
            empty = np.full((count, n + 2), np.nan, np.float32)
            if out == "bfloat16":
                empty = np.full((count, n + 2), UNTOUCHED, np.uint16)
            (got,) = program.call(
                *(kernel, rows[:count], rows.shape[1], packed, b if bias else None, strided(r[:count], 5), n + 5),
                *(Out(empty), n + 2, count, 0, kernels.panels(isa, n)),
            )
            assert got[:, n:].tobytes() == empty[:, n:].tobytes(), "written behind a row"
            values, most_off = got[:, :n], bound[:count]
            if out == "bfloat16":
                values, most_off = from_bfloat16(values), most_off * 2 + BF16_EPS * (1 + EPS) * np.abs(want[:count])
            assert_close(values, want[:count], most_off, f"{count} rows")
            for i, row in enumerate(got[:, :n]):
                assert seen.setdefault(i, row.tobytes()) == row.tobytes(), f"row {i} has other bits among {count}"

    parts = [activation or "", "bias" if bias else "", "residual" if residual else "", out]
    return Case(
        f"linear-{precision}-{n}x{k}-{'-'.join(p for p in parts if p)}",
        lambda isa: kernels.linear(isa, n, k, activation, bias, residual, precision, out),
        check,
    )


def check_dot_panels(program: Program, kernel: Kernel, precision: str, n: int, k: int) -> None:
    """Any split into ranges of panels gives the same bits; NaN and infinities of a row reach all its outputs, no others."""
    isa = program.isa
    rng = generator("dot panels", precision)
    x, w, b = normal(rng, isa.max_rows + 2, k), normal(rng, n, k), normal(rng, n)
    packed, count = kernels.pack_linear(isa, w, precision), kernels.panels(isa, n)

    def call(x: Array, start: Array, first: int, last: int) -> Array:
        rows = q8_rows(isa, x) if precision == "q8" else to_bfloat16(x)
        return program.call(kernel, rows, rows.shape[1], packed, b, None, 0, Out(start), n, len(x), first, last)[0]

    empty = np.full((len(x), n), np.nan, np.float32)
    whole = call(x, empty, 0, count)
    for split in range(count + 1):
        part = call(x, empty, 0, split)
        assert np.isnan(part[:, split * isa.nr :]).all()
        assert call(x, part, split, count).tobytes() == whole.tobytes()
    spoilt = x.copy()
    spoilt[1, k // 2], spoilt[3, 0] = np.nan, np.inf
    got = call(spoilt, empty, 0, count)
    assert not np.isfinite(got[[1, 3]]).any()
    others = [i for i in range(len(x)) if i not in (1, 3)]
    assert got[others].tobytes() == whole[others].tobytes()


def _hard_rows(rng: np.random.Generator, width: int) -> Array:
    """Rows of every size; ties; zeros; subnormals; then NaN and infinities."""
    x = normal(rng, 12, width) * np.float32(10) ** rng.integers(-8, 8, (12, 1)).astype(np.float32)
    x[1] = 0
    x[2] = np.arange(width) % 255 - 127.0
    x[2, 0] = 127
    x[3] = x[2] / 2 if width > 1 else 1.0
    x[4] *= np.float32(2.0**-121) / np.abs(x[4]).max()
    x[5] = np.float32(1e-40)
    x[6] = np.finfo(np.float32).max
    x[7] *= np.float32(2.0**-119) / np.abs(x[7]).max()
    x[8, width // 2] = np.nan
    x[9, width - 1] = np.inf
    x[10, 0] = -np.inf
    x[11] = np.nan
    return x


def quantize_case(width: int, dtype: str = "float32", smooth: bool = False) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        isa = program.isa
        x = _hard_rows(generator("quantize", width), width)
        given = _behind(to_bfloat16(x), 3, UNTOUCHED) if dtype == "bfloat16" else strided(x, 3)
        values = from_bfloat16(given[:, :width]) if dtype == "bfloat16" else x
        stride = kernels.q8_stride(isa, width)
        empty = np.full((len(x), stride + 64), 0xEE, np.uint8)
        factors = _smooth(width)
        if smooth:
            with np.errstate(over="ignore"):
                values = values * factors
        (got,) = program.call(kernel, given, width + 3, Out(empty), stride + 64, *[factors] * smooth, len(x))
        _compare_q8(isa, got[:, :stride], values)
        assert (got[:, stride:] == 0xEE).all()

    name = f"quantize_rows-{dtype}-{width}{'-smooth' if smooth else ''}"
    return Case(name, lambda isa: kernels.quantize_rows(isa, width, dtype, smooth), check)


def _smooth(width: int) -> Array:
    """Factors of a scale migration, float32[width]."""
    return np.exp(normal(generator("smooth"), width))


def _compare_q8(isa: Isa, got: Array, values: Array) -> None:
    """got are the q8 rows of values, bit by bit; rows of scale NaN may hold any integers."""
    want, at = q8_rows(isa, values), kernels.q8_row(isa, values.shape[1])
    scales = [np.ascontiguousarray(rows[:, at : at + 4]).view(np.float32)[:, 0] for rows in (got, want)]
    assert np.array_equal(scales[0], scales[1], equal_nan=True)
    numbers = ~np.isnan(scales[1])
    assert np.array_equal(got[numbers, :at], want[numbers, :at])


def cast_case(width: int) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("cast", width)
        bits = rng.integers(0, 2**32, (40, width), np.uint32)
        bits[:4] = bits[:4] & np.uint32(0xFFFF0000) | np.uint32(0x8000)  # ties
        x = bits.view(np.float32)
        x[5], x[6], x[7] = np.nan, np.inf, -0.0
        empty = np.full((len(x), width + 2), UNTOUCHED, np.uint16)
        (got,) = program.call(kernel, strided(x, 1), width + 1, Out(empty), width + 2, len(x))
        assert (got[:, width:] == UNTOUCHED).all()
        found, want = from_bfloat16(got[:, :width]), from_bfloat16(to_bfloat16(x))
        tiny = np.abs(x) < np.finfo(np.float32).tiny
        ok = (found.view(np.uint32) == want.view(np.uint32)) | (np.isnan(found) & np.isnan(x)) | (tiny & (found == 0))
        assert ok.all(), (x[~ok], found[~ok])

    return Case(f"cast_bf16-{width}", lambda isa: kernels.cast_bf16(isa, width), check)


def norm_also_case(
    width: int, also: str, *, rms: bool = False, residual: bool = False, keep: bool = True, smooth: bool = False
) -> Case:
    def build(isa: Isa) -> Kernel:
        if rms:
            return kernels.rms_norm(isa, width, 1e-5, True, also, keep, smooth)
        return kernels.layer_norm(isa, width, 1e-5, True, True, residual, also, keep, smooth)

    def check(program: Program, kernel: Kernel) -> None:
        isa = program.isa
        rng = generator("norm", width, also)
        x, r, w, b = normal(rng, 4, width) + 1, normal(rng, 4, width), normal(rng, width), normal(rng, width)
        x[3, width // 2] = np.nan
        operands = double(x, w) if rms else double(x + r if residual else x, w, b)
        want = (RmsNorm(1e-5, True) if rms else LayerNorm(1e-5, True, True)).reference({}, *operands)
        ldz = kernels.q8_stride(isa, width) if also == "q8" else width + 2
        z = Out(
            np.full((4, ldz), UNTOUCHED if also == "bfloat16" else 0xEE, np.uint16 if also == "bfloat16" else np.uint8)
        )
        y = Out(np.full((4, width + 3), np.nan, np.float32))
        given = (strided(x, 1), width + 1, strided(r, 2) if residual else None, width + 2, w, None if rms else b)
        factors = _smooth(width) if smooth else np.ones(width, np.float32)
        got = program.call(kernel, *given, *((y, width + 3) if keep else (None, 0)), z, ldz, *[factors] * smooth, 4)
        bound = norm_bound(want, width) + 4 * EPS * np.abs(want)
        if keep:
            assert_close(got[0][:, :width], want, bound, f"width {width}")
            assert np.isnan(got[0][:, width:]).all()
        values = got[0][:, :width] if keep else want.astype(np.float32)
        if also == "q8" and keep:
            _compare_q8(isa, got[-1], values * factors)
        elif also == "q8":
            _close_q8(isa, got[-1], want * factors, (bound + EPS * np.abs(want)) * factors)
        else:
            assert (got[-1][:, width:] == UNTOUCHED).all()
            found = from_bfloat16(got[-1][:, :width])
            exact = from_bfloat16(to_bfloat16(values))
            assert_close(found, exact if keep else want, 0 if keep else bound + BF16_EPS * np.abs(want))

    parts = [
        "rms_norm" if rms else "layer_norm",
        also,
        str(width),
        "residual" if residual else "",
        "" if keep else "only",
        "smooth" if smooth else "",
    ]
    return Case("-".join(p for p in parts if p), build, check)


def _close_q8(isa: Isa, got: Array, want: Array, bound: Array) -> None:
    """The values of q8 rows are those of want, give or take half a step and bound."""
    dot, at, width = isa.dots["q8"], kernels.q8_row(isa, want.shape[1]), want.shape[1]
    scale = np.ascontiguousarray(got[:, at : at + 4]).view(np.float32).astype(np.float64)
    items = np.ascontiguousarray(got[:, :at]).view(dot.item.removesuffix("_t"))[:, :width]
    assert_close((items.astype(np.float64) - dot.offset) * scale, want, 0.501 * scale + bound)


@cache
def reduced_cases(isa: Isa) -> tuple[Case, ...]:
    """The cases for isa; edges lie around its own panel width, vector, and k-step."""
    nr, vector = isa.nr, isa.vector
    found: list[Case] = []
    for precision in isa.dots:
        ks = isa.dots[precision].ks if precision == "q8" else 2
        depths = (1, ks - 1, ks, ks + 1, 63, 64, 65, 130) if precision == "q8" else (2, 4, 62, 64, 66, 130)
        found += [dot_case(precision, nr + 1, k) for k in sorted(set(depths))]
        found += [
            dot_case(precision, n, 2 * ks + 2) for n in (1, vector - 1, vector, vector + 1, nr - 1, nr, 2 * nr + 5)
        ]
        found += [dot_case(precision, nr + 7, 10, activation, out="bfloat16") for activation in ACTIVATIONS]
        found += [
            dot_case(precision, 2 * nr, 96, every_row_count=True),
            dot_case(precision, 2 * nr, 96, bias=False, every_row_count=True, out="bfloat16"),
            dot_case(precision, nr + 3, 384, "gelu", residual=True),
            dot_case(precision, nr + 3, 384, bias=False, residual=True),
            dot_case(precision, 2 * nr, 1536, residual=True, out="bfloat16"),
            dot_case(
                precision, nr, 2046 if precision == "bfloat16" else 3968 // isa.dots["q8"].item_bytes
            ),  # 4 KiB apart
        ]
        found += [
            dot_case(precision, n, 6 * ks + 2, activation, bias=bias, residual=residual, out=out)
            for activation, n in (
                (None, nr + 7),
                ("relu", nr + vector + 3),
                ("gelu", 2 * nr),
                ("gelu_tanh", nr + 7),
                ("silu", nr + vector + 3),
                ("tanh", 2 * nr),
            )
            for bias in (False, True)
            for residual in (False, True)
            for out in ("float32", "bfloat16")
        ]
    widths = sorted({1, 2, vector - 1, vector, vector + 1, 4 * vector + 3, 63, 64, 65, 384})
    found += [quantize_case(width) for width in widths]
    found += [quantize_case(width, "bfloat16") for width in (1, vector + 1, 64, 130)]
    found += [
        quantize_case(width, dtype, smooth=True) for width in (vector + 3, 130) for dtype in ("float32", "bfloat16")
    ]
    found += [cast_case(width) for width in (1, vector - 1, vector, vector + 1, 100)]
    for also in ("q8", "bfloat16"):
        found += [norm_also_case(width, also) for width in (1, vector, 4 * vector + 3, 384)]
        found += [norm_also_case(5 * vector + 2, also, residual=True), norm_also_case(64, also, keep=False)]
        found += [
            norm_also_case(5 * vector + 2, also, rms=True),
            norm_also_case(vector + 1, also, rms=True, keep=False),
        ]
    found += [
        norm_also_case(width, "q8", rms=rms, keep=keep, smooth=True)
        for width in (3, 5 * vector + 2)
        for rms in (False, True)
        for keep in (False, True)
    ]
    return tuple(found)
