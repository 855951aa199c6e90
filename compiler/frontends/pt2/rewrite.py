"""A checked program as objects of torch's schema, under names of ours: what torch is given in place of the file.

Nothing that torch interprets is taken over as text: operators are of its registry, sizes are built expressions, names are
identifiers of ours, inputs and outputs are flat tuples. Guards, module signatures, sample inputs and notes are left out.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch._export.serde import schema as torch_schema
from torch.utils import _pytree as pytree

from ..sources import model_source, module_path
from . import operators, schema
from .names import Names
from .refused import Refused, shown
from .signature import check_outputs, user_inputs
from .sizes import SYMBOL
from .symbols import Symbols
from .tensors import HOST, ITEM_SIZES, MAX_RANK, STRIDED
from .trees import leaf_names, leaves, parse_tree

DIALECTS = ("ATEN", "TRAINING")
MAX_BLOCKS = 8
"""Levels of blocks in blocks."""
_TEXT = re.compile(r"[A-Za-z0-9_.,\- >]{0,256}")
_FRAME = re.compile(r'File "([A-Za-z0-9_./\-+@ ]{1,512})", line (\d{1,7})\b')
_MODULE = re.compile(r"[A-Za-z0-9_.\-]{0,512}")
_LIMIT = 1 << 48


@dataclass(frozen=True)
class Rewritten:
    """`program` is torch's dataclass. `names` map its identifiers back; `inputs` are the file's names of user inputs, and
    `outputs` a name for each leaf of what the program returns."""

    program: Any
    names: Names
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]
    """Kind (parameter, buffer, tensor_constant) by the file's name of each weight that the program takes."""


@dataclass
class _Scope:
    """The values of one graph, by the file's names, and their types in torch's terms."""

    graph: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    ints: dict[str, Any] = field(default_factory=dict)
    floats: dict[str, Any] = field(default_factory=dict)
    bools: dict[str, Any] = field(default_factory=dict)
    read: set[str] | None = None
    """The file's names of values that anything reads, once they were needed."""


def rewrite(program: dict[str, Any], root: str) -> Rewritten:
    """The program of a checked `ExportedProgram`. `root` is the folder that source lines are shown relative to. Raises Refused."""
    version = program["schema_version"]
    if version["major"] != schema.VERSION:
        raise Refused(f"the program has version {version['major']} of its format, and {schema.VERSION} is read")
    for dialect in program.get("verifiers", []):
        if dialect not in DIALECTS:
            raise Refused(f"the program is of the dialect {shown(dialect)}, and {' and '.join(DIALECTS)} are read")
    return _Rewriter(program, root).program()


