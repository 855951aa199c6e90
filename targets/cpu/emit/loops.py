"""Steps rendered from their op's loop form by the tail."""

from __future__ import annotations

from dataclasses import replace

from ....compiler.codegen.plan import LONGEST, Step
from ....compiler.errors import InfcError
from ....compiler.ir.dims import product
from ....compiler.ir.loops import Expr, Literal, Load, Loop, map_children
from ....compiler.passes.placement import Place
from .. import tail
from .operands import Emission, pointer, storage_type, stride_of
from .step_body import Body, part_of
from .weights import parse_constant


def render_loop(em: Emission, step: Step, *, island: bool) -> Body:
    """Any op with a loop form. Raises InfcError naming an op that has none here."""
    types = tuple(r.type for r in step.operands)
    loop = step.op.loop(step.out.type, *types)
    if loop is None:
        raise InfcError(
            f"{step.op.name} over {', '.join(map(str, types))} has no kernel on this target",
            hint=f"it comes from {step.name} {step.origin}".strip(),
        )
    loop = Loop(loop.out, _inline_constants(loop.body, step))
    flat = not island and step.out.place is Place.TOKEN
    by_rows = not island and step.out.place is Place.ROW and any(r.place is Place.TOKEN for r in step.operands)
    operands = tuple(
        tail.OperandDesc(storage_type(r, em.plan), r.place if flat else Place.SHARED) for r in step.operands
    )
    mode = tail.Mode.FLAT if flat else tail.Mode.DENSE
    kernel = tail.render(loop, operands, mode, em.symbols, em.isa, em.plan.graph.dims, tvm=em.tvm)
    em.functions.setdefault(kernel.symbol, kernel.source)
    if kernel.object is not None:
        em.objects[kernel.object[0]] = kernel.object[1]
    if by_rows:
        return _by_rows(em, step, kernel)
    if flat:
        return _flat(em, step, kernel)
    total = em.dim(kernel.outer)
    pointers = ", ".join(pointer(em, r) for r in step.operands) or "NULL"
    text = f"""    const void *const in[] = {{{pointers}}};
    int64_t begin, end;
    rt_split({total}, 1, tid, threads, &begin, &end);
    if (begin < end)
        {kernel.symbol}({pointer(em, step.out, const=False)}, in, e->dim, e->row_of, e->pos_of, begin, end);
"""
    elements = em.dim(product(step.out.type.shape))
    part = _rows_part(em, step, kernel) if step.out.place is Place.ROW and not island else ""
    return Body(text, elements, elements, kernel.provider, kernel.reason, part)


def _flat(em: Emission, step: Step, kernel: tail.LoopKernel) -> Body:
    """A TOKEN value, token by token."""
    pointers = ", ".join(pointer(em, r) for r in step.operands) or "NULL"
    part = f"""    const void *const in[] = {{{pointers}}};
    {kernel.symbol}({pointer(em, step.out, const=False)}, in, e->dim, e->row_of, e->pos_of, r0, r1);
"""
    elements = f"rt_tokens(e) * ({em.dim(product(step.out.type.shape[2:]))})"
    return replace(part_of(part, None, "rt_tokens(e)", elements, kernel.provider), reason=kernel.reason)


def _rows_part(em: Emission, step: Step, kernel: tail.LoopKernel) -> str:
    """The dense kernel over batch rows r0..r1 of a ROW value that reads no tokens."""
    symbols = em.symbols
    pointers = ", ".join(
        pointer(em, r) + (f" + r0 * {stride_of(r)}" if r.place is Place.ROW else "") for r in step.operands
    )
    out = f"{pointer(em, step.out, const=False)} + r0 * {stride_of(step.out)}"
    return f"""    const void *const in[] = {{{pointers or "NULL"}}};
    int64_t d[{len(symbols)}];
    for (int k = 0; k < {len(symbols)}; ++k) d[k] = e->dim[k];
    d[0] = r1 - r0;
    {kernel.symbol}({out}, in, d, NULL, NULL, 0, {em.dim(kernel.outer, "d")});
"""


def _by_rows(em: Emission, step: Step, kernel: tail.LoopKernel) -> Body:
    """A ROW value that reads tokens: the dense kernel for each row at its own length."""
    symbols = em.symbols
    length = em.plan.graph.length_dim
    assert length is not None
    pointers = ", ".join(
        pointer(em, r, in_row=False)
        + (f" + row->offset * {stride_of(r)}" if r.place is Place.TOKEN else "")
        + (f" + r * {stride_of(r)}" if r.place is Place.ROW else "")
        for r in step.operands
    )
    text = f"""    int64_t r0, r1;
    rt_split(e->rows, 1, tid, threads, &r0, &r1);
    for (int64_t r = r0; r < r1; ++r) {{
        const rt_row *row = &e->row_table[r];
        if (row->length == 0) continue;
        int64_t d[{len(symbols)}];
        for (int k = 0; k < {len(symbols)}; ++k) d[k] = e->dim[k];
        d[0] = 1;
        d[{symbols.index(length)}] = row->length;
        const void *const in[] = {{{pointers}}};
        {kernel.symbol}({pointer(em, step.out, const=False, in_row=False)} + r * {stride_of(step.out)}, in, d, NULL, NULL, 0,
            {em.dim(kernel.outer, "d")});
    }}
"""
    elements = f"e->rows * {stride_of(step.out)}"
    assert LONGEST in symbols
    return Body(text, "e->rows", elements, kernel.provider, kernel.reason)


def _inline_constants(expr: Expr, step: Step) -> Expr:
    """Loads of scalar constants become literals."""
    if isinstance(expr, Load):
        ref = step.operands[expr.operand]
        if ref.weight.startswith("="):
            return Literal(parse_constant(ref.weight), ref.type.dtype)
    return map_children(expr, lambda e: _inline_constants(e, step))
