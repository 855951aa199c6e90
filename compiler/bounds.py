"""The bounds of dimensions against memory: what a batch at its bounds takes is known before anything is compiled.

A server makes its workspace for the largest batch that the bounds allow, so a workspace that does not fit into the machine
is a bundle that never starts.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..dsl.spec import Hardware, Model
from .errors import Exit, InfcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .codegen.plan import Plan
    from .ir.dims import Range

MOST_COUNTED = (1 << 31) - 1
"""Rows, and tokens, of one batch: kernels number them in 32 bits."""
LARGEST_MACHINE = 64 << 40
"""Bytes: more than any machine has, where nothing is known of the one to build for."""


def memory_of(hardware: Hardware, *, here: bool) -> tuple[int, str]:
    """Bytes that the machine to build for has, and what it is called. `here`: this machine can run the code."""
    if hardware.memory_bytes is not None:
        return hardware.memory_bytes, "the machine"
    if here:
        return max(_this_machine(), 1 << 30), "this machine"
    return LARGEST_MACHINE, "no machine"


def check_inputs(model: Model, memory: tuple[int, str]) -> None:
    """Raises InfcError where an input alone, at the bounds of its dimensions, is larger than memory (exit 3 where the spec
    declares it, else exit 2)."""
    for line in model.inputs:
        if line.kind != "tensor" or line.dtype is None:
            continue
        found = {name: model.dim(name) for name in line.dims if isinstance(name, str)}
        bounds = {name: (dim.lo, dim.hi) for name, dim in found.items() if dim is not None}
        item = 2 if line.dtype == "bfloat16" else np.dtype(line.dtype).itemsize
        sides = [bounds[d][1] if isinstance(d, str) and d in bounds else d for d in line.dims]
        size = item * math.prod(s for s in sides if isinstance(s, int))
        if size > memory[0]:
            said = f"{line.dtype}[{', '.join(map(str, line.dims))}]"
            raise _beyond(
                f"input {line.name!r} is {said}: {_product(item, sides)} = {_shown(size)} at {_bounds(bounds)}",
                memory,
                "lower the bounds of its `dim` lines, or its extents",
            )


def check_plan(plan: Plan, memory: tuple[int, str]) -> None:
    """Raises InfcError where the workspace of a batch at the bounds does not fit into memory (exit 3 where the spec declares
    it, else exit 2), or where it has more rows or tokens than can be counted (exit 2)."""
    graph = plan.graph
    rows, tokens = batch_of(plan)
    for count, what, dims in (
        (rows, "rows", (graph.batch_dim,)),
        (tokens, "tokens", (graph.batch_dim, graph.length_dim)),
    ):
        if count > MOST_COUNTED:
            names = [d for d in dims if d is not None and d in graph.dims]
            product = " × ".join(f"{d} {graph.dims[d][1]:,}" for d in names)
            raise InfcError(
                f"a batch may have {count:,} {what} ({product}), and at most {MOST_COUNTED:,} are counted",
                hint=f"lower the bound of `dim {max(names, key=lambda d: graph.dims[d][1])}`",
            )
    size = _workspace(plan, graph.dims)
    if size <= memory[0]:
        return
    culprits = {
        d: _workspace(plan, {**graph.dims, d: (low, low)}) for d, (low, high) in graph.dims.items() if low < high
    }
    most = min(culprits, key=lambda d: culprits[d], default=None)
    named = {d: graph.dims[d] for d, rest in culprits.items() if rest < size} or graph.dims
    raise _beyond(
        f"a batch at the bounds of {_bounds(named)} takes a workspace of {_shown(size)}; {_largest(plan)}",
        memory,
        _lower(plan, most, memory[0]) if most is not None else "the model is too large for it",
    )


def batch_of(plan: Plan) -> tuple[int, int]:
    """Rows and tokens of the largest batch that a server makes its workspace for."""
    graph = plan.graph
    rows = graph.dims[graph.batch_dim][1] if graph.batch_dim in graph.dims and graph.batch_dim else 1
    length = graph.dims[graph.length_dim][1] if graph.length_dim in graph.dims and graph.length_dim else 1
    return rows, rows * length


def _workspace(plan: Plan, dims: Mapping[str, Range]) -> int:
    from .codegen.plan import arena_bytes

    changed = replace(plan, graph=replace(plan.graph, dims=dict(dims)))
    return arena_bytes(changed, *batch_of(changed))


def _largest(plan: Plan) -> str:
    """The slot that takes most, with its size as an expression."""
    sizes = [(_workspace(replace(plan, slots=(s,)), plan.graph.dims), s) for s in plan.slots if not s.block]
    size, slot = max(sizes, key=lambda pair: pair[0])
    per = {"token": " bytes a token", "row": " bytes a row"}.get(slot.place.value, " bytes")
    return f"the largest of its {len(sizes)} buffers has {' or '.join(map(str, slot.sizes))}{per} = {_shown(size)}"


def _lower(plan: Plan, name: str, memory: int) -> str:
    """The bound of dimension `name` with which the workspace fits."""
    low, high = plan.graph.dims[name]
    start = low
    while high - low > 1:
        middle = (low + high) // 2
        fits = _workspace(plan, {**plan.graph.dims, name: (start, middle)}) <= memory
        low, high = (middle, high) if fits else (low, middle)
    if _workspace(plan, {**plan.graph.dims, name: (start, low)}) > memory:
        return "lower the bounds of `dim` lines"
    return f"`dim {name} in {start}..{low}` would just fit"


def _beyond(what: str, memory: tuple[int, str], hint: str) -> InfcError:
    have, who = memory
    more = "" if who == "the machine" else "; for another machine, write its `memory` in `hardware`"
    has = f"no machine has more than {_shown(have)}" if who == "no machine" else f"{who} has {_shown(have)}"
    code = Exit.UNMET if who == "the machine" else Exit.USAGE  # a declared machine may be another one
    return InfcError(f"{what}, and {has}", exit_code=code, hint=f"{hint}{more}")


def _bounds(dims: Mapping[str, Range]) -> str:
    return ", ".join(f"{name} {high:,}" for name, (_, high) in dims.items()) or "fixed sizes"


def _product(item: int, sides: list[int | str]) -> str:
    return " × ".join([f"{item} bytes", *(f"{s:,}" if isinstance(s, int) else s for s in sides)])


def _shown(size: int) -> str:
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}" if size < scale << 30 else f"{float(size / scale):.3g} {unit}"
    return f"{size:,} bytes"


def _this_machine() -> int:
    """Memory and swap of this machine in bytes, by what the kernel lends out at most."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        found = dict(line.split(":", 1) for line in lines)
    return sum(int(found[key].split()[0]) for key in ("MemTotal", "SwapTotal")) * 1024
