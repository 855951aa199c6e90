"""Program → TVM tensor IR, compiled to an object with a C entry, or the reason why not.

    for n in begin..end                       rows: outermost
        values that do not change along a row
        for chunk: for lane (vectorized)      the innermost axis in whole vectors
            out[...] = ...
        for rest                              what is left, peeled: TVM vectorizes no symbolic extent
            out[...] = ...

One function, everything inlined. The arithmetic is that of the C printer, operation by operation: functions come from
prelude.h's own text (formulas.py), and every float result is fenced (`llvm.arithmetic.fence`, which costs nothing),
since TVM simplifies floats as if they were integers, (y + c) - c to y, and lets LLVM contract a*b + c; for the former
reason TVM's simplifying passes do not run either (tvm_object.py). So an element has the same bits whoever printed it.

Buffers are declared with their natural alignment: TVM assumes 64 bytes otherwise, and faults on a row's pointer.
Untyped: only this module, tvm_arithmetic.py and tvm_object.py touch tvm, which is imported late (seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....compiler.ir.types import DType
from ..isa import Isa
from . import polynomial
from .formulas import Function, formulas
from .lower import FLAT_AXIS, LANES, Mode, Program, identity
from .nest import Nest, plan
from .polynomial import Poly
from .spell import FLOAT_FUNCTIONS
from .tvm_arithmetic import Arithmetic, Block, Refuse

VECTOR = 16
"""Most lanes of a vectorized loop; LLVM cuts them into registers."""
LARGEST_BODY = 400
"""Values of a body, beyond which clang does better in less time."""
_LONG = frozenset({"exp", "log", "tanh", "erf", "pow", "sin", "cos", "gelu", "gelu_tanh", "silu", "sigmoid"})
"""Functions of several statements. TVM's vectorizer repeats names for what they stand for: one function of another takes it
10 s to compile, one of two others minutes."""
_TYPES: dict[DType, str] = {"float32": "float32", "int64": "int64", "int32": "int32", "bool": "uint8"}
_COMPARE: dict[str, str] = {"eq": "EQ", "ne": "NE", "lt": "LT", "le": "LE", "gt": "GT", "ge": "GE"}


@dataclass(frozen=True)
class Refused:
    """Why TVM does not print a loop; the C printer does."""

    reason: str


@dataclass(frozen=True)
class TensorIr:
    """`function` is a tirx PrimFunc over (begin, end, sizes..., [row_of, pos_of,] out, operands...). `sizes` are the
    symbols passed, `operands` the numbers of the operands that are read, `tables` which of row_of, pos_of are."""

    function: Any
    nest: Nest
    sizes: tuple[str, ...]
    operands: tuple[int, ...]
    tables: tuple[str, ...]


def tensor_ir(program: Program, isa: Isa) -> TensorIr | Refused:
    """program in TVM's IR. Raises InfcError (exit 6) where TVM is not installed."""
    try:
        nest = _suitable(program)
        return _Builder(program, nest, formulas(isa)).build()
    except Refuse as refusal:
        return Refused(str(refusal))


def _suitable(program: Program) -> Nest:
    """The nest, where the shape of the loop is one that TVM vectorizes."""
    reduced = next((t for t in (program.out, *(o.type for o in program.operands)) if t.dtype not in _TYPES), None)
    if reduced is not None:
        raise Refuse(f"{reduced.dtype} is moved by C")
    values = program.values
    if program.body is None:
        raise Refuse("the result is empty")
    nest = plan(program)
    if nest.tiled and (not nest.vector_is_range or nest.serial):
        raise Refuse("a reduction changes along the innermost axis")
    reachable = values.reachable(program.body)
    if len(reachable) > LARGEST_BODY:
        raise Refuse(f"the body has {len(reachable)} values, more than {LARGEST_BODY}")
    chain: dict[int, int] = {}
    for v in reachable:
        inside = max((chain.get(child, 0) for child in values.children(v)), default=0)
        chain[v] = inside + (values[v].op == "prim" and values[v].data in _LONG)
    if chain[program.body] > 1:
        raise Refuse("a function of a function takes TVM too long to compile")
    if any(values[v].op == "load" and not values.truth(values[v].args[1]) for v in reachable):
        raise Refuse("a load is guarded against leaving its operand")
    return nest


