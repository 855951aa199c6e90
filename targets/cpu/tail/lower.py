"""Loop form → Program: values with linear element offsets, over as few axes as the accesses allow.

    before   out[i0, i1, i2] = x[i0, i2 // 32, i1, i2 % 32]          f32[batch,tokens,384] of f32[batch,12,tokens,32]
    after    out[n, i1, a, b] = x[...] at n*384*tokens + a*32*tokens + i1*32 + b      i2 split into a, b

1. Each Load becomes an offset into its operand's contiguous array; indices that are not proved in bounds get the guard
   of the `where` around them, so that they are read under it only; indices that come from data are clamped.
2. An axis under `//` and `%` by a divisor of its extent is split in two; the division goes away.
3. Adjacent axes that every access walks as one are merged (those of reductions too).
4. Each reduction is given its order of additions.

FLAT: axes 0 and 1 of the output are walked as one axis n over all tokens (number FLAT_AXIS); where they are used for
anything but a TOKEN operand's first two indices, axis 0 is `row_of[n]` and axis 1 is `pos_of[n]`.

**Invariant**: the order of additions follows from the loop form alone, so FLAT and DENSE give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Literal as Choice

from ....compiler.errors import Exit, InfcError
from ....compiler.ir import dims, loops
from ....compiler.ir.dims import Dim, Range
from ....compiler.ir.types import DType, TensorType
from ....compiler.passes.placement import Place
from . import polynomial
from .index import Value, Values
from .polynomial import Poly

Order = Choice["sequence", "lanes"]

FLAT_AXIS = -1
LANES = 16
"""A reduction along contiguous elements adds element k to lane k % LANES, then folds lanes 8 apart, 4, 2, 1."""


class Mode(Enum):
    """How a loop is walked."""

    DENSE = "dense"
    """A nest over the output's shape; operands are contiguous arrays of their types."""
    FLAT = "flat"
    """The output is [batch, length, ...], stored one token after another: one walk over the tokens of all rows."""


@dataclass(frozen=True)
class OperandDesc:
    """An operand's type and, for FLAT loops, where it is stored."""

    type: TensorType
    place: Place = Place.LOCAL


@dataclass(frozen=True)
class Program:
    """What a printer needs. `axes`: the output's axes, outermost first; `body`: the element's value; `offset`: where it
    is stored, in elements. An output without elements has body None."""

    values: Values
    operands: tuple[OperandDesc, ...]
    out: TensorType
    mode: Mode
    axes: tuple[int, ...]
    body: int | None
    offset: int = 0
    free: dict[int, frozenset[int]] = field(default_factory=dict[int, frozenset[int]])

    def depends(self, number: int) -> frozenset[int]:
        """Axes that the value changes with; in FLAT, axes 0 and 1 count as FLAT_AXIS."""
        found = self.free.get(number)
        if found is None:
            value = self.values[number]
            if value.op == "axis":
                flat = self.mode is Mode.FLAT and value.data in (0, 1)
                found = frozenset((FLAT_AXIS if flat else value.data,))
            else:
                found = frozenset[int]().union(*(self.depends(c) for c in self.values.children(number)))
                if value.op == "reduce":
                    found -= frozenset(value.data[1])
            self.free[number] = found
        return found


def lower_loop(
    name: str,
    loop: loops.Loop,
    operands: tuple[OperandDesc, ...],
    mode: Mode,
    ranges: Mapping[str, Range] | None = None,
) -> Program:
    """The Program of loop. `ranges` bounds its symbols (default: at least 1). Raises InfcError (exit 1) naming `name`
    where the loop cannot run in the mode: a placement that the access does not fit is a mistake of the analysis."""
    lowering = _Lowering(name, loop, operands, mode, Values(ranges or {}))
    program = lowering.run()
    if program.body is None:
        return program
    program = _merge(_choose_orders(_merge(_split(program), reductions=True)), reductions=False)
    if mode is Mode.FLAT:
        _check_flat(name, loop, program)
    return program


