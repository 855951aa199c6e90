"""Ops at their edges: what the tail's printers are tried on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from infc.compiler.ir import prims
from infc.compiler.ir.dims import Dim, parse_dim
from infc.compiler.ir.graph import Op, OpError
from infc.compiler.ir.loops import Loop
from infc.compiler.ir.ops import known
from infc.compiler.ir.types import DTYPES, LONG, SHORT, DType, TensorType, parse_type

Env = Mapping[str, int]
SYMBOLS = ("batch", "tokens", "h")
SMALL: tuple[Env, ...] = (
    {"batch": 1, "tokens": 1, "h": 1},
    {"batch": 2, "tokens": 15, "h": 5},
    {"batch": 3, "tokens": 65, "h": 17},
)


@dataclass(frozen=True)
class Case:
    """One op over operands of given types, and the values its symbols take. `below[k]` makes operand k an index."""

    op: Op
    operands: tuple[TensorType, ...]
    envs: tuple[Env, ...] = SMALL
    below: Mapping[int, Dim] = field(default_factory=dict[int, Dim])

    @property
    def name(self) -> str:
        attributes = ",".join(f"{k}={v}" for k, v in vars(self.op).items())
        return f"{self.op.name}({', '.join(map(str, self.operands))}){{{attributes}}}"

    @property
    def loop(self) -> Loop:
        found = self.op.loop(self.op.infer(*self.operands), *self.operands)
        assert found is not None, self.name
        return found


def case(mnemonic: str, operands: str, below: Mapping[int, str] | None = None, **attributes: object) -> Case:
    """`case("softmax", "f32[batch,4]", axis=1)`; operand types are separated by spaces, dims in attributes by name."""
    types = tuple(parse_type(t) for t in operands.split())
    op = known()[mnemonic](**attributes)
    return Case(op, types, SMALL, {k: parse_dim(v) for k, v in (below or {}).items()})


def spread(pattern: str, dtypes: tuple[DType, ...] = DTYPES) -> list[str]:
    """pattern with `?` replaced by each dtype's short name."""
    return [pattern.replace("?", SHORT[d]) for d in dtypes]


NUMBERS: tuple[DType, ...] = ("float32", "int64", "int32")
SHAPES = ("?[batch,tokens,16]", "?[batch,tokens]", "?[tokens,h]", "?[15]", "?[2,33]", "?[]", "?[0,3]", "?[3,1,h]")


def map_cases() -> Iterator[Case]:
    """Every primitive on every dtype that it takes, broadcast three ways."""
    patterns = {
        1: ("?[batch,tokens,17]",),
        2: ("?[batch,tokens,16] ?[16]", "?[batch,1,h] ?[tokens,1]", "?[] ?[33]"),
        3: ("b1[batch,tokens,1] ?[batch,tokens,16] ?[]",),
    }
    for row in prims.ROWS:
        if row.name == "cast":
            continue
        for dtype in DTYPES:
            given: tuple[DType, ...] = ("bool", dtype, dtype) if row.name == "where" else (dtype,) * row.arity
            for pattern in patterns[row.arity] if _takes(row.name, given) else ():
                yield case("map", pattern.replace("?", SHORT[dtype]), fn=row.name)


def _takes(name: str, dtypes: tuple[DType, ...]) -> bool:
    try:
        prims.result_dtype(name, dtypes)
    except OpError:
        return False
    return True


