"""The Plan: an ordered list of kernel steps over slots of one arena.

    Plan    := symbols, slots, inputs, outputs, units
    Unit    := one flat step; a chain: steps that a thread runs one after the other over blocks of its own rows; or an
               island: steps that run one after the other for each row
    Step    := op, operands (Ref...), out (Ref)
    Ref     := storage (a slot, a weight, or a caller's LOCAL input), and the view of it that the op sees
    Slot    := memory shared by values that never live at the same time, in the arena or in each thread's block buffer

Sizes are dimensions over the graph's symbols and `longest`, the longest row of a run; a TOKEN slot is counted in bytes
a token and a ROW slot in bytes a row. Reshapes are views and cost nothing; so are slices of the last axis where every
reader takes a spacing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from ..errors import Exit, InfcError
from ..ir.dims import Dim, evaluate, product, substitute, sym
from ..ir.graph import Graph, Op
from ..ir.ops.leaf import Input
from ..ir.ops.quantize import Quantize
from ..ir.types import ITEM_BYTES, TensorType
from ..passes.placement import Place, Placement

LONGEST = "longest"
"""Name of the symbol that is the longest row of a run."""

Where = Literal["slot", "weight", "input"]
LEAD = {Place.TOKEN: 2, Place.ROW: 1}
"""Axes that number the tokens, or the rows, of a value that is stored flat."""


@dataclass(frozen=True)
class Slot:
    """Memory. `sizes`: bytes a token (TOKEN), a row (ROW), or in all; the slot is as large as the largest. `block`: not
    arena memory but a thread's own, for the rows of one block of a chain; its sizes are bytes a row of the chain."""

    place: Place
    sizes: tuple[Dim, ...]
    block: bool = False

    @property
    def block_bytes(self) -> int:
        """Of a block slot: bytes a row of the chain."""
        assert self.block
        return max(size for size in self.sizes if isinstance(size, int))


@dataclass(frozen=True)
class Ref:
    """A view of storage as one op sees it.

    `type` is the value's type. A TOKEN (ROW) storage holds `stride` elements a token (row). A view of columns has `spacing`
    elements between the starts of two of its last-axis vectors, the first at `column`; `spacing` 0: it is contiguous.
    """

    where: Where
    number: int
    """Slot index, position in the graph's input list, or -1 for weights."""
    place: Place
    """Of the storage."""
    type: TensorType
    stride: Dim = 0
    spacing: Dim = 0
    column: int = 0
    weight: str = ""
    local: bool = False
    """Whether an island sees its row's part of flat storage as a LOCAL value: its axes are not the storage's."""

    @property
    def extent(self) -> Place:
        """How the value's elements are counted: as the storage's, or from its own shape."""
        return Place.LOCAL if self.local else self.place

    @property
    def contiguous(self) -> bool:
        """True where the view is the whole storage."""
        return self.spacing == 0


@dataclass(frozen=True)
class Also:
    """A second result of a norm's step: its value quantized. `smooth`: the factors of `op`, where it has them; `keep`:
    whether anything reads the norm's own value."""

    op: Quantize
    out: Ref
    smooth: Ref | None
    keep: bool


@dataclass(frozen=True)
class Step:
    """One kernel call: once over everything, or in an island for its current row."""

    index: int
    name: str
    op: Op
    operands: tuple[Ref, ...]
    out: Ref
    flops: Dim
    origin: str
    also: Also | None = None

    @property
    def refs(self) -> tuple[Ref, ...]:
        """All that it reads and writes."""
        more = (self.also.out, *((self.also.smooth,) if self.also.smooth else ())) if self.also else ()
        return (*self.operands, self.out, *more)

    @property
    def place(self) -> Place:
        """Of the result."""
        return self.out.place


@dataclass(frozen=True)
class Unit:
    """A flat step, a chain of several, or an island of several (`island` True), run for each row in turn."""

    island: bool
    steps: tuple[Step, ...]
    reason: str = ""
    rows: tuple[Dim, ...] = ()
    """Of a chain: the leading axes that all its values have, and that number its rows."""

    @property
    def chain(self) -> bool:
        """Whether a thread runs all steps over a block of its rows before the next block (chains.py)."""
        return not self.island and len(self.steps) > 1


