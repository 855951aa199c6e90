"""One C function a step: `static void step_N(void *env, uint32_t tid, uint32_t threads)`.

A whole has a template kernel, called here over this thread's part; every other op, and a whole whose shape its kernel
does not take, is rendered from its loop form by the tail. `render_step` picks the first that fits and says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....compiler.codegen.plan import Ref, Step
from ....compiler.ir.dims import product
from ....compiler.ir.graph import Op
from ....compiler.ir.ops.argmax import Argmax
from ....compiler.ir.ops.argmin import Argmin
from ....compiler.ir.ops.argsort import Argsort
from ....compiler.ir.ops.attention import Attention
from ....compiler.ir.ops.conv import Conv
from ....compiler.ir.ops.cumsum import Cumsum
from ....compiler.ir.ops.embedding import Embedding
from ....compiler.ir.ops.group_norm import GroupNorm
from ....compiler.ir.ops.l2_normalize import L2Normalize
from ....compiler.ir.ops.layer_norm import LayerNorm
from ....compiler.ir.ops.linear import Linear
from ....compiler.ir.ops.log_softmax import LogSoftmax
from ....compiler.ir.ops.masked_mean import MaskedMean
from ....compiler.ir.ops.matmul import Matmul
from ....compiler.ir.ops.pool import Pool
from ....compiler.ir.ops.quantize import Quantize
from ....compiler.ir.ops.recurrence import Recurrence
from ....compiler.ir.ops.rms_norm import RmsNorm
from ....compiler.ir.ops.softmax import Softmax
from ....compiler.ir.types import DType
from ....compiler.passes.placement import Place
from .. import kernels
from ..tuning.choice import Shape
from .operands import Emission, pointer, spacing, storage_type, stride_of, units, vector_step, vectors
from .recurrent import render_recurrence
from .segments import open_own_segments, open_segments, segment
from .spatial import render_conv, render_group_norm, render_pool
from .step_body import Body, Render, part_of, split_rows, use, work_of

SPEEDUP: Mapping[DType, int] = {"float32": 1, "bfloat16": 2, "q8": 4}
"""About how much faster a core multiplies; decides when a step is too small for a second thread."""


def at_row(em: Emission, ref: Ref, *, const: bool = True) -> str:
    """Pointer to vector r0 of ref."""
    return f"{pointer(em, ref, const=const)} + r0 * {vector_step(em, ref)}"


def render_linear(em: Emission, step: Step) -> Body | None:
    """Packed-panel GEMM; threads split rows where there are enough, else panels of columns."""
    op = step.op
    assert isinstance(op, Linear)
    x, weight = step.operands[:2]
    n, k = weight.type.shape
    if weight.where != "weight" or not isinstance(n, int) or not isinstance(k, int):
        return None
    isa, precision = em.isa, op.precision
    choice = em.choices.get(Shape(precision, n, k))
    kernel = kernels.linear(isa, n, k, op.activation, op.bias, op.residual, precision, op.out, choice)
    load = em.weights.source[weight.weight].load
    packed = kernels.packed_bytes(isa, n, k, precision)
    key = f"linear {weight.weight}" if precision == "float32" else f"linear {precision} {weight.weight}"
    at = em.weights.offset(key, packed, lambda: kernels.pack_linear(isa, load(), precision))
    rows = vectors(em, x.type, x.extent)
    bias = pointer(em, step.operands[2]) if op.bias else "NULL"
    residual = step.operands[-1]
    res = at_row(em, residual) if op.residual else "NULL"
    ldr = em.dim(spacing(residual)) if op.residual else "0"
    panels = kernels.panels(em.isa, n)
    part = f"""    {use(em, kernel)}({at_row(em, x)}, {vector_step(em, x)}, (const void *)(e->weights + {at}), {bias},
        {res}, {ldr}, {at_row(em, step.out, const=False)}, {vector_step(em, step.out)}, r1 - r0, p0, p1);
