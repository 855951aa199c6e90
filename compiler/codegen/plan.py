"""The Plan: an ordered list of kernel steps over slots of one arena.

    Plan    := symbols, slots, inputs, outputs, units
    Unit    := one flat step, or an island: steps that run one after the other for each row
    Step    := op, operands (Ref...), out (Ref)
    Ref     := storage (a slot, a weight, or a caller's LOCAL input), and the view of it that the op sees
    Slot    := memory shared by values that never live at the same time

Sizes are dimensions over the graph's symbols and `longest`, the longest row of a run; a TOKEN slot is counted in bytes
a token and a ROW slot in bytes a row. Reshapes are views and cost nothing; so are slices of the last axis where every
reader takes a spacing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from ..errors import Exit, InfcError
from ..ir.dims import Dim, evaluate, product, substitute, sym
from ..ir.graph import Graph, Node, Op
from ..ir.ops.attention import Attention
from ..ir.ops.leaf import Constant, Input, WeightRef
from ..ir.ops.linear import Linear
from ..ir.ops.reshape import Reshape
from ..ir.ops.slice import Slice
from ..ir.types import ITEM_BYTES, TensorType
from ..passes.placement import Place, Placement

LONGEST = "longest"
"""Name of the symbol that is the longest row of a run."""

Where = Literal["slot", "weight", "input"]


@dataclass(frozen=True)
class Slot:
    """Arena memory. `sizes`: bytes a token (TOKEN), a row (ROW), or in all; the slot is as large as the largest."""

    place: Place
    sizes: tuple[Dim, ...]


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
class Step:
    """One kernel call: once over everything, or in an island for its current row."""

    index: int
    name: str
    op: Op
    operands: tuple[Ref, ...]
    out: Ref
    flops: Dim
    origin: str

    @property
    def place(self) -> Place:
        """Of the result."""
        return self.out.place


@dataclass(frozen=True)
class Unit:
    """A flat step, or an island of several (`island` True), run for each row in turn."""

    island: bool
    steps: tuple[Step, ...]
    reason: str = ""


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
    skip = {Place.TOKEN: 2, Place.ROW: 1}.get(place, 0)
    return product(type_.shape[skip:])


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


def plan_graph(graph: Graph, placement: Placement) -> Plan:
    """Lowers graph to a plan. Raises InfcError for an output that has no rows, naming it."""
    order = _symbol_order(graph)
    for name, node in graph.outputs:
        if placement.place[node] in (Place.SHARED, Place.PREFIX):
            raise InfcError(
                f"output '{name}' is the same for every request: it has no batch dimension",
                hint="leave it out of the model's outputs, or let it depend on an input",
            )
    views = _views(graph, placement)
    units = _units(graph, placement, views)
    allocation = _Allocation(graph, placement, views)
    allocation.allocate(units)
    built: list[Unit] = []
    index = 0
    for unit in units:
        steps: list[Step] = []
        for node in unit.nodes:
            refs = tuple(allocation.ref(operand) for operand in node.operands)
            flops = node.op.flops(node.type, *(o.type for o in node.operands))
            name = node.origin.name or node.op.name
            source = node.origin.source
            steps.append(Step(index, name, node.op, refs, allocation.ref(node), flops, source))
            index += 1
        built.append(Unit(unit.island, tuple(steps), unit.reason))
    inputs = tuple(allocation.ref(node) for node in graph.inputs)
    outputs = tuple((name, allocation.ref(node)) for name, node in graph.outputs)
    defaults = {i: allocation.home[node] for i, node in enumerate(graph.inputs) if inputs[i].where == "input"}
    return Plan(graph, placement, order, tuple(allocation.slots), inputs, outputs, tuple(built), defaults)


def _symbol_order(graph: Graph) -> tuple[str, ...]:
    first = [s for s in (graph.batch_dim, graph.length_dim) if s is not None and s in graph.dims]
    return (*first, *sorted(set(graph.dims) - set(first)))


@dataclass(frozen=True)
class _Group:
    """Nodes computed as one unit."""

    island: bool
    nodes: tuple[Node, ...]
    reason: str = ""


def _is_leaf(node: Node) -> bool:
    return isinstance(node.op, Input | WeightRef | Constant)


def _units(graph: Graph, placement: Placement, views: Mapping[Node, _View]) -> list[_Group]:
    """Units in an order in which each finds its operands: islands as grouped by the analysis, other nodes one by one."""
    nodes = [n for n in graph.nodes() if not _is_leaf(n)]
    position = {node: i for i, node in enumerate(graph.nodes())}
    groups: list[_Group] = []
    in_island: set[Node] = set()
    for island in placement.islands:
        members = tuple(n for n in island if not _is_leaf(n))
        in_island.update(members)
        reasons = {placement.reasons.get(n, "") for n in members} - {""}
        groups.append(_Group(True, members, "; ".join(sorted(reasons))))
    groups += [_Group(False, (n,)) for n in nodes if n not in in_island]
    writer: dict[Node, int] = {}
    for g, group in enumerate(groups):
        for node in group.nodes:
            if placement.place[node] is not Place.LOCAL:
                writer[node] = g
    waits: list[set[int]] = []
    for g, group in enumerate(groups):
        inside = set(group.nodes)
        needed = {writer[o] for n in group.nodes for o in n.operands if o not in inside and o in writer}
        waits.append(needed - {g})
    done: set[int] = set()
    ordered: list[_Group] = []
    rank = [min((position[n] for n in group.nodes), default=0) for group in groups]
    while len(done) < len(groups):
        ready = [g for g in range(len(groups)) if g not in done and waits[g] <= done]
        if not ready:
            raise InfcError("the graph's islands wait for one another", exit_code=Exit.INTERNAL)
        chosen = min(ready, key=lambda g: (max((position[n] for n in groups[g].nodes), default=0), rank[g]))
        done.add(chosen)
        kept = tuple(n for n in groups[chosen].nodes if n not in views)
        if kept:
            ordered.append(replace(groups[chosen], nodes=kept))
    return ordered


@dataclass(frozen=True)
class _View:
    """node is `source` seen in another shape, or columns of it: see `Ref` for `spacing` and `column`."""

    source: Node
    spacing: Dim = 0
    column: int = 0


def _views(graph: Graph, placement: Placement) -> dict[Node, _View]:
    """Nodes that need no memory: reshapes of what is stored in the same order, and slices that readers can stride over."""
    outputs = {node for _, node in graph.outputs}
    readers: dict[Node, list[tuple[Node, int]]] = {node: [] for node in graph.nodes()}
    for node in readers:
        for number, operand in enumerate(node.operands):
            readers[operand].append((node, number))
    found: dict[Node, _View] = {}
    for node in graph.nodes():
        place = placement.place[node]
        if isinstance(node.op, Reshape):
            source = node.operands[0]
            base = found.get(source)
            stored = placement.place[base.source if base else source]
            if isinstance(source.op, Constant) or stored is Place.PREFIX and place is not Place.PREFIX:
                continue
            if stored is place or (place is Place.LOCAL and stored in (Place.TOKEN, Place.ROW)):
                if base is None:
                    found[node] = _View(source)
                elif base.spacing == 0 or _splits_columns(source, node):
                    found[node] = _View(base.source, base.spacing, base.column)
        elif isinstance(node.op, Slice) and place in (Place.TOKEN, Place.ROW, Place.LOCAL) and node not in outputs:
            source, start = node.operands[0], node.op.start
            base = found.get(source)
            columns = node.op.axis == node.type.rank - 1 and node.op.step == 1 and isinstance(start, int)
            same = placement.place[source] is place and not _is_leaf(source) and (base is None or base.spacing == 0)
            if columns and same and node.type.rank == 3 and _all_stride(node, readers, outputs):
                assert isinstance(start, int)
                stored_node = base.source if base else source
                if placement.place[stored_node] is place:
                    found[node] = _View(stored_node, source.type.shape[-1], start)
    return found


def _splits_columns(source: Node, node: Node) -> bool:
    """Whether the reshape node only splits source's last axis."""
    return node.type.shape[: source.type.rank - 1] == source.type.shape[:-1]


