"""Convolution, pooling, group norm: steps over images [N, C, *spatial]."""

from __future__ import annotations

from math import prod

from ....compiler.codegen.plan import Ref, Step
from ....compiler.ir.dims import product
from ....compiler.ir.ops.conv import Conv
from ....compiler.ir.ops.group_norm import GroupNorm
from ....compiler.ir.ops.pool import Pool
from ....compiler.passes.placement import Place
from .. import kernels
from .operands import Emission, pointer
from .step_body import Body, use, work_of


def _images(em: Emission, ref: Ref) -> str:
    return "rt_rows(e)" if ref.extent is Place.ROW else em.dim(ref.type.shape[0])


def _static(shape: tuple[object, ...]) -> tuple[int, ...] | None:
    fixed = tuple(d for d in shape if isinstance(d, int))
    return fixed if len(fixed) == len(shape) else None


def render_conv(em: Emission, step: Step) -> Body | None:
    """Implicit GEMM over one or two fixed spatial axes; a task is a block of one image."""
    op = step.op
    assert isinstance(op, Conv)
    x, weight = step.operands[:2]
    shape, out_shape = _static(x.type.shape[1:]), _static(step.out.type.shape[1:])
    if weight.where != "weight" or shape is None or out_shape is None or Place.TOKEN in (x.place, step.out.place):
        return None
    weight_shape = _static(weight.type.shape)
    assert weight_shape is not None
    kernel = kernels.conv(
        em.isa, shape[0], weight_shape[0], shape[1:], weight_shape[2:], op.stride, op.padding, op.dilation,
        op.groups, op.activation, op.bias, op.residual,
    )  # fmt: skip
    isa, load = em.isa, em.weights.source[weight.weight].load
    at = em.weights.offset(f"conv {weight.weight}", 4 * prod(weight_shape), lambda: kernels.pack_conv(isa, load()))
    em.need_scratch(kernel)
    bias = pointer(em, step.operands[2]) if op.bias else "NULL"
    residual = pointer(em, step.operands[-1]) if op.residual else "NULL"
    images = _images(em, x)
    text = f"""    int64_t t0, t1;
    rt_split({images} * {kernel.tasks_per_item}, 1, tid, threads, &t0, &t1);
    if (t0 < t1)
        {use(em, kernel)}({pointer(em, x)}, (const float *)(e->weights + {at}), {bias}, {residual},
            {pointer(em, step.out, const=False)}, t0, t1, scratch);
"""
    return Body(text, images, work_of(images, 2 * prod((*out_shape, *weight_shape[1:])), em), "template:conv")


def render_pool(em: Emission, step: Step) -> Body | None:
    """Pooling over fixed spatial axes; a plane is one channel of one image."""
    op, x = step.op, step.operands[0]
    assert isinstance(op, Pool)
    shape, out_shape = _static(x.type.shape[1:]), _static(step.out.type.shape[1:])
    if shape is None or out_shape is None or Place.TOKEN in (x.place, step.out.place):
        return None
    kernel = kernels.pool(
        em.isa, op.kind, shape[1:], out_shape[1:], op.kernel, op.stride, op.padding, op.dilation, op.count_include_pad
    )
    images = _images(em, x)
    work = prod((*out_shape, *op.kernel))
    text = f"""    int64_t p0, p1;
    rt_split({images} * {shape[0]}, 1, tid, threads, &p0, &p1);
    if (p0 < p1)
        {use(em, kernel)}({pointer(em, x)}, {pointer(em, step.out, const=False)}, p0, p1);
"""
    return Body(text, images, work_of(images, work * 8, em), "template:pool")


def render_group_norm(em: Emission, step: Step) -> Body | None:
    """Group norm; a task is one group of one image."""
    op, x = step.op, step.operands[0]
    assert isinstance(op, GroupNorm)
    channels = x.type.shape[1]
    if not isinstance(channels, int) or x.place is Place.TOKEN:
        return None
    kernel = kernels.group_norm(em.isa, channels, op.groups, op.eps, op.weight, op.bias)
    rest = list(step.operands[1:])
    weight = pointer(em, rest.pop(0)) if op.weight else "NULL"
    bias = pointer(em, rest.pop(0)) if op.bias else "NULL"
    images, plane = _images(em, x), em.dim(product(x.type.shape[2:]))
    text = f"""    int64_t t0, t1;
    rt_split({images} * {op.groups}, 1, tid, threads, &t0, &t1);
    if (t0 < t1)
        {use(em, kernel)}({pointer(em, x)}, {weight}, {bias}, {pointer(em, step.out, const=False)}, t0, t1, {plane});
"""
    return Body(text, images, f"({images}) * {channels} * ({plane})", "template:group_norm")