class _Builder(Arithmetic):
    """Builds one function. Not reentrant; made anew for each."""

    def __init__(self, program: Program, nest: Nest, functions: Mapping[str, Function]) -> None:
        super().__init__(functions)
        self.program = program
        self.values = program.values
        self.nest = nest
        self.buffers: dict[int | str, Any] = {}
        self.sizes: dict[str, Any] = {}
        self.axes: dict[int, Any] = {}
        self.begin, self.end = self.variable("begin"), self.variable("end")

    def build(self) -> TensorIr:
        tir = self.tir
        root = Block(None, frozenset())
        root.statements += self.rows(root)
        names = sorted(self.sizes)
        operands = tuple(sorted(k for k in self.buffers if isinstance(k, int)))
        tables = tuple(t for t in ("row_of", "pos_of") if t in self.buffers)
        parameters = [self.begin, self.end, *(self.sizes[s] for s in names)]
        parameters += [self.buffers[k] for k in (*tables, "out", *operands)]
        function = tir.PrimFunc(parameters, self.sequence(root.statements)).with_attr("tirx.noalias", True)
        return TensorIr(function, self.nest, tuple(names), operands, tables)

    # Names, constants, statements.

    def sequence(self, statements: list[Any]) -> Any:
        return statements[0] if len(statements) == 1 else self.tir.SeqStmt(statements)

    def loop(self, name: Any, extent: Any, body: list[Any], *, vector: bool = False) -> Any:
        kind = self.tir.ForKind.VECTORIZED if vector else self.tir.ForKind.SERIAL
        return self.tir.For(name, self.integer(0), extent, kind, self.sequence(body))

    def buffer(self, key: int | str, dtype: str) -> Any:
        """The parameter for operand number `key`, "out", "row_of" or "pos_of": one axis of unknown length."""
        found = self.buffers.get(key)
        if found is None:
            size = self.variable("length")
            width = 1 if dtype == "uint8" else 8 if dtype == "int64" else 4
            name = f"x{key}" if isinstance(key, int) else key
            found = self.buffers[key] = self.tir.decl_buffer((size,), dtype, name, data_alignment=width)
        return found

    # Loops.

    def rows(self, root: Block) -> list[Any]:
        nest = self.nest
        if nest.vector is not None and nest.vector_is_range and not nest.tiled:
            return self.lanes(root, nest.vector, self.begin, self.end - self.begin, None)
        block = Block(root, root.bound | frozenset(nest.range_axes))
        step = self.variable("row")
        at = self.bind(block, self.begin + step, "int64")
        for k in reversed(nest.range_axes[1:]):
            extent = self.emit(self.values.of_poly(self.values.extents[k]), root)
            self.axes[k] = self.bind(block, self.tir.truncmod(at, extent), "int64")
            at = self.bind(block, self.tir.truncdiv(at, extent), "int64")
        if nest.range_axes:
            self.axes[nest.range_axes[0]] = at
        inner = self.serial(block, nest.serial, self.row)
        return [self.loop(step, self.end - self.begin, [*block.statements, *inner])]

    def row(self, block: Block) -> list[Any]:
        """The store for one row: over its innermost axis, or of its one element."""
        axis = self.nest.vector
        if axis is None or self.nest.vector_is_range:
            inner = Block(block, block.bound)
            self.store(inner)
            return inner.statements
        poly = self.values.extents[axis]
        return self.lanes(block, axis, self.integer(0), self.poly(poly, block), polynomial.as_constant(poly))

    def serial(self, block: Block, axes: tuple[int, ...], inside: Callable[[Block], list[Any]]) -> list[Any]:
        if not axes:
            return inside(block)
        inner = Block(block, block.bound | {axes[0]})
        self.axes[axes[0]] = self.variable("i")
        extent = self.emit(self.values.of_poly(self.values.extents[axes[0]]), block)
        body = self.serial(inner, axes[1:], inside)
        return [self.loop(self.axes[axes[0]], extent, [*inner.statements, *body])]

    def lanes(self, block: Block, axis: int, low: Any, count: Any, static: int | None) -> list[Any]:
        """The store for `count` elements of axis from low: vectors, then the rest one by one. `static`: count, if fixed."""
        width = VECTOR
        while static is not None and width > max(1, static):
            width //= 2
        lane, chunk, rest = self.variable("lane"), self.variable("chunk"), self.variable("rest")
        whole = self.integer(static // width) if static is not None else self.tir.truncdiv(count, self.integer(width))
        self.axes[axis] = low + (chunk * width + lane)
        vectors = Block(block, block.bound | {axis}, lane=True)
        self.store(vectors)
        loops = [self.loop(chunk, whole, [self.loop(lane, self.integer(width), vectors.statements, vector=width > 1)])]
        if static is None or static % width:
            self.axes[axis] = low + (whole * width + rest)
            single = Block(block, block.bound | {axis}, lane=True)
            self.store(single)
            loops.append(self.loop(rest, count - whole * width, single.statements))
        return loops

    def store(self, block: Block) -> None:
        assert self.program.body is not None
        value = self.stored(self.emit(self.program.body, block), self.program.out.dtype)
        out = self.buffer("out", _TYPES[self.program.out.dtype])
        where = self.poly(self.values.poly(self.program.offset), block)
        block.statements.append(self.tir.BufferStore(out, value, [where]))

    def stored(self, value: Any, dtype: DType) -> Any:
        if dtype != "bool":
            return value
        return self.tir.Select(value, self.integer(1, "uint8"), self.integer(0, "uint8"))

    # Values.

    def emit(self, number: int, block: Block) -> Any:
        """The value as an expression usable in block; what has to be bound is bound as far out as it can be."""
        value = self.values[number]
        if value.op == "literal":
            return self.literal(float("nan") if value.data[1] is None else value.data[1], value.dtype)
        if value.op == "poly" and polynomial.as_constant(value.data) is not None:
            return self.integer(polynomial.as_constant(value.data) or 0)
        at: Block | None = block
        while at is not None:
            if number in at.known:
                return at.known[number]
            at = at.parent
        needs = self.program.depends(number)
        while block.parent is not None and needs <= block.parent.bound:
            block = block.parent
        result = self._emit(number, block)
        if value.dtype != "bool" and value.op not in ("axis", "size"):
            result = self.bind(block, result, value.dtype)  # a bool vector cannot be bound
        block.known[number] = result
        return result

    def _emit(self, number: int, block: Block) -> Any:
        value = self.values[number]
        if value.op == "axis":
            if self.program.mode is Mode.FLAT and value.data in (0, 1):
                table = self.buffer("row_of" if value.data == 0 else "pos_of", "int32")
                row = self.tir.BufferLoad(table, [self.axes[FLAT_AXIS]])
                return self.bind(block, self.tir.Cast("int64", row), "int64")
            return self.axes[value.data]
        if value.op == "size":
            if value.data[0] not in self.sizes:
                self.sizes[value.data[0]] = self.variable(value.data[0])
            return self.sizes[value.data[0]]
        if value.op == "poly":
            return self.poly(value.data, block)
        if value.op == "load":
            buffer = self.buffer(value.data, _TYPES[value.dtype])
            element = self.tir.BufferLoad(buffer, [self.poly(self.values.poly(value.args[0]), block)])
            return element != self.integer(0, "uint8") if value.dtype == "bool" else element
        if value.op == "reduce":
            return self.reduce(number, block)
        arguments = [self.emit(a, block) for a in value.args]
        return self.prim(value.data, value.dtype, self.values[value.args[-1]].dtype, arguments, block)

    def poly(self, poly: Poly, block: Block) -> Any:
        if not self.values.known(poly):
            raise Refuse("integers of the data may wrap around, which TVM leaves undefined")
        total: Any = None
        for monomial, coefficient in reversed(poly):
            term: Any = None
            for atom in monomial:
                factor = self.emit(atom, block)
                term = factor if term is None else term * factor
            term = self.integer(coefficient) if term is None else term if coefficient == 1 else term * coefficient
            total = term if total is None else total + term
        return self.integer(0) if total is None else total

    def prim(self, name: str, dtype: DType, source: DType, args: list[Any], block: Block) -> Any:
        """A primitive; `source` is the last argument's dtype."""
        tir = self.tir
        if name == "where":
            return (
                tir.Select(*args)
                if dtype != "bool"
                else tir.Or(tir.And(args[0], args[1]), tir.And(tir.Not(args[0]), args[2]))
            )
        if name == "cast":
            return self.cast(args[0], source, dtype, block)
        if source == "bool":
            return self.logic(name, args)
        if name == "ne" and source == "float32":
            return tir.Not(tir.EQ(*args))  # TVM's NE of floats is false where one is NaN
        if name in _COMPARE:
            return getattr(tir, _COMPARE[name])(*args)
        if dtype == "float32":
            if name in ("add", "sub", "mul", "div", "neg"):
                return self.operator(
                    {"add": "+", "sub": "-", "mul": "*", "div": "/", "neg": "neg"}[name], args, [False, False]
                )
            return self.call(FLOAT_FUNCTIONS[name], args, block)
        if name in ("min", "max"):
            return tir.Select(args[0] < args[1] if name == "min" else args[0] > args[1], args[0], args[1])
        if name in ("bitand", "bitor", "bitxor"):
            return {"bitand": tir.bitwise_and, "bitor": tir.bitwise_or, "bitxor": tir.bitwise_xor}[name](*args)
        raise Refuse(f"{name} on {dtype} may wrap around or divide by zero, which TVM leaves undefined")

    def logic(self, name: str, args: list[Any]) -> Any:
        tir = self.tir
        if name == "not":
            return tir.Not(args[0])
        if name in ("and", "or"):
            return (tir.And if name == "and" else tir.Or)(*args)
        a, b = args
        same = tir.Or(tir.And(a, b), tir.And(tir.Not(a), tir.Not(b)))
        if name == "eq":
            return same
        if name in ("ne", "xor"):
            return tir.Not(same)
        raise Refuse(f"{name} on bool")

    def cast(self, value: Any, source: DType, dtype: DType, block: Block) -> Any:
        tir = self.tir
        if dtype == "bool":
            zero = self.literal(0, source)
            return tir.Not(tir.EQ(value, zero))
        if source == "bool":
            return tir.Select(value, self.literal(1, dtype), self.literal(0, dtype))
        if source == "float32" and dtype == "int64":
            bound = self.real(float(2**63))
            inside = tir.And(value >= self.real(-float(2**63)), value < bound)
            return tir.Select(inside, tir.Cast("int64", value), self.integer(-(2**63)))
        if source == "float32":
            return self.call("infc_i32_of_float", [value], block)
        return tir.Cast(dtype, value)

    # Reductions of a whole row, before its loop over lanes.

    def reduce(self, number: int, block: Block) -> Any:
        value = self.values[number]
        kind, axes, order = value.data
        if kind not in ("max", "min") and value.dtype != "float32":
            raise Refuse(f"a reduction ({kind}) of {value.dtype}")
        if block.lane:
            raise Refuse("a reduction changes along the innermost axis")
        width = LANES if order == "lanes" else 1
        dtype = value.dtype
        extent = self.values.extents[axes[-1]]
        static = polynomial.as_constant(extent)
        name = self.variable("sum").name
        total = self.tir.decl_buffer((width,), dtype, name, data_alignment=64)
        block.statements.append(self.tir.AllocBuffer(total))
        start = self.literal(identity(kind, value.dtype), value.dtype)
        self.each_lane(block, total, width, lambda _lane, _at: start)

        def accumulate(inner: Block) -> list[Any]:
            body = self.emit(value.args[0], inner)
            zero = self.integer(0)
            old = self.bind(inner, self.tir.BufferLoad(total, [zero]), dtype)
            return [self.tir.BufferStore(total, self.combine(kind, dtype, old, body, inner), [zero])]

        def step(outer: Block, lanes: Any, first: Any, vector: bool) -> Any:
            """Adds elements first..first+lanes to the lanes from 0 up."""
            lane = self.variable("lane")
            inner = Block(outer, outer.bound | {axes[-1]}, lane=True)
            self.axes[axes[-1]] = first + lane
            body = self.emit(value.args[0], inner)
            old = self.bind(inner, self.tir.BufferLoad(total, [lane]), dtype)
            inner.statements.append(self.tir.BufferStore(total, self.combine(kind, dtype, old, body, inner), [lane]))
            return self.loop(lane, lanes, inner.statements, vector=vector)

        def chunks(outer: Block) -> list[Any]:
            size = self.poly(extent, outer)
            whole = self.tir.truncdiv(size, self.integer(LANES))
            chunk = self.variable("chunk")
            loops = [self.loop(chunk, whole, [step(outer, self.integer(LANES), chunk * LANES, True)])]
            if static is None or static % LANES:
                loops.append(step(outer, size - whole * LANES, whole * LANES, False))
            return loops

        if order == "lanes":
            block.statements += self.serial(block, axes[:-1], chunks)
            half = LANES // 2
            while half:
                self.fold(block, total, kind, dtype, half)
                half //= 2
        else:
            block.statements += self.serial(block, axes, accumulate)
        return self.tir.BufferLoad(total, [self.integer(0)])

    def combine(self, kind: str, dtype: DType, a: Any, b: Any, block: Block) -> Any:
        if dtype != "float32":
            return self.prim(kind, dtype, dtype, [a, b], block)
        if kind in ("max", "min"):
            return self.call(f"infc_{kind}f", [a, b], block)
        return self.operator("+" if kind == "sum" else "*", [a, b], [False, False])

    def each_lane(self, block: Block, buffer: Any, width: int, make: Callable[[Any, Block], Any]) -> None:
        lane = self.variable("lane")
        inner = Block(block, block.bound, lane=True)
        value = make(lane, inner)
        inner.statements.append(self.tir.BufferStore(buffer, value, [lane]))
        block.statements.append(self.loop(lane, self.integer(width), inner.statements, vector=width > 1))

    def fold(self, block: Block, buffer: Any, kind: str, dtype: DType, half: int) -> None:
        """lane j takes lane j + half."""

        def folded(lane: Any, inner: Block) -> Any:
            left = self.bind(inner, self.tir.BufferLoad(buffer, [lane]), dtype)
            right = self.bind(inner, self.tir.BufferLoad(buffer, [lane + half]), dtype)
            return self.combine(kind, dtype, left, right, inner)

        self.each_lane(block, buffer, half, folded)