"""
    provider = "template:linear" if precision == "float32" else f"template:linear {precision}"
    return part_of(part, x.type, rows, work_of(rows, 2 * n * k // SPEEDUP[precision], em), provider, panels)


def render_quantize(em: Emission, step: Step) -> Body | None:
    """Rows to bfloat16 or q8."""
    op, x, width = step.op, step.operands[0], _static_width(step)
    assert isinstance(op, Quantize)
    if width is None or (op.dtype == "bfloat16" and (op.smooth or x.type.dtype != "float32")):
        return None
    if op.dtype == "bfloat16" and x.extent is Place.TOKEN and x.contiguous and x.type.rank > 2:
        whole = stride_of(x)  # element by element: a token's vectors are one
        part = f"""    {use(em, kernels.cast_bf16(em.isa, whole))}({pointer(em, x)} + r0 * {whole}, {whole},
        {pointer(em, step.out, const=False)} + r0 * {whole}, {whole}, r1 - r0);
"""
        return part_of(part, None, "rt_tokens(e)", work_of("rt_tokens(e)", 4 * whole, em), "template:quantize")
    if op.dtype == "q8":
        kernel = kernels.quantize_rows(em.isa, width, x.type.dtype, smooth=op.smooth)
    else:
        kernel = kernels.cast_bf16(em.isa, width)
    smooth = f", {pointer(em, step.operands[1])}" if op.smooth else ""
    rows = vectors(em, x.type, x.extent)
    part = f"""    {use(em, kernel)}({at_row(em, x)}, {vector_step(em, x)}, {at_row(em, step.out, const=False)},
        {vector_step(em, step.out)}{smooth}, r1 - r0);
"""
    return part_of(part, x.type, rows, work_of(rows, 4 * width, em), "template:quantize")


def _static_width(step: Step) -> int | None:
    width = step.operands[0].type.shape[-1] if step.operands[0].type.shape else None
    return width if isinstance(width, int) else None


def render_norm(em: Emission, step: Step) -> Body | None:
    """layer_norm and rms_norm over rows."""
    op, width = step.op, _static_width(step)
    assert isinstance(op, LayerNorm | RmsNorm)
    if width is None:
        return None
    rest = list(step.operands[1:])
    has_bias = isinstance(op, LayerNorm) and op.bias
    has_residual = isinstance(op, LayerNorm) and op.residual
    weight = pointer(em, rest.pop(0)) if op.weight else "NULL"
    bias = pointer(em, rest.pop(0)) if has_bias else "NULL"
    residual = rest.pop(0) if has_residual else None
    also = step.also
    more: dict[str, Any] = {"also": also.op.dtype, "keep": also.keep, "smooth": also.op.smooth} if also else {}
    if isinstance(op, LayerNorm):
        kernel = kernels.layer_norm(em.isa, width, op.eps, op.weight, op.bias, op.residual, **more)
    else:
        kernel = kernels.rms_norm(em.isa, width, op.eps, op.weight, **more)
    second = f"{at_row(em, also.out, const=False)}, {vector_step(em, also.out)}, " if also else ""
    second += f"{pointer(em, also.smooth)}, " if also and also.smooth else ""
    rows = vectors(em, step.out.type, step.out.extent)
    x = step.operands[0]
    part = f"""    {use(em, kernel)}({at_row(em, x)}, {em.dim(spacing(x))}, {at_row(em, residual) if residual else "NULL"},
        {em.dim(spacing(residual)) if residual else "0"}, {weight}, {bias},
        {at_row(em, step.out, const=False)}, {em.dim(spacing(step.out))}, {second}r1 - r0);