def move_cases() -> Iterator[Case]:
    """Ops that only move elements."""
    for text in spread("?[batch,tokens,12]"):
        yield case("reshape", text, shape=_dims("batch,tokens,3,4"))
        yield case("reshape", text, shape=_dims("batch,tokens*12"))
        yield case("reshape", text, shape=_dims("batch*tokens,12"))
        yield case("permute", text, perm=(1, 0, 2))
        yield case("permute", text, perm=(0, 2, 1))
    for text in spread("?[batch,tokens,4,8]", ("float32", "bool")):
        yield case("permute", text, perm=(0, 2, 1, 3))
        yield case("permute", text, perm=(0, 2, 3, 1))
        yield case("reshape", text, shape=_dims("batch,tokens,32"))
        yield case("reshape", text, shape=_dims("batch,tokens,2,16"))
    for text in spread("?[batch,1,h]"):
        yield case("expand", text, shape=_dims("batch,tokens,h"))
        yield case("expand", text, shape=_dims("3,batch,tokens,h"))
        yield case("slice", text, axis=2, start=0, stop=parse_dim("h"), step=2)
        yield case("flip", text, axes=(0, 2))
    for text in spread("?[batch,20]"):
        yield case("slice", text, axis=1, start=3, stop=19, step=1)
        yield case("slice", text, axis=1, start=1, stop=20, step=3)
        yield case("slice", text, axis=1, start=5, stop=5, step=1)
        yield case("flip", text, axes=(1,))
        yield case("pad", text, low=(0, 2), high=(1, 3), value=1)
        yield case("pad", text, low=(2, 0), high=(0, 0), value=0)
        yield case("concat", f"{text} {text} {text}", axis=1)
        yield case("concat", f"{text} {text}", axis=0)
    yield case("slice", "f32[batch,tokens,8]", axis=1, start=parse_dim("tokens-1"), stop=parse_dim("tokens"), step=1)
    yield case("pad", "f32[batch,tokens,8]", low=(0, 1, 0), high=(0, parse_dim("h"), 0), value=float("-inf"))
    yield case("concat", "f32[batch,1,8] f32[batch,tokens,8]", axis=1)
    yield case("concat", "f32[batch,tokens,3] f32[batch,tokens,40] f32[batch,tokens,1]", axis=2)
    for dtype in NUMBERS:
        yield case("iota", "", shape=_dims("batch,tokens"), axis=1, start=3, step=-2, dtype=dtype)
        yield case("iota", "", shape=_dims("17,3"), axis=0, dtype=dtype)
    for source in DTYPES:
        for target in DTYPES:
            yield case("cast", f"{SHORT[source]}[batch,tokens,9]", dtype=target)


def index_cases() -> Iterator[Case]:
    """Ops that read where data says."""
    for short in ("i64", "i32"):
        for text in spread("?[40,16]"):
            yield case("embedding", f"{text} {short}[batch,tokens]", {1: "40"})
        yield case("take", f"f32[batch,tokens,7] {short}[4,h]", {1: "tokens"}, axis=1)
        yield case("take", f"i64[tokens,7] {short}[]", {1: "7"}, axis=1)
        yield case("gather", f"f32[batch,tokens] {short}[batch,tokens]", {1: "tokens"}, axis=1)
        yield case("gather", f"b1[6,20] {short}[4,20]", {1: "6"}, axis=0)
        yield case("index", f"f32[5,tokens,3] {short}[h] {short}[2,1]", {1: "5", 2: "tokens"}, axes=(0, 1))
        yield case("index", f"f32[2,5,6] {short}[7] {short}[7]", {1: "5", 2: "6"}, axes=(1, 2))


def reduce_cases() -> Iterator[Case]:
    """Reductions over every position of axes."""
    kinds: dict[str, tuple[DType, ...]] = {
        "sum": NUMBERS, "prod": ("float32", "int64"), "max": NUMBERS, "min": ("float32", "int32"),
        "mean": ("float32",), "any": ("bool",), "all": ("bool",),
    }  # fmt: skip
    for kind, dtypes in kinds.items():
        for dtype in dtypes:
            short = SHORT[dtype]
            yield case("reduce", f"{short}[batch,tokens,16]", kind=kind, axes=(2,))
            yield case("reduce", f"{short}[batch,tokens,16]", kind=kind, axes=(1,), keepdims=True)
            yield case("reduce", f"{short}[tokens,h]", kind=kind, axes=(0, 1))
            yield case("reduce", f"{short}[tokens,h]", kind=kind, axes=(0,))
            yield case("reduce", f"{short}[tokens,h]", kind=kind, axes=(1,))
            yield case("reduce", f"{short}[batch,7,7,h]", kind=kind, axes=(1, 2))
            yield case("reduce", f"{short}[batch,3,7,7]", kind=kind, axes=(2, 3))
    yield case("reduce", "f32[batch,0]", kind="sum", axes=(1,))
    yield case("reduce", "f32[batch,130]", kind="max", axes=(0,))
    for axes in ((2,), (1,), (0, 2), (1, 2)):
        yield case("var", "f32[batch,tokens,33]", axes=axes, correction=0)
    yield case("var", "f32[tokens,h]", axes=(1,), correction=0, keepdims=True)


