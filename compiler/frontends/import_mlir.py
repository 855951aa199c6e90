"""MLIR `torch` dialect → Graph: one walk over the block, each op looked up in the table of `import_aten`.

Dimensions are inferred from `size.int` arithmetic and the ops' own shape rules, and checked against what the exporter
found for each node. An op without a row is an error that names it, the model's source line and the nearest rewrite.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..ir.dims import Dim, Range, evaluate
from ..ir.graph import Graph, Node, OpError, Origin, Weight
from ..ir.ops.leaf import WeightRef, constant, input_node, weight_node
from ..ir.types import DType, TensorType
from .errors import FrontendError
from .fields import Expected
from .import_aten import handler_of
from .import_aten.scope import KeyMask, Result, Scope, Unsupported, Unwritten, Value, parse_result
from .import_aten.suggest import suggestion
from .to_mlir import WEIGHT_OP, Program

Loader = Callable[[str, torch.Tensor, TensorType], Weight]
"""How a weight's name and tensor become an entry of the Graph's table."""

TORCH_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.bool: "bool",
}
HELPERS = ("prim.ListUnpack", "prim.TupleUnpack", "prim.NumToTensor.Scalar")
"""Ops that torch-mlir puts in beside those of the program: their location is another op's."""
SMALL_INTS = (torch.uint8, torch.int8, torch.int16)


def tensor_weight(name: str, tensor: torch.Tensor, type_: TensorType) -> Weight:
    """The weight whose bytes stay in `tensor`."""
    return Weight(type_, lambda: np.ascontiguousarray(tensor.detach().numpy()))


def import_program(
    program: Program, name: str, *, loader: Loader = tensor_weight, expected: tuple[Expected, ...] = ()
) -> Graph:
    """The Graph of program: inputs are its fields, outputs have the exported names, or those of `expected`.

    Raises FrontendError for an unsupported op or dtype, and for outputs that are not as expected.
    """
    exported = program.exported
    walker = _Walker(program, loader)
    function = next(iter(program.module.body.operations))
    block = function.regions[0].blocks[0]
    inputs = [input_node(f.name, f.type, Origin(f.name)) for f in exported.fields]
    for argument, node in zip(block.arguments, inputs, strict=True):
        walker.values[argument] = node
    results: list[Node] = []
    for operation in block.operations:
        if operation.operation.name == "func.return":
            results = [walker.returned(v, i) for i, v in enumerate(operation.operands)]
        else:
            walker.step(operation.operation)
    outputs = _named(tuple(zip(exported.outputs, results, strict=True)), expected)
    symbols = {s for f in exported.fields for s in f.symbols}
    batch = batch_dim_of([f.type.shape for f in exported.fields])
    graph = Graph(
        name=name,
        dims={k: v for k, v in exported.bounds.items() if k in symbols},
        inputs=tuple(inputs),
        outputs=outputs,
        input_specs={f.name: f.spec for f in exported.fields},
        batch_dim=batch,
        length_dim="tokens" if "tokens" in symbols and batch != "tokens" else None,
    )
    used = {n.op.weight for n in graph.nodes() if isinstance(n.op, WeightRef)}
    return graph.replace(weights={k: w for k, w in walker.weights.items() if k in used})


def batch_dim_of(shapes: Sequence[tuple[Dim, ...]]) -> str | None:
    """The symbol along which requests may perhaps be merged, whatever its name: the one symbolic first dimension of the
    inputs. None where there is none, or where inputs begin with different symbols."""
    first = {str(shape[0]) for shape in shapes if shape and not isinstance(shape[0], int)}
    return first.pop() if len(first) == 1 else None


