"""C text for steps that run per segment: a row's tokens in flat buffers, a batch row elsewhere."""

from __future__ import annotations

from ....compiler.codegen.plan import Ref
from ....compiler.ir.dims import Dim
from ....compiler.passes.placement import Place
from .operands import Emission


def open_segments(em: Emission, ref: Ref, tasks: str) -> str:
    """Opens a loop over the part of all tasks that belongs to this thread.

    ref: [batch, length, ...]. Inside, `at` is the segment's first token in ref's buffer, `len` its length, `seg` its number, and
    `t0`..`t1` its tasks to do; `tasks` is a C expression over `len`. Close with `}`.
    """
    batch: Dim = ref.type.shape[0]
    length: Dim = ref.type.shape[1]
    if ref.place is Place.TOKEN:
        count = "(e->row ? 1 : e->rows)"
        at = "(e->row ? 0 : e->row_table[seg].offset)"
        size = "(e->row ? e->row : &e->row_table[seg])->length"
    else:
        count = "rt_rows(e)" if ref.place is Place.ROW else em.dim(batch)
        at = f"seg * {em.dim(length)}"
        size = em.dim(length)
    return f"""
    const int64_t segments = {count};
    int64_t total = 0, first, past;
    for (int64_t seg = 0; seg < segments; ++seg) {{
        const int64_t len = {size};
        total += {tasks};
    }}
    rt_split(total, 1, tid, threads, &first, &past);
    int64_t before = 0;
    for (int64_t seg = 0; seg < segments && before < past; ++seg) {{
        const int64_t len = {size}, at = {at}, own = {tasks};
        const int64_t t0 = first > before ? first - before : 0, t1 = past - before < own ? past - before : own;
        before += own;
        if (t0 >= t1) continue;
"""