def whole_cases() -> Iterator[Case]:
    """Wholes that have a loop form to fall back on."""
    for axis in (0, 1, 2):
        yield case("softmax", "f32[batch,tokens,20]", axis=axis)
        yield case("log_softmax", "f32[batch,tokens,20]", axis=axis)
        yield case("cumsum", "f32[batch,tokens,5]", axis=axis)
    for name in ("argmax", "argmin"):
        for axis in (0, 1, 2):
            yield case(name, "f32[batch,tokens,20]", axis=axis, keepdims=axis == 1)
        yield case(name, "i64[tokens,h]", axis=1)
    yield case("cumsum", "i64[batch,tokens]", axis=1)
    yield case("softmax", "f32[tokens,h]", axis=0)
    yield case("softmax", "f32[h]", axis=0)
    for width in (1, 15, 64, 100):
        w = f"f32[{width}]"
        yield case("layer_norm", f"f32[batch,tokens,{width}] {w} {w}")
        yield case("rms_norm", f"f32[batch,tokens,{width}] {w}")
        yield case("l2_normalize", f"f32[batch,{width}]")
    yield case("layer_norm", "f32[batch,24] f32[batch,24]", weight=False, bias=False, residual=True)
    yield case("group_norm", "f32[batch,8,h,5] f32[8] f32[8]", groups=2)
    yield case("masked_mean", "f32[batch,tokens,24] b1[batch,tokens]")
    for dtype in NUMBERS:
        s = SHORT[dtype]
        yield case("matmul", f"{s}[batch,tokens,9] {s}[batch,9,h]")
        yield case("matmul", f"{s}[batch,tokens,40] {s}[h,40]", transpose_b=True)
    yield case("matmul", "f32[batch,1,tokens,h] f32[3,h,tokens]")
    none: dict[str, object] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    yield _conv("f32[batch,4,h,tokens] f32[6,4,1,1]", **none)
    yield _conv(
        "f32[batch,4,9,tokens] f32[6,2,3,3] f32[6]", stride=(2, 1), padding=((1, 1), (2, 0)), groups=2, bias=True
    )
    yield _conv("f32[batch,4,tokens] f32[4,1,3]", stride=(1,), padding=((2, 2),), dilation=(2,), groups=4)
    for kind in ("max", "avg"):
        window: dict[str, object] = {
            "kernel": (3, 2),
            "stride": (2, 2),
            "padding": ((1, 1), (0, 1)),
            "dilation": (1, 1),
        }
        yield _pool("f32[batch,3,9,11]", kind=kind, **window)
        yield case("pool", "f32[batch,3,tokens]", kind=kind, kernel=(1,), stride=(2,), padding=((0, 0),), dilation=(1,))


def _conv(operands: str, **attributes: object) -> Case:
    given: dict[str, object] = {"groups": 1, "bias": False, "activation": None, "dilation": (1, 1), **attributes}
    return case("conv", operands, None, **given)


def _pool(operands: str, **attributes: object) -> Case:
    return case("pool", operands, None, **attributes)


def _dims(text: str) -> tuple[Dim, ...]:
    return tuple(parse_dim(part) for part in text.split(","))


def all_cases() -> list[Case]:
    """Every case."""
    return [*map_cases(), *move_cases(), *index_cases(), *reduce_cases(), *whole_cases()]


assert set(SHORT.values()) == set(LONG)