def _fail(name: str, why: str) -> InfcError:
    return InfcError(f"tail kernel of {name}: {why}", exit_code=Exit.INTERNAL)


@dataclass
class _Lowering:
    """The translation of expressions; memoized, since bodies share sub-expressions."""

    name: str
    loop: loops.Loop
    operands: tuple[OperandDesc, ...]
    mode: Mode
    values: Values
    memo: dict[tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]], int] = field(
        default_factory=dict[tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]], int]
    )
    reduce_names: dict[tuple[int, Poly, int], int] = field(default_factory=dict[tuple[int, Poly, int], int])

    def run(self) -> Program:
        out, values = self.loop.out, self.values
        extents = [values.of_dim(d) for d in out.shape]
        if any(e == polynomial.ZERO for e in extents):
            return Program(values, self.operands, out, self.mode, (), None)
        axes = [values.axis(k, e) for k, e in enumerate(extents)]
        numbers = [values[a].data for a in axes if values[a].op == "axis"]
        offset = _row_major([values.poly(a) for a in axes], extents)
        if self.mode is Mode.FLAT:
            if out.rank < 2:
                raise _fail(self.name, f"the result {out} has no token axis")
            flat = values.axis(FLAT_AXIS, values.poly(values.size("", longest=True)))
            inner = polynomial.product(extents[2:])
            rest = _row_major([values.poly(a) for a in axes[2:]], extents[2:])
            offset = polynomial.add(polynomial.mul(values.poly(flat), inner), rest)
            numbers = [FLAT_AXIS, *(n for n in numbers if n > 1)]
        body = self.translate(self.loop.body, (), tuple(enumerate(axes)), ())
        return Program(values, self.operands, out, self.mode, tuple(numbers), body, values.of_poly(offset))

    def translate(
        self, expr: loops.Expr, guards: tuple[int, ...], env: tuple[tuple[int, int], ...], pins: tuple[int, ...]
    ) -> int:
        """The value of expr under guards; env maps axis numbers to values, pins are the enclosing reductions' axes."""
        key = (id(expr), guards, env)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._translate(expr, guards, env, pins)
        return found

    def _translate(
        self, expr: loops.Expr, guards: tuple[int, ...], env: tuple[tuple[int, int], ...], pins: tuple[int, ...]
    ) -> int:
        values = self.values
        if isinstance(expr, loops.Axis):
            for number, value in reversed(env):
                if number == expr.number:
                    return value
            raise _fail(self.name, f"axis {expr.number} is not bound")
        if isinstance(expr, loops.Size):
            return values.of_poly(values.of_dim(expr.dim))
        if isinstance(expr, loops.Literal):
            return values.literal(expr.value, expr.dtype)
        if isinstance(expr, loops.Load):
            return self._load(expr, guards, env, pins)
        if isinstance(expr, loops.Reduce):
            return self._reduce(expr, guards, env, pins)
        if expr.name == "where":
            condition = self.translate(expr.args[0], guards, env, pins)
            known = values.truth(condition)
            if known is not None:
                return self.translate(expr.args[1 if known else 2], guards, env, pins)
            inverse = values.prim("not", "bool", condition)
            yes = self.translate(expr.args[1], (*guards, condition), env, pins)
            no = self.translate(expr.args[2], (*guards, inverse), env, pins)
            return values.prim("where", expr.dtype, condition, yes, no)
        if expr.name == "cast" and expr.args[0].dtype == expr.dtype:
            return self.translate(expr.args[0], guards, env, pins)
        return values.prim(expr.name, expr.dtype, *(self.translate(a, guards, env, pins) for a in expr.args))

    def _load(
        self, expr: loops.Load, guards: tuple[int, ...], env: tuple[tuple[int, int], ...], pins: tuple[int, ...]
    ) -> int:
        values, desc = self.values, self.operands[expr.operand]
        if len(expr.index) != desc.type.rank:
            raise _fail(self.name, f"operand {expr.operand} {desc.type} is read with {len(expr.index)} indices")
        indices: list[Poly] = []
        safe = True
        for sub, dim in zip(expr.index, desc.type.shape, strict=True):
            number = self.translate(sub, guards, env, pins)
            last = polynomial.sub(values.of_dim(dim), polynomial.ONE)
            poly = values.poly(number)
            if not values.known(poly):  # from data
                number = values.prim("min", "int64", number, values.of_poly(last))
                number = values.prim("max", "int64", number, values.of_poly(polynomial.ZERO))
                poly = values.poly(number)
                safe = safe and values.nonnegative(last)
            else:
                safe = safe and values.nonnegative(poly) and values.nonnegative(polynomial.sub(last, poly))
            indices.append(poly)
        guard = values.literal(True, "bool")
        if not safe:
            for condition in guards:
                guard = values.prim("and", "bool", guard, condition)
        offset = values.of_poly(self._offset(expr.operand, indices))
        kept = pins if not safe and values.truth(guard) else ()
        return values.intern(Value("load", expr.dtype, (offset, guard, *kept), expr.operand))

    def _offset(self, operand: int, indices: list[Poly]) -> Poly:
        values, desc = self.values, self.operands[operand]
        if self.mode is Mode.FLAT and desc.place is Place.TOKEN:
            expected = [values.poly(values.axis(k, values.of_dim(d))) for k, d in enumerate(self.loop.out.shape[:2])]
            if indices[:2] != expected:
                raise _fail(self.name, f"operand {operand} is stored by token but is not read at the result's token")
            extents = [values.of_dim(d) for d in desc.type.shape[2:]]
            token = values.poly(values.intern(Value("axis", "int64", (), FLAT_AXIS)))
            return polynomial.add(polynomial.mul(token, polynomial.product(extents)), _row_major(indices[2:], extents))
        longest = self.mode is Mode.FLAT and desc.place is Place.PREFIX
        return _row_major(indices, [values.of_dim(d, longest=longest) for d in desc.type.shape])

    def _reduce(
        self, expr: loops.Reduce, guards: tuple[int, ...], env: tuple[tuple[int, int], ...], pins: tuple[int, ...]
    ) -> int:
        values = self.values
        inner: list[int] = []
        for number, extent in expr.axes:
            size = values.of_dim(extent)
            if size == polynomial.ZERO:
                return values.literal(identity(expr.kind, expr.dtype), expr.dtype)
            value = values.axis(self._rename(number, size, pins), size)
            env = (*env, (number, value))
            if values[value].op == "axis":
                inner.append(value)
                pins = (*pins, value)
        body = self.translate(expr.body, guards, env, pins)
        if not inner:
            return body
        return reduction(values, expr.kind, expr.dtype, tuple(values[a].data for a in inner), body)

    def _rename(self, number: int, size: Poly, pins: tuple[int, ...]) -> int:
        """A number of its own for each (axis, extent, how often it is shadowed); equal reductions stay equal."""
        taken = {self.values[p].data for p in pins}
        depth = 0
        while True:
            fresh = self.reduce_names.setdefault((number, size, depth), 1000 + len(self.reduce_names))
            if fresh not in taken:
                return fresh
            depth += 1