def _all_stride(node: Node, readers: Mapping[Node, list[tuple[Node, int]]], outputs: set[Node]) -> bool:
    """Whether every reader of node takes its operand with a row stride."""
    for reader, number in readers[node]:
        if isinstance(reader.op, Reshape):
            if reader in outputs or reader.type.rank != 4 or not _splits_columns(node, reader):
                return False
            if not all(isinstance(r.op, Attention) and n < 3 for r, n in readers[reader]):
                return False
        elif not (isinstance(reader.op, Linear) and number == 0):
            return False
    return bool(readers[node])


@dataclass
class _Allocation:
    """Gives every stored value a slot; slots of one place are reused once their values are dead."""

    graph: Graph
    placement: Placement
    views: dict[Node, _View]
    slots: list[Slot] = field(default_factory=list[Slot])
    home: dict[Node, int] = field(default_factory=dict[Node, int])

    def allocate(self, groups: list[_Group]) -> None:
        """Assigns slots in order of execution. A value lives from the unit that writes it to the last that reads it;
        inside an island LOCAL values live from step to step, and all others for the whole island."""
        last = self._last_use(groups)
        free: dict[Place, list[int]] = {place: [] for place in Place}
        expiring: dict[int, list[Node]] = {}
        time = 0
        for node in self.graph.inputs:
            self._assign(node, free)
            if self.placement.place[node] is not Place.LOCAL:
                expiring.setdefault(last.get(node, 0), []).append(node)
        for group in groups:
            for node in group.nodes:
                if not (self.placement.place[node] is Place.LOCAL and node in self.home):
                    self._assign(node, free)
                    expiring.setdefault(last[node], []).append(node)
                time += 1
                for dead in expiring.pop(time, []):
                    free[self.placement.place[dead]].append(self.home[dead])

    def _last_use(self, groups: list[_Group]) -> dict[Node, int]:
        last: dict[Node, int] = {}
        time = 0
        for group in groups:
            end = time + len(group.nodes)
            for node in group.nodes:
                time += 1
                for touched in (node, *node.operands):
                    view = self.views.get(touched)
                    stored = view.source if view else touched
                    local = self.placement.place[stored] is Place.LOCAL
                    last[stored] = max(last.get(stored, 0), time if local or not group.island else end)
        forever = time + 1
        for _, node in self.graph.outputs:
            view = self.views.get(node)
            last[view.source if view else node] = forever
        return last

    def _size(self, node: Node) -> Dim:
        place = self.placement.place[node]
        type_ = node.type
        if place is Place.PREFIX:
            type_ = at_longest(type_, self.graph.length_dim)
        return upper(inner_elements(type_, place) * ITEM_BYTES[type_.dtype])

    def _assign(self, node: Node, free: dict[Place, list[int]]) -> None:
        place = self.placement.place[node]
        size = self._size(node)
        candidates = free[place]
        same = [s for s in candidates if size in self.slots[s].sizes]
        if same:
            chosen = same[0]
        elif (
            candidates
            and isinstance(size, int)
            and all(isinstance(x, int) for s in candidates for x in self.slots[s].sizes)
        ):
            wanted: int = size
            chosen = min(candidates, key=lambda s: abs(max(cast(tuple[int, ...], self.slots[s].sizes)) - wanted))
        elif candidates:
            chosen = candidates[0]
        else:
            self.slots.append(Slot(place, (size,)))
            self.home[node] = len(self.slots) - 1
            return
        candidates.remove(chosen)
        slot = self.slots[chosen]
        if size not in slot.sizes:
            sizes = (*slot.sizes, size)
            whole = [x for x in sizes if isinstance(x, int)]
            self.slots[chosen] = Slot(
                place, (*(x for x in sizes if not isinstance(x, int)), *([max(whole)] if whole else []))
            )
        self.home[node] = chosen

    def ref(self, node: Node) -> Ref:
        """How an op reads or writes node."""
        view = self.views.get(node)
        stored = view.source if view else node
        place = self.placement.place[stored]
        if isinstance(stored.op, WeightRef):
            return Ref("weight", -1, Place.SHARED, node.type, weight=stored.op.weight)
        if isinstance(stored.op, Constant):
            return Ref("weight", -1, Place.SHARED, node.type, weight=f"={stored.op.dtype}:{stored.op.value!r}")
        if isinstance(stored.op, Input) and place is Place.LOCAL:
            return Ref("input", self.graph.inputs.index(stored), place, node.type)
        stride = inner_elements(stored.type, place) if place in (Place.TOKEN, Place.ROW) else 0
        local = self.placement.place[node] is Place.LOCAL and place is not Place.LOCAL
        if view is not None and view.spacing != 0:
            return Ref("slot", self.home[stored], place, node.type, stride, view.spacing, view.column, local=local)
        return Ref("slot", self.home[stored], place, node.type, stride, local=local)


