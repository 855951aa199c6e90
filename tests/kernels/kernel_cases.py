"""One case for each kernel and setting: how to build it, and calls at its edges compared with float64."""

from __future__ import annotations

import numpy as np
from attention_cases import attention_case
from axis_cases import axis_cases
from kernel_harness import (
    EPS,
    Argument,
    Array,
    Case,
    Out,
    Program,
    assert_close,
    blank,
    double,
    generator,
    normal,
    strided,
)
from recurrence_cases import recurrence_cases

from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.group_norm import GroupNorm
from infc.compiler.ir.ops.l2_normalize import L2Normalize
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.log_softmax import LogSoftmax
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.rms_norm import RmsNorm
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.prims import apply_activation
from infc.compiler.ir.types import TensorType
from infc.targets.cpu import kernels
from infc.targets.cpu.isa import Isa
from infc.targets.cpu.kernels import Kernel
from infc.targets.cpu.kernels.linear import usual_choice

# linear


def linear_case(n: int, k: int, activation: str | None = None, bias: bool = True, residual: bool = False) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        isa = program.isa
        rng = generator("linear", n, k)
        w, b = normal(rng, n, k), normal(rng, n)
        packed = kernels.pack_linear(isa, w)
        calls: list[tuple[Kernel, tuple[Argument | Out | None, ...]]] = []
        wants: list[tuple[Array, Array]] = []
        chunk = isa.max_rows * usual_choice(isa, "float32", k).tiles
        most = max(2 * isa.max_rows, 2 * chunk if chunk < 100 else 0) + 1  # several chunks where that is cheap
        full_a, full_r = normal(rng, most, k), normal(rng, most, n)
        for rows in sorted({0, 1, 2, isa.max_rows - 1, isa.max_rows, isa.max_rows + 1, most}):
            a, r = full_a[:rows], full_r[:rows]
            arguments = (strided(a, 3), k + 3, packed, b if bias else None, strided(r, 5), n + 5)
            calls.append((kernel, (*arguments, blank(rows, n + 2), n + 2, rows, 0, kernels.panels(isa, n))))
            a64, w64, b64, r64 = double(a, w, b, r)
            exact, size = a64 @ w64.T + (b64 if bias else 0), np.abs(a64) @ np.abs(w64.T) + np.abs(b64)
            want = exact if activation is None else apply_activation(activation, exact)
            wants.append((want + (r64 if residual else 0), (k + 4) * EPS * size + 4 * EPS * (1 + np.abs(r64))))
        rows_seen: dict[int, bytes] = {}
        for (want, bound), (got,) in zip(wants, program.run(calls), strict=True):
            assert_close(got[:, :n], want, bound, f"rows {len(want)}")
            assert np.isnan(got[:, n:]).all(), "written behind a row"
            for i, row in enumerate(got[:, :n]):
                assert rows_seen.setdefault(i, row.tobytes()) == row.tobytes(), (
                    f"row {i} has other bits in {len(got)} rows"
                )

    name = f"linear-{n}x{k}-{activation}{'-bias' if bias else ''}{'-residual' if residual else ''}"
    return Case(name, lambda isa: kernels.linear(isa, n, k, activation, bias, residual), check)