class _Walker:
    """The values seen so far while walking one block."""

    def __init__(self, program: Program, loader: Loader) -> None:
        self.program = program
        self.loader = loader
        self.values: dict[Any, Value] = {}
        self.weights: dict[str, Weight] = {}
        self.dims: Mapping[str, Range] = program.exported.bounds

    def step(self, operation: Any) -> None:
        """Imports one op."""
        name = operation.name
        if name == "torch.operator":
            name = str(operation.attributes["name"].value)
        name = name.removeprefix("torch.")
        info = self.program.nodes.get(str(operation.location).removeprefix('loc("').removesuffix('")'))
        origin = replace(info.origin, imported=name) if info is not None else Origin(imported=name)
        results = tuple(parse_result(str(r.type)) for r in operation.results)
        if name == WEIGHT_OP:
            made: Value = self.weight(str(operation.attributes["weight"].value), origin)
            self.values[operation.results[0]] = made
            return
        handler = handler_of(name)
        if handler is None:
            raise _unsupported(f"the op {name} is not supported", origin, suggestion(name))
        scope = Scope(origin, results, self.dims, _attribute(operation), _used(operation))
        operands = [self.values[o] for o in operation.operands]
        try:
            _refuse_dtypes(results, name)
            _refuse_masks(operands, name)
            value = handler(scope, *operands)
        except Unsupported as error:
            raise _unsupported(f"{name}: {error.message}", origin, error.hint or suggestion(name)) from None
        except OpError as error:
            raise _unsupported(f"{name}: {error}", origin, suggestion(name)) from None
        values = value if isinstance(value, tuple) else (value,)
        for i, (target, got) in enumerate(zip(operation.results, values, strict=True)):
            if isinstance(got, Node) and name not in HELPERS:
                self.check(
                    got, results[i], info.shapes[i] if info is not None and i < len(info.shapes) else None, origin
                )
            self.values[target] = got

    def weight(self, name: str, origin: Origin) -> Node:
        """The leaf of tensor `name`: a constant for a scalar, else a named weight."""
        tensor = self.program.weights[name]
        if tensor.ndim == 0 and (tensor.dtype in TORCH_DTYPES or tensor.dtype in (torch.float64, *SMALL_INTS)):
            dtype = TORCH_DTYPES.get(tensor.dtype, "float32" if tensor.dtype == torch.float64 else "int32")
            return constant(tensor.item(), dtype, origin)
        dtype = TORCH_DTYPES.get(tensor.dtype)
        if dtype is None:
            raise FrontendError(
                f"the weight {name!r} has dtype {_dtype_name(tensor.dtype)}; infc computes with float32, int64, int32, bool",
                hint="convert the module first: `.float()`"
                if tensor.dtype.is_floating_point
                else "convert it to int64",
            )
        type_ = TensorType(dtype, tuple(tensor.shape))
        self.weights.setdefault(name, self.loader(name, tensor, type_))
        return weight_node(name, type_, replace(origin, name=name))

    def returned(self, value: Any, index: int) -> Node:
        """The Node of output number index."""
        found = self.values[value]
        if isinstance(found, Node):
            return found
        name = self.program.exported.outputs[index]
        if isinstance(found, Unwritten):
            raise FrontendError(f"of the output {name!r} a part is never written", hint=Unwritten.HINT)
        raise FrontendError(f"the output {name!r} is no tensor", hint="return tensors only")

    def check(self, node: Node, result: Result, shape: tuple[Dim, ...] | None, origin: Origin) -> None:
        """Raises FrontendError where the Graph's type differs from MLIR's or the exporter's."""
        fits = node.type.rank == len(result.shape) and all(
            w is None or _same(g, w, self.dims) for g, w in zip(node.type.shape, result.shape, strict=True)
        )
        if fits and shape is not None:
            fits = len(shape) == node.type.rank and all(
                _same(g, w, self.dims) for g, w in zip(node.type.shape, shape, strict=True)
            )
        if not fits or node.type.dtype != result.dtype:
            wanted = "x".join(str(d) for d in shape) if shape is not None else str(result)
            raise _unsupported(
                f"{origin.imported}: the importer finds {node.type}, the exporter {result.dtype} {wanted}", origin, ""
            )


def _attribute(operation: Any) -> Any:
    return operation.attributes["value"] if "value" in operation.attributes else None  # noqa: SIM401 - MLIR's map has no get


def _used(operation: Any) -> tuple[bool, ...]:
    return tuple(any(True for _ in result.uses) for result in operation.results)


def _same(got: Dim, wanted: Dim, dims: Mapping[str, Range]) -> bool:
    """Whether two dimensions agree: in form, or at every corner and some points between where forms differ."""
    if got == wanted:
        return True
    for share in (0.0, 0.13, 0.37, 0.5, 0.81, 1.0):
        point = {name: low + round((high - low) * share) for name, (low, high) in dims.items()}
        if evaluate(got, point) != evaluate(wanted, point):
            return False
    return True


def _named(found: tuple[tuple[str, Node], ...], expected: tuple[Expected, ...]) -> tuple[tuple[str, Node], ...]:
    """Outputs under the spec's names, checked against its types."""
    if not expected:
        return found
    shown = ", ".join(f"{name}: {node.type}" for name, node in found)
    by_name = dict(found)
    out: list[tuple[str, Node]] = []
    for i, want in enumerate(expected):
        name = want.foreign or want.name
        if name in by_name:
            node = by_name[name]
        elif want.foreign is None and all(n == f"output{k}" for k, (n, _) in enumerate(found)) and i < len(found):
            node = found[i][1]
        else:
            raise FrontendError(f"the model has no output {name!r}; it gives {shown}")
        if node.type != want.type:
            raise FrontendError(
                f"the spec says output {want.name!r} is {want.type}, and the model gives {node.type}",
                hint=f"write `output {want.name}: {_spelled(node.type)}`",
            )
        out.append((want.name, node))
    positional = all(n == f"output{k}" for k, (n, _) in enumerate(found))
    if positional and len(expected) < len(found):
        raise FrontendError(
            f"the spec names {len(expected)} of the model's {len(found)} outputs; it gives {shown}",
            hint="name all of them, in order, or none",
        )
    return tuple(out)


def _spelled(type_: TensorType) -> str:
    return f"{type_.dtype}[{', '.join(str(d) for d in type_.shape)}]"


def _refuse_dtypes(results: tuple[Result, ...], name: str) -> None:
    for result in results:
        if result.refused and not (result.refused == "float64" and result.shape == ()):
            raise Unsupported(
                f"the dtype {result.refused} is not supported (float32, int64, int32, bool are)",
                "compute in float32" if "float" in result.refused else "use int64",
            )


def _refuse_masks(operands: list[Value], name: str) -> None:
    if any(isinstance(o, KeyMask) for o in operands) and not name.startswith("infc."):
        raise Unsupported("the attention mask is used outside attention")


def _unsupported(message: str, origin: Origin, hint: str) -> FrontendError:
    where = f" (module {origin.name})" if origin.name else ""
    at = f"{origin.source}: " if origin.source else ""
    return FrontendError(f"{at}{message}{where}", hint=hint)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
