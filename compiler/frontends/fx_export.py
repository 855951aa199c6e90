"""nn.Module → torch.export program over symbolic dimensions, with the wholes kept whole.

The module is wrapped so that it takes its inputs in the order of `fields` and returns a flat tuple of tensors whose
names are recorded: fields of a dict, dataclass or named tuple, else output0, output1, ... The program then has one
user input per field, one user output per name.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..ir.dims import Range
from .bags import bags_of_rows
from .branches import Branches
from .counted import counted_ranges
from .errors import FrontendError
from .fields import Field, example_sizes
from .guards import FixedDimension, always_holds, are_tautologies, each_extent, explain, narrowed
from .pools import pools_of_any_length
from .recurrent import kept_operators, whole_recurrences
from .sources import model_source

KEPT = (
    "linear", "layer_norm", "group_norm", "rms_norm", "gelu", "silu", "hardswish", "hardsigmoid", "softmax",
    "log_softmax", "scaled_dot_product_attention", "matmul", "conv1d", "conv2d", "max_pool1d", "max_pool2d",
    "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "embedding", "std", "var", "var_mean",
    "std_mean", "leaky_relu", "elu", "selu", "celu", "softplus", "hardtanh", "mish", "relu6", "log_sigmoid", "prelu",
    "select_scatter", "pixel_shuffle", "pixel_unshuffle", "dropout", "index_select", "stack", "pad", "eye", "instance_norm", "roll",
)  # fmt: skip
"""Packets of aten that are not decomposed: the importer knows them as they are."""


LARGER = 20
"""The least size of a second attempt."""


@dataclass(frozen=True)
class Exported:
    """A program and what its inputs and outputs are called. `said` gives what its identifiers stand for (weights, module
    paths, places in the source) where it was read from a file."""

    program: ExportedProgram
    fields: tuple[Field, ...]
    outputs: tuple[str, ...]
    bounds: Mapping[str, Range]
    said: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])


class Names:
    """Names of outputs, as the traced call found them. Copies are the same object: the exporter traces a copy."""

    def __init__(self) -> None:
        self.found: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Names:
        return self

    def __copy__(self) -> Names:
        return self


class Flat(nn.Module):
    """module with positional inputs and a flat tuple of named tensor outputs. `picked` keeps one field only."""

    def __init__(self, module: nn.Module, fields: Sequence[Field], picked: str | None = None) -> None:
        super().__init__()
        self.module = module
        self.fields = tuple(fields)
        self.picked = picked
        self.names = Names()
        self.branches = Branches()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._equate(tensors)
        positional, named = bind(self.module, self.fields, tensors)
        found = flatten_outputs(self.module(*positional, **named))
        if self.picked is not None:
            if self.picked not in found:
                raise FrontendError(
                    f"the model's output has no field {self.picked!r}, only {', '.join(found)}",
                    hint="name a class that has it under `architectures` of config.json, or choose another task",
                )
            found = {self.picked: found[self.picked]}
        self.names.found = tuple(found)
        return tuple(found.values())

    def _equate(self, tensors: Sequence[torch.Tensor]) -> None:
        """Tells the exporter, which has a symbol for each axis, which of them are one dimension."""
        self.branches.guards.clear()
        seen: dict[str, Any] = {}
        for field, tensor in zip(self.fields, tensors, strict=True):
            for name, size in zip(field.shape, tensor.shape, strict=True):
                if isinstance(name, str):
                    self.branches.name(size, name)
                    torch._check(seen.setdefault(name, size) == size)  # pyright: ignore[reportPrivateUsage]


def export_module(
    module: nn.Module, fields: Sequence[Field], bounds: Mapping[str, Range], *, picked: str | None = None
) -> Exported:
    """module as a program over fields. Runs forward once on traced inputs; weights are neither copied nor changed.

    Raises FrontendError for a signature that does not fit, a dimension that the model fixes, or what the exporter
    cannot trace; exceptions of forward itself pass through.
    """
    check_signature(module, fields)
    module.eval()
    flat = Flat(module, fields, picked).eval()
    if not fields:
        raise FrontendError("the model has no inputs", hint="declare them: `input x: float32[batch, 64]`")
    wide = {name: _widened(limits) for name, limits in bounds.items()}
    try:
        program = _traced(flat, fields, wide)
    except FrontendError:
        if wide == dict(bounds):
            raise
        fields = [_pinned(f, bounds) for f in fields]
        flat = Flat(module, fields, picked).eval()
        program = _traced(flat, fields, {name: limits for name, limits in bounds.items() if limits[0] != limits[1]})
    return Exported(program, tuple(fields), flat.names.found, dict(bounds))


def _widened(bounds: Range) -> Range:
    """Bounds of two values at least: a dimension of one value is traced as one that varies, so that it stays one."""
    low, high = bounds
    return bounds if low < high else (low - 1, high) if low > 2 else (low, high + 1)


def _pinned(field: Field, bounds: Mapping[str, Range]) -> Field:
    """field with symbols of one value replaced by it."""
    shape = tuple(bounds[d][0] if isinstance(d, str) and bounds[d][0] == bounds[d][1] else d for d in field.shape)
    return replace(field, shape=shape)


def _traced(flat: Flat, fields: Sequence[Field], bounds: Mapping[str, Range]) -> ExportedProgram:
    """The program, traced with sizes that differ from each other; with larger ones where a dimension was fixed or sizes did
    not match, since a part of a small size may have one element, which the exporter takes for a constant."""
    examples = example_inputs(fields, bounds)
    try:
        return _export(flat, fields, bounds, examples)
    except (FixedDimension, RuntimeError) as error:
        failed: FixedDimension | RuntimeError = error
    larger = example_inputs(fields, bounds, LARGER)
    if any(a.shape != b.shape for a, b in zip(examples, larger, strict=True)):
        try:
            return _export(flat, fields, bounds, larger)
        except FixedDimension as again:
            if not isinstance(failed, FixedDimension) or (again.name, again.value) != (failed.name, failed.value):
                raise each_extent(again) from None
        except FrontendError as again:
            raise again from None
        except RuntimeError:
            pass  # what the first attempt said is told
    equal = _needs_equal(flat, fields, bounds) if "must match" in str(failed) else None
    raise equal or failed


def _export(
    flat: Flat, fields: Sequence[Field], bounds: Mapping[str, Range], examples: tuple[torch.Tensor, ...]
) -> ExportedProgram:
    """torch.export and the decompositions; its complaints as ours. Guards that it cannot decide are taken as what they say,
    where they say it of no size."""
    try:
        program = _run(flat, fields, bounds, examples)
        broken = _broken(flat, bounds)
        if broken:
            raise narrowed(broken, bounds) or data_dependent(RuntimeError(broken[0]))
        return program
    except UserError as error:
        if not are_tautologies(error, fields, bounds):
            raise explain(error, fields, bounds) from None
        complaint = explain(error, fields, bounds)
    except GuardOnDataDependentSymNode as error:
        raise data_dependent(error) from None
    try:
        program = _run(flat, fields, bounds, examples, deferred=True)
    except (UserError, GuardOnDataDependentSymNode):
        raise complaint from None
    broken = [guard for guard in _asserted(program, flat.branches) if not always_holds(guard, bounds)] + _broken(
        flat, bounds
    )
    if broken:
        raise narrowed(broken, bounds) or complaint
    return program


def _run(
    flat: Flat,
    fields: Sequence[Field],
    bounds: Mapping[str, Range],
    examples: tuple[torch.Tensor, ...],
    *,
    deferred: bool = False,
) -> ExportedProgram:
    """The program; `deferred`: what it needs of sizes is asserted in it."""
    with (
        quiet(),
        whole_recurrences(),
        bags_of_rows(),
        pools_of_any_length(),
        counted_ranges(flat, flat.branches),
        flat.branches.watched(),
    ):
        program = torch.export.export(
            flat,
            examples,
            dynamic_shapes=dynamic_shapes(fields, bounds),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=deferred,
        )
        return program.run_decompositions(decompositions(program))


def _broken(flat: Flat, bounds: Mapping[str, Range]) -> list[str]:
    """What forward decided by sizes and would decide otherwise for others. That some are one is no harm by itself (`if tokens >
    1` before a mask that one token does not need); what comes of it is compared where the model is built, with all sizes of
    one (`compare.check_smallest`)."""
    plural = {name: (min(max(low, 2), high), high) for name, (low, high) in bounds.items()}
    return [guard for guard in flat.branches.guards if not always_holds(guard, plural)]


@contextlib.contextmanager
def _no_dim() -> Generator[None]:
    """The exporter's assertion about a dimension without two values, as ours."""
    try:
        yield
    except AssertionError as error:
        if not str(error).startswith("Cannot create Dim"):
            raise
        raise FrontendError(
            "the exporter finds no range of sizes that the model works for",
            hint="narrow the `dim` lines, or fix an extent",
        ) from None


