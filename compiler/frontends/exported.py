"""`export("model.pt2")`: a program that torch.export.save wrote, with the ranges that it was exported for.

The file is data (pt2/): torch is given a program that is built from what was checked there, never the file itself.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ...dsl.spec import Model
from ..ir.dims import Range
from ..ir.graph import Array, Graph, Place, Weight
from ..ir.types import TensorType
from .errors import FrontendError, first_line
from .fields import Field, bounds_of, check_dtype, expected_outputs, field_of, keys_of
from .finite import check_exported
from .fx_export import Exported, data_dependent, decompositions, quiet
from .import_mlir import import_program, tensor_weight
from .imported import Imported, Options
from .pt2 import Opened, Refused, open_program, read_program
from .to_mlir import finite, to_mlir


def load(model: Model, folder: Path, options: Options) -> Imported:
    """The program of a .pt2 file, imported. Raises FrontendError."""
    file = Path(model.source.path or "")
    if not file.is_file():
        raise FrontendError(f"the file {model.source.written or file.name!r} does not exist")
    if model.task.kind != "tensor":
        raise FrontendError(
            f"`task {model.task.kind}` needs a tokenizer, which an exported program does not have",
            hint="use a huggingface source, or `task tensor`",
        )
    opened = load_program(file, str(folder))
    program = opened.program
    fields = fields_of(model, program, file.name, opened.inputs)
    names, places = output_names(program, opened.outputs)
    graph, mlir = _imported(
        model, file, folder, opened, Exported(program, fields, names, bounds_of(model, fields), opened.said)
    )
    allowed = model.source.nan_allowed
    unused = check_exported(program, set(graph.weights), file.name, nan_allowed=allowed, said=opened.said)
    module = program.module()
    given = tuple(name for name, _ in graph.outputs)
    keys = keys_of(expected_outputs(model), names)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(inputs[f.name], dtype=f.dtype)) for f in fields]
        with torch.no_grad():
            found = module(*tensors)
        by_name = {name: found[place].numpy() for name, place in zip(names, places, strict=True)}
        return {name: by_name[key] for name, key in zip(given, keys, strict=True)}

    return Imported(graph=graph, mlir=mlir, reference=reference, used_files=(file,), notes=unused)


def load_program(file: Path, root: str = "") -> Opened:
    """The one program of an archive, read as data. `root` is the folder that source lines are shown relative to. Raises
    FrontendError."""
    with quiet():
        try:
            return open_program(read_program(file), root)
        except Refused as error:
            itself = error.message.startswith("it ")
            message = f"{file.name} {error.message[3:]}" if itself else f"{file.name}: {error.message}"
            raise FrontendError(message, hint=error.hint) from None
        except Exception as error:  # whatever torch says of a program, it is the file's
            raise _unfit(file, error) from error


def _imported(model: Model, file: Path, folder: Path, opened: Opened, exported: Exported) -> tuple[Graph, str]:
    """The Graph and its MLIR. A program of a stranger may make torch or an importer raise anything: it is the file's."""
    try:
        with quiet():
            decomposed = exported.program.run_decompositions(decompositions(exported.program))
        mlir = to_mlir(replace(exported, program=decomposed), str(folder))
        graph = import_program(mlir, model.name, expected=expected_outputs(model), loader=_Weights(file, opened))
        return graph, mlir.text()
    except FrontendError:
        raise
    except GuardOnDataDependentSymNode as error:
        raise data_dependent(error) from None
    except Exception as error:
        raise _unfit(file, error) from error


class _Weights:
    """Weights by the address of their first element: in the file where they are used as they are stored there."""

    def __init__(self, file: Path, opened: Opened) -> None:
        self._file = file
        self._stored = opened.stored

    def __call__(self, name: str, tensor: torch.Tensor, type_: TensorType) -> Weight:
        weight = tensor_weight(name, tensor, type_)
        stored = self._stored.get(tensor.data_ptr())
        unchanged = stored is not None and tensor.is_contiguous() and tuple(tensor.shape) == stored.sizes
        if (
            stored is None
            or not unchanged
            or str(tensor.dtype) != f"torch.{type_.dtype}"
            or stored.offset % stored.item
        ):
            return weight
        return replace(weight, place=Place(self._file, stored.offset, type_.dtype))


def _unfit(file: Path, error: Exception) -> FrontendError:
    return FrontendError(
        f"{file.name} cannot be loaded by torch {torch.__version__}: {first_line(error)}",
        hint="save it again with `torch.export.save` of this version",
    )


