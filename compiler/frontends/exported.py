"""`export("model.pt2")`: a program that torch.export.save wrote, with the ranges that it was exported for.

torch.export.load unpickles where an archive holds pickles. So the archive is looked through first, one that holds
pickled objects is refused, and while torch loads it every torch.load is held to tensors alone.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ...dsl.spec import Model
from ..ir.dims import Range
from ..ir.graph import Array
from .errors import FrontendError
from .fields import Field, bounds_of, check_dtype, expected_outputs, field_of
from .fx_export import Exported, decompositions, flatten_outputs, quiet
from .import_mlir import import_program
from .imported import Imported, Options
from .to_mlir import finite, to_mlir


@dataclass(frozen=True)
class Place:
    """Stands for output number `index` while names are found."""

    index: int


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
    program = load_program(file)
    fields = fields_of(model, program, file.name)
    bounds = bounds_of(model, fields)
    names, places = output_names(program)
    with quiet():
        decomposed = program.run_decompositions(decompositions())
    exported = Exported(decomposed, fields, names, bounds)
    mlir = to_mlir(exported, str(folder))
    graph = import_program(mlir, model.name, expected=expected_outputs(model))
    module = program.module()
    given = tuple(name for name, _ in graph.outputs)

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(inputs[f.name], dtype=f.dtype)) for f in fields]
        assert program.call_spec.in_spec is not None
        arguments, named = pytree.tree_unflatten(tensors, program.call_spec.in_spec)
        with torch.no_grad():
            found, _ = pytree.tree_flatten(module(*arguments, **named))
        by_name = {name: found[place].numpy() for name, place in zip(names, places, strict=True)}
        wanted = [(o.foreign or o.name) for o in model.outputs] or list(names)
        keys = [w if w in by_name else names[i] for i, w in enumerate(wanted)]
        return {name: by_name[key] for name, key in zip(given, keys, strict=True)}

    return Imported(graph=graph, mlir=mlir.text(), reference=reference, used_files=(file,))


def load_program(file: Path) -> ExportedProgram:
    """The one program of an archive. Executes no pickle. Raises FrontendError."""
    check_archive(file)
    with tensors_only(), quiet():
        try:
            return torch.export.load(file)
        except Exception as error:  # noqa: BLE001 - whatever torch says of a file, it is the file's
            raise FrontendError(
                f"{file.name} cannot be loaded by torch {torch.__version__}: {_first_line(error)}",
                hint="save it again with `torch.export.save` of this version",
            ) from None


def check_archive(file: Path) -> None:
    """Raises FrontendError unless file is a .pt2 archive of one program without pickled objects."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError) as error:
        raise FrontendError(
            f"{file.name} is no .pt2 archive: {_first_line(error)}",
            hint="save it with `torch.export.save(program, file)`",
        ) from None
    with archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        models = [e for e in entries if e.startswith("models/") and e.endswith(".json")]
        if not models:
            legacy = any(name.startswith("serialized_") for name in archive.namelist())
            raise FrontendError(
                f"{file.name} {'has the archive format of old versions' if legacy else 'holds no exported program'}",
                hint="save it with `torch.export.save(program, file)` of torch 2.9 or later",
            )
        if models != ["models/model.json"]:
            raise FrontendError(f"{file.name} holds {len(models)} programs, and one is needed")
        for entry, name in entries.items():
            if _is_pickle(archive, entry, name):
                raise FrontendError(
                    f"{file.name}: the entry {entry!r} holds pickled objects, and no pickle is executed",
                    hint="export a module of plain tensors: no custom classes, no tensor subclasses",
                )


def _is_pickle(archive: zipfile.ZipFile, entry: str, name: str) -> bool:
    """Whether an entry holds more than tensors: a custom object, a pickled weight, or what tensors_only refuses."""
    base = entry.rsplit("/", 1)[-1]
    if base.startswith(("custom_obj_", "opaque_obj_")) or base.endswith((".pkl", ".pickle")):
        return True
    if base.endswith("_config.json"):
        rows: dict[str, Any] = json.loads(archive.read(name)).get("config", {})
        return any(row.get("use_pickle") for row in rows.values())
    if base.endswith(".pt"):
        if not entry.startswith("data/sample_inputs/"):
            return True
        data = archive.read(name)
        if not data:
            return False
        try:
            torch.load(io.BytesIO(data), weights_only=True)
        except Exception:  # noqa: BLE001 - whatever is refused is no tensor
            return True
    return False


@contextlib.contextmanager
def tensors_only() -> Generator[None]:
    """torch.load refuses anything but tensors and plain containers, whatever its caller asks."""
    original = torch.load

    def guarded(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **{**named, "weights_only": True})

    torch.load = guarded
    try:
        yield
    finally:
        torch.load = original


def fields_of(model: Model, program: ExportedProgram, file: str) -> tuple[Field, ...]:
    """The program's inputs under the spec's names; without `input` lines, as the program has them: a symbolic first
    axis is `batch`. Raises FrontendError where the spec and the program differ."""
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    inputs: list[tuple[str, Any]] = []
    for name in program.graph_signature.user_inputs:
        value = placeholders[str(name)].meta["val"] if str(name) in placeholders else None
        if not isinstance(value, torch.Tensor):
            raise FrontendError(
                f"{file} was exported with an input that is no tensor ({name})", hint="export tensors only"
            )
        inputs.append((str(name), value))
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


def output_names(program: ExportedProgram) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the program's tensor outputs, and each one's place among all that it returns."""
    tree = program.call_spec.out_spec
    assert tree is not None
    specs = program.graph_signature.output_specs
    kinds = [s.arg for s in specs if s.kind.name == "USER_OUTPUT"]
    marked: list[Any] = [Place(i) if type(a).__name__ == "TensorArgument" else None for i, a in enumerate(kinds)]
    named = flatten_outputs(pytree.tree_unflatten(marked, tree), leaf=Place)
    return tuple(named), tuple(p.index for p in named.values())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