def _asserted(program: ExportedProgram, branches: Branches) -> list[str]:
    """What the program asserts of sizes, over the names of dimensions."""
    found: list[str] = []
    for node in program.graph.nodes:
        if node.op == "call_function" and "_assert_scalar" in str(node.target):
            value: Any = node.args[0].meta.get("val") if isinstance(node.args[0], torch.fx.Node) else node.args[0]
            found.append(branches.named(str(value.node.expr if isinstance(value, torch.SymBool) else value)))
    return found


def _needs_equal(flat: Flat, fields: Sequence[Field], bounds: Mapping[str, Range]) -> FrontendError | None:
    """Symbols are traced with different sizes, and sizes did not match: the error where they match with equal ones."""
    size = max(low for low, _ in bounds.values()) + 2 if bounds else 0
    if len(bounds) < 2 or size > min(high for _, high in bounds.values()):
        return None
    examples = tuple(
        torch.zeros([size if isinstance(d, str) else d for d in f.shape], dtype=getattr(torch, f.dtype)) for f in fields
    )
    try:
        _export(flat, fields, bounds, examples)
    except FrontendError as error:
        return error
    except RuntimeError:
        return None
    return None


def bind(module: nn.Module, fields: Sequence[Field], tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How forward is called with one tensor per field: (positional, named)."""
    parameters = inspect.signature(module.forward).parameters
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for field, tensor in zip(fields, tensors, strict=True):
        parameter = parameters.get(field.parameter)
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        unnamed = parameter is None and not takes_any
        if unnamed or (parameter is not None and parameter.kind is parameter.POSITIONAL_ONLY):
            positional.append(tensor)
        else:
            named[field.parameter] = tensor
    return tuple(positional), named


def check_signature(module: nn.Module, fields: Sequence[Field]) -> None:
    """Raises FrontendError unless fields are parameters of forward, in order, and all that forward requires."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return
    names = [p.name for p in parameters]
    required = [p.name for p in parameters if p.default is p.empty]
    given = [f.parameter for f in fields]
    shown = f"{type(module).__name__}.forward({', '.join(names)})"
    for name in given:
        if name not in names:
            raise FrontendError(
                f"the spec's input {name!r} is no parameter of {shown}",
                hint="inputs have the names and the order of forward's parameters; "
                f'`input "{names[0] if names else "x"}" as {name}: ...` gives one another name',
            )
    missing = [name for name in required if name not in given]
    if missing:
        raise FrontendError(
            f"{shown} requires {', '.join(repr(n) for n in missing)}, which the spec has no input for",
            hint=f"add `input {missing[0]}: float32[batch, ...]`",
        )
    order = [name for name in names if name in given]
    if given != order:
        raise FrontendError(
            f"the spec's inputs are in the order {', '.join(given)}, and {shown} takes them as {', '.join(order)}",
            hint="write the input lines in the order of forward's parameters",
        )


def flatten_outputs(value: Any, prefix: str = "", leaf: type = torch.Tensor) -> dict[str, Any]:
    """The tensors (objects of type `leaf`) of a model's result by name; None is left out. Raises FrontendError for
    anything else."""
    if isinstance(value, leaf):
        return {prefix or "output0": value}
    items: list[tuple[str, Any]]
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in value.items()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(getattr(value, "_fields"), value, strict=True))  # noqa: B009
    elif isinstance(value, (tuple, list)):
        items = [(f"{prefix}_{i}" if prefix else f"output{i}", v) for i, v in enumerate(value)]
        return {k: t for name, v in items if v is not None for k, t in flatten_outputs(v, name, leaf).items()}
    else:
        raise FrontendError(
            f"the model returns {f'{prefix!r} of type ' if prefix else ''}{type(value).__name__}, and outputs are tensors",
            hint="return a tensor, or a tuple, dict or dataclass of tensors",
        )
    joined = [(f"{prefix}_{name}" if prefix else name, v) for name, v in items]
    return {k: t for name, v in joined if v is not None for k, t in flatten_outputs(v, name, leaf).items()}


