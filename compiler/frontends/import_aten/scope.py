"""What a handler works with: values, the op at hand, and the making of Graph nodes.

Value   := Node | Dim (an int or a symbolic size) | float | bool | str | None | [Value...] | KeyMask | Unwritten
Handler := (Scope, Value...) -> Value | (Value...)      one value per result
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from ...ir.dims import Dim, DimExpr, Range, bounds
from ...ir.graph import Node, Origin, make
from ...ir.ops import known as known_ops
from ...ir.ops.leaf import Constant, constant
from ...ir.ops.permute import Permute
from ...ir.types import DTYPES, DType, TensorType


@dataclass(frozen=True)
class KeyMask:
    """The keys that queries may see: `node` bool [B, S] or None (all), and the distance allowed to each side."""

    node: Node | None
    causal: bool = False
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Unwritten:
    """Memory of which only `parts`, each (first, last, node) along `axis`, are written: `unwritten.py`."""

    shape: tuple[Dim, ...]
    dtype: DType
    axis: int | None = None
    parts: tuple[tuple[Dim, Dim, Node], ...] = ()
    READ: ClassVar[str] = "memory is used before it is written"
    HINT: ClassVar[str] = "use zeros, ones, full or cat"


Value = Union[Node, Dim, float, bool, str, None, "list[Value]", KeyMask, Unwritten]
Handler = Callable[..., Any]


class Unsupported(Exception):
    """An op's arguments are outside what the Graph can say; `hint` is the nearest rewrite."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Result:
    """The MLIR type of one result. `refused` names a dtype that the Graph does not have; `shape` has None for `?`."""

    dtype: DType
    shape: tuple[int | None, ...]
    refused: str = ""


_VTENSOR = re.compile(r"!torch\.vtensor<\[([^\]]*)\],(\w+)>")
_MLIR_DTYPES: Mapping[str, DType] = {"f32": "float32", "si64": "int64", "si32": "int32", "i1": "bool"}
_REFUSED = {
    "f64": "float64", "f16": "float16", "bf16": "bfloat16", "ui8": "uint8", "si8": "int8", "si16": "int16",
    "complex<f32>": "complex64", "complex<f64>": "complex128",
}  # fmt: skip


def parse_result(text: str) -> Result:
    """The type of a result as MLIR prints it; scalars and lists give an empty shape."""
    match = _VTENSOR.fullmatch(text)
    if match is None:
        refused = "complex64" if "complex" in text else ""
        return Result("int64", (), refused)
    shape = tuple(None if d == "?" else int(d) for d in match[1].split(",") if d)
    if match[2] in _MLIR_DTYPES:
        return Result(_MLIR_DTYPES[match[2]], shape)
    return Result("float32", shape, _REFUSED.get(match[2], match[2]))


_HANDLERS: dict[str, Handler] = {}


def aten(*names: str) -> Callable[[Handler], Handler]:
    """Registers a handler under `aten.<name>` for each name; a name that has a dot and a known prefix stays as it is."""

    def register(handler: Handler) -> Handler:
        for name in names:
            full = name if name.startswith(("aten.", "prim.", "prims.", "constant.", "infc.")) else f"aten.{name}"
            assert full not in _HANDLERS, f"two handlers for {full}"
            _HANDLERS[full] = handler
        return handler

    return register


def handlers() -> dict[str, Handler]:
    """The table as registered so far."""
    return _HANDLERS


