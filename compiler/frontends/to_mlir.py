"""torch.export program → MLIR module in the `torch` dialect.

A weight arrives as `torch.operator "infc.weight"() {weight = "name"}`: a reference, its bytes stay where they are.
Each op's location names the node of the exported program that it came from.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch_mlir import ir
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.extras import fx_importer

from ..ir.dims import Dim, Range, bounds, floordiv, mod, sym
from ..ir.graph import Origin
from .errors import FrontendError, first_line
from .fx_export import Exported
from .guards import FixedDimension
from .sources import model_source, module_path

WEIGHT_OP = "infc.weight"
FUNCTION = "main"


@dataclass(frozen=True)
class NodeInfo:
    """What the exported program says of one node: provenance, and the shape that the exporter found (None: unknown)."""

    origin: Origin
    shapes: tuple[tuple[Dim, ...] | None, ...]


@dataclass(frozen=True)
class Program:
    """The MLIR module, the tensors it refers to by name, and what is known of each node. Names of weights are those
    of the exported module, or `constant.N` for tensors that only the code knows."""

    module: Any
    weights: Mapping[str, torch.Tensor]
    nodes: Mapping[str, NodeInfo]
    exported: Exported

    def text(self) -> str:
        """The module as MLIR prints it."""
        return str(self.module)


def to_mlir(exported: Exported, root: str = "") -> Program:
    """The program as MLIR. `root` is the folder that source lines are shown relative to.

    Raises FrontendError where torch-mlir cannot take a construct (control flow, sparse or quantized tensors).
    """
    context = ir.Context()
    torch_dialect.register_dialect(context)
    weights: dict[str, torch.Tensor] = {}
    names = _names_of(exported)
    importer = _importer(context, weights, names)
    program = exported.program
    _refuse_mutation(program, exported.said)
    _erase_asserts(program)
    symbols = _symbols(exported)
    _decide_choices(program, symbols, exported.bounds)
    try:
        importer.import_program(program, func_name=FUNCTION)
    except (NotImplementedError, TypeError, AssertionError, ValueError, RuntimeError) as error:
        size = re.search(r"Unimplemented call_function: target=<function (\w+)", str(error))
        said = f"{size[1]} of sizes is not supported" if size else first_line(error)
        raise FrontendError(
            f"the exported model cannot be written in MLIR's torch dialect: {said}",
            hint='rewrite that part with operations on tensors of float32, and use `torch("file.py:factory")`',
        ) from error
    nodes = {
        node.name: NodeInfo(_origin(node, root, exported.said), _shapes(node.meta.get("val"), symbols))
        for node in program.graph.nodes
    }
    return Program(importer.module, weights, nodes, exported)


def _refuse_mutation(program: Any, said: Mapping[str, str]) -> None:
    """Raises FrontendError where forward changes a buffer or an input: each request is computed alone."""
    signature = program.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        name = said.get(str(changed[0]), str(changed[0]).removeprefix("module."))
        raise FrontendError(
            f"forward changes {name!r}, and nothing is kept from one request to the next",
            hint="make a new tensor instead of changing one in place; call `.eval()` where a layer counts in training",
        )


def _importer(context: Any, weights: dict[str, torch.Tensor], names: Mapping[int, str]) -> Any:
    """An FxImporter whose tensors become references and whose locations name the node."""

    class Locations(fx_importer.ContextCache):
        def get_node_location(self, node: Any) -> Any:
            return ir.Location.name(node.name, context=self._c)

    class References(fx_importer.GraphNodeImporter):
        def _import_literal(self, py_value: Any, info: Any = None) -> Any:
            if not isinstance(py_value, torch.Tensor):
                return super()._import_literal(py_value, info)
            name = names.get(id(py_value))
            if name is None:
                name = next((n for n, t in weights.items() if t is py_value), f"constant.{len(weights)}")
            weights[name] = py_value
            kind = self._cc.get_vtensor_type(py_value.shape, py_value.dtype)
            attributes = {"name": ir.StringAttr.get(WEIGHT_OP), "weight": ir.StringAttr.get(name)}
            return ir.Operation.create("torch.operator", results=[kind], attributes=attributes).result

    class Importer(fx_importer.FxImporter):
        def __init__(self) -> None:
            super().__init__(context=context, graph_node_importer_cls=References)
            self._cc = Locations(context, py_attr_tracker=self._py_attr_tracker)

    return Importer()


def _names_of(exported: Exported) -> dict[int, str]:
    """Names by identity of tensor: of parameters and buffers, without the wrapper's own prefix."""
    program = exported.program
    found: dict[int, str] = {}
    for table in (program.state_dict, program.constants):
        for name, value in table.items():
            if isinstance(value, torch.Tensor):
                found.setdefault(id(value), exported.said.get(name, name.removeprefix("module.")))
    return found