def reduction(
    values: Values, kind: str, dtype: DType, axes: tuple[int, ...], body: int, order: Order = "sequence"
) -> int:
    """A reduce value."""
    return values.intern(Value("reduce", dtype, (body,), (kind, axes, order)))


def identity(kind: str, dtype: DType) -> float | int | bool:
    """What a reduction over nothing gives."""
    if kind in ("any", "all"):
        return kind == "all"
    if kind in ("sum", "prod"):
        return (0.0 if kind == "sum" else 1.0) if dtype == "float32" else int(kind == "prod")
    lowest = kind == "max"
    if dtype == "float32":
        return float("-inf") if lowest else float("inf")
    if dtype == "bool":
        return not lowest
    bits = 63 if dtype == "int64" else 31
    return -(2**bits) if lowest else 2**bits - 1


def _row_major(indices: list[Poly], extents: list[Poly]) -> Poly:
    total = polynomial.ZERO
    for number, extent in zip(indices, extents, strict=True):
        total = polynomial.add(polynomial.mul(total, extent), number)
    return total


# Splitting and merging axes.


def _fresh(values: Values) -> int:
    return max(999, *values.extents) + 1


def _rebuild(
    program: Program, by: Mapping[int, int], axes: tuple[int, ...], reduce_axes: Mapping[int, tuple[int, ...]]
) -> Program:
    values = program.values
    assert program.body is not None
    body = values.replace_axes(program.body, by, reduce_axes)
    offset = values.replace_axes(program.offset, by, {})
    return Program(values, program.operands, program.out, program.mode, axes, body, offset)