def fields_of(model: Model, program: ExportedProgram, file: str, given: tuple[str, ...]) -> tuple[Field, ...]:
    """The program's inputs (`given` are the file's names for them) under the spec's names; without `input` lines, as the program has them: a symbolic first
    axis is `batch`. Raises FrontendError where the spec and the program differ."""
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    inputs: list[tuple[str, Any]] = []
    for name, own in zip(given, program.graph_signature.user_inputs, strict=True):
        value = placeholders[str(own)].meta["val"] if str(own) in placeholders else None
        if not isinstance(value, torch.Tensor):
            raise FrontendError(
                f"{file} was exported with an input that is no tensor ({name})", hint="export tensors only"
            )
        inputs.append((name, value))
    if not model.inputs:
        return tuple(_derived(name, value) for name, value in inputs)
    lines = [field_of(line) for line in model.inputs]
    shown = ", ".join(f"{name}: {_shown(value)}" for name, value in inputs)
    if len(lines) != len(inputs):
        raise FrontendError(f"the spec has {len(lines)} inputs, and {file} takes {len(inputs)}: {shown}")
    symbols: dict[str, str] = {}
    for line, (name, value) in zip(lines, inputs, strict=True):
        dtype = str(value.dtype).removeprefix("torch.")
        if line.parameter != name:
            raise FrontendError(
                f"the spec's input {line.parameter!r} is not what {file} takes there: {shown}",
                hint=f'write `input {name}: ...`, or `input "{name}" as {line.name}: ...`',
            )
        if line.dtype != dtype or len(line.shape) != value.ndim:
            raise FrontendError(f"the spec says input {line.name!r} is {line.type}, and {file} takes {_shown(value)}")
        for wanted, got in zip(line.shape, value.shape, strict=True):
            _check_extent(model, program, line.name, wanted, got, symbols, file)
    return tuple(lines)


def _check_extent(
    model: Model, program: ExportedProgram, name: str, wanted: int | str, got: Any, symbols: dict[str, str], file: str
) -> None:
    if isinstance(got, int):
        if isinstance(wanted, int) and wanted != got:
            raise FrontendError(f"the spec gives input {name!r} the extent {wanted}, and {file} was exported for {got}")
        return
    known = symbols.setdefault(str(got.node.expr), str(wanted))
    if known != str(wanted):
        raise FrontendError(
            f"{file} was exported with one size where the spec says {known!r} and {wanted!r}",
            hint=f"write {known} in both places",
        )
    low, high = _range(program, got)
    dim = model.dim(wanted) if isinstance(wanted, str) else None
    ours: Range = (wanted, wanted) if isinstance(wanted, int) else (dim.lo, dim.hi) if dim is not None else (low, high)
    if ours[0] < low or (high is not None and ours[1] > high):
        raise FrontendError(
            f"{file} was exported for {wanted} in {low}..{high if high is not None else 'any'}, and the spec says "
            f"{ours[0]}..{ours[1]}",
            hint=f"write `dim {wanted} in {max(low, ours[0])}..{ours[1] if high is None else min(high, ours[1])}`, "
            "or export it again with a wider range",
        )


def _derived(name: str, value: torch.Tensor) -> Field:
    shape: list[int | str] = []
    extents: list[Any] = list(value.shape)
    for axis, extent in enumerate(extents):
        if isinstance(extent, int):
            shape.append(extent)
        elif axis == 0:
            shape.append("batch")
        else:
            raise FrontendError(
                f"the program's input {name!r} is {_shown(value)}, and only a first axis has a name by default",
                hint=f"declare it: `input {name}: float32[batch, tokens]` and `dim tokens in 1..512`",
            )
    return Field(name, name, check_dtype(str(value.dtype).removeprefix("torch."), f"input {name!r}"), tuple(shape))


def _range(program: ExportedProgram, size: Any) -> tuple[int, Any]:
    limits = program.range_constraints.get(size.node.expr)
    if limits is None:
        return 0, None
    return finite(limits.lower, 0), finite(limits.upper, None)


def _shown(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(str(d) for d in value.shape)}]"


def output_names(program: ExportedProgram, given: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the program's tensor outputs (`given` has one for each value), and each one's place among all that it
    returns."""
    kinds = [s.arg for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    places = tuple(i for i, kind in enumerate(kinds) if type(kind).__name__ == "TensorArgument")
    names = tuple(given[i] for i in places)
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise FrontendError(f"two outputs of the program are called {twice!r}", hint="give them keys that differ")
    return names, places