def _erase_asserts(program: Any) -> None:
    """Drops nodes that only assert (metadata, sizes): what they check is checked here or by the generated code."""
    graph = program.graph
    for node in reversed(list(graph.nodes)):
        target = str(node.target)
        asserts = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
        if node.op == "call_function" and not node.users and any(a in target for a in asserts):
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _decide_choices(program: Any, symbols: Mapping[str, Dim], ranges: Mapping[str, Range]) -> None:
    """Puts the one size in place of the smaller or larger of two, where the bounds of their dimensions say which it is. Raises
    FrontendError where they do not."""
    for node in list(program.graph.nodes):
        if node.op != "call_function" or node.target not in (torch.sym_min, torch.sym_max):
            continue
        sizes = [_size(a, symbols) for a in node.args]
        if any(size is None for size in sizes):
            continue
        first, second = (size for size in sizes if size is not None)
        low, high = bounds(first - second, ranges)
        if low < 0 < high:
            word = "smaller" if node.target is torch.sym_min else "larger"
            raise FrontendError(
                f"which of the sizes {first} and {second} is the {word} depends on the input",
                hint="narrow the `dim` lines until one is never below the other",
            )
        chosen = node.args[(low >= 0) == (node.target is torch.sym_min)]
        node.replace_all_uses_with(chosen)
        program.graph.erase_node(node)


def _size(value: Any, symbols: Mapping[str, Dim]) -> Dim | None:
    """An integer of the exported program, or a size that one of its nodes computes."""
    found = value.meta.get("val") if isinstance(value, torch.fx.Node) else value
    if not isinstance(found, int | torch.SymInt):
        return None
    return _expression(found if isinstance(found, int) else found.node.expr, symbols)


def _symbols(exported: Exported) -> dict[str, Dim]:
    """The exporter's symbols (s33, ...) by the names of the spec. Raises FrontendError when a dimension was fixed."""
    found: dict[str, Dim] = {}
    placeholders = {n.name: n for n in exported.program.graph.nodes if n.op == "placeholder"}
    for field, name in zip(exported.fields, exported.program.graph_signature.user_inputs, strict=True):
        value = placeholders[str(name)].meta["val"]
        for got, wanted in zip(value.shape, field.shape, strict=True):
            if not isinstance(wanted, str):
                if not isinstance(got, int):
                    found[str(got.node.expr)] = wanted
                continue
            low, high = exported.bounds[wanted]
            if isinstance(got, int):
                if low != high:
                    raise FixedDimension(wanted, got, (low, high))
                continue
            expression = got.node.expr
            found[str(expression)] = sym(wanted)
            _check_range(exported, expression, wanted, (low, high))
    return found


def _check_range(exported: Exported, expression: Any, name: str, bounds: Range) -> None:
    """Raises FrontendError where the exporter silently narrowed a range."""
    limits = exported.program.range_constraints.get(expression)
    if limits is None:
        return
    low, high = finite(limits.lower, 0), finite(limits.upper, bounds[1])
    if low > bounds[0] or high < bounds[1]:
        raise FrontendError(
            f"the model does not work for all of {name} in {bounds[0]}..{bounds[1]}",
            hint=f"write `dim {name} in {max(low, bounds[0])}..{min(high, bounds[1])}`",
        )


def finite(value: Any, otherwise: Any) -> Any:
    """A bound of the exporter's as an integer; `otherwise` where it is infinite."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise


def _shapes(value: Any, symbols: Mapping[str, Dim]) -> tuple[tuple[Dim, ...] | None, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(
        tuple(_dim(d, symbols) for d in v.shape)
        if isinstance(v, torch.Tensor) and all(_known(d, symbols) for d in v.shape)
        else None
        for v in values
    )


def _known(size: Any, symbols: Mapping[str, Dim]) -> bool:
    return _expression(size if isinstance(size, int) else size.node.expr, symbols) is not None


def _dim(size: Any, symbols: Mapping[str, Dim]) -> Dim:
    found = _expression(size if isinstance(size, int) else size.node.expr, symbols)
    assert found is not None
    return found


def _expression(expression: Any, symbols: Mapping[str, Dim]) -> Dim | None:
    """A sympy expression as a Dim; None where it has a form that Dims do not have (min, max, a data-dependent size)."""
    if isinstance(expression, int) or expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return symbols.get(str(expression))
    kind = type(expression).__name__
    parts = [_expression(a, symbols) for a in expression.args]
    if any(p is None for p in parts):
        return None
    values = [p for p in parts if p is not None]
    if kind == "Add":
        return sum(values[1:], values[0])
    if kind == "Mul":
        total = values[0]
        for value in values[1:]:
            total = total * value
        return total
    if kind == "Pow" and isinstance(values[1], int) and values[1] >= 0:
        total = 1
        for _ in range(values[1]):
            total = total * values[0]
        return total
    if kind in ("FloorDiv", "CleanDiv", "IntTrueDiv") and isinstance(values[1], int) and values[1] > 0:
        return floordiv(values[0], values[1])
    if kind in ("Mod", "PythonMod") and isinstance(values[1], int) and values[1] > 0:
        return mod(values[0], values[1])
    return None


def _origin(node: Any, root: str, said: Mapping[str, str]) -> Origin:
    name, trace = module_path(node.meta.get("nn_module_stack")), node.meta.get("stack_trace")
    return Origin(said.get(name, name), said.get(str(trace)) or model_source(trace, root), str(node.target))
