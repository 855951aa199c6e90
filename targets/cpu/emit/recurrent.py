"""recurrence as C: rows side by side, as many as the kernel takes."""

from __future__ import annotations

from ....compiler.codegen.plan import Step
from ....compiler.ir.ops.recurrence import Recurrence
from ....compiler.passes.placement import Place
from .. import kernels
from .operands import Emission, pointer, spacing, vectors
from .segments import segment
from .step_body import Body, use, work_of


def render_recurrence(em: Emission, step: Step) -> Body | None:
    """A task is a row; a thread takes several of its own at a time."""
    op = step.op
    assert isinstance(op, Recurrence)
    x, weight, *rest = step.operands
    gates, hidden = weight.type.shape
    if weight.where != "weight" or not isinstance(hidden, int) or not isinstance(gates, int):
        return None
    if any(not r.contiguous for r in rest):
        return None
    kernel = kernels.recurrence(em.isa, op.kind, hidden, reverse=op.reverse, bias=op.bias, cells=op.cells)
    em.need_scratch(kernel)
    load = em.weights.source[weight.weight].load
    packed = kernels.panels_bytes(em.isa, gates, hidden)
    at_weight = em.weights.offset(f"panels {weight.weight}", packed, lambda: kernels.pack_panels(em.isa, load()))
    bias = pointer(em, rest.pop(0)) if op.bias else "NULL"
    states = [f"{pointer(em, r)} + start * {hidden}" for r in rest] + ["NULL"] * (2 - len(rest))
    counts = {Place.TOKEN: "(e->row ? 1 : e->rows)", Place.ROW: "rt_rows(e)"}
    rows = counts.get(x.extent) or em.dim(x.type.shape[0])
    at, steps = segment(em, x)
    text = f"""    int64_t s0, s1;
    rt_split({rows}, 1, tid, threads, &s0, &s1);
    for (int64_t start = s0; start < s1; start += {kernel.block}) {{
        const int64_t rows = s1 - start < {kernel.block} ? s1 - start : {kernel.block};
        int64_t at[{kernel.block}], steps[{kernel.block}];
        for (int64_t r = 0; r < rows; ++r) {{
            const int64_t seg = start + r;
            at[r] = {at};
            steps[r] = {steps};
            (void)seg;
        }}
        {use(em, kernel)}({pointer(em, x)}, {em.dim(spacing(x))}, (const float *)(e->weights + {at_weight}), {bias},
            {states[0]}, {states[1]}, {pointer(em, step.out, const=False)}, {em.dim(spacing(step.out))}, at, steps, rows, scratch);
    }}
"""
    work = work_of(vectors(em, x.type, x.extent), 2 * gates * hidden, em)
    return Body(text, rows, work, "template:recurrence")
