"""What a source must take and give: its inputs and outputs as the spec (or the architecture) states them.

Field  := name (what callers say), parameter (forward's), dtype, shape (extent | symbol ...), InputSpec
Bounds := {symbol: (lo, hi)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ...dsl.spec import Input, Model
from ..ir.dims import Dim, Range, sym
from ..ir.graph import InputSpec
from ..ir.types import DTYPES, DType, TensorType
from .errors import FrontendError


@dataclass(frozen=True)
class Field:
    """One input of the model. `shape` holds extents (elements) and names of symbols."""

    name: str
    parameter: str
    dtype: DType
    shape: tuple[int | str, ...]
    spec: InputSpec = field(default_factory=InputSpec)

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, symbolic(self.shape))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in order of appearance."""
        return tuple(d for d in self.shape if isinstance(d, str))


@dataclass(frozen=True)
class Expected:
    """An output that the spec writes: its name, the source's own name where it differs, and its type."""

    name: str
    foreign: str | None
    type: TensorType


def symbolic(shape: tuple[int | str, ...]) -> tuple[Dim, ...]:
    """shape with names turned into symbols."""
    return tuple(sym(d) if isinstance(d, str) else d for d in shape)


def check_dtype(dtype: str, what: str) -> DType:
    """dtype, when the compiler computes with it. Raises FrontendError naming `what`."""
    if dtype not in DTYPES:
        hint = "use float32" if dtype.startswith(("float", "bfloat")) else "use int64, int32 or bool"
        raise FrontendError(f"{what} has dtype {dtype}; infc computes with {', '.join(DTYPES)}", hint=hint)
    return dtype


def field_of(line: Input) -> Field:
    """The Field of a tensor `input` line of a spec."""
    if line.kind != "tensor" or line.dtype is None:
        raise FrontendError(
            f"input {line.name!r} is of type {line.kind}, and this source takes tensors",
            hint=f"write its dtype and shape, such as `input {line.name}: float32[batch, 64]`",
        )
    dtype = check_dtype(line.dtype, f"input {line.name!r}")
    low, high = line.range if line.range is not None else (None, None)
    if dtype != "float32":
        low, high = (None if low is None else int(low)), (None if high is None else int(high))
    spec = InputSpec(minimum=low, maximum=high, nan=line.nan_allowed)
    return Field(line.name, line.foreign or line.name, dtype, line.dims, spec)


def expected_outputs(model: Model) -> tuple[Expected, ...]:
    """The `output` lines of a spec, in order."""
    return tuple(
        Expected(o.name, o.foreign, TensorType(check_dtype(o.dtype, f"output {o.name!r}"), symbolic(o.dims)))
        for o in model.outputs
    )


def keys_of(expected: Sequence[Expected], keys: Sequence[str]) -> tuple[str, ...]:
    """Which of a model's outputs, called `keys`, each of the graph's is: those of `expected`, by name or place; else all."""
    named = ((e.foreign or e.name, at) for at, e in enumerate(expected))
    return tuple(name if name in keys else keys[at] for name, at in named) if expected else tuple(keys)


def bounds_of(model: Model, fields: tuple[Field, ...]) -> dict[str, Range]:
    """Bounds of every symbol of fields, from the spec's `dim` lines and their defaults. Raises FrontendError."""
    bounds: dict[str, Range] = {}
    for each in fields:
        for name in each.symbols:
            dim = model.dim(name)
            if dim is None:
                raise FrontendError(
                    f"input {each.name!r} has the dimension {name!r}, which has no bounds",
                    hint=f"add a line such as `dim {name} in 1..64`",
                )
            bounds[name] = (dim.lo, dim.hi)
    return bounds


def example_size(bounds: Range, taken: set[int], least: int = 3) -> int:
    """A size within bounds to trace with: not 0 or 1 (which the exporter specializes on) and, where possible, `least` or more
    and not one of `taken`, so that two symbols never look equal."""
    low, high = bounds
    start = min(high, max(low, least))
    for size in chain(range(start, high + 1), range(start, low - 1, -1)):
        if size > 1 and size not in taken:
            return size
    return start


def example_sizes(bounds: Mapping[str, Range], fixed: set[int], least: int = 3) -> dict[str, int]:
    """One size to trace with for each symbol, different from each other and from the fixed extents where possible, and `least`
    or more."""
    sizes: dict[str, int] = {}
    for name, limits in bounds.items():
        sizes[name] = example_size(limits, fixed | set(sizes.values()), least)
    return sizes