def example_inputs(fields: Sequence[Field], bounds: Mapping[str, Range], least: int = 3) -> tuple[torch.Tensor, ...]:
    """Zeros (ones for a mask) of sizes within bounds, `least` or more where they may be."""
    fixed = {d for f in fields for d in f.shape if isinstance(d, int)}
    sizes = example_sizes(bounds, fixed, least)
    out: list[torch.Tensor] = []
    for field in fields:
        shape = [sizes[d] if isinstance(d, str) else d for d in field.shape]
        value = field.spec.default if field.spec.default is not None else field.spec.minimum or 0
        out.append(torch.full(shape, value, dtype=getattr(torch, field.dtype)))
    return tuple(out)


def dynamic_shapes(fields: Sequence[Field], bounds: Mapping[str, Range]) -> dict[str, Any]:
    """torch.export's `dynamic_shapes` for Flat.forward; a symbol of one value is a constant."""
    made = {name: torch.export.Dim(name, min=low, max=high) for name, (low, high) in bounds.items() if low != high}
    per_field = tuple({i: made[d] for i, d in enumerate(f.shape) if isinstance(d, str) and d in made} for f in fields)
    return {"tensors": per_field}


def decompositions(program: ExportedProgram | None = None) -> dict[Any, Any]:
    """torch's default table without the packets of KEPT, and without the recurrent layers of `program` that the importer
    knows."""
    table = torch.export.default_decompositions()
    for operator in kept_operators(program) if program is not None else ():
        table.pop(operator, None)
    for name in KEPT:
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet is not None else ():
            table.pop(getattr(packet, overload), None)
    return table


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """The exporter's loggers and warnings held back: what it has to say arrives as an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export", "torch.fx", "torch._dynamo")]
    before = [(logger, logger.disabled, logger.level) for logger in loggers]
    root_level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(root_level)
        for logger, disabled, level in before:
            logger.disabled = disabled
            logger.setLevel(level)


def data_dependent(error: Exception) -> FrontendError:
    """Control flow or a shape that depends on a tensor's values, with the line where."""
    at = model_source(str(error))
    return FrontendError(
        f"{f'{at}: ' if at else ''}what the model does there depends on the values of a tensor, and a program is traced "
        "once for all values",
        hint="use `torch.where` with a mask in place of `if` and of indexing by a mask",
    )