"""
    provider = f"template:{op.name}" + (" + quantize" if also else "")
    return part_of(part, step.out.type, rows, work_of(rows, 8 * width, em), provider)


def render_softmax(em: Emission, step: Step) -> Body | None:
    """softmax and log_softmax over a contiguous last axis."""
    op, x = step.op, step.operands[0]
    assert isinstance(op, Softmax | LogSoftmax)
    if op.axis != x.type.rank - 1 or not x.contiguous:
        return None
    kernel = kernels.softmax(em.isa, isinstance(op, LogSoftmax))
    rows, n = vectors(em, x.type, x.extent), em.dim(x.type.shape[-1])
    part = f"    {use(em, kernel)}({at_row(em, x)}, {at_row(em, step.out, const=False)}, r1 - r0, {n});\n"
    return part_of(part, x.type, rows, f"({rows}) * ({n}) * 2", f"template:{op.name}")


def render_l2(em: Emission, step: Step) -> Body | None:
    """l2_normalize over rows."""
    op, width, x = step.op, _static_width(step), step.operands[0]
    assert isinstance(op, L2Normalize)
    if width is None:
        return None
    kernel = kernels.l2_normalize(em.isa, width, op.eps)
    rows = vectors(em, x.type, x.extent)
    part = f"""    {use(em, kernel)}({at_row(em, x)}, {em.dim(spacing(x))}, {at_row(em, step.out, const=False)},
        {em.dim(spacing(step.out))}, r1 - r0);
"""
    return part_of(part, x.type, rows, work_of(rows, 4 * width, em), "template:l2_normalize")


def render_embedding(em: Emission, step: Step) -> Body | None:
    """Rows of a table by id."""
    assert isinstance(step.op, Embedding)
    table, ids = step.operands
    entries, width = table.type.shape
    if table.type.dtype != "float32" or table.where != "weight" or not ids.contiguous:
        return None
    if not isinstance(width, int) or not isinstance(entries, int):
        return None
    kernel = kernels.embedding(em.isa, width, ids.type.dtype, entries)
    rows = vectors(em, step.out.type, step.out.extent)
    part = f"""    {use(em, kernel)}({pointer(em, table)}, {pointer(em, ids)} + r0, {at_row(em, step.out, const=False)}, r1 - r0);
"""
    return part_of(part, step.out.type, rows, f"({rows}) * {width // 8}", "template:embedding")


def render_attention(em: Emission, step: Step) -> Body | None:
    """Blocked attention, a segment at a time; a task is a head and a block of queries."""
    op = step.op
    assert isinstance(op, Attention)
    q, k, v = step.operands[:3]
    rest = list(step.operands[3:])
    mask = rest.pop(0) if op.mask else None
    bias = rest.pop(0) if op.bias else None
    heads, depth = q.type.shape[2:]
    heads_k, depth_v = k.type.shape[2], v.type.shape[3]
    if not all(isinstance(d, int) for d in (heads, depth, heads_k, depth_v)):
        return None
    if bias is not None and (bias.type.shape[-1:] != k.type.shape[1:2] or not bias.contiguous):
        return None
    assert isinstance(heads, int)
    assert isinstance(depth, int)
    assert isinstance(heads_k, int)
    assert isinstance(depth_v, int)
    kernel = kernels.attention(
        em.isa, heads, heads_k, depth, depth_v, op.scale, op.causal, op.window, mask is not None, bias is not None,
        q.type.dtype, op.out, op.empty, op.low,
    )  # fmt: skip
    (at_k, keys), (at_v, _) = segment(em, k), segment(em, v)
    at_mask = segment(em, mask)[0] if mask is not None else ""
    ldq, ldk, ldv = (em.dim(r.spacing or product(r.type.shape[2:])) for r in (q, k, v))
    ldo = em.dim(product(step.out.type.shape[2:]))
    if bias is None:
        bias_args = "NULL, 0, 0"
    else:
        shape = storage_type(bias, em.plan).shape
        steps = ["0"] * (4 - len(shape))
        steps += [em.dim(product(shape[a + 1 :])) if bias.type.shape[a] != 1 else "0" for a in range(len(shape) - 1)]
        bias_args = f"{pointer(em, bias)} + seg * {steps[0]}, {steps[1]}, {steps[2]}"
    em.need_scratch(kernel, k.type.shape[1])
    block = kernel.block
    tasks = f"{heads} * ((len + {block - 1}) / {block})"
    out = pointer(em, step.out, const=False)

    def call(first: str, queries: str, position: str, t0: str, t1: str) -> str:
        return f"""        {use(em, kernel)}({pointer(em, q)} + {first} * {ldq}, {ldq},
            {pointer(em, k)} + {at_k} * {ldk}, {ldk}, {pointer(em, v)} + {at_v} * {ldv}, {ldv},
            {f"{pointer(em, mask)} + {at_mask}" if mask else "NULL"}, {bias_args},
            {out} + {first} * {ldo}, {ldo}, {queries}, {keys}, {position}, {t0}, {t1}, scratch);
    }}
