"""C text for steps that run per segment: a row's tokens in flat buffers, a batch row elsewhere."""

from __future__ import annotations

from ....compiler.codegen.plan import Ref
from ....compiler.passes.placement import Place
from .operands import Emission


def segment(em: Emission, ref: Ref) -> tuple[str, str]:
    """(first vector, length) of segment `seg` of ref [batch, length, ...], as C expressions; what has one batch row for all,
    or is a prefix, starts at 0."""
    batch, length = ref.type.shape[:2]
    of_row = "(e->row ? e->row : &e->row_table[seg])->length"
    if ref.extent is Place.TOKEN:
        return "(e->row ? 0 : e->row_table[seg].offset)", of_row
    if ref.extent is Place.PREFIX:
        return "0", of_row
    size = em.dim(length)
    return ("0" if batch == 1 else f"seg * {size}"), size


def open_segments(em: Emission, ref: Ref, tasks: str) -> str:
    """Opens a loop over the part of all tasks that belongs to this thread.

    ref: [batch, length, ...]. Inside, `at` is the segment's first vector in ref's buffer, `len` its length, `seg` its
    number, and `t0`..`t1` its tasks to do; `tasks` is a C expression over `len`. Close with `}`.
    """
    counts = {Place.TOKEN: "(e->row ? 1 : e->rows)", Place.ROW: "rt_rows(e)"}
    count = counts.get(ref.extent) or em.dim(ref.type.shape[0])
    at, size = segment(em, ref)
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


def open_own_segments(em: Emission, ref: Ref) -> str:
    """Opens a loop over the segments that vectors r0..r1 of ref [batch, length, ...], which is stored flat, belong to.

    Inside, the vectors at hand are `first` and the `len` - 1 that follow it: those from `position` on of segment `seg`.
    Close with `}`.
    """
    if ref.extent is Place.TOKEN:
        own = """        const int64_t seg = e->row_of[first], start = e->row_table[seg].offset;
        const int64_t stop = start + e->row_table[seg].length;
"""
    else:
        size = em.dim(ref.type.shape[1])
        own = f"""        const int64_t seg = first / ({size}), start = seg * ({size}), stop = start + ({size});
"""
    return f"""    for (int64_t first = r0, past; first < r1; first = past) {{
{own}        past = stop < r1 ? stop : r1;
        const int64_t position = first - start, len = past - first;
"""
