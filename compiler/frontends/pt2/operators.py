"""Which operators a program may call: those of torch's registry that the importer knows or torch takes apart into such."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import torch

from ..fx_export import decompositions
from ..import_aten import handler_of
from ..import_aten.suggest import suggestion
from .refused import Refused, shown

SIZE_OPERATORS = frozenset({
    "_operator.eq", "_operator.ne", "_operator.le", "_operator.ge", "_operator.lt", "_operator.gt", "_operator.neg",
    "_operator.pos", "math.trunc", "torch.sym_not", "_operator.mul", "_operator.add", "_operator.sub",
    "_operator.floordiv", "_operator.mod", "_operator.pow", "torch.sym_int", "torch.sym_float", "torch.sym_ite",
    "torch.sym_max", "torch.sym_min", "torch._sym_sqrt", "_operator.truediv", "_operator.and_", "_operator.or_",
    "_operator.lshift", "_operator.rshift",
})  # fmt: skip
"""Functions over sizes, as the serializer writes them."""
BLOCKS = frozenset({
    "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast",
})  # fmt: skip
"""What `with torch.no_grad():` and `with torch.autocast():` become: they call their block, which is checked as well."""
NAMESPACES = ("aten", "prims")
_TARGET = re.compile(r"torch\.ops\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_BLOCK = re.compile(r"torch\.ops\.higher_order\.([A-Za-z0-9_]+)")
_ASSERTS = (
    "_assert_tensor_metadata",
    "_assert_scalar",
    "_assert_async",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
)
_TEXTS = frozenset({
    "approximate", "assert_msg", "driver", "equation", "indexing", "interpolation", "mode", "norm", "ord", "p", "pad_mode",
    "padding", "padding_side", "reduce", "rounding_mode", "side", "UPLO",
})  # fmt: skip
"""Arguments that are text and name a variant: no other text is given to an operator."""
_KEPT_FROM = ("Storage", "Stream", "__torch__", "Any")
_REFUSED = ("from_file", "_print", "set_", "set", "set_data", "record_stream", "resize_", "resize_as_", "resize")


def arguments_of(target: str) -> Mapping[str, str]:
    """The arguments of an operator of the registry: types by name, in order. Raises Refused for any other target."""
    found = _arguments(target)
    if isinstance(found, Refused):
        raise Refused(found.message, found.hint)
    return found


@functools.lru_cache(4096)
def _arguments(target: str) -> Mapping[str, str] | Refused:
    match = _TARGET.fullmatch(target)
    if match is None:
        block = _BLOCK.fullmatch(target)
        if block is not None:
            return Refused(
                f"the program has control flow that depends on values or a kernel of its own ({block[1]}), and a program "
                "is compiled once for all values",
                "use `torch.where` in place of `if`",
            )
        return Refused(f"the program calls {shown(target)}, which is no operator of torch", _HINT)
    space, name, overload = match.groups()
    schema = _schema(space, name, overload)
    if space not in NAMESPACES or schema is None:
        return Refused(f"the program calls {shown(target)}, which is no operator of torch's own", _HINT)
    full = _full(space, name, overload)
    arguments = {a.name: str(a.type) for a in schema.arguments}
    if not _allowed(space, name, overload, full, arguments):
        dotted = f"{space}.{name}" + ("" if overload == "default" else f".{overload}")
        return Refused(f"the op {dotted} is not supported", suggestion(dotted))
    return arguments


@functools.lru_cache(4096)
def writes(target: str) -> bool:
    """Whether an operator may change what it is given (in place, or through `out`), as far as torch's registry knows it."""
    match = _TARGET.fullmatch(target)
    if match is None:
        return True
    schema = _schema(*match.groups())
    if schema is None:
        return True
    return any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)


def _full(space: str, name: str, overload: str) -> str:
    """The name of an operator in torch's registry."""
    return f"{space}::{name}" + ("" if overload == "default" else f".{overload}")


def _schema(space: str, name: str, overload: str) -> Any:
    """What torch's registry says of an operator; None where it has none of that name."""
    full = _full(space, name, overload)
    return torch._C._get_schema(f"{space}::{name}", full.partition(".")[2]) if full in _registry() else None


def _allowed(space: str, name: str, overload: str, full: str, arguments: Mapping[str, str]) -> bool:
    """Whether an operator is imported, or becomes such, and reads and writes nothing but tensors."""
    texts = {a for a, kind in arguments.items() if "str" in kind}
    if name in _REFUSED or not texts <= _TEXTS or any(k in kind for kind in arguments.values() for k in _KEPT_FROM):
        return False
    dotted = f"{space}.{name}" + ("" if overload == "default" else f".{overload}")
    if name in _ASSERTS or handler_of(dotted) is not None or full in _taken_apart():
        return True
    if name.endswith("_") and not name.startswith("__"):
        own = name[:-1]  # torch writes an op in place as this one and a copy
        pure = _full(space, own, overload)
        return pure in _registry() and _allowed(space, own, overload, pure, arguments)
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(full, "CompositeImplicitAutograd"))


@functools.cache
def _registry() -> frozenset[str]:
    return frozenset(torch._C._dispatch_get_all_op_names())


@functools.cache
def _taken_apart() -> frozenset[str]:
    """Operators that have a decomposition."""
    table: dict[Any, Any] = decompositions()
    return frozenset(str(op.name()) for op in table if hasattr(op, "name"))


_HINT = "export a module that calls torch's own operators only"
