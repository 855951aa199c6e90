"""Chains in C: a thread runs all steps over a block of its rows before it takes the next block.

    static void chain_2(void *env, uint32_t tid, uint32_t threads)
        for each block r0..r1 of this thread's rows:
            part_6(e, scratch, r0, r1, ...)         a step's kernel over these rows
            part_7(e, scratch, r0, r1, ...)

Block slots are a thread's own. Before each step the bases of those that it touches are moved back by r0 rows of the value
at hand, so that it finds row r where it finds it in the arena. Where there are too few rows for all threads the steps run
one by one and split columns instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....compiler.codegen.plan import LEAD, Plan, Ref, Step, Unit
from ....compiler.errors import Exit, InfcError
from ....compiler.ir.dims import product
from ....compiler.passes.placement import Place
from ..isa import Isa
from .operands import Emission, stride_bytes
from .step_body import Body

ALIGN = 64
MOST_TILES = 10
"""Most micro-kernel tiles of a block. Measured on Zen 4 (MiniLM, BERT-base; 7, 10, 14, 20): blocks beyond L2 cost nothing,
and weights are read less often; above 10 tiles nothing more is gained."""
CACHES = 4
"""L2 caches' worth of bytes that a block may take."""


@dataclass(frozen=True)
class Blocks:
    """The block buffer of a thread: rows of a block, where each block slot lies in it (by slot number), bytes in all."""

    rows: int
    at: dict[int, int]
    bytes: int


def lay_out_blocks(plan: Plan, isa: Isa) -> Blocks:
    """Block slots side by side, and rows: MOST_TILES tiles, or fewer where a block would take more than CACHES."""
    slots = {number: slot.block_bytes for number, slot in enumerate(plan.slots) if slot.block}
    fit = CACHES * isa.l2_bytes // max(sum(slots.values()), 1) // isa.max_rows
    rows = isa.max_rows * min(max(fit, 1), MOST_TILES)
    at: dict[int, int] = {}
    end = 0
    for number, size in slots.items():
        at[number] = end
        end += -(-rows * size // ALIGN) * ALIGN
    return Blocks(rows, at, end)


def chain_rows(em: Emission, unit: Unit) -> str:
    """C expression of a chain's rows."""
    count = "rt_tokens(e)" if unit.steps[0].place is Place.TOKEN else "rt_rows(e)"
    inner = product(unit.rows[1:]) if unit.steps[0].place is Place.ROW else 1
    return count if inner == 1 else f"{count} * {em.dim(inner)}"


def render_chain(
    em: Emission, number: int, unit: Unit, bodies: Sequence[Body], blocks: Blocks
) -> tuple[str, list[str]]:
    """(the C of the chain's function, the lines of `run` that call it). Raises InfcError (exit 1) for a step that has no
    kernel over a range of rows."""
    own = any(_blocks_of(em, step) for step in unit.steps)
    lines = [
        f"static void chain_{number}(void *env, uint32_t tid, uint32_t threads) {{",
        "    rt_env mine = *(rt_env *)env, *e = &mine;",
        f"    char *slots[{len(em.plan.slots)}];",
        f"    for (int s = 0; s < {len(em.plan.slots)}; ++s) slots[s] = e->slot[s];",
        "    mine.slot = slots;",
        "    float *scratch = (float *)(e->scratch + tid * e->scratch_stride);",
    ]
    if own:
        lines.append("    char *block = e->blocks + tid * e->block_stride;")
    lines += [
        "    int64_t begin, end;",
        f"    rt_split({chain_rows(em, unit)}, 1, tid, threads, &begin, &end);",
        f"    const int64_t count = (end - begin + {blocks.rows - 1}) / {blocks.rows};",
        "    uint64_t at = rt_start(e, tid);",
        "    for (int64_t b = 0; b < count; ++b) {",
        "        const int64_t r0 = begin + (end - begin) * b / count, r1 = begin + (end - begin) * (b + 1) / count;",
    ]
    for step, body in zip(unit.steps, bodies, strict=True):
        if not body.part:
            raise InfcError(f"{step.op.name} cannot stand in a chain: {step.name}", exit_code=Exit.INTERNAL)
        lines += (
            f"        slots[{ref.number}] = block + {blocks.at[ref.number]} - r0 * {_row_bytes(em, ref, unit)};"
            for ref in _blocks_of(em, step)
        )
        per = _per_row(em, body, unit)
        rows = "r0, r1" if per == "1" else f"r0 * {per}, r1 * {per}"
        lines.append(f"        part_{step.index}(e, scratch, {rows}, 0, {body.panels});")
        lines.append(f"        at = rt_lap(e, tid, {step.index}, at);")
    lines += ["    }", "}\n"]
    first, last = unit.steps[0].index, unit.steps[-1].index
    work = " + ".join(f"({body.work})" for body in bodies)
    run = [
        f"if (rt_narrow(e, {chain_rows(em, unit)}, {work})) {{",
        *(
            f"    rt_step(e, {s.index}, step_{s.index}, {b.rows}, {b.work});"
            for s, b in zip(unit.steps, bodies, strict=True)
        ),
        "} else {",
        f"    rt_chain(e, {first}, {last}, chain_{number}, {work});",
        *(
            f"    if (e->times) e->times[{s.index}].rows += (uint64_t)({b.rows});"
            for s, b in zip(unit.steps, bodies, strict=True)
        ),
        "}",
    ]
    return "\n".join(lines), run


def _blocks_of(em: Emission, step: Step) -> list[Ref]:
    """The refs of a step that lie in block slots."""
    return [ref for ref in step.refs if ref.where == "slot" and em.plan.slots[ref.number].block]


def _row_bytes(em: Emission, ref: Ref, unit: Unit) -> int:
    """Bytes of one row of the chain in the storage behind ref; other values of its slot may have wider rows."""
    inner = product(unit.rows[LEAD[ref.place] :])
    assert isinstance(inner, int), "rows of a block value have a fixed size"
    return stride_bytes(em, ref) // inner


def _per_row(em: Emission, body: Body, unit: Unit) -> str:
    """Rows of the step's `part` in one row of the chain, as a C expression."""
    if body.over is None:
        return "1"
    per = product(body.over.shape[len(unit.rows) : -1])
    return "1" if per == 1 else em.dim(per)