def _split(program: Program) -> Program:
    """i // c and i % c, for a c that divides i's extent → i is split into two axes."""
    values = program.values
    for _ in range(16):
        assert program.body is not None
        found = next(_divided(program), None)
        if found is None:
            break
        number, outer_extent, inner_extent = found
        outer_number = _fresh(values)
        outer = values.axis(outer_number, outer_extent)
        inner = values.axis(outer_number + 1, inner_extent)
        joined = values.of_poly(polynomial.add(polynomial.mul(values.poly(outer), inner_extent), values.poly(inner)))
        pair = (outer_number, outer_number + 1)
        axes = tuple(new for old in program.axes for new in (pair if old == number else (old,)))
        program = _rebuild(program, {number: joined}, axes, {number: pair})
    return program


def _divided(program: Program) -> Iterator[tuple[int, Poly, Poly]]:
    values = program.values
    assert program.body is not None
    for number in values.reachable(program.body):
        value = values[number]
        if value.op != "prim" or value.data not in ("floordiv", "mod") or value.dtype != "int64":
            continue
        top = values[value.args[0]]
        if top.op != "axis" or top.data == FLAT_AXIS or (program.mode is Mode.FLAT and top.data in (0, 1)):
            continue
        divisor = values.poly(value.args[1])
        quotient = polynomial.exact_div(values.extents[top.data], divisor)
        if (
            quotient is not None
            and quotient != polynomial.ONE
            and values.nonnegative(polynomial.sub(divisor, (((), 2),)))
        ):
            yield top.data, quotient, divisor


def _merge(program: Program, *, reductions: bool) -> Program:
    """Adjacent axes (a, b) → one, where every polynomial holds them as a*extent(b) + b."""
    changed = True
    while changed:
        changed = False
        for a, b in _pairs(program, reductions):
            if _walked_as_one(program, a, b):
                values = program.values
                number = _fresh(values)
                merged = values.axis(number, polynomial.mul(values.extents[a], values.extents[b]))
                axes = tuple(number if k == b else k for k in program.axes if k != a)
                by = {a: values.of_poly(polynomial.ZERO), b: merged}
                program = _rebuild(program, by, axes, {a: (), b: (number,)})
                changed = True
                break
    return program


def _pairs(program: Program, reductions: bool) -> list[tuple[int, int]]:
    values = program.values
    assert program.body is not None
    if not reductions:
        kept = [k for k in program.axes if k != FLAT_AXIS]
        return list(pairwise(kept))
    lists = [values[v].data[1] for v in values.reachable(program.body) if values[v].op == "reduce"]
    pairs = {(a, b) for axes in lists for a, b in pairwise(axes)}
    together = [p for p in pairs if all(p in pairwise(x) for x in lists if p[0] in x or p[1] in x)]
    return sorted(together)


def _walked_as_one(program: Program, a: int, b: int) -> bool:
    values = program.values
    assert program.body is not None
    outer, inner = _axis_value(values, a), _axis_value(values, b)
    if any(x not in (a, b) and (outer in m or inner in m) for x, e in values.extents.items() for m, _ in e):
        return False
    extent = values.extents[b]
    polys = [values.poly(program.body)]
    for number in values.reachable(program.body):
        value = values[number]
        polys += [value.data] if value.op == "poly" else [values.poly(c) for c in value.args]
    for poly in polys:
        of_outer, of_inner = polynomial.coefficient_of(poly, outer), polynomial.coefficient_of(poly, inner)
        if of_outer is None or of_inner is None or of_outer != polynomial.mul(of_inner, extent):
            return False
    return True