"""

    text = open_segments(em, q, tasks) + call("at", "len", "0", "t0", "t1")
    part = ""
    if q.extent in (Place.TOKEN, Place.ROW) and q.extent is step.out.extent:
        part = open_own_segments(em, q) + call("first", "len", "position", "0", tasks)
    rows = units(em, q)
    return Body(text, rows, f"({rows}) * {heads * (depth + depth_v) * 2}", "template:attention", part=part)


def render_masked_mean(em: Emission, step: Step) -> Body | None:
    """The mean of a segment's kept tokens."""
    assert isinstance(step.op, MaskedMean)
    x, mask = step.operands
    width = _static_width(step)
    if width is None or (x.place is Place.TOKEN) != (mask.place is Place.TOKEN) or not mask.contiguous:
        return None
    kernel = kernels.masked_mean(em.isa, width)
    ldx = em.dim(spacing(x))
    text = (
        open_segments(em, x, "1")
        + f"""        {use(em, kernel)}({pointer(em, x)} + at * {ldx}, {ldx}, {pointer(em, mask)} + at,
            {pointer(em, step.out, const=False)} + seg * {width}, len);
    }}
"""
    )
    rows = vectors(em, x.type, x.extent)
    return Body(text, rows, work_of(rows, width, em), "template:masked_mean")


def render_matmul(em: Emission, step: Step) -> Body | None:
    """Products of activations; a task is one matrix of the batch, or a block of its rows."""
    op = step.op
    assert isinstance(op, Matmul)
    a, b = step.operands
    if a.type.rank < 2 or b.type.rank < 2 or not (a.contiguous and b.contiguous) or a.type.dtype != "float32":
        return None
    if Place.TOKEN in (a.extent, b.extent, step.out.extent) and step.out.type.rank < 4:
        return None
    if len({r.extent for r in (a, b, step.out)} & {Place.TOKEN, Place.ROW}) and not _same_flat(a, b, step.out):
        return None
    m, k = a.type.shape[-2:]
    n = step.out.type.shape[-1]
    kernel = kernels.matmul(em.isa, op.transpose_b)
    em.need_scratch(kernel, k)
    lead = step.out.type.shape[:-2]
    batch = _lead_count(em, step.out)
    lines = [
        f"    const int64_t m = {em.dim(m)}, k = {em.dim(k)}, n = {em.dim(n)}, batch = {batch};",
        "    int64_t t0, t1;",
    ]
    lines.append("    const int64_t blocks = (m + 31) / 32;\n    rt_split(batch * blocks, 1, tid, threads, &t0, &t1);")
    lines.append("    for (int64_t t = t0; t < t1; ++t) {\n        int64_t rest = t / blocks, at_a = 0, at_b = 0;")
    lines.append("        const int64_t i0 = t % blocks * 32, i1 = i0 + 32 < m ? i0 + 32 : m;")
    steps_a, steps_b = ["1"], ["1"]
    for axis in reversed(range(len(lead))):
        size = em.dim(lead[axis])
        index = "rest" if axis == 0 else f"rest % {size}"
        for ref, steps, name in ((a, steps_a, "at_a"), (b, steps_b, "at_b")):
            position = axis - (len(lead) - (ref.type.rank - 2))
            if position >= 0 and ref.type.shape[position] != 1:
                lines.append(f"        {name} += ({index}) * {' * '.join(steps)};")
                steps.append(em.dim(ref.type.shape[position]))
        if axis:
            lines.append(f"        rest /= {size};")
    ldb = "k" if op.transpose_b else "n"
    lines.append(
        f"        {use(em, kernel)}({pointer(em, a)} + at_a * m * k + i0 * k, k, {pointer(em, b)} + at_b * k * n, {ldb},"
    )
    lines.append(
        f"            {pointer(em, step.out, const=False)} + (t / blocks) * m * n + i0 * n, n, i1 - i0, k, n, scratch);"
    )
    lines.append("    }\n")
    rows = f"({batch}) * ({em.dim(m)})"
    return Body("\n".join(lines), rows, f"({rows}) * ({em.dim(2 * product((k, n)))}) / 32", "template:matmul")