@dataclass(frozen=True)
class Scope:
    """The op at hand. Its methods make nodes that carry the op's origin."""

    origin: Origin
    results: tuple[Result, ...]
    dims: Mapping[str, Range]
    attribute: Any = None
    """MLIR's `value` attribute, for constants."""
    used: tuple[bool, ...] = ()
    """Whether anything reads each result."""

    @property
    def dtype(self) -> DType:
        """dtype of the first result."""
        return self.results[0].dtype

    def op(self, mnemonic: str, *operands: Node, **attributes: Any) -> Node:
        """A node of the op `mnemonic`. Raises OpError."""
        return make(known_ops()[mnemonic](**attributes), *operands, origin=self.origin)

    def map(self, fn: str, *operands: Node) -> Node:
        """Primitive fn over operands, broadcasting."""
        return self.op("map", *operands, fn=fn)

    def constant(self, value: float | bool, dtype: DType) -> Node:
        """A scalar."""
        typed = bool(value) if dtype == "bool" else float(value) if dtype == "float32" else int(value)
        return constant(typed, dtype, self.origin)

    def cast(self, node: Node, dtype: DType) -> Node:
        """node as dtype; node itself where it has it."""
        if node.type.dtype == dtype:
            return node
        if isinstance(node.op, Constant):
            return self.constant(node.op.value, dtype)
        return self.op("cast", node, dtype=dtype)

    def node(self, value: Value, dtype: DType) -> Node:
        """A tensor, number or dimension as a node of dtype."""
        if isinstance(value, Node):
            return self.cast(value, dtype)
        if isinstance(value, DimExpr):
            return self.cast(self.size(value), dtype)
        if isinstance(value, (bool, int, float)):
            return self.constant(value, dtype)
        if isinstance(value, Unwritten):
            raise Unsupported(Unwritten.READ, Unwritten.HINT)
        raise Unsupported(f"a tensor or a number is needed, not {value!r}")

    def size(self, dim: Dim) -> Node:
        """A dimension as an int64 scalar: the sum of that many ones."""
        if isinstance(dim, int):
            return self.constant(dim, "int64")
        low, _ = bounds(dim, self.dims)
        if low < 0:
            total: Node = self.constant(0, "int64")
            for monomial, factor in dim.terms:
                part = self.size(DimExpr(((monomial, 1),))) if monomial else self.constant(1, "int64")
                total = self.map("add", total, self.map("mul", part, self.constant(factor, "int64")))
            return total
        ones = self.op("iota", shape=(dim,), axis=0, start=1, step=0, dtype="int64")
        return self.op("reduce", ones, kind="sum", axes=(0,), keepdims=False)

    def reshape(self, x: Node, shape: tuple[Dim, ...]) -> Node:
        """x in another shape; x itself where it has it. A reshape of a reshape is one."""
        if x.type.shape == shape:
            return x
        if x.op.mnemonic == "reshape":
            return self.reshape(x.operands[0], shape)
        return self.op("reshape", x, shape=shape)

    def permute(self, x: Node, perm: tuple[int, ...]) -> Node:
        """x with axes in the order perm; a permute of a permute is one, and none where nothing moves."""
        if isinstance(x.op, Permute):
            inner = x.op.perm
            return self.permute(x.operands[0], tuple(inner[p] for p in perm))
        if perm == tuple(range(len(perm))):
            return x
        return self.op("permute", x, perm=perm)

    def expand(self, x: Node, shape: tuple[Dim, ...]) -> Node:
        """x broadcast to shape."""
        return x if x.type.shape == shape else self.op("expand", x, shape=shape)

    def slice(self, x: Node, axis: int, start: Dim, stop: Dim, step: int = 1) -> Node:
        """x[..., start:stop:step, ...]; x itself for all of it."""
        if start == 0 and stop == x.type.shape[axis] and step == 1:
            return x
        return self.op("slice", x, axis=axis, start=start, stop=stop, step=step)


def tensor(value: Value, what: str = "operand") -> Node:
    """value as a Node. Raises Unsupported."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Unwritten):
        raise Unsupported(Unwritten.READ, Unwritten.HINT)
    plain = value is None or isinstance(value, int | float | str | list)
    raise Unsupported(f"{what} is no tensor but {repr(value)[:80] if plain else type(value).__name__}")


def shape_of(value: Value) -> tuple[Dim, ...]:
    """The shape of a tensor, or of memory that is not written yet. Raises Unsupported."""
    return value.shape if isinstance(value, Unwritten) else tensor(value).type.shape


def axis_of(axis: Value, rank: int) -> int:
    """axis in 0..rank-1. Raises Unsupported."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise Unsupported(f"the axis {axis} is not a constant")
    if not -max(rank, 1) <= axis < max(rank, 1):
        raise Unsupported(f"the axis {axis} is outside a tensor of rank {rank}")
    return axis % max(rank, 1)


def axes_of(axes: Value, rank: int) -> tuple[int, ...]:
    """A list of axes (None or empty: all), sorted, in 0..rank-1."""
    if axes is None or axes == []:
        return tuple(range(rank))
    listed = axes if isinstance(axes, list) else [axes]
    return tuple(sorted(axis_of(a, rank) for a in listed))


def static(value: Value, what: str) -> int:
    """value as a constant integer. Raises Unsupported naming what."""
    if isinstance(value, int):
        return int(value)
    raise Unsupported(f"{what} must be a constant integer, not {value}")


def number(value: Value, what: str) -> float:
    """value as a constant number. Raises Unsupported naming what."""
    if isinstance(value, (int, float)):
        return value
    raise Unsupported(f"{what} must be a constant number, not {value}")


def dims_of(value: Value, what: str) -> tuple[Dim, ...]:
    """A list of sizes."""
    listed: list[Any] = value if isinstance(value, list) else [value]
    for d in listed:
        if isinstance(d, bool) or not isinstance(d, (int, DimExpr)):
            raise Unsupported(f"{what} has an extent that depends on data", "use sizes of inputs or constants")
    return tuple(listed)


def torch_dtype(code: Value) -> DType:
    """The dtype of torch's integer code (0 uint8, 3 int32, 4 int64, 6 float32, 11 bool, ...). Raises Unsupported."""
    names = {
        0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
        8: "complex32", 9: "complex64", 10: "complex128", 11: "bool", 15: "bfloat16",
    }  # fmt: skip
    name = names.get(code, str(code)) if isinstance(code, int) else str(code)
    if name not in DTYPES:
        raise Unsupported(f"the dtype {name} is not supported (float32, int64, int32, bool are)")
    return name


def broadcast(*types: TensorType) -> tuple[Dim, ...]:
    """The shape that operands broadcast to. Raises Unsupported."""
    rank = max((t.rank for t in types), default=0)
    out: list[Dim] = []
    for k in range(rank):
        found: Dim = 1
        for t in types:
            d = t.shape[k - rank + t.rank] if k - rank + t.rank >= 0 else 1
            if d == 1 or d == found:
                continue
            if found != 1:
                raise Unsupported(f"the shapes {', '.join(str(t) for t in types)} do not broadcast")
            found = d
        out.append(found)
    return tuple(out)