def _axis_value(values: Values, number: int) -> int:
    return values.intern(Value("axis", "int64", (), number))


def _choose_orders(program: Program) -> Program:
    """Gives a reduction along contiguous elements `lanes`, unless the output's last axis is contiguous as well. Comes
    before the output's axes are merged, which differs between modes."""
    values = program.values
    assert program.body is not None
    image: dict[int, int] = {}
    last = _last_axis(program)
    for number in values.reachable(program.body):
        value = values[number]
        if value.op == "poly":
            terms = (
                polynomial.mul(polynomial.constant(c), polynomial.product(values.poly(image[a]) for a in m))
                for m, c in value.data
            )
            image[number] = values.of_poly(polynomial.add(*terms))
            continue
        args = tuple(image[a] for a in value.args)
        data = value.data
        if value.op == "reduce":
            kind, axes, _ = value.data
            data = (kind, axes, "lanes" if _contiguous(program, number, last) else "sequence")
        image[number] = values.intern(Value(value.op, value.dtype, args, data))
    return Program(
        values, program.operands, program.out, program.mode, program.axes, image[program.body], program.offset
    )


def _last_axis(program: Program) -> tuple[int, ...]:
    if not program.axes:
        return ()
    last = program.axes[-1]
    return (FLAT_AXIS, 1) if last == FLAT_AXIS else (last,)


def _contiguous(program: Program, number: int, last: tuple[int, ...]) -> bool:
    values = program.values
    _, axes, _ = values[number].data
    along = _axis_value(values, axes[-1])
    extent = polynomial.as_constant(values.extents[axes[-1]])
    if extent is not None and extent < LANES:
        return False
    found = False
    stack, seen = [values[number].args[0]], set[int]()
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        value = values[at]
        if value.op == "reduce":
            if axes[-1] in program.depends(at):
                return False
            continue
        if value.op == "load":
            offset = values.poly(value.args[0])
            if polynomial.coefficient_of(offset, along) == polynomial.ONE:
                found = True
            across = [polynomial.coefficient_of(offset, _axis_value(values, k)) for k in last]
            if polynomial.ONE in across:
                return False
        stack.extend(values.children(at))
    return found


def _check_flat(name: str, loop: loops.Loop, program: Program) -> None:
    """No length or batch of one row may be needed where rows of all lengths run together."""
    assert program.body is not None
    varying = dims.symbols(loop.out.shape[0]) | dims.symbols(loop.out.shape[1])
    values = program.values
    extents: list[Poly] = []
    for number in values.reachable(program.body):
        value = values[number]
        if value.op == "size" and value.data[0] in varying and not value.data[1]:
            raise _fail(name, f"the size {value.data[0]} of a row is needed where rows of all lengths run together")
        if value.op == "reduce":
            extents += [values.extents[a] for a in value.data[1]]
    for extent in extents:
        for monomial, _ in extent:
            for atom in monomial:
                if values[atom].op == "size" and values[atom].data[0] in varying:
                    raise _fail(name, f"a reduction over {values[atom].data[0]} where rows of all lengths run together")


def extent_dim(values: Values, poly: Poly) -> Dim:
    """A polynomial over sizes as a dimension."""
    total: Dim = 0
    for monomial, coefficient in poly:
        term: Dim = coefficient
        for atom in monomial:
            term = term * _atom_dim(values, atom)
        total = total + term
    return total


def _atom_dim(values: Values, atom: int) -> Dim:
    value = values[atom]
    if value.op == "size":
        return dims.sym(value.data[0])
    divide = dims.floordiv if value.data == "floordiv" else dims.mod
    by = polynomial.as_constant(values.poly(value.args[1]))
    assert by is not None
    return divide(extent_dim(values, values.poly(value.args[0])), by)
