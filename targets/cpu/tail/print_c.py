"""Program → C: one static function over a range of the output's outer axes.

    void S(void *out, const void *const *in, const int64_t *dim, const int32_t *row_of, const int32_t *pos_of,
           int64_t begin, int64_t end)

    for n in begin..end                 the range: outer axes, flattened (FLAT: tokens)
      for tile of the vector axis       where something per vector lane must be kept in an array
        for serial axes                 axes that some reduction does not change with
          for lane                      the vector axis, contiguous in the output: clang vectorizes this loop
            out[...] = ...

A value is computed in the outermost loop that binds what it depends on: softmax's maximum and sum once a row. A
reduction that changes with the vector axis runs outside the lane loop with one accumulator a lane, in order. A
reduction along contiguous elements (order `lanes`, see lower.py) has LANES accumulators and a fixed tree.

Nothing but a guarded load depends on control flow, so every guard is a select, and a guarded load is `g ? x[i] : 0`.
Compile with -ffp-contract=off; the text needs prelude.h. `out` overlaps no operand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ....compiler.ir.dims import Dim
from ....compiler.ir.types import DType
from . import polynomial, spell
from .lower import FLAT_AXIS, LANES, Mode, Program, identity
from .nest import TILE, Nest, outer_extent, plan, tile_width
from .polynomial import Poly

FUNCTION = "{name}(void *restrict out, const void *const *in, const int64_t *dim, const int32_t *row_of,\n    const int32_t *pos_of, int64_t begin, int64_t end)"


def print_c(name: str, program: Program, symbols: tuple[str, ...]) -> tuple[str, Dim]:
    """(text of the function called name, extent of begin..end in symbols). Raises KeyError for a primitive or symbol
    that C does not have."""
    head = f"static __attribute__((noinline, unused)) void {FUNCTION.format(name=name)}"
    ignore = "    (void)out, (void)in, (void)dim, (void)row_of, (void)pos_of, (void)begin, (void)end;"
    if program.body is None:
        return f"{head}\n{{\n{ignore}\n}}\n", 0
    nest = plan(program)
    printer = _Printer(program, symbols, nest)
    lines = printer.function()
    return "\n".join([head, "{", ignore, *lines, "}", ""]), outer_extent(program, nest)


@dataclass
class _Scope:
    """A block of C under construction. `bound` holds all axes that have a variable here."""

    parent: _Scope | None
    bound: frozenset[int]
    lane: bool = False
    """The body of a loop over lanes: nothing but straight-line code may go here."""
    arrays: bool = False
    """Outermost scope in which arrays over the current lanes make sense."""
    lines: list[str] = field(default_factory=list[str])
    known: dict[int, str] = field(default_factory=dict[int, str])
    branchy: bool = False


@dataclass
class _Lanes:
    """The vector axis inside a tile: `count` lanes from C variable `base`; arrays have `width` elements."""

    axis: int
    base: str
    count: str
    width: int


class _Printer:
    """Emission of one function. Not reentrant; made anew for each."""

    def __init__(self, program: Program, symbols: tuple[str, ...], nest: Nest) -> None:
        self.program = program
        self.values = program.values
        self.symbols = symbols
        self.nest = nest
        self.names: dict[int, str] = {}
        self.lanes: _Lanes | None = None
        self.counter = 0
        self.root = _Scope(None, frozenset())

    # Names and small texts.

    def fresh(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    def variable(self, axis: int) -> str:
        if axis == FLAT_AXIS:
            return "n"
        return self.names.setdefault(axis, f"i{len(self.names)}")

    def extent(self, axis: int, scope: _Scope) -> str:
        return self.emit(self.values.of_poly(self.values.extents[axis]), scope)

    def static_extent(self, axis: int) -> int | None:
        return None if axis == FLAT_AXIS else polynomial.as_constant(self.values.extents[axis])

    # The function.

    def function(self) -> list[str]:
        root, program = self.root, self.program
        for k, operand in enumerate(program.operands):
            ctype = spell.C_TYPES[operand.type.dtype]
            root.lines.append(f"const {ctype} *restrict x{k} = (const {ctype} *)in[{k}];")
        ctype = spell.C_TYPES[program.out.dtype]
        root.lines.append(f"{ctype} *restrict y = ({ctype} *)out;")
        body = self.range_loop()
        text = "\n".join([*root.lines, *body])
        kept = [line for line in root.lines if not _unused_operand(line, text)]  # clang would warn of them
        return self.indent([*kept, *body])

    def range_loop(self) -> list[str]:
        nest, root = self.nest, self.root
        assert self.program.body is not None
        if nest.vector_is_range:
            assert nest.vector is not None
            return self.vector_loops(root, "begin", "end")
        scope = _Scope(root, root.bound | frozenset(nest.range_axes))
        head: list[str] = []
        if len(nest.range_axes) == 1:
            counter = self.variable(nest.range_axes[0])
        else:
            counter = "at"
            rest = counter
            for k in reversed(nest.range_axes[1:]):
                size = self.extent(k, root)
                head.append(f"const int64_t {self.variable(k)} = {rest} % {size};")
                quotient = self.fresh("q")
                head.append(f"const int64_t {quotient} = {rest} / {size};")
                rest = quotient
            if nest.range_axes:
                head.append(f"const int64_t {self.variable(nest.range_axes[0])} = {rest};")
        if nest.vector is None:
            inner = self.store(scope)
        else:
            inner = self.vector_loops(scope, "0", self.extent(nest.vector, root))
        body = [*head, *scope.lines, *inner]
        return [f"for (int64_t {counter} = begin; {counter} < end; ++{counter}) {{", *self.indent(body), "}"]

    def vector_loops(self, scope: _Scope, low: str, high: str) -> list[str]:
        """Tiles, serial axes and lanes, for the vector axis from low to high."""
        nest = self.nest
        assert nest.vector is not None
        if not nest.tiled:
            return self.serial_loops(scope, nest.serial, lambda s: self.lane_loop(s, low, high))
        static = None if nest.vector_is_range else self.static_extent(nest.vector)
        width = TILE if static is None else tile_width(static)
        tile = _Scope(scope, scope.bound, arrays=True)
        self.lanes = _Lanes(nest.vector, "tile", "lanes", width)
        if static is not None and static % width == 0:
            self.lanes.count = str(width)
        inner = self.serial_loops(tile, nest.serial, self.tile_lane_loop)
        head: list[str] = []
        if self.lanes.count == "lanes":
            head.append(f"const int64_t lanes = {high} - tile < {width} ? {high} - tile : {width};")
        body = self.indent([*head, *tile.lines, *inner])
        self.lanes = None
        return [f"for (int64_t tile = {low}; tile < {high}; tile += {width}) {{", *body, "}"]

    def serial_loops(self, scope: _Scope, axes: tuple[int, ...], inside: Callable[[_Scope], list[str]]) -> list[str]:
        if not axes:
            return inside(scope)
        name = self.variable(axes[0])
        inner = _Scope(scope, scope.bound | {axes[0]})
        size = self.extent(axes[0], scope)
        body = self.serial_loops(inner, axes[1:], inside)
        return [
            f"for (int64_t {name} = 0; {name} < {size}; ++{name}) {{",
            *self.indent([*inner.lines, *body]),
            "}",
        ]

    # Loops over lanes.

    def lane_loop(self, scope: _Scope, low: str, high: str) -> list[str]:
        """The store for the vector axis from low to high, without tiles."""
        axis = self.nest.vector
        assert axis is not None
        lane = _Scope(scope, scope.bound | {axis}, lane=True)
        body = self.store(lane)
        name = self.variable(axis)
        return [
            *self.pragma(lane),
            f"for (int64_t {name} = {low}; {name} < {high}; ++{name}) {{",
            *self.indent([*lane.lines, *body]),
            "}",
        ]

    def tile_lane_loop(self, scope: _Scope) -> list[str]:
        return self.over_lanes(scope, self.store)

    def over_lanes(self, scope: _Scope, statements: Callable[[_Scope], list[str]]) -> list[str]:
        """A loop over the current tile's lanes with what `statements` makes of its scope."""
        lanes = self.lanes
        assert lanes is not None
        lane = _Scope(scope, scope.bound | {lanes.axis}, lane=True)
        body = statements(lane)
        text = [*lane.lines, *body]
        return [
            *self.pragma(lane),
            f"for (int64_t l = 0; l < {lanes.count}; ++l) {{",
            *self.indent([*self.lane_index(text), *text]),
            "}",
        ]

    def lane_index(self, text: list[str]) -> list[str]:
        """The vector axis's variable, where the text needs it."""
        assert self.lanes is not None
        name = self.variable(self.lanes.axis)
        used = any(_mentions(line, name) for line in text)
        return [f"const int64_t {name} = {self.lanes.base} + l;"] if used else []

    @staticmethod
    def pragma(lane: _Scope) -> list[str]:
        return [] if lane.branchy else ["#pragma clang loop vectorize(enable) unroll(disable)"]

    def store(self, scope: _Scope) -> list[str]:
        assert self.program.body is not None
        value = self.emit(self.program.body, scope)
        where = self.address(self.values.poly(self.program.offset), scope)
        return [f"y[{where}] = {value};"]

    # Values.

    def emit(self, number: int, scope: _Scope) -> str:
        """A C expression for the value, usable in scope; its statements go to the outermost scope that binds what it
        depends on."""
        value = self.values[number]
        if value.op == "literal":
            return spell.literal(value.data[1] if value.data[1] is not None else float("nan"), value.dtype)
        if value.op == "poly" and polynomial.as_constant(value.data) is not None:
            return self.poly(value.data, scope)
        known = self.lookup(number, scope)
        if known is not None:
            return known
        needs = self.program.depends(number)
        home = self.home(needs, scope)
        if home.lane and (value.op == "reduce" or self.worth_keeping(number, home)):
            return self.keep(number, home)
        if value.op == "axis":
            text = self.axis_text(value.data)
            if self.program.mode is Mode.FLAT and value.data in (0, 1):
                table = "row_of" if value.data == 0 else "pos_of"
                text = self.define(home, "int64", f"{table}[n]", "p")
            home.known[number] = text
            return text
        if value.op == "size":
            text = self.size_text(value.data[0])
        elif value.op == "poly":
            text = self.poly(value.data, home)
        elif value.op == "load":
            text = self.load(number, home)
        elif value.op == "reduce":
            text = self.reduce_scalar(number, home)
            home.known[number] = text
            return text
        else:
            arguments = [self.emit(a, home) for a in value.args]
            if value.data in spell.CALLS:
                home.branchy = True
            last = self.values[value.args[-1]].dtype
            text = spell.call(value.data, value.dtype, last, *arguments)
        home.known[number] = self.define(home, value.dtype, text)
        return home.known[number]

    def define(self, scope: _Scope, dtype: DType, text: str, prefix: str = "v") -> str:
        name = self.fresh(prefix)
        scope.lines.append(f"const {spell.C_TYPES[dtype]} {name} = {text};")
        return name

    def lookup(self, number: int, scope: _Scope) -> str | None:
        at: _Scope | None = scope
        while at is not None:
            if number in at.known:
                return at.known[number]
            at = at.parent
        return None

    def home(self, needs: frozenset[int], scope: _Scope) -> _Scope:
        while scope.parent is not None and needs <= scope.parent.bound:
            scope = scope.parent
        return scope

    def axis_text(self, axis: int) -> str:
        return self.variable(axis)

    def size_text(self, symbol: str) -> str:
        return f"dim[{self.symbols.index(symbol)}]"

    def load(self, number: int, scope: _Scope) -> str:
        value = self.values[number]
        where = self.address(self.values.poly(value.args[0]), scope)
        text = f"x{value.data}[{where}]"
        guard = value.args[1]
        if self.values.truth(guard):
            return text
        return f"{self.emit(guard, scope)} ? {text} : {spell.literal(0, value.dtype)}"

    # Arithmetic on indices.

    def address(self, poly: Poly, scope: _Scope) -> str:
        """poly, with the part that does not change with scope's own axis computed outside."""
        parent = scope.parent
        if parent is None:
            return self.poly(poly, scope)
        own = tuple(t for t in poly if not self.term_needs(t[0]) <= parent.bound)
        rest = tuple(t for t in poly if t not in own)
        if not own or len(rest) < 1 or polynomial.as_constant(rest) is not None:
            return (
                self.poly(poly, scope)
                if own or polynomial.as_constant(poly) is not None
                else self.outer_part(poly, scope)
            )
        return f"{self.outer_part(rest, scope)} + {self.poly(own, scope)}"

    def outer_part(self, poly: Poly, scope: _Scope) -> str:
        return self.emit(self.values.of_poly(poly), scope)

    def term_needs(self, monomial: tuple[int, ...]) -> frozenset[int]:
        return frozenset[int]().union(*(self.program.depends(a) for a in monomial))

    def poly(self, poly: Poly, scope: _Scope) -> str:
        """poly as C. Plain int64 arithmetic where all ranges are known, else arithmetic that wraps."""
        constant = polynomial.as_constant(poly)
        if constant is not None:
            return spell.literal(constant, "int64")
        wraps = not self.values.known(poly)
        parts: list[str] = []
        for monomial, coefficient in reversed(poly):
            factors = [self.emit(a, scope) for a in monomial]
            if wraps:
                factors = [f"(uint64_t){f}" for f in factors]
                factors += [f"{coefficient % 2**64}u"] if coefficient != 1 or not factors else []
                parts.append((" + " if parts else "") + " * ".join(factors))
                continue
            if abs(coefficient) != 1 or not factors:
                factors.append(spell.literal(abs(coefficient), "int64"))
            sign = (" - " if parts else "-") if coefficient < 0 else (" + " if parts else "")
            parts.append(sign + " * ".join(factors))
        text = "".join(parts)
        return f"(int64_t)({text})" if wraps else text

    # Reductions.

    def worth_keeping(self, number: int, lane: _Scope) -> bool:
        """Whether a lane's value, needed inside some loop, is better kept in an array outside that loop."""
        value = self.values[number]
        if self.lanes is None or value.op != "prim" or value.data not in spell.EXPENSIVE or value.dtype == "bool":
            return False
        assert lane.parent is not None
        return self.array_home(number, lane) is not lane.parent

    def array_home(self, number: int, lane: _Scope) -> _Scope:
        assert self.lanes is not None
        assert lane.parent is not None
        needs = self.program.depends(number) - {self.lanes.axis}
        at = lane.parent
        while not at.arrays and at.parent is not None and needs <= at.parent.bound:
            at = at.parent
        return at

    def keep(self, number: int, lane: _Scope) -> str:
        """The value of each lane in an array, filled before the loop over lanes; the element of the current lane."""
        lanes = self.lanes
        assert lanes is not None
        home = self.array_home(number, lane)
        known = home.known.get(number)
        if known is not None:
            return known
        value = self.values[number]
        name = self.fresh("a")
        home.lines.append(f"{spell.C_TYPES[value.dtype]} {name}[{lanes.width}];")
        if value.op != "reduce":
            home.lines += self.over_lanes(home, lambda s: [f"{name}[l] = {self.inline(number, s)};"])
        elif value.data[2] == "lanes":
            home.lines += self.one_lane_at_a_time(number, name, home)
        else:
            home.lines += self.reduce_tile(number, name, home)
        home.known[number] = f"{name}[l]"
        return home.known[number]

    def inline(self, number: int, scope: _Scope) -> str:
        """A primitive in a lane scope, without asking again whether to keep it."""
        value = self.values[number]
        if value.data in spell.CALLS:
            scope.branchy = True
        arguments = [self.emit(a, scope) for a in value.args]
        return spell.call(value.data, value.dtype, self.values[value.args[-1]].dtype, *arguments)

    def reduce_tile(self, number: int, name: str, home: _Scope) -> list[str]:
        """A reduction with one accumulator a lane."""
        value = self.values[number]
        kind, axes, _ = value.data
        start = spell.literal(identity(kind, value.dtype), value.dtype)
        step = spell.combine(kind, value.dtype)

        def accumulate(scope: _Scope) -> list[str]:
            return self.over_lanes(scope, lambda s: [f"{name}[l] = {step(f'{name}[l]', self.emit(value.args[0], s))};"])

        init = self.over_lanes(home, lambda _: [f"{name}[l] = {start};"])
        return [*init, *self.serial_loops(home, axes, accumulate)]

    def one_lane_at_a_time(self, number: int, name: str, home: _Scope) -> list[str]:
        """A reduction with LANES accumulators for each lane of the vector axis in turn."""
        lanes = self.lanes
        assert lanes is not None
        scope = _Scope(home, home.bound | {lanes.axis})
        result = self.reduce_scalar(number, scope)
        text = [*scope.lines, f"{name}[l] = {result};"]
        return [f"for (int64_t l = 0; l < {lanes.count}; ++l) {{", *self.indent([*self.lane_index(text), *text]), "}"]

    def reduce_scalar(self, number: int, home: _Scope) -> str:
        """A reduction in a scope that binds all it depends on; the name of its result."""
        value = self.values[number]
        kind, axes, order = value.data
        start = spell.literal(identity(kind, value.dtype), value.dtype)
        step = spell.combine(kind, value.dtype)
        ctype = spell.C_TYPES[value.dtype]
        name = self.fresh("r")
        outside, self.lanes = self.lanes, None
        if order == "sequence":

            def accumulate(scope: _Scope) -> list[str]:
                return [f"{name} = {step(name, self.emit(value.args[0], scope))};"]

            loop = self.serial_loops(home, axes, accumulate)
            home.lines += [f"{ctype} {name} = {start};", *loop]
        else:
            loop = self.serial_loops(home, axes[:-1], lambda s: self.chunks(number, name, s))
            home.lines += [
                f"{ctype} {name}[{LANES}];",
                f"for (int j = 0; j < {LANES}; ++j) {name}[j] = {start};",
                *loop,
                f"for (int half = {LANES // 2}; half > 0; half /= 2)",
                f"    for (int j = 0; j < half; ++j) {name}[j] = {step(f'{name}[j]', f'{name}[j + half]')};",
            ]
            name = f"{name}[0]"
        self.lanes = outside
        return name

    def chunks(self, number: int, name: str, scope: _Scope) -> list[str]:
        """The innermost axis of a reduction in chunks of LANES, then the rest one by one."""
        value = self.values[number]
        kind, axes, _ = value.data
        axis, step = axes[-1], spell.combine(kind, value.dtype)
        variable, size = self.variable(axis), self.extent(axis, scope)
        static = self.static_extent(axis)
        lane = _Scope(scope, scope.bound | {axis}, lane=True)
        body = self.emit(value.args[0], lane)
        chunk = [
            *self.pragma(lane),
            f"for (int64_t j = 0; j < {LANES}; ++j) {{",
            f"    const int64_t {variable} = chunk + j;",
            *self.indent([*lane.lines, f"{name}[j] = {step(f'{name}[j]', body)};"]),
            "}",
        ]
        head = f"for (int64_t chunk = 0; chunk + {LANES} <= {size}; chunk += {LANES}) {{"
        lines = [head, *self.indent(chunk), "}"]
        if static is None or static % LANES:
            rest = _Scope(scope, scope.bound | {axis})
            body = self.emit(value.args[0], rest)
            first = f"{size} - {size} % {LANES}" if static is None else str(static - static % LANES)
            slot = f"{name}[{variable} % {LANES}]"
            lines += [
                f"for (int64_t {variable} = {first}; {variable} < {size}; ++{variable}) {{",
                *self.indent([*rest.lines, f"{slot} = {step(slot, body)};"]),
                "}",
            ]
        return lines

    @staticmethod
    def indent(lines: list[str]) -> list[str]:
        return [line if line.startswith("#") else f"    {line}" for line in lines]


def _mentions(line: str, name: str) -> bool:
    at = line.find(name)
    while at >= 0:
        after = line[at + len(name) : at + len(name) + 1]
        before = line[at - 1 : at]
        if not (after.isalnum() or after == "_") and not (before.isalnum() or before == "_"):
            return True
        at = line.find(name, at + 1)
    return False


def _unused_operand(line: str, text: str) -> bool:
    _, star, rest = line.partition("*restrict x")
    if not star:
        return False
    name = "x" + rest.partition(" ")[0]
    return f"{name}[" not in text