def render_along(em: Emission, step: Step) -> Body | None:
    """cumsum, argmax, argmin, argsort along one axis; threads split what lies before it."""
    op, x = step.op, step.operands[0]
    assert isinstance(op, Cumsum | Argmax | Argmin | Argsort)
    if not x.contiguous:
        return None
    if isinstance(op, Argsort):
        kernel = kernels.argsort(em.isa, x.type.dtype, op.descending)
        em.need_scratch(kernel, x.type.shape[op.axis])
    else:
        make = (
            kernels.cumsum if isinstance(op, Cumsum) else kernels.argmax if isinstance(op, Argmax) else kernels.argmin
        )
        kernel = make(em.isa, x.type.dtype)
    flat_axes = {Place.TOKEN: 2, Place.ROW: 1}.get(x.extent, 0)
    if op.axis < flat_axes:  # along the length: the step runs per row, whose dimensions e->dim has
        outer = em.dim(product(x.type.shape[: op.axis]))
    else:
        count = {Place.TOKEN: "rt_tokens(e) * ", Place.ROW: "rt_rows(e) * "}.get(x.extent, "")
        outer = count + em.dim(product(x.type.shape[flat_axes : op.axis]))
    n, inner = em.dim(x.type.shape[op.axis]), em.dim(product(x.type.shape[op.axis + 1 :]))
    out_step = f"({n}) * ({inner})" if isinstance(op, Cumsum) else f"({inner})"
    more, each = "", 1
    if isinstance(op, Argsort):
        count = em.dim(op.count)
        out_step, more, each = f"({count}) * ({inner})", f", {count}, scratch", 16
    text = (
        split_rows(outer)
        + f"""    if (r0 < r1)
        {use(em, kernel)}({pointer(em, x)} + r0 * ({n}) * ({inner}), {pointer(em, step.out, const=False)} + r0 * {out_step},
            r1 - r0, {n}, {inner}{more});
"""
    )
    return Body(text, outer, f"({outer}) * ({n}) * ({inner}) * {each}", f"template:{op.name}")


def _same_flat(*refs: Ref) -> bool:
    """Flat operands have the batch as their own leading axis; others may be shared."""
    flat = [r for r in refs if r.extent in (Place.TOKEN, Place.ROW)]
    return len({r.extent for r in flat}) == 1 and len({r.type.rank for r in flat}) == 1 and refs[-1] in flat


def _lead_count(em: Emission, out: Ref) -> str:
    lead = out.type.shape[:-2]
    if out.extent is Place.TOKEN:
        return f"rt_tokens(e) * {em.dim(product(lead[2:]))}"
    if out.extent is Place.ROW:
        return f"rt_rows(e) * {em.dim(product(lead[1:]))}"
    return em.dim(product(lead))


RENDER: Mapping[type[Op], Render] = {
    Linear: render_linear,
    Quantize: render_quantize,
    LayerNorm: render_norm,
    RmsNorm: render_norm,
    Softmax: render_softmax,
    LogSoftmax: render_softmax,
    L2Normalize: render_l2,
    Embedding: render_embedding,
    Attention: render_attention,
    Recurrence: render_recurrence,
    MaskedMean: render_masked_mean,
    Matmul: render_matmul,
    Cumsum: render_along,
    Argmax: render_along,
    Argmin: render_along,
    Argsort: render_along,
    Conv: render_conv,
    Pool: render_pool,
    GroupNorm: render_group_norm,
}