def print_plan(plan: Plan, providers: Mapping[int, str] | None = None) -> str:
    """The plan as text: symbols, slots, then a step a line with its provider; islands are indented."""
    lines = [f"plan {plan.graph.name}", f"symbols {', '.join(plan.symbols)}"]
    unit = {Place.TOKEN: " a token", Place.ROW: " a row"}
    for number, slot in enumerate(plan.slots):
        lines.append(
            f"slot {number}: {slot.place.value} {' or '.join(str(s) for s in slot.sizes)} B{unit.get(slot.place, '')}"
        )
    for node, ref in zip(plan.graph.inputs, plan.inputs, strict=True):
        lines.append(f"input {cast(Input, node.op).input}: {print_ref(ref)}")
    for group in plan.units:
        if group.island:
            lines.append(f"for each row:  # {group.reason}")
        for step in group.steps:
            operands = ", ".join(print_ref(r) for r in step.operands)
            indent = "  " if group.island else ""
            provider = f" by {providers[step.index]}" if providers else ""
            lines.append(
                f"{indent}{step.index}: {print_ref(step.out)} = {step.op.name}({operands})  # {step.name}{provider}"
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
    return sum(max(evaluate(s, values) for s in slot.sizes) * times.get(slot.place, 1) for slot in plan.slots)