def check_linear_propagates(program: Program, kernel: Kernel, n: int, k: int) -> None:
    """A NaN or an infinity in one row reaches every output of that row and no other row."""
    rng = generator("propagates")
    rows = program.isa.max_rows
    a, w, bias = normal(rng, rows, k), normal(rng, n, k), normal(rng, n)
    packed, count = kernels.pack_linear(program.isa, w), kernels.panels(program.isa, n)
    (clean,) = program.call(kernel, a, k, packed, bias, None, 0, blank(rows, n), n, rows, 0, count)
    a[1, k // 2], a[3, 0] = np.nan, np.inf
    (got,) = program.call(kernel, a, k, packed, bias, None, 0, blank(rows, n), n, rows, 0, count)
    assert np.isnan(got[1]).all()
    assert np.array_equal(got[3], np.inf * np.sign(w[:, 0]))
    others = [r for r in range(rows) if r not in (1, 3)]
    assert got[others].tobytes() == clean[others].tobytes()


def check_linear_panels(program: Program, kernel: Kernel, n: int, k: int, rows: int) -> None:
    """Any split into ranges of panels gives the same bits, and a range writes its own columns only."""
    isa = program.isa
    rng = generator("panels", n, k)
    a, packed, bias = normal(rng, rows, k), kernels.pack_linear(isa, normal(rng, n, k)), normal(rng, n)
    count = kernels.panels(isa, n)
    whole = program.call(kernel, a, k, packed, bias, None, 0, blank(rows, n), n, rows, 0, count)[0]
    for split in range(count + 1):
        first = program.call(kernel, a, k, packed, bias, None, 0, blank(rows, n), n, rows, 0, split)[0]
        assert np.isnan(first[:, split * isa.nr :]).all()
        both = program.call(kernel, a, k, packed, bias, None, 0, Out(first), n, rows, split, count)[0]
        assert both.tobytes() == whole.tobytes()


# matmul


def matmul_case(transpose_b: bool) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        isa = program.isa
        sizes = [(1, 1, 1), (isa.max_rows + 1, 5, isa.nr + 1), (3, isa.nr, isa.nr), (2, 0, 3), (2, 7, isa.nr - 1)]
        for m, k, n in [*sizes, (5 * isa.max_rows, 13, 2 * isa.nr + 3)]:
            rng = generator("matmul", m, k, n)
            a, b = normal(rng, m, k), normal(rng, k, n)
            stored = np.ascontiguousarray(b.T) if transpose_b else b
            arguments = (strided(a, 1), k + 1, strided(stored, 2), stored.shape[1] + 2, blank(m, n + 1), n + 1)
            (got, _) = program.call(kernel, *arguments, m, k, n, blank(kernels.matmul_scratch(isa, k)))
            a64, b64 = double(a, b)
            assert_close(got[:, :n], a64 @ b64, (k + 1) * EPS * (np.abs(a64) @ np.abs(b64)), f"{m}x{k}x{n}")
            assert np.isnan(got[:, n:]).all()

    return Case(f"matmul-{'bt' if transpose_b else 'b'}", lambda isa: kernels.matmul(isa, transpose_b), check)


# convolution and pooling


def conv_case(
    name: str,
    channels: int,
    filters: int,
    size: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: tuple[tuple[int, int], ...] | None = None,
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
    activation: str | None = None,
    bias: bool = False,
    residual: bool = False,
) -> Case:
    ones = (1,) * len(size)
    geometry = (stride or ones, padding or ((0, 0),) * len(size), dilation or ones)
    op = Conv(*geometry, groups, bias, residual, activation)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("conv", name)
        images = 2
        x, w = normal(rng, images, channels, *size), normal(rng, filters, channels // groups, *window)
        b = normal(rng, filters)
        bare = Conv(*geometry, groups).reference({}, *double(x, w))
        magnitude = Conv(*geometry, groups).reference({}, *double(np.abs(x), np.abs(w)))
        r = normal(rng, *bare.shape)
        want = op.reference({}, *double(x, w, *([b] if bias else []), *([r] if residual else [])))
        terms = channels // groups * int(np.prod(window))
        bound = (terms + 6) * EPS * (magnitude + 8)
        assert isinstance(kernel.scratch, int)
        tasks, scratch = images * kernel.tasks_per_item, blank(kernel.scratch)
        inputs = (x, kernels.pack_conv(program.isa, w), b if bias else None, r if residual else None)
        got, _ = program.call(kernel, *inputs, blank(*want.shape), 0, tasks, scratch)
        assert_close(got, want, bound)
        for split in sorted({1, tasks // 2, tasks - 1}):
            part, _ = program.call(kernel, *inputs, blank(*want.shape), 0, split, scratch)
            both, _ = program.call(kernel, *inputs, Out(part), split, tasks, scratch)
            assert both.tobytes() == got.tobytes(), f"split at task {split} of {tasks}"
        alone, _ = program.call(
            kernel,
            *(x[1:], inputs[1], inputs[2], None if inputs[3] is None else r[1:]),
            *(blank(*want[1:].shape), 0, kernel.tasks_per_item, scratch),
        )
        assert alone[0].tobytes() == got[1].tobytes(), "an image's bits depend on its neighbour"

    def build(isa: Isa) -> Kernel:
        options = (groups, activation, bias, residual)
        return kernels.conv(isa, channels, filters, size, window, *geometry, *options)

    return Case(f"conv-{name}", build, check)


def conv_cases(isa: Isa) -> tuple[Case, ...]:
    rows, nr = isa.max_rows, isa.nr
    same = ((1, 1), (1, 1))
    return (
        conv_case("1x1", 3, rows + 1, (3, nr // 2), (1, 1), bias=True),
        conv_case("one-pixel", 5, 2, (1, 1), (1, 1)),
        conv_case("3x3", 4, 2 * rows + 1, (9, 7), (3, 3), None, same, bias=True, activation="relu"),
        conv_case("3x3-residual", 4, 4, (5, nr + 1), (3, 3), None, same, bias=True, residual=True, activation="relu"),
        conv_case("stride-2", 3, 5, (11, 13), (3, 3), (2, 2), same),
        conv_case("stride-2-1x1", 6, 7, (8, 9), (1, 1), (2, 2)),
        conv_case("7x7-stride-2", 3, 4, (20, 21), (7, 7), (2, 2), ((3, 3), (3, 3)), bias=True),
        conv_case("stride-3-asymmetric", 2, 3, (10, 17), (2, 5), (3, 3), ((0, 1), (4, 2)), (1, 2)),
        conv_case("dilated", 2, 3, (12, 12), (3, 3), None, ((2, 2), (3, 3)), (2, 3), activation="gelu"),
        conv_case("grouped", 6, 9, (6, 6), (3, 3), None, same, groups=3, bias=True),
        conv_case("padding-wider-than-input", 1, 2, (1, 2), (3, 5), None, ((2, 2), (4, 4))),
        conv_case("1d", 3, 4, (37,), (5,), (2,), ((2, 1),), bias=True),
        conv_case("patches", 3, 8, (16, 16), (8, 8), (8, 8), bias=True),
        conv_case("many-filters", 2, 9 * rows, (3, 3), (3, 3), None, same, bias=True),
        conv_case("depthwise", 5, 5, (9, 2 * isa.vector + 3), (3, 3), None, same, groups=5, bias=True),
        conv_case("depthwise-7x7", 2, 2, (8, 8), (7, 7), None, ((3, 3), (3, 3)), groups=2, activation="silu"),
        conv_case("depthwise-stride", 3, 6, (9, 11), (3, 3), (2, 2), same, None, 3, None, True, True),
        conv_case("depthwise-1d-dilated", 4, 4, (23,), (3,), None, ((4, 0),), (2,), groups=4),
    )


def pool_case(
    name: str,
    kind: str,
    size: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...] | None = None,
    include: bool = True,
    ceil: bool = False,
) -> Case:
    spread = dilation or (1,) * len(size)
    op = Pool(kind, window, stride, padding, spread, include, ceil)
    out = op.infer(TensorType("float32", (1, 1, *size))).shape[2:]
    extents = tuple(d for d in out if isinstance(d, int))

    def check(program: Program, kernel: Kernel) -> None:
        x = normal(generator("pool", name), 2, 3, *size)
        want = op.reference({}, *double(x))
        (got,) = program.call(kernel, x, blank(*want.shape), 0, 6)
        assert_close(got, want, (0 if kind == "max" else 4 * EPS * float(np.abs(x).max()) * np.prod(window)))
        (part,) = program.call(kernel, x, blank(*want.shape), 2, 4)
        assert part.reshape(6, -1)[2:4].tobytes() == got.reshape(6, -1)[2:4].tobytes()
        assert np.isnan(part.reshape(6, -1)[[0, 1, 4, 5]]).all()
        x.reshape(6, -1)[1, 0] = np.nan
        (got,) = program.call(kernel, x, blank(*want.shape), 0, 6)
        with np.errstate(all="ignore"):
            assert np.array_equal(np.isnan(got), np.isnan(op.reference({}, *double(x)))), "NaN does not propagate"

    def build(isa: Isa) -> Kernel:
        return kernels.pool(isa, kind, size, extents, window, stride, padding, spread, include)

    return Case(f"pool-{kind}-{name}", build, check)


def pool_cases() -> tuple[Case, ...]:
    zero, one = ((0, 0), (0, 0)), ((1, 1), (1, 1))
    return (
        pool_case("2x2", "max", (6, 9), (2, 2), (2, 2), zero),
        pool_case("3x3-stride-2", "max", (11, 37), (3, 3), (2, 2), one),
        pool_case("dilated-ceil", "max", (9, 10), (3, 2), (2, 3), ((1, 1), (1, 0)), (2, 2), ceil=True),
        pool_case("1d", "max", (19,), (4,), (3,), ((2, 2),)),
        pool_case("long", "max", (9000,), (3,), (2,), ((1, 1),)),
        pool_case("2x2", "avg", (6, 9), (2, 2), (2, 2), zero),
        pool_case("padded", "avg", (7, 8), (3, 3), (2, 2), one),
        pool_case("padded-not-counted", "avg", (7, 8), (3, 3), (2, 2), one, include=False),
        pool_case("ceil", "avg", (8, 7), (3, 3), (2, 3), one, ceil=True),
        pool_case("ceil-not-counted", "avg", (8, 8), (3, 3), (2, 2), zero, include=False, ceil=True),
        pool_case("global", "avg", (7, 7), (7, 7), (1, 1), zero),
    )


# norms


def norm_case(width: int, residual: bool = False, weight: bool = True, bias: bool = True) -> Case:
    op = LayerNorm(1e-5, weight, bias, residual)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("layer_norm", width)
        for rows in (1, 3):
            x, r, w, b = (
                normal(rng, rows, width) * 3 + 1,
                normal(rng, rows, width),
                normal(rng, width),
                normal(rng, width),
            )
            arguments = (
                strided(x, 1),
                width + 1,
                strided(r, 2),
                width + 2,
                w,
                b,
                blank(rows, width + 3),
                width + 3,
                rows,
            )
            (got,) = program.call(kernel, *arguments)
            operands = [x] + [a for a, used in ((w, weight), (b, bias), (r, residual)) if used]
            want = op.reference({}, *double(*operands))
            assert_close(got[:, :width], want, norm_bound(want, width), f"width {width}")
            assert np.isnan(got[:, width:]).all()

    name = f"layer_norm-{width}{'-residual' if residual else ''}{'' if weight else '-plain'}"
    return Case(name, lambda isa: kernels.layer_norm(isa, width, 1e-5, weight, bias, residual), check)


def norm_bound(want: Array, width: int) -> Array | float:
    """Mean and variance carry some log2(width) + 4 roundings; a variance near 0 is held off by eps."""
    return (np.log2(width) + 16) * EPS * (np.abs(want) + 2 * np.sqrt(width))


def rms_norm_case(width: int, weight: bool = True) -> Case:
    op = RmsNorm(1e-6, weight)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("rms_norm", width)
        x, w = normal(rng, 3, width), normal(rng, width)
        arguments = (strided(x, 1), width + 1, None, 0, w, None, blank(3, width + 3), width + 3, 3)
        (got,) = program.call(kernel, *arguments)
        want = op.reference({}, *double(x, w)[: 1 + weight])
        assert_close(got[:, :width], want, norm_bound(want, width), f"width {width}")

    return Case(f"rms_norm-{width}", lambda isa: kernels.rms_norm(isa, width, 1e-6, weight), check)


def group_norm_case(channels: int, groups: int, plane: int, weight: bool = True) -> Case:
    op = GroupNorm(groups, 1e-5, weight, weight)

    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("group_norm", channels, plane)
        x, w, b = normal(rng, 2, channels, plane) + 2, normal(rng, channels), normal(rng, channels)
        want = op.reference({}, *double(*([x, w, b] if weight else [x])))
        (got,) = program.call(kernel, x, w, b, blank(*x.shape), 0, 2 * groups, plane)
        assert_close(got, want, norm_bound(want, channels // groups * plane))
        (part,) = program.call(kernel, x, w, b, blank(*x.shape), 1, 2 * groups, plane)
        assert np.isnan(part[0, : channels // groups]).all()
        assert part[0, channels // groups :].tobytes() == got[0, channels // groups :].tobytes()

    def build(isa: Isa) -> Kernel:
        return kernels.group_norm(isa, channels, groups, 1e-5, weight, weight)

    return Case(f"group_norm-{channels}/{groups}-{plane}", build, check)


# rows


def softmax_case(log: bool) -> Case:
    op = LogSoftmax(1) if log else Softmax(1)

    def check(program: Program, kernel: Kernel) -> None:
        for n in (1, 2, 3, 7, 16, 31, 64, 65, 130):
            x = normal(generator("softmax", n), 3, n) * 5
            want = op.reference({}, *double(x))
            (got,) = program.call(kernel, x, blank(3, n), 3, n)
            bound = (np.log2(n) + 8) * EPS * (np.abs(x - x.max()).max() + np.log(n) + 1)
            assert_close(got, want, bound * (1 if log else want + 1e-30), f"n {n}")
        x = np.array([[1, np.nan, 2], [np.inf, 0, 0], [-np.inf, 0, 0], [-np.inf] * 3], np.float32)
        with np.errstate(all="ignore"):
            want = op.reference({}, *double(x))
        (got,) = program.call(kernel, x, blank(4, 3), 4, 3)
        assert_close(got, want, 1e-6, "special values")
        assert np.isnan(got[3]).all() if log else not got[3].any()

    return Case("log_softmax" if log else "softmax", lambda isa: kernels.softmax(isa, log), check)


def embedding_case(width: int, dtype: str) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        table = normal(generator("embedding"), 11, width)
        ids = np.array([0, 10, 3, 3, -1, 11, 99], dtype)
        (got,) = program.call(kernel, table, ids, blank(len(ids), width), len(ids))
        assert np.array_equal(got, table[np.clip(ids, 0, 10)])

    return Case(f"embedding-{width}-{dtype}", lambda isa: kernels.embedding(isa, width, dtype, 11), check)


def masked_mean_case(width: int) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        rng = generator("masked_mean", width)
        for tokens in (1, 5, 40):
            x, mask = normal(rng, tokens, width), rng.random(tokens) < 0.5
            for kept in (mask, np.zeros_like(mask), np.ones_like(mask)):
                given = np.where(kept[:, None], x, np.float32(np.nan))
                want = MaskedMean().reference({}, *double(x[None], kept[None]))[0]
                (got,) = program.call(kernel, strided(given, 1), width + 1, kept.astype(np.uint8), blank(width), tokens)
                assert_close(got, want, (tokens + 2) * EPS * np.abs(x).mean(axis=0))

    return Case(f"masked_mean-{width}", lambda isa: kernels.masked_mean(isa, width), check)


def l2_case(width: int) -> Case:
    def check(program: Program, kernel: Kernel) -> None:
        x = normal(generator("l2", width), 3, width)
        x[1] = 0
        want = L2Normalize(1e-12).reference({}, *double(x))
        (got,) = program.call(kernel, strided(x, 1), width + 1, blank(3, width + 2), width + 2, 3)
        assert_close(got[:, :width], want, (np.log2(width) + 8) * EPS)
        assert np.isnan(got[:, width:]).all()

    return Case(f"l2_normalize-{width}", lambda isa: kernels.l2_normalize(isa, width, 1e-12), check)


def _linear_cases(isa_nr: int) -> list[Case]:
    shapes = [(1, 1), (isa_nr - 1, 3), (isa_nr, 17), (isa_nr + 1, 1), (2 * isa_nr + 5, 37)]
    return [linear_case(n, k) for n, k in shapes]


ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "hardswish", "hardsigmoid", "tanh")


def real_cases(isa: Isa) -> tuple[Case, ...]:
    """Shapes of models people run: slower to check."""
    same = ((1, 1), (1, 1))
    return (
        linear_case(1152, 384),
        linear_case(1536, 384, "gelu"),
        linear_case(384, 1536, residual=True),
        attention_case((12, 12), 32, 32, mask=True, lengths=((256, 256), (100, 100))),
        attention_case((2, 2), 64, 64, window=(64, 64), lengths=((300, 300),)),
        conv_case("resnet-stem", 3, 64, (64, 64), (7, 7), (2, 2), ((3, 3), (3, 3)), bias=True, activation="relu"),
        conv_case("resnet-last", 128, 128, (7, 7), (3, 3), None, same, None, 1, "relu", True, True),
        conv_case("convnext", 24, 24, (28, 28), (7, 7), None, ((3, 3), (3, 3)), groups=24, bias=True),
        conv_case("vit-patches", 3, 96, (64, 64), (16, 16), (16, 16), bias=True),
    )


def cases(isa: Isa) -> tuple[Case, ...]:
    """The cases for isa; edges lie around its own panel width."""
    nr, vector = isa.nr, isa.vector
    return (
        *_linear_cases(nr),
        *(linear_case(1, k) for k in (2, vector, 3 * vector + 1, 4 * vector, 9 * vector + 3)),
        *(linear_case(n, 5 * vector + 3, residual=True) for n in range(2, vector // 2 + 2)),
        linear_case(1, 256, "sigmoid", bias=False),
        linear_case(2, 70, "tanh"),
        linear_case(nr + 1, 2000, residual=True),
        linear_case(nr, 1021),  # rows lie 4 KiB apart
        linear_case(nr + 3, 11, bias=False),
        linear_case(2 * nr, 11, bias=False),
        linear_case(nr + 3, 11, residual=True),
        linear_case(2 * nr, 64, "gelu", residual=True),
        *(linear_case(nr + 7, 5, activation) for activation in ACTIVATIONS),
        matmul_case(False),
        matmul_case(True),
        *conv_cases(isa),
        *pool_cases(),
        *(norm_case(width) for width in (1, 2, vector - 1, vector, vector + 1, 4 * vector + 3, 384)),
        norm_case(4 * vector, weight=False, bias=False),
        norm_case(5 * vector + 2, residual=True),
        norm_case(7, residual=True, weight=False),
        rms_norm_case(3),
        rms_norm_case(4 * vector + 1, weight=False),
        rms_norm_case(128),
        group_norm_case(4, 2, 1),
        group_norm_case(6, 3, 4 * vector + 5),
        group_norm_case(6, 1, 9, weight=False),
        softmax_case(False),
        softmax_case(True),
        embedding_case(1, "int64"),
        embedding_case(33, "int32"),
        *(masked_mean_case(width) for width in (1, vector, vector + 3)),
        *(l2_case(width) for width in (1, vector, 3 * vector + 5)),
        *axis_cases(),
        *recurrence_cases(isa),
    )
