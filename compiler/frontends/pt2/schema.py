"""The JSON of torch's exported programs (torch/_export/serde/schema.py, version 8), as a table of ours.

    Row   := Name ":" key kind ... | Name "|" key kind ...       a record of fields; a union of exactly one of its keys
    kind  := int | float | bool | str | Enum | Name | "[" kind "]" | "{" kind "}" | kind "?" | kind "="
             a list, an object with any keys, null allowed, the key may be missing

What is checked is returned as it is: what it means is for rewrite.py. Floats may be written "Infinity", "-Infinity", "NaN".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from .refused import Refused, shown

VERSION = 8
"""Major version: another one means other fields."""

TABLE = """
Device: type str, index int?=
SymExprHint| as_int int, as_bool bool, as_float float
SymExpr: expr_str str, hint SymExprHint?=
SymInt| as_expr SymExpr, as_int int
SymFloat| as_expr SymExpr, as_float float
SymBool| as_expr SymExpr, as_bool bool
TensorMeta: dtype ScalarType, sizes [SymInt], requires_grad bool, device Device, strides [SymInt], storage_offset SymInt, layout Layout
SymIntArgument| as_name str, as_int int
SymFloatArgument| as_name str, as_float float
SymBoolArgument| as_name str, as_bool bool
TensorArgument: name str
TokenArgument: name str
OptionalTensorArgument| as_tensor TensorArgument, as_none bool
GraphArgument: name str, graph Graph
CustomObjArgument: name str, class_fqn str
ComplexValue: real float, imag float
Argument| as_none bool, as_tensor TensorArgument, as_tensors [TensorArgument], as_int int, as_ints [int], as_float float, as_floats [float], as_string str, as_strings [str], as_sym_int SymIntArgument, as_sym_ints [SymIntArgument], as_scalar_type ScalarType, as_memory_format MemoryFormat, as_layout Layout, as_device Device, as_bool bool, as_bools [bool], as_sym_bool SymBoolArgument, as_sym_bools [SymBoolArgument], as_graph GraphArgument, as_optional_tensors [OptionalTensorArgument], as_custom_obj CustomObjArgument, as_operator str, as_sym_float SymFloatArgument, as_sym_floats [SymFloatArgument], as_optional_tensor OptionalTensorArgument, as_complex ComplexValue, as_nested_tensors [[TensorArgument]], as_int_lists [[int]], as_string_to_argument {Argument}, as_float_lists [[float]]
NamedArgument: name str, arg Argument, kind ArgumentKind?=
Node: target str, inputs [NamedArgument], outputs [Argument], metadata {str}, is_hop_single_tensor_return bool?=, name str?=
Graph: inputs [Argument], outputs [Argument], nodes [Node], tensor_values {TensorMeta}, sym_int_values {SymInt}, sym_bool_values {SymBool}, is_single_tensor_return bool=, custom_obj_values {CustomObjArgument}=, sym_float_values {SymFloat}=
UserInputSpec: arg Argument
ConstantValue| as_none bool, as_int int, as_float float, as_string str, as_bool bool
InputToConstantInputSpec: name str, value ConstantValue
InputToParameterSpec: arg TensorArgument, parameter_name str
InputToBufferSpec: arg TensorArgument, buffer_name str, persistent bool
InputToTensorConstantSpec: arg TensorArgument, tensor_constant_name str
InputToCustomObjSpec: arg CustomObjArgument, custom_obj_name str
InputTokenSpec: arg TokenArgument
InputSpec| user_input UserInputSpec, parameter InputToParameterSpec, buffer InputToBufferSpec, tensor_constant InputToTensorConstantSpec, custom_obj InputToCustomObjSpec, token InputTokenSpec, constant_input InputToConstantInputSpec
UserOutputSpec: arg Argument
LossOutputSpec: arg TensorArgument
BufferMutationSpec: arg TensorArgument, buffer_name str
ParameterMutationSpec: arg TensorArgument, parameter_name str
GradientToParameterSpec: arg TensorArgument, parameter_name str
GradientToUserInputSpec: arg TensorArgument, user_input_name str
UserInputMutationSpec: arg TensorArgument, user_input_name str
OutputTokenSpec: arg TokenArgument
OutputSpec| user_output UserOutputSpec, loss_output LossOutputSpec, buffer_mutation BufferMutationSpec, gradient_to_parameter GradientToParameterSpec, gradient_to_user_input GradientToUserInputSpec, user_input_mutation UserInputMutationSpec, token OutputTokenSpec, parameter_mutation ParameterMutationSpec
GraphSignature: input_specs [InputSpec], output_specs [OutputSpec]
RangeConstraint: min_val int?, max_val int?
ModuleCallSignature: inputs [Argument], outputs [Argument], in_spec str, out_spec str, forward_arg_names [str]?=
ModuleCallEntry: fqn str, signature ModuleCallSignature?=
NamedTupleDef: field_names [str]
GraphModule: graph Graph, signature GraphSignature, module_call_graph [ModuleCallEntry], metadata {str}=, treespec_namedtuple_fields {NamedTupleDef}=
SchemaVersion: major int, minor int
ExportedProgram: graph_module GraphModule, opset_version {int}, range_constraints {RangeConstraint}, schema_version SchemaVersion, verifiers [str]=, torch_version str=, guards_code [str]=
PayloadMeta: path_name str, is_param bool, use_pickle bool, tensor_meta TensorMeta?
PayloadConfig: config {PayloadMeta}
"""

ENUMS: dict[str, tuple[int, ...]] = {
    "ScalarType": (*range(14), *range(28, 36)),
    "Layout": tuple(range(8)),
    "MemoryFormat": tuple(range(5)),
    "ArgumentKind": (0, 1, 2),
}

Check = Callable[[Any], None]
FLOATS = ("Infinity", "-Infinity", "NaN")


def check(name: str, value: Any, what: str) -> dict[str, Any]:
    """value, when it is a `name` of the table. Raises Refused naming `what`."""
    try:
        CHECKS[name](value)
    except Refused as error:
        raise Refused(f"{what}: {error.message}", error.hint) from None
    except RecursionError:
        raise Refused(f"{what} is nested too deeply") from None
    return value


def _record(name: str, fields: dict[str, tuple[str, bool]]) -> Check:
    required = frozenset(k for k, (_, optional) in fields.items() if not optional)
    checks = {k: _kind(kind) for k, (kind, _) in fields.items()}

    def checked(value: Any) -> None:
        if type(value) is not dict:
            raise _not(value, name)
        found = cast("dict[str, Any]", value)
        for key, each in found.items():
            inner = checks.get(key)
            if inner is None:
                raise Refused(f"a {name} has no key {shown(key)}")
            try:
                inner(each)
            except Refused as error:
                raise Refused(_within(name, key, error.message), error.hint) from None
        if not required <= found.keys():
            raise Refused(f"a {name} has no {min(required - found.keys())!r}")

    return checked


def _union(name: str, fields: dict[str, tuple[str, bool]]) -> Check:
    checks = {k: _kind(kind) for k, (kind, _) in fields.items()}

    def checked(value: Any) -> None:
        if type(value) is not dict or len(cast("dict[str, Any]", value)) != 1:
            raise _not(value, f"{name} of exactly one key")
        for key, each in cast("dict[str, Any]", value).items():
            inner = checks.get(key)
            if inner is None:
                raise Refused(f"a {name} has no key {shown(key)}")
            inner(each)

    return checked


def _kind(kind: str) -> Check:
    """The check of a kind as the table writes it."""
    if kind.endswith("?"):
        inner = _kind(kind[:-1])
        return lambda value: None if value is None else inner(value)
    if kind.startswith("["):
        return _all_of(_kind(kind[1:-1]), list, "list")
    if kind.startswith("{"):
        return _all_of(_kind(kind[1:-1]), dict, "object")
    if kind in ENUMS:
        return _enum(kind, frozenset(ENUMS[kind]))
    if kind in SCALARS:
        return SCALARS[kind]
    return lambda value: CHECKS[kind](value)


def _all_of(inner: Check, container: type, name: str) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not container:
            raise _not(value, name)
        for each in value.values() if container is dict else value:
            inner(each)

    return checked


def _enum(name: str, known: frozenset[int]) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not int or value not in known:
            raise _not(value, name)

    return checked


def _scalar(name: str, *types: type) -> Check:
    def checked(value: Any) -> None:
        if type(value) not in types and not (name == "float" and value in FLOATS):
            raise _not(value, name)

    return checked


def _not(value: Any, kind: str) -> Refused:
    said = f"{type(value).__name__} of length {len(value)}" if isinstance(value, (dict, list)) else shown(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return Refused(f"{said} is no {kind}")


def _within(name: str, key: str, message: str) -> str:
    """The message with where it is, two levels at most."""
    return message if message.count(" in ") >= 2 else f"{message} (in {name}.{key})"


def _rows() -> dict[str, Check]:
    made: dict[str, Check] = {}
    for name, (union, fields) in FIELDS.items():
        made[name] = _union(name, fields) if union else _record(name, fields)
    return made


def _parse_table() -> dict[str, tuple[bool, dict[str, tuple[str, bool]]]]:
    """name -> (whether it is a union, key -> (kind, whether it may be missing))."""
    rows: dict[str, tuple[bool, dict[str, tuple[str, bool]]]] = {}
    for line in TABLE.strip().splitlines():
        name = line.partition(" ")[0]
        fields: dict[str, tuple[str, bool]] = {}
        for field in line.partition(" ")[2].split(", "):
            key, kind = field.split(" ")
            fields[key] = (kind.removesuffix("="), kind.endswith("="))
        rows[name[:-1]] = (name.endswith("|"), fields)
    return rows


SCALARS: dict[str, Check] = {
    "int": _scalar("int", int),
    "float": _scalar("float", float, int),
    "bool": _scalar("bool", bool),
    "str": _scalar("str", str),
}
FIELDS = _parse_table()
CHECKS = _rows()
