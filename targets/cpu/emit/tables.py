"""The tables by which abi.c knows a model: inputs, outputs, symbols, sizes."""

from __future__ import annotations

from ....compiler.codegen.plan import Ref
from ....compiler.ir.dims import Dim
from ....compiler.ir.graph import InputSpec
from ....compiler.ir.ops.leaf import Input
from ....compiler.passes.placement import Place
from .cexpr import c_string
from .chain import Blocks
from .operands import Emission, stride_of

DTYPE = {"float32": "INFC_FLOAT32", "int64": "INFC_INT64", "int32": "INFC_INT32", "bool": "INFC_BOOL"}
PLACE = {
    Place.SHARED: "RT_SHARED",
    Place.PREFIX: "RT_PREFIX",
    Place.ROW: "RT_ROW",
    Place.TOKEN: "RT_TOKEN",
    Place.LOCAL: "RT_LOCAL",
}


def render_tables(em: Emission, blocks: Blocks, describe: str) -> str:
    """C text of `infc_rt_model` and what it points to."""
    plan, graph = em.plan, em.plan.graph
    lines: list[str] = []
    mask = -1
    inputs: list[str] = []
    for number, (node, ref) in enumerate(zip(graph.inputs, plan.inputs, strict=True)):
        op = node.op
        assert isinstance(op, Input)
        spec = graph.input_specs.get(op.input, InputSpec())
        dims = ", ".join(_rt_dim(d, plan.symbols) for d in node.type.shape) or "{-1, 1}"
        lines.append(f"static const rt_dim shape_{number}[] = {{{dims}}};")
        ranged = spec.minimum is not None and spec.maximum is not None
        if spec.mask:
            mask = number
        inputs.append(
            f"    {{{c_string(op.input)}, {DTYPE[node.type.dtype]}, {node.type.rank}, shape_{number}, "
            f"{int(spec.default is not None)}, {int(ranged)}, {int(spec.nan)}, {int(spec.mask)}, "
            f"{_number(spec.default)}, {_number(spec.minimum)}, {_number(spec.maximum)}, "
            f"{PLACE[ref.place]}, {_slot(em, node, ref)}, {_inner(ref)}}},"
        )
    outputs = [
        f"    {{{c_string(name)}, {DTYPE[ref.type.dtype]}, {ref.type.rank}, {PLACE[ref.place]}, "
        f"{ref.number if ref.where == 'slot' else -1}, {_inner(ref)}}},"
        for name, ref in plan.outputs
    ]
    symbols = [f"    {{{c_string(s)}, {graph.dims[s][0]}, {graph.dims[s][1]}}}," for s in plan.symbols]
    length = plan.symbols.index(graph.length_dim) if graph.length_dim in plan.symbols else -1
    lines += ["static const rt_input inputs[] = {", *inputs, "};"]
    lines += ["static const rt_output outputs[] = {", *outputs, "};"]
    lines += ["static const rt_symbol symbols[] = {", *symbols, "};", ""]
    at = ", ".join(str(blocks.at.get(number, -1)) for number in range(len(plan.slots))) or "0"
    lines += [_slot_bytes(em), _output_dim(em), f"static const int64_t block_at[] = {{{at}}};"]
    placement = plan.placement
    batched = graph.batch_dim is not None and graph.batch_dim in plan.symbols
    lines.append(
        f"""static const char describe[] =
{_long_string(describe)};

const rt_model_info infc_rt_model = {{
    .name = {c_string(graph.name)}, .describe = describe,
    .inputs = {len(inputs)}, .outputs = {len(outputs)}, .symbols = {len(symbols)}, .slots = {len(plan.slots)}, .steps = {len(plan.steps)},
    .input = inputs, .output = outputs, .symbol = symbols,
    .length_symbol = {length}, .batched = {int(batched)}, .batchable = {int(placement.batchable)}, .trim = {int(plan.trim)}, .mask = {mask},
    .weights_bytes = {em.weights.size}u,
    .slot_bytes = slot_bytes, .scratch_bytes = {em.scratch_floats * 4}u, .output_dim = output_dim, .run = run,
    .block_at = block_at, .block_bytes = {blocks.bytes}u,
}};
"""
    )
    return "\n".join(lines)


def _rt_dim(dim: Dim, symbols: tuple[str, ...]) -> str:
    if isinstance(dim, int):
        return f"{{-1, {dim}}}"
    return f"{{{symbols.index(str(dim))}, 0}}"


def _number(value: float | None) -> str:
    return repr(float(value)) if value is not None else "0"


def _slot(em: Emission, node: object, ref: Ref) -> int:
    if ref.where == "slot":
        return ref.number
    return em.plan.default_slots.get(ref.number, -1)


def _inner(ref: Ref) -> int:
    """Elements of one token or row; inputs and outputs are contiguous."""
    if ref.place not in (Place.TOKEN, Place.ROW):
        return 0
    assert ref.contiguous
    return stride_of(ref)


def _slot_bytes(em: Emission) -> str:
    lines = [
        "static void slot_bytes(const int64_t *d, int64_t rows, int64_t tokens, uint64_t *bytes) {",
        "    (void)d, (void)rows, (void)tokens;",
    ]
    count = {Place.TOKEN: "tokens * ", Place.ROW: "rows * "}
    for number, slot in enumerate(em.plan.slots):
        if slot.block:
            lines.append(f"    bytes[{number}] = 0;")
            continue
        first, *others = (f"(uint64_t)({count.get(slot.place, '')}{em.dim(s, 'd')})" for s in slot.sizes)
        lines.append(f"    bytes[{number}] = {first};")
        lines += [f"    if ({other} > bytes[{number}]) bytes[{number}] = {other};" for other in others]
    return "\n".join([*lines, "}"])


def _output_dim(em: Emission) -> str:
    lines = [
        "static int64_t output_dim(uint32_t output, uint32_t axis, const int64_t *d) {",
        "    (void)d;",
        "    switch (output * 16 + axis) {",
    ]
    for number, (_, ref) in enumerate(em.plan.outputs):
        for axis, dim in enumerate(ref.type.shape):
            lines.append(f"    case {number * 16 + axis}: return {em.dim(dim, 'd')};")
    return "\n".join([*lines, "    default: return 0;", "    }", "}", ""])


def _long_string(text: str) -> str:
    return "\n".join("    " + c_string(text[at : at + 120]) for at in range(0, max(len(text), 1), 120))
