"""Slots: memory that values share which never live at the same time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

from ..ir.dims import Dim
from ..ir.graph import Graph, Node
from ..ir.ops.leaf import Constant, Input, WeightRef
from ..passes.placement import Place, Placement
from .chains import far_operands
from .plan import LEAD, Ref, Slot, at_longest, inner_elements, row_bytes, upper
from .units import Group, quantized_norms
from .views import View


@dataclass
class Allocation:
    """Gives every stored value a slot; slots of one place are reused once their values are dead.

    What only the steps of one chain read, each at its own rows, goes into block slots: memory of one thread for the rows
    of one block. Other values that a chain touches live as long as the chain: its threads are not at the same step.
    """

    graph: Graph
    placement: Placement
    views: dict[Node, View]
    slots: list[Slot] = field(default_factory=list[Slot])
    home: dict[Node, int] = field(default_factory=dict[Node, int])

    def allocate(self, groups: list[Group]) -> None:
        """Assigns slots in order of execution. A value lives from the unit that writes it to the last that reads it;
        inside an island LOCAL values live from step to step, and all others for the whole island."""
        private = self._private(groups)
        last = self._last_use(groups, private)
        free: dict[Place, list[int]] = {place: [] for place in Place}
        free_blocks: list[int] = []
        expiring: dict[int, list[Node]] = {}
        time = 0
        for node in self.graph.inputs:
            self._assign(node, free[self.placement.place[node]])
            if self.placement.place[node] is not Place.LOCAL:
                expiring.setdefault(last.get(node, 0), []).append(node)
        for group in groups:
            for node in group.nodes:
                if not (self.placement.place[node] is Place.LOCAL and node in self.home):
                    place = self.placement.place[node]
                    self._assign(node, free_blocks if node in private else free[place], private.get(node))
                    expiring.setdefault(last[node], []).append(node)
                time += 1
                for dead in expiring.pop(time, []):
                    (free_blocks if dead in private else free[self.placement.place[dead]]).append(self.home[dead])

    def _private(self, groups: list[Group]) -> dict[Node, int]:
        """Values that a chain writes and only that chain reads, at its own rows, with their bytes a row; those whose rows
        have no fixed size are left out."""
        stored = {node: view.source for node, view in self.views.items()}
        outputs = {stored.get(node, node) for _, node in self.graph.outputs}
        reading: dict[Node, set[int]] = {}
        far: set[Node] = set()
        for number, group in enumerate(groups):
            for node in group.nodes:
                for operand in node.operands:
                    reading.setdefault(stored.get(operand, operand), set()).add(number)
                if group.chain and group.rows is not None:
                    far.update(stored.get(o, o) for o in far_operands(node, self.placement.place, group.rows) or ())
        sizes = {
            node: row_bytes(node.type, len(group.rows))
            for number, group in enumerate(groups)
            if group.chain and group.rows is not None
            for node in group.nodes
            if reading.get(node) == {number} and node not in far | outputs
        }
        return {node: size for node, size in sizes.items() if isinstance(size, int)}

    def _last_use(self, groups: list[Group], private: Collection[Node]) -> dict[Node, int]:
        last: dict[Node, int] = {}
        time = 0
        for group in groups:
            end = time + len(group.nodes)
            pairs = quantized_norms(group.nodes) if group.chain else {}
            for node in group.nodes:
                time += 1
                for touched in (node, *node.operands):
                    view = self.views.get(touched)
                    stored = view.source if view else touched
                    alone = stored in private or self.placement.place[stored] is Place.LOCAL
                    until = time + (node in pairs) if alone or len(group.nodes) == 1 else end
                    last[stored] = max(last.get(stored, 0), until)
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
        return upper(row_bytes(type_, LEAD.get(place, 0)))

    def _assign(self, node: Node, candidates: list[int], private: int | None = None) -> None:
        place = self.placement.place[node]
        block = private is not None
        size = self._size(node) if private is None else private
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
            self.slots.append(Slot(place, (size,), block))
            self.home[node] = len(self.slots) - 1
            return
        candidates.remove(chosen)
        slot = self.slots[chosen]
        if size not in slot.sizes:
            sizes = (*slot.sizes, size)
            whole = [x for x in sizes if isinstance(x, int)]
            self.slots[chosen] = Slot(
                slot.place, (*(x for x in sizes if not isinstance(x, int)), *([max(whole)] if whole else [])), block
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
