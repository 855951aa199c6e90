"""The mathematics of the prelude against float64, at the error it states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_harness import BASES, Array, Out, Program, generator, program

from infc.compiler.ir import prims
from infc.targets.cpu.isa import ISAS
from infc.targets.cpu.kernels import Kernel

UNARY = {  # name: ulp of the correctly rounded result, absolute bound as a function of |x|, range of x
    "exp": (1.0, 0.0, (-104.0, 88.7)),
    "log": (1.0, 0.0, (1e-45, 3e38)),
    "tanh": (2.0, 0.0, (-12.0, 12.0)),
    "erf": (2.0, 0.0, (-5.0, 5.0)),
    "sin": (0.6, 0.0, (-50.0, 50.0)),
    "cos": (0.6, 0.0, (-50.0, 50.0)),
    "gelu": (0.0, 1.6e-7, (-14.0, 14.0)),
    "gelu_tanh": (0.0, 4e-7, (-14.0, 14.0)),
    "silu": (3.0, 1e-37, (-80.0, 80.0)),
    "sigmoid": (3.0, 1e-38, (-85.0, 80.0)),
    "hardswish": (2.0, 0.0, (-5.0, 5.0)),
    "hardsigmoid": (1.0, 0.0, (-5.0, 5.0)),
    "relu": (0.0, 0.0, (-5.0, 5.0)),
    "rsqrt": (1.5, 0.0, (1e-38, 3e38)),
}
NO_SUFFIX = ("gelu", "gelu_tanh", "silu", "sigmoid", "hardswish", "hardsigmoid", "relu")
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)


def scalar_name(name: str) -> str:
    return f"infc_{name}" if name in NO_SUFFIX else f"infc_{name}f"


def loop(name: str, expression: str, parameters: str = "const float *x, float *y, int64_t n") -> Kernel:
    symbol = f"loop_{name}"
    body = f"for (int64_t i = 0; i < n; i++) y[i] = {expression};"
    return Kernel(symbol, f"INFC_KERNEL void {symbol}({parameters}) {{ {body} }}\n", "math")


def vector_loop(name: str) -> Kernel:
    symbol = f"vector_{name}"
    body = f"for (int64_t i = 0; i < n; i += INFC_VECTOR) vst(y + i, infc_v{name}(vld(x + i)));"
    source = f"INFC_KERNEL void {symbol}(const float *x, float *y, int64_t n) {{ {body} }}\n"
    return Kernel(symbol, source, "math")


TWO = "const float *x, const float *z, float *y, int64_t n"
INTS = "const int64_t *x, const int64_t *z, int64_t *y, int64_t n"
INTS32 = "const int32_t *x, const int32_t *z, int32_t *y, int64_t n"
KERNELS = {
    **{f"s_{name}": loop(name, f"{scalar_name(name)}(x[i])") for name in UNARY},
    **{f"v_{name}": vector_loop(name) for name in UNARY if name not in ("sin", "cos")},
    **{f"s_{name}": loop(name, f"infc_{name}f(x[i])") for name in ("floor", "ceil", "trunc", "round", "sqrt", "sign", "abs")},
    **{f"s_{name}": loop(name, f"infc_{name}(x[i])") for name in ("gelu_short", "gelu_tanh_short")},
    **{f"v_{name}": vector_loop(name) for name in ("gelu_short", "gelu_tanh_short")},
    "exp2_small": loop("exp2_small", "infc_exp2_smallf(x[i])"),
    "pow": loop("pow", "infc_powf(x[i], z[i])", TWO),
    "mod": loop("mod", "infc_modf(x[i], z[i])", TWO),
    "fmod": loop("fmod", "infc_fmodf(x[i], z[i])", TWO),
    "floordiv": loop("floordiv", "infc_floordivf(x[i], z[i])", TWO),
    "min": loop("min", "infc_minf(x[i], z[i])", TWO),
    "max": loop("max", "infc_maxf(x[i], z[i])", TWO),
    "floordiv_i64": loop("floordiv_i64", "infc_floordiv_i64(x[i], z[i])", INTS),
    "mod_i64": loop("mod_i64", "infc_mod_i64(x[i], z[i])", INTS),
    "floordiv_i32": loop("floordiv_i32", "infc_floordiv_i32(x[i], z[i])", INTS32),
    "mod_i32": loop("mod_i32", "infc_mod_i32(x[i], z[i])", INTS32),
    "i64_of_float": loop("i64_of_float", "infc_i64_of_float(x[i])", "const float *x, int64_t *y, int64_t n"),
}  # fmt: skip


@pytest.fixture(scope="module", params=BASES)
def driver(request: pytest.FixtureRequest) -> Program:
    return program(ISAS[request.param], list(KERNELS.values()))


def unary(driver: Program, name: str, x: Array) -> Array:
    return driver.call(KERNELS[name], x, Out(np.zeros_like(x)), len(x))[0]


def exact(name: str) -> Callable[[Array], Array]:
    return lambda x: np.asarray(prims.apply(name, x.astype(np.float64)), np.float64)


def sample(name: str, count: int = 40_000) -> Array:
    low, high = UNARY[name][2]
    rng = generator(name)
    spread = (
        np.exp(rng.uniform(np.log(max(low, 1e-45)), np.log(high), count)) if low > 0 else rng.uniform(low, high, count)
    )
    tiny = np.exp(rng.uniform(-60, 0, count // 8)) * (1 if low > 0 else rng.choice([-1, 1], count // 8))
    x = np.concatenate([spread, tiny, np.linspace(max(low, 1e-30), high, count // 8)]).astype(np.float32)
    return x[: len(x) // 16 * 16]


def ulps(got: Array, want: Array) -> Array:
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
        return np.abs(got.astype(np.float64) - want) / unit


@pytest.mark.parametrize("name", UNARY)
def test_unary_function_keeps_its_stated_error(driver: Program, name: str) -> None:
    bound, absolute, _ = UNARY[name]
    x = sample(name)
    want = exact(name)(x)
    forms = [form for form in (f"s_{name}", f"v_{name}") if form in KERNELS]
    for form in forms:
        got = unary(driver, form, x)
        error = np.abs(got.astype(np.float64) - want)
        allowed = np.maximum(bound * np.spacing(np.abs(want).astype(np.float32)), absolute * np.maximum(np.abs(x), 1))
        worst = int(np.argmax(error - allowed))
        assert error[worst] <= allowed[worst], (form, x[worst], got[worst], want[worst], ulps(got, want).max())
    if len(forms) == 2:
        assert np.array_equal(unary(driver, forms[0], x), unary(driver, forms[1], x)), "the vector form has other bits"


@pytest.mark.parametrize("name", UNARY)
def test_nan_propagates_and_infinity_goes_to_the_limit(driver: Program, name: str) -> None:
    got = unary(driver, f"s_{name}", SPECIAL)
    with np.errstate(all="ignore"):
        want = exact(name)(SPECIAL)
    if name in ("gelu", "gelu_tanh", "silu", "hardswish"):  # the formula gives NaN at -inf: so may we, or the limit 0
        assert np.isnan(got[3]) or abs(got[3]) < 1e-9
        want[3] = got[3]
    with np.errstate(over="ignore"):
        want32 = want.astype(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(want32)), (got, want32)
    assert np.array_equal(np.isinf(got), np.isinf(want32)), (got, want32)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_short_gelu_is_close_everywhere_and_propagates_nan(driver: Program, name: str) -> None:
    x = np.linspace(-1000, 1000, 2_000_000).astype(np.float32)
    x = np.concatenate([x, np.linspace(-8, 8, 100_000).astype(np.float32), SPECIAL[[0, 1, 7, 9]]])
    x = x[: len(x) // 16 * 16]
    got = unary(driver, f"s_{name}_short", x)
    assert np.abs(got - exact(name)(x)).max() <= 1.6e-4
    assert np.array_equal(got, unary(driver, f"v_{name}_short", x)), "the vector form has other bits"
    edges = unary(driver, f"s_{name}_short", SPECIAL)
    assert edges[2] == np.inf
    assert abs(edges[3]) <= 1.6e-4
    assert np.isnan(edges[4])


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_reduces_every_finite_argument(driver: Program, name: str) -> None:
    rng = generator(name, "large")
    x = (np.exp(rng.uniform(-20, 88.6, 4096)) * rng.choice([-1, 1], 4096)).astype(np.float32)
    hard = np.array([16367173 * 2.0**72, 3.4e38, 33 * 2.0**100, 1e22, 710.0, 355 / 113], np.float32)
    x = np.concatenate([x, hard])
    want = np.array([_sine(float(v), name) for v in x])
    assert ulps(unary(driver, f"s_{name}", x), want).max() <= 1.0


def _sine(x: float, name: str) -> float:
    """sin or cos of a float32 by reducing it with integers: x is a ratio of integers, and so is a long pi."""
    from fractions import Fraction

    from infc.targets.cpu.kernels.prelude import _pi  # pyright: ignore[reportPrivateUsage]

    half = Fraction(_pi(400), 1 << 401)
    turns = round(Fraction(x) / half)
    rest = float(Fraction(x) - turns * half)
    turns += 1 if name == "cos" else 0
    return [np.sin(rest), np.cos(rest), -np.sin(rest), -np.cos(rest)][turns % 4]


def test_power_is_within_an_ulp_and_knows_the_special_cases(driver: Program) -> None:
    rng = generator("pow")
    x = np.exp(rng.uniform(-80, 80, 20000)).astype(np.float32)
    z = rng.uniform(-3, 3, 20000).astype(np.float32)
    x[:8], z[:8] = np.float32(1.0) + np.arange(8, dtype=np.float32) * np.float32(1.2e-7), 1e7
    got = driver.call(KERNELS["pow"], x, z, Out(np.zeros_like(x)), len(x))[0]
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), z.astype(np.float64))
    finite = (want < 3.3e38) & (want > 1e-44)
    assert ulps(got[finite], want[finite]).max() <= 1.0
    a, b = (m.ravel() for m in np.meshgrid([*SPECIAL, 2.0, -2.0, 0.5], [*SPECIAL, 2.0, 3.0, -3.0, 0.5, -0.5, 2.0**25]))
    a, b = a.astype(np.float32), b.astype(np.float32)
    got = driver.call(KERNELS["pow"], a, b, Out(np.zeros_like(a)), len(a))[0]
    with np.errstate(all="ignore"):
        want = np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    with np.errstate(all="ignore"):
        difference = np.abs(got - want)
    same = (got == want) | (np.isnan(got) & np.isnan(want)) | (difference <= 1e-6 * np.abs(want))
    assert same.all(), [(x, y, g, w) for x, y, g, w, s in zip(a, b, got, want, same, strict=True) if not s]


def test_fmod_is_exact_and_mod_takes_the_divisors_sign(driver: Program) -> None:
    rng = generator("mod")
    x = (np.exp(rng.uniform(-85, 85, 8192)) * rng.choice([-1, 1], 8192)).astype(np.float32)
    z = (np.exp(rng.uniform(-85, 85, 8192)) * rng.choice([-1, 1], 8192)).astype(np.float32)
    x[:4], z[:4] = [6.0, -6.0, 5.5, -5.5], [3.0, 3.0, -2.0, 2.0]
    assert np.array_equal(driver.call(KERNELS["fmod"], x, z, Out(np.zeros_like(x)), len(x))[0], np.fmod(x, z))
    assert np.array_equal(driver.call(KERNELS["mod"], x, z, Out(np.zeros_like(x)), len(x))[0], np.mod(x, z))
    z[:3] = [0.0, np.inf, np.nan]
    got = driver.call(KERNELS["fmod"], x, z, Out(np.zeros_like(x)), len(x))[0]
    assert np.isnan(got[0])
    assert got[1] == x[1]
    assert np.isnan(got[2])


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sqrt", "sign", "abs"])
def test_rounding_functions_are_exact(driver: Program, name: str) -> None:
    x = np.concatenate([SPECIAL, np.arange(-4, 4, 0.25), generator(name).uniform(-1e9, 1e9, 200)]).astype(np.float32)
    want = prims.apply(name, x)
    assert np.array_equal(unary(driver, f"s_{name}", x), want, equal_nan=True)


def test_exp2_small_gives_exactly_zero_and_no_subnormals(driver: Program) -> None:
    x = np.concatenate([np.linspace(-126, 0, 4001), [-np.inf, -1000.0, -127.0, -126.6]]).astype(np.float32)
    got = unary(driver, "exp2_small", x)
    assert ulps(got[:-4], np.exp2(x[:-4].astype(np.float64))).max() <= 2.0
    assert (got[-4:] == 0).all()
    assert np.isnan(unary(driver, "exp2_small", np.full(4, np.nan, np.float32))).all()


def test_minimum_and_maximum_propagate_nan(driver: Program) -> None:
    a, b = (m.ravel().astype(np.float32) for m in np.meshgrid(SPECIAL, SPECIAL))
    for name in ("min", "max"):
        got = driver.call(KERNELS[name], a, b, Out(np.zeros_like(a)), len(a))[0]
        assert np.array_equal(got, prims.apply(name, a, b), equal_nan=True)
    got = driver.call(KERNELS["floordiv"], a, b, Out(np.zeros_like(a)), len(a))[0]
    assert np.array_equal(got, prims.apply("floordiv", a, b), equal_nan=True)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_integer_division_rounds_down_and_never_traps(driver: Program, dtype: str) -> None:
    info = np.iinfo(dtype)
    edge = np.array([0, 1, -1, 2, -2, 7, -7, info.min, info.max, info.min + 1], dtype)
    a, b = (m.ravel() for m in np.meshgrid(edge, edge))
    bits = dtype.removeprefix("int")
    for name in ("floordiv", "mod"):
        got = driver.call(KERNELS[f"{name}_i{bits}"], a, b, Out(np.zeros_like(a)), len(a))[0]
        assert np.array_equal(got, prims.apply(name, a, b))


def test_float_to_integer_is_defined_everywhere(driver: Program) -> None:
    x = np.array([0.9, -0.9, 2.5, -2.5, 1e18, np.nan, np.inf, -np.inf, 1e30], np.float32)
    got = driver.call(KERNELS["i64_of_float"], x, Out(np.zeros(len(x), np.int64)), len(x))[0]
    assert list(got[:5]) == [0, 0, 2, -2, int(np.float32(1e18))]
    assert (got[5:] == np.iinfo(np.int64).min).all()