@dataclass(frozen=True)
class Plan:
    """What a target renders. Units are in execution order."""

    graph: Graph
    placement: Placement
    symbols: tuple[str, ...]
    """The graph's symbols, batch first, then the length if there is one, then others by name."""
    slots: tuple[Slot, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[tuple[str, Ref], ...]
    units: tuple[Unit, ...]
    default_slots: Mapping[int, int] = field(default_factory=dict[int, int])
    """For a LOCAL input that callers may leave out: the slot that its default is written to."""

    @property
    def trim(self) -> bool:
        """Whether rows may be cut to their kept length: proved, and no output has the cut length in its shape elsewhere
        than as its second axis."""
        return self.placement.trim and all(ref.place is not Place.LOCAL for _, ref in self.outputs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps by index."""
        return tuple(step for unit in self.units for step in unit.steps)


def inner_elements(type_: TensorType, place: Place) -> Dim:
    """Elements of one token (TOKEN), of one row (ROW), or of the whole value."""
    return product(type_.shape[LEAD.get(place, 0) :])


def row_bytes(type_: TensorType, lead: int) -> Dim:
    """Bytes of one of the parts that the first `lead` axes number. Vectors of q8 take what the widest of the targets'
    layouts takes: two bytes an element, in units of 32, and 64 for the scale."""
    elements = product(type_.shape[lead:])
    if type_.dtype != "q8":
        return elements * ITEM_BYTES[type_.dtype]
    width = type_.shape[-1]
    if not isinstance(width, int):
        raise InfcError(f"rows of {type_} have no fixed width, and cannot be quantized", exit_code=Exit.INTERNAL)
    return product(type_.shape[lead:-1]) * (2 * (-(-width // 32) * 32) + 64)


def at_longest(type_: TensorType, length: str | None) -> TensorType:
    """The type with the length symbol replaced by `longest`: how a PREFIX value is stored."""
    if length is None:
        return type_
    return TensorType(type_.dtype, tuple(substitute(d, {length: sym(LONGEST)}) for d in type_.shape))


def upper(dim: Dim) -> Dim:
    """A monotone upper bound of a size: its negative terms dropped."""
    if isinstance(dim, int):
        return dim
    return type(dim)(tuple((m, c) for m, c in dim.terms if c > 0))


def print_plan(plan: Plan, providers: Mapping[int, str] | None = None) -> str:
    """The plan as text: symbols, slots, then a step a line with its provider; islands are indented."""
    lines = [f"plan {plan.graph.name}", f"symbols {', '.join(plan.symbols)}"]
    unit = {Place.TOKEN: " a token", Place.ROW: " a row"}
    for number, slot in enumerate(plan.slots):
        where = "block" if slot.block else slot.place.value
        lines.append(f"slot {number}: {where} {' or '.join(str(s) for s in slot.sizes)} B{unit.get(slot.place, '')}")
    for node, ref in zip(plan.graph.inputs, plan.inputs, strict=True):
        lines.append(f"input {cast(Input, node.op).input}: {print_ref(ref)}")
    for group in plan.units:
        if group.island:
            lines.append(f"for each row:  # {group.reason}")
        if group.chain:
            lines.append("for each block of rows:")
        for step in group.steps:
            operands = ", ".join(print_ref(r) for r in step.operands)
            indent = "  " if group.island or group.chain else ""
            provider = f" by {providers[step.index]}" if providers else ""
            also = f", {print_ref(step.also.out)}" if step.also else ""
            lines.append(
                f"{indent}{step.index}: {print_ref(step.out)}{also} = {step.op.name}({operands})  # {step.name}{provider}"
            )
    for name, ref in plan.outputs:
        lines.append(f"output {name}: {print_ref(ref)}")
    return "\n".join(lines) + "\n"


def print_ref(ref: Ref) -> str:
    """A ref as text, such as `token 3[0:384 of 1152] f32[batch,tokens,384]`."""
    if ref.where == "weight":
        return f"@{ref.weight}"
    part = "" if ref.contiguous else f"[from {ref.column} of {ref.spacing}]"
    return f"{'input ' if ref.where == 'input' else ref.place.value + ' '}{ref.number}{part} {ref.type}"


def arena_bytes(plan: Plan, rows: int, tokens: int) -> int:
    """Bytes of the slots for a run of so many rows and tokens, every other dimension at its upper bound."""
    values = {name: high for name, (_, high) in plan.graph.dims.items()}
    values[LONGEST] = values.get(plan.graph.length_dim or "", 1)
    if plan.placement.batchable and plan.graph.batch_dim is not None:
        values[plan.graph.batch_dim] = 1
    times = {Place.TOKEN: tokens, Place.ROW: rows}
    arena = (slot for slot in plan.slots if not slot.block)
    return sum(max(evaluate(s, values) for s in slot.sizes) * times.get(slot.place, 1) for slot in arena)