class _Rewriter:
    def __init__(self, program: dict[str, Any], root: str) -> None:
        self.source = program
        self.root = root
        self.names = Names()
        self.symbols = Symbols(self.names, program["range_constraints"])
        self.places: dict[str, str] = {}

    def program(self) -> Rewritten:
        module = self.source["graph_module"]
        signature = module["signature"]
        tuples = module.get("treespec_namedtuple_fields", {})
        calls = [c for c in module["module_call_graph"] if c["fqn"] == ""]
        if len(calls) != 1 or calls[0].get("signature") is None:
            raise Refused("the program has no signature")
        for key in ("in_spec", "out_spec"):
            if not calls[0]["signature"][key]:
                raise Refused("the program has no signature")
        taken = parse_tree(calls[0]["signature"]["in_spec"], tuples, "the program's inputs")
        given = parse_tree(calls[0]["signature"]["out_spec"], tuples, "the program's outputs")
        check_outputs(signature["output_specs"])
        users = user_inputs(signature["input_specs"], module["graph"]["inputs"])
        graph = self.graph(module["graph"], 0, users)
        inputs, weights = self.inputs(signature["input_specs"], graph)
        outputs = self.outputs(signature["output_specs"], module["graph"], graph)
        if leaves(taken) != len(users) or leaves(given) != len(outputs):
            raise Refused(
                f"the program takes {len(users)} inputs and gives {len(outputs)} outputs, and its signature has "
                f"{leaves(taken)} and {leaves(given)}"
            )
        made = torch_schema.ExportedProgram(
            graph_module=torch_schema.GraphModule(
                graph=graph,
                signature=torch_schema.GraphSignature(input_specs=inputs, output_specs=outputs),
                module_call_graph=[
                    torch_schema.ModuleCallEntry(
                        fqn="",
                        signature=torch_schema.ModuleCallSignature(
                            inputs=[],
                            outputs=[],
                            in_spec=_flat(((0,) * len(users), {})),
                            out_spec=_flat((0,) * len(outputs)),
                        ),
                    )
                ],
            ),
            opset_version={},
            range_constraints=self.ranges(),
            schema_version=torch_schema.SchemaVersion(*torch_schema.SCHEMA_VERSION),
            verifiers=list(self.source.get("verifiers", [])),
        )
        names = tuple(self.names.input(name) for name in users)
        return Rewritten(made, self.names, names, tuple(leaf_names(given)), weights)

    def ranges(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, row in self.source["range_constraints"].items():
            low, high = row["min_val"], row["max_val"]
            if not SYMBOL.fullmatch(name) or (low is not None and high is not None and low > high):
                raise Refused(f"{shown(name)} in {low}..{high} is no range of a size")
            if name in self.symbols.made:
                found[self.symbols.renamed(name)] = torch_schema.RangeConstraint(min_val=low, max_val=high)
        return found

    def inputs(self, specs: list[dict[str, Any]], graph: Any) -> tuple[list[Any], dict[str, str]]:
        """Input specs, of which each is the graph's input at its place, and the kinds of weights."""
        made: list[Any] = []
        weights: dict[str, str] = {}
        for spec, argument in zip(specs, graph.inputs, strict=True):
            ((kind, row),) = spec.items()
            if kind == "user_input":
                made.append(torch_schema.InputSpec.create(user_input=torch_schema.UserInputSpec(argument)))
                continue
            if kind == "constant_input":
                ((value, inner),) = row["value"].items()
                if value == "as_string" and not _TEXT.fullmatch(inner):
                    raise Refused(f"the program has the text {shown(inner)}, which no operator takes")
                inner = float(inner) if value == "as_float" else inner
                constant = torch_schema.ConstantValue.create(**{value: inner})
                spec_made = torch_schema.InputToConstantInputSpec(self.names.fresh("c"), constant)
                made.append(torch_schema.InputSpec.create(constant_input=spec_made))
                continue
            name = row[{"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind, "tensor_constant_name")]
            if name in weights:
                raise Refused(f"the program takes the weight {shown(name)} twice")
            weights[name] = kind
            tensor, ours = argument.as_tensor, self.names.weight(name)
            if kind == "parameter":
                row_made = {kind: torch_schema.InputToParameterSpec(tensor, ours)}
            elif kind == "buffer":
                row_made = {kind: torch_schema.InputToBufferSpec(tensor, ours, row["persistent"])}
            else:
                row_made = {kind: torch_schema.InputToTensorConstantSpec(tensor, ours)}
            made.append(torch_schema.InputSpec.create(**row_made))
        return made, weights

    def outputs(self, specs: list[dict[str, Any]], source: dict[str, Any], graph: Any) -> list[Any]:
        made: list[Any] = []
        if len(specs) != len(graph.outputs):
            raise Refused(f"the program gives {len(graph.outputs)} values, and its signature has {len(specs)}")
        for spec, given, argument in zip(specs, source["outputs"], graph.outputs, strict=True):
            ((_, row),) = spec.items()
            if row["arg"] != given:
                raise Refused("the program's outputs differ from those of its signature")
            made.append(torch_schema.OutputSpec.create(user_output=torch_schema.UserOutputSpec(argument)))
        return made

    def graph(self, source: dict[str, Any], depth: int, users: Collection[str] = ()) -> Any:
        """A graph under names of ours; `users` are names of inputs that callers give."""
        if depth > MAX_BLOCKS:
            raise Refused("the program has too many blocks in blocks")
        if source.get("custom_obj_values"):
            raise Refused("the program has objects that are no tensors", "export a module of plain tensors")
        scope = _Scope(source)
        inputs = [self.placeholder(scope, a, users) for a in source["inputs"]]
        nodes = [made for node in source["nodes"] if (made := self.node(scope, node, depth)) is not None]
        outputs = [self.result(scope, a) for a in source["outputs"]]
        return torch_schema.Graph(
            inputs=inputs,
            outputs=outputs,
            nodes=nodes,
            tensor_values=scope.tensors,
            sym_int_values=scope.ints,
            sym_bool_values=scope.bools,
            is_single_tensor_return=source.get("is_single_tensor_return", False),
            sym_float_values=scope.floats,
        )

    def placeholder(self, scope: _Scope, argument: dict[str, Any], users: Collection[str]) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_tensor" or (kind == "as_sym_int" and "as_name" in value):
            name = value["name"] if kind == "as_tensor" else value["as_name"]
            return self.defined(scope, kind, value, self.names.of("x", name) if name in users else None)
        if kind in ("as_int", "as_float", "as_bool", "as_none", "as_string"):
            return self.argument(scope, argument, 0)
        raise Refused(f"the program has an input of the kind {kind}", "export a module that takes tensors")

    def result(self, scope: _Scope, argument: dict[str, Any]) -> Any:
        ((kind, _),) = argument.items()
        if kind not in (
            "as_tensor",
            "as_sym_int",
            "as_sym_float",
            "as_sym_bool",
            "as_int",
            "as_float",
            "as_bool",
            "as_none",
        ):
            raise Refused(f"the program has an output of the kind {kind}", "return tensors")
        return self.argument(scope, argument, 0)

    def node(self, scope: _Scope, node: dict[str, Any], depth: int) -> Any:
        target = node["target"]
        if target in operators.SIZE_OPERATORS or target in operators.BLOCKS:
            known = None
        else:
            try:
                known = self.operator(target, node["metadata"])
            except Refused:
                if self.dead(scope, node):
                    return None
                raise
        blocks = target in operators.BLOCKS
        inputs: list[Any] = []
        seen: set[str] = set()
        for each in node["inputs"]:
            name, kind = each["name"], each.get("kind")
            if known is not None and (name not in known or name in seen):
                raise Refused(f"{target} has no argument {shown(name)}, or has it twice")
            if known is None and blocks and (name or kind == 2):
                raise Refused(f"{target} has an argument called {shown(name)}, which it does not take")
            seen.add(name)
            if name == "assert_msg":
                value = torch_schema.Argument.create(as_string="assert")
            else:
                value = self.argument(scope, each["arg"], depth, blocks=blocks)
            inputs.append(
                torch_schema.NamedArgument(
                    name=name if known is not None else "",
                    arg=value,
                    kind=None if kind is None else torch_schema.ArgumentKind(kind),
                )
            )
        outputs: list[Any] = []
        for argument in node["outputs"]:
            ((kind, value),) = argument.items()
            outputs.append(self.defined(scope, kind, value))
        packed = node.get("is_hop_single_tensor_return") is False
        single = outputs[0].as_tensor.name if [o.type for o in outputs] == ["as_tensor"] and not packed else None
        if target in operators.SIZE_OPERATORS and (len(outputs) != 1 or not outputs[0].type.startswith("as_sym_")):
            raise Refused(f"{target} gives what is no size")
        return torch_schema.Node(
            target=target,
            inputs=inputs,
            outputs=outputs,
            metadata=self.metadata(node["metadata"]),
            is_hop_single_tensor_return=node.get("is_hop_single_tensor_return"),
            name=single or self.names.fresh("n"),
        )

    def dead(self, scope: _Scope, node: dict[str, Any]) -> bool:
        """Whether no later node and no output uses what a node gives, and the node changes nothing that it is given."""
        if scope.read is None:
            scope.read = set[str]()
            for each in (*(i["arg"] for n in scope.graph["nodes"] for i in n["inputs"]), *scope.graph["outputs"]):
                _collect(each, scope.read)
        given: set[str] = set()
        _collect(node["outputs"], given)
        return bool(given) and not given & scope.read and not operators.writes(node["target"])

    def operator(self, target: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """The arguments of an operator. Raises Refused, with the place in the source where it is called."""
        try:
            return operators.arguments_of(target)
        except Refused as error:
            place, path = self.place(metadata.get("stack_trace", "")), _module(metadata.get("nn_module_stack", ""))
            where = f" (module {path})" if path else ""
            raise Refused(f"{f'{place}: ' if place else ''}{error.message}{where}", error.hint) from None

    def defined(self, scope: _Scope, kind: str, value: Any, ours: str | None = None) -> Any:
        """An output of a node or an input of a graph: its names are new."""
        make = torch_schema.Argument.create
        if kind == "as_tensor":
            return make(as_tensor=torch_schema.TensorArgument(self.define(scope, "tensor", value["name"], ours)))
        if kind == "as_tensors" and value:
            return make(
                as_tensors=[torch_schema.TensorArgument(self.define(scope, "tensor", v["name"])) for v in value]
            )
        if kind == "as_none":
            return make(as_none=True)
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in value:
            sort = kind.removeprefix("as_sym_")
            name = self.define(scope, sort, value["as_name"], ours)
            return make(**{kind: _SYMBOLIC[kind].create(as_name=name)})
        raise Refused(f"a node of the program gives a value of the kind {kind}")

    def define(self, scope: _Scope, sort: str, name: str, ours: str | None = None) -> str:
        if name in scope.names:
            raise Refused(f"the value {shown(name)} is computed twice")
        made = scope.names[name] = ours or self.names.fresh("v")
        table = "tensor_values" if sort == "tensor" else f"sym_{sort}_values"
        row = scope.graph.get(table, {}).get(name)
        if row is None:
            raise Refused(f"the value {shown(name)} has no type")
        if sort == "tensor":
            scope.tensors[made] = self.meta(row)
        elif sort == "int":
            scope.ints[made] = self.symbolic(torch_schema.SymInt, row, "as_int")
        elif sort == "float":
            scope.floats[made] = self.symbolic(torch_schema.SymFloat, row, "as_float")
        else:
            scope.bools[made] = self.symbolic(torch_schema.SymBool, row, "as_bool")
        return made

    def meta(self, row: dict[str, Any]) -> Any:
        if row["dtype"] not in ITEM_SIZES or row["layout"] != STRIDED:
            raise Refused("the program has a tensor that is not plain (sparse, or of an unknown type)")
        if len(row["sizes"]) != len(row["strides"]) or len(row["sizes"]) > MAX_RANK:
            raise Refused("the program has a tensor whose sizes and strides differ in number")
        return torch_schema.TensorMeta(
            dtype=torch_schema.ScalarType(row["dtype"]),
            sizes=[self.size(s) for s in row["sizes"]],
            requires_grad=False,
            device=_cpu(row["device"]),
            strides=[self.size(s) for s in row["strides"]],
            storage_offset=torch_schema.SymInt.create(as_int=0),
            layout=torch_schema.Layout.Strided,
        )

    def size(self, row: dict[str, Any]) -> Any:
        if "as_int" in row and not 0 <= row["as_int"] < _LIMIT:
            raise Refused(f"the program has the size {row['as_int']}")
        return self.symbolic(torch_schema.SymInt, row, "as_int")

    def symbolic(self, union: Any, row: dict[str, Any], plain: str) -> Any:
        """A SymInt, SymFloat or SymBool; an expression is built, and its text stays here."""
        if plain in row:
            return union.create(**{plain: float(row[plain]) if plain == "as_float" else row[plain]})
        expression = row["as_expr"]
        hint = expression.get("hint")
        made = None
        value: Any = None
        if hint is not None:
            ((kind, value),) = hint.items()
            if kind != plain or plain == "as_bool":
                raise Refused(f"an example of a size is of the kind {kind}")
            value = float(value) if plain == "as_float" else value
            if plain == "as_int" and abs(value) >= _LIMIT:
                raise Refused(f"the program has the size {value}")
            made = torch_schema.SymExprHint.create(**{plain: value})
        built = self.symbols.expression(expression["expr_str"], value)
        return union.create(as_expr=torch_schema.SymExpr(expr_str=built, hint=made))

    def argument(self, scope: _Scope, argument: dict[str, Any], depth: int, *, blocks: bool = False) -> Any:
        """What an operator is given: values that were computed before, and constants."""
        ((kind, value),) = argument.items()
        make = torch_schema.Argument.create
        if kind in ("as_int", "as_ints", "as_bool", "as_bools"):
            return make(**{kind: value})
        if kind == "as_none":
            return make(as_none=True)
        if kind == "as_float":
            return make(as_float=float(value))
        if kind == "as_floats":
            return make(as_floats=[float(v) for v in value])
        if kind == "as_tensor":
            return make(as_tensor=self.used(scope, value))
        if kind == "as_tensors":
            return make(as_tensors=[self.used(scope, v) for v in value])
        if kind == "as_optional_tensors":
            return make(as_optional_tensors=[self.optional(scope, v) for v in value])
        if kind == "as_optional_tensor":
            found = self.optional(scope, value)
            return make(as_none=True) if found.type == "as_none" else make(as_tensor=found.as_tensor)
        if kind in _SYMBOLIC:
            return make(**{kind: self.sized(scope, _SYMBOLIC[kind], value)})
        if kind.removesuffix("s") in _SYMBOLIC:
            return make(**{kind: [self.sized(scope, _SYMBOLIC[kind.removesuffix("s")], v) for v in value]})
        if kind == "as_string" and _TEXT.fullmatch(value):
            return make(as_string=value)
        if kind == "as_scalar_type" and value in ITEM_SIZES:
            return make(as_scalar_type=torch_schema.ScalarType(value))
        if kind == "as_memory_format" and value:
            return make(as_memory_format=torch_schema.MemoryFormat(value))
        if kind == "as_layout" and value == STRIDED:
            return make(as_layout=torch_schema.Layout.Strided)
        if kind == "as_device":
            return make(as_device=_cpu(value))
        if kind == "as_graph" and blocks:
            inner = self.graph(value["graph"], depth + 1)
            return make(as_graph=torch_schema.GraphArgument(name=self.names.fresh("g"), graph=inner))
        raise Refused(f"the program has an argument {kind} = {shown(value)}, which no operator takes")

    def used(self, scope: _Scope, row: dict[str, Any]) -> Any:
        return torch_schema.TensorArgument(self.use(scope, row["name"]))

    def optional(self, scope: _Scope, row: dict[str, Any]) -> Any:
        if "as_none" in row:
            return torch_schema.OptionalTensorArgument.create(as_none=True)
        return torch_schema.OptionalTensorArgument.create(as_tensor=self.used(scope, row["as_tensor"]))

    def sized(self, scope: _Scope, union: Any, row: dict[str, Any]) -> Any:
        ((kind, value),) = row.items()
        if kind == "as_name":
            return union.create(as_name=self.use(scope, value))
        return union.create(**{kind: float(value) if kind == "as_float" else value})

    def use(self, scope: _Scope, name: str) -> str:
        found = scope.names.get(name)
        if found is None:
            raise Refused(f"the value {shown(name)} is used and not computed")
        return found

    def metadata(self, row: Mapping[str, str]) -> dict[str, str]:
        """Where a node comes from, as identifiers that stand for a source line and a module's path."""
        made: dict[str, str] = {}
        place = self.place(row.get("stack_trace", ""))
        if place:
            made["stack_trace"] = self.names.of("t", place)
        path = _module(row.get("nn_module_stack", ""))
        if path:
            made["nn_module_stack"] = ",".join([self.names.of("m", path)] * 2 + ["torch.nn.Module"])
        return made

    def place(self, trace: str) -> str:
        """`file.py:12` of a stack trace."""
        if trace not in self.places:
            frames = _FRAME.findall(trace[-20_000:])[-64:]
            text = "\n".join(f'File "{file}", line {line}' for file, line in frames)
            self.places[trace] = model_source(text, self.root) if frames else ""
        return self.places[trace]


def _collect(value: Any, names: set[str]) -> None:
    """Adds all names of values within a checked piece of the program."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("name", "as_name") and isinstance(each, str):
                names.add(each)
            else:
                _collect(each, names)
    elif isinstance(value, list):
        for each in value:
            _collect(each, names)


def _module(stack: str) -> str:
    """The path of the innermost module of `key,path,type;...`; "" where it is no plain one."""
    parts = stack.rpartition(";")[2].split(",")
    path = module_path({"": (parts[1], None)}) if len(parts) >= 3 else ""
    return path if _MODULE.fullmatch(path) else ""


def _cpu(row: dict[str, Any]) -> Any:
    if row["type"] != HOST or row.get("index") not in (None, 0):
        raise Refused(
            f"the program computes on {shown(row['type'])}, and programs of a CPU are read",
            "move the module and its example inputs to the CPU before it is exported",
        )
    return torch_schema.Device(type=HOST, index=None)


def _flat(structure: Any) -> str:
    return pytree.treespec_dumps(pytree.tree_structure(structure))


_SYMBOLIC: Mapping[str, Any] = {
    "as_sym_int": torch_schema.SymIntArgument,
    "as_sym_float": torch_schema.SymFloatArgument,
    "as_sym_bool": torch_schema.SymBoolArgument,
}
