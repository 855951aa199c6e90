"""Refs of a step as C: pointers, row strides, numbers of rows, shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ....compiler.codegen.plan import LONGEST, Plan, Ref, at_longest
from ....compiler.ir.dims import Dim, bounds, product
from ....compiler.ir.types import ITEM_BYTES, DType, TensorType
from ....compiler.passes.placement import Place
from ..isa import Isa
from ..kernels import Kernel, q8_stride
from ..tuning.choice import Choice, Shape
from .cexpr import c_dim
from .weights import WeightTable

C_TYPES: dict[DType, str] = {
    "float32": "float", "int64": "int64_t", "int32": "int32_t", "bool": "uint8_t", "bfloat16": "uint16_t", "q8": "char",
}  # fmt: skip
"""C types of elements; q8 is counted in bytes, a vector with its scale takes `q8_stride`."""


@dataclass
class Emission:
    """What rendering a plan gathers: C functions by name, weights, scratch sizes, object files."""

    plan: Plan
    isa: Isa
    weights: WeightTable
    tvm: bool = True
    """Whether TVM compiles what it can of the tail."""
    choices: Mapping[Shape, Choice] = field(default_factory=dict[Shape, Choice])
    """Tiles of linear layers; a shape that is not there has the usual ones."""
    functions: dict[str, str] = field(default_factory=dict[str, str])
    scratch_floats: int = 0
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names behind `e->dim[k]`."""
        return (*self.plan.symbols, LONGEST)

    def need_scratch(self, kernel: Kernel, largest: Dim = 0) -> None:
        """Makes each thread's scratch large enough for kernel, whose need grows with `largest`."""
        floats = (
            kernel.scratch(bounds(largest, self.plan.graph.dims)[1]) if callable(kernel.scratch) else kernel.scratch
        )
        self.scratch_floats = max(self.scratch_floats, floats)

    def dim(self, dim: Dim, array: str = "e->dim") -> str:
        """A dimension as a C expression."""
        return c_dim(dim, self.symbols, array)


def stride_of(ref: Ref) -> int:
    """Elements between two tokens (TOKEN) or rows (ROW) of the storage."""
    assert isinstance(ref.stride, int), f"{ref} is stored flat with a symbolic stride"
    return ref.stride


def stride_bytes(em: Emission, ref: Ref) -> int:
    """Bytes between two tokens (TOKEN) or rows (ROW) of the storage."""
    if ref.type.dtype != "q8":
        return stride_of(ref) * ITEM_BYTES[ref.type.dtype]
    width = ref.type.shape[-1]
    assert isinstance(width, int)
    assert ref.contiguous
    return stride_of(ref) // width * q8_stride(em.isa, width)


def pointer(em: Emission, ref: Ref, *, const: bool = True, in_row: bool = True) -> str:
    """A C expression for the first element of ref. With in_row, island code starts at its current row."""
    ctype = C_TYPES[ref.type.dtype]
    qualifier = "const " if const else ""
    if ref.where == "weight":
        return f"(const {ctype} *)(e->weights + {em.weights.raw(ref.weight, ref.type)})"
    if ref.where == "input":
        return f"(const {ctype} *)e->local_input[{ref.number}]"
    text = f"({qualifier}{ctype} *)e->slot[{ref.number}]"
    if ref.place in (Place.TOKEN, Place.ROW) and in_row:
        stride = stride_bytes(em, ref) if ref.type.dtype == "q8" else stride_of(ref)
        text += f" + {'rt_token_at' if ref.place is Place.TOKEN else 'rt_row_at'}(e, {stride})"
    return f"{text} + {ref.column}" if ref.column else text


def vectors(em: Emission, type_: TensorType, place: Place) -> str:
    """Number of last-axis vectors of a value, as a C expression. Where the last axis is the length itself, the step runs
    per row and a row is one vector."""
    if place is Place.TOKEN and type_.rank == 2:
        return "rt_rows(e)"
    if place is Place.TOKEN:
        return f"rt_tokens(e) * {em.dim(product(type_.shape[2:-1]))}"
    if place is Place.ROW:
        return f"rt_rows(e) * {em.dim(product(type_.shape[1:-1]))}"
    return em.dim(product(type_.shape[:-1]))


def units(em: Emission, ref: Ref) -> str:
    """Number of tokens of a value [batch, length, ...], as a C expression."""
    return vectors(em, TensorType(ref.type.dtype, (*ref.type.shape[:2], 1)), ref.extent)


def spacing(ref: Ref) -> Dim:
    """Elements between two last-axis vectors."""
    return ref.spacing or ref.type.shape[-1]


def vector_step(em: Emission, ref: Ref) -> str:
    """C expression of the elements between two last-axis vectors, of q8 the bytes."""
    width = ref.type.shape[-1]
    if ref.type.dtype == "q8":
        assert isinstance(width, int)
        return str(q8_stride(em.isa, width))
    return em.dim(spacing(ref))


def storage_type(ref: Ref, plan: Plan) -> TensorType:
    """The type as stored: a PREFIX value has the shape of the longest row."""
    return at_longest(ref.type, plan.graph.length_dim) if ref.place is Place.PREFIX else ref.type
