"""Graphs as text, a node a line, and back.

    graph minilm {batch_dim=batch, length_dim=tokens}
    dims batch=1..64, tokens=1..512
    %0: i64[batch,tokens] = input() {input=input_ids, minimum=0, maximum=30521}
    %1: f32[batch,tokens,384] = embedding(@words.weight, %0)  # embeddings.words (aten.embedding at bert.py:57)
    %2: f32[batch,tokens,384] = mul(%1, f32(0.5))
    output embedding = %2

A line holds the node's number and type, its op, operands and the attributes that are not at their defaults; an input's
line also holds its InputSpec. Operands are nodes (%1), weights (@name) and constants (f32(0.5)). After `  # ` comes
where the node is from, which is no part of what the graph means. Printing is deterministic, and parsing a printed graph
gives one that prints alike.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from .dims import DimExpr, Range, parse_dim
from .graph import Graph, InputSpec, Node, Op, OpError, Origin, Weight, make
from .ops import known
from .ops.leaf import Constant, Input, WeightRef, constant, input_node, weight_node
from .ops.map import Map
from .prims import TABLE
from .types import LONG, SHORT, TensorType, parse_type


def print_graph(graph: Graph, comments: bool = True) -> str:
    """graph as text; without comments two graphs that mean the same (numbers, names, weights' names) print alike."""
    names = number_nodes(graph)
    head = {"batch_dim": graph.batch_dim, "length_dim": graph.length_dim}
    dims = ", ".join(f"{name}={low}..{high}" for name, (low, high) in sorted(graph.dims.items()))
    lines = [f"graph {_value_text(graph.name)} {{{', '.join(f'{k}={_value_text(v)}' for k, v in head.items())}}}"]
    lines.append(f"dims {dims}".rstrip())
    for node in graph.nodes():
        if names[node].startswith("%"):
            lines.append(print_node(graph, node, names, comments=comments))
    lines += [f"output {_value_text(name)} = {names[node]}" for name, node in graph.outputs]
    return "\n".join(lines) + "\n"


def number_nodes(graph: Graph) -> dict[Node, str]:
    """What each node is called in print: %0, %1, ... in order; @name for weights; f32(0.5) for constants."""
    names: dict[Node, str] = {}
    count = 0
    for node in graph.nodes():
        if isinstance(node.op, WeightRef):
            names[node] = "@" + _name_text(node.op.weight)
        elif isinstance(node.op, Constant):
            names[node] = f"{SHORT[node.op.dtype]}({_value_text(node.op.value)})"
        else:
            names[node] = f"%{count}"
            count += 1
    return names


def print_node(graph: Graph, node: Node, names: Mapping[Node, str] | None = None, comments: bool = True) -> str:
    """The line of one node (of a weight or a constant, which have none of their own, its name and type)."""
    names = number_nodes(graph) if names is None else names
    if not names[node].startswith("%"):
        return f"{names[node]}: {node.type}"
    attributes = _attributes(node.op)
    if isinstance(node.op, Input):
        spec = graph.input_specs.get(node.op.input, InputSpec())
        attributes = {"input": node.op.input, **_attributes(spec)}
    tail = f" {{{', '.join(f'{k}={_value_text(v)}' for k, v in attributes.items())}}}" if attributes else ""
    line = f"{names[node]}: {node.type} = {node.op.name}({', '.join(names[o] for o in node.operands)}){tail}"
    origin = _origin_text(node.origin) if comments else ""
    return f"{line}  # {origin}" if origin else line


def graph_key(graph: Graph) -> str:
    """sha256 (hex) of what a graph means: its text without comments, and the bytes of the weights that it reads."""
    digest = hashlib.sha256(print_graph(graph, comments=False).encode())
    used = {node.op.weight for node in graph.nodes() if isinstance(node.op, WeightRef)}
    for name in sorted(used):
        weight = graph.weights[name]
        digest.update(f"@{_name_text(name)}: {weight.type} {weight.digest or weight_digest(weight)}\n".encode())
    return digest.hexdigest()


def weight_digest(weight: Weight) -> str:
    """sha256 (hex) of a weight's bytes in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(weight.load()).tobytes()).hexdigest()


def parse_graph(text: str, weights: Mapping[str, Weight]) -> Graph:
    """The graph that `print_graph` printed, over `weights`. Raises ValueError with the line that does not fit."""
    state = _Parsed(weights)
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).strip()
        if not line:
            continue
        try:
            state.read(line)
        except (ValueError, OpError, TypeError, KeyError) as error:
            raise ValueError(f"line {number}: {error.args[0] if error.args else error}\n  {raw.strip()}") from error
    if not state.name:
        raise ValueError("the text has no line `graph NAME`")
    used = {n.weight for n in (node.op for node in state.leaves.values()) if isinstance(n, WeightRef)}
    return Graph(
        name=state.name,
        dims=state.dims,
        inputs=tuple(state.inputs),
        outputs=tuple(state.outputs),
        weights={name: weight for name, weight in weights.items() if name in used},
        input_specs=state.specs,
        batch_dim=state.head.get("batch_dim"),
        length_dim=state.head.get("length_dim"),
    )


class _Parsed:
    """What has been read so far."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.weights = weights
        self.name = ""
        self.head: dict[str, Any] = {}
        self.dims: dict[str, Range] = {}
        self.inputs: list[Node] = []
        self.outputs: list[tuple[str, Node]] = []
        self.specs: dict[str, InputSpec] = {}
        self.nodes: dict[str, Node] = {}
        self.leaves: dict[str, Node] = {}

    def read(self, line: str) -> None:
        word = line.split(maxsplit=1)[0]
        if word == "graph":
            name, attributes = _cut_attributes(line[len(word) :].strip())
            self.name = _parse_value(name, False)
            self.head = {key: _parse_value(value, False) for key, value in attributes.items()}
        elif word == "dims":
            for part in _split(line[len(word) :]):
                match = re.fullmatch(r"([A-Za-z_]\w*)=(\d+)\.\.(\d+)", part)
                if match is None:
                    raise ValueError(f"expected NAME=LOW..HIGH, not {part!r}")
                self.dims[match[1]] = (int(match[2]), int(match[3]))
        elif word == "output":
            name, separator, operand = line[len(word) :].rpartition(" = ")
            if not separator:
                raise ValueError("expected `output NAME = %N`")
            self.outputs.append((_parse_value(name.strip(), False), self.operand(operand.strip())))
        elif word.startswith("%"):
            self.node(line)
        else:
            raise ValueError(f"a line begins with graph, dims, output or %N, not {word!r}")

    def node(self, line: str) -> None:
        match = re.match(r"(%\d+): (\w+\[[^\]]*\]) = (\w+)\(", line)
        if match is None:
            raise ValueError("expected `%N: TYPE = OP(OPERANDS) {ATTRIBUTES}`")
        number, type_, op_name = match[1], parse_type(match[2]), match[3]
        rest, attributes = _cut_attributes(line[match.end() :])
        if not rest.endswith(")"):
            raise ValueError("the list of operands is not closed")
        operands = [self.operand(part) for part in _split(rest[:-1])]
        if number in self.nodes:
            raise ValueError(f"{number} is defined twice")
        if op_name == "input":
            self.nodes[number] = self.input(type_, attributes)
            return
        node = make(parse_op(op_name, attributes), *operands)
        if node.type != type_:
            raise ValueError(f"{op_name} gives {node.type}, not {type_}")
        self.nodes[number] = node

    def input(self, type_: TensorType, attributes: Mapping[str, str]) -> Node:
        values = {key: _parse_value(value, False) for key, value in attributes.items()}
        name = values.pop("input")
        if values:
            self.specs[name] = InputSpec(**values)
        node = input_node(name, type_)
        self.inputs.append(node)
        return node

    def operand(self, text: str) -> Node:
        if text.startswith("%"):
            if text not in self.nodes:
                raise ValueError(f"{text} is not defined above")
            return self.nodes[text]
        if text not in self.leaves:
            self.leaves[text] = self.leaf(text)
        return self.leaves[text]

    def leaf(self, text: str) -> Node:
        if text.startswith("@"):
            name = json.loads(text[1:]) if text[1:2] == '"' else text[1:]
            if name not in self.weights:
                raise ValueError(f"there is no weight @{name}")
            return weight_node(name, self.weights[name].type)
        match = re.fullmatch(r"(\w+)\((.+)\)", text)
        if match is None or match[1] not in LONG:
            raise ValueError(f"expected an operand such as %3, @name or f32(0.5), not {text!r}")
        return constant(_parse_value(match[2], False), LONG[match[1]])


def parse_op(name: str, attributes: Mapping[str, str]) -> Op:
    """The op printed as `name` with these attributes (still text). Raises ValueError listing what is known."""
    if name in TABLE and name not in known():
        if attributes:
            raise ValueError(f"{name} takes no attributes, not {', '.join(attributes)}")
        return Map(name)
    cls = known().get(name)
    if cls is None:
        raise ValueError(f"no op is called {name!r}; known: {', '.join([*known(), *TABLE])}")
    hints = _hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(attributes) - fields)
    if unknown:
        raise ValueError(f"{name} has no attribute {', '.join(unknown)}; it has {', '.join(sorted(fields)) or 'none'}")
    values = {key: _parse_value(value, "DimExpr" in str(hints[key])) for key, value in attributes.items()}
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ValueError(f"{name}: {key}={attributes[key]} is no {hints[key]}")
    return cls(**values)


@functools.cache
def _hints(cls: type[Op]) -> dict[str, Any]:
    return get_type_hints(cls)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an attribute's declared type: int, float, bool, str, a dimension, Literal, unions, tuples."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        items = cast("tuple[Any, ...]", value)
        if arguments[-1:] == (Ellipsis,):
            return all(_fits(v, arguments[0]) for v in items)
        return len(items) == len(arguments) and all(map(_fits, items, arguments))
    if hint is float:
        return type(value) in (int, float)
    return value is None if hint is NoneType else type(value) is hint


_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_WORDS: dict[str, Any] = {"none": None, "true": True, "false": False}
_NUMBERS = ("inf", "nan", "-inf")


def _attributes(value: Op | InputSpec) -> dict[str, Any]:
    """Fields that are not at their defaults, in order; not the primitive's name, which is the op's in print."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        now = getattr(value, field.name)
        default = field.default
        if (isinstance(value, Map) and field.name == "fn") or (type(now) is type(default) and now == default):
            continue
        out[field.name] = now
    return out


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        parts = [_value_text(v) for v in cast("tuple[Any, ...]", value)]
        return f"[{', '.join(parts)}]"
    if value is None or isinstance(value, bool):
        return next(word for word, meant in _WORDS.items() if meant is value)
    if isinstance(value, (int, float, DimExpr)):
        return repr(float(value)) if isinstance(value, float) else str(value)
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and value not in _WORDS and value not in _NUMBERS
        return value if plain else json.dumps(value)
    raise TypeError(f"an attribute of type {type(value).__name__} cannot be printed: {value!r}")


def _name_text(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_.\-/:]+", name) else json.dumps(name)


def _origin_text(origin: Origin) -> str:
    where = " at ".join(part for part in (origin.imported, origin.source) if part)
    parts = [origin.name, f"({where})" if where else ""]
    return " ".join(" ".join(part.split()) for part in parts if part)


def _parse_value(text: str, dims: bool) -> Any:
    """A printed value; a word that is no keyword is a dimension where `dims`, else a string."""
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError(f"{text!r} is not closed")
        return tuple(_parse_value(part, dims) for part in _split(text[1:-1]))
    if text.startswith('"'):
        return json.loads(text)
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if text in _NUMBERS or re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text):
        return float(text)
    if dims:
        return parse_dim(text)
    if _BARE.fullmatch(text):
        return text
    raise ValueError(f"{text!r} is no value")


def _scan(text: str) -> list[tuple[int, str, int]]:
    """(position, character, depth of brackets) for the characters outside quotes."""
    out: list[tuple[int, str, int]] = []
    depth, quoted, escaped = 0, False, False
    for at, c in enumerate(text):
        if quoted:
            quoted = escaped or c != '"'
            escaped = c == "\\" and not escaped
        elif c == '"':
            quoted = True
        else:
            depth -= c in ")]}"
            out.append((at, c, depth))
            depth += c in "([{"
    return out


def _split(text: str) -> list[str]:
    """The parts of text between commas outside brackets and quotes; none for blank text."""
    cuts = [at for at, c, depth in _scan(text) if c == "," and depth == 0]
    edges = [-1, *cuts, len(text)]
    return [text[a + 1 : b].strip() for a, b in pairwise(edges)] if text.strip() else []


def _cut_attributes(text: str) -> tuple[str, dict[str, str]]:
    """text before its last `{...}`, and what that holds."""
    opening = [at for at, c, depth in _scan(text) if c == "{" and depth <= 0]
    if not opening:
        return text.strip(), {}
    if not text.endswith("}"):
        raise ValueError("the attributes are not closed")
    attributes: dict[str, str] = {}
    for part in _split(text[opening[-1] + 1 : -1]):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"expected NAME=VALUE, not {part!r}")
        attributes[key.strip()] = value.strip()
    return text[: opening[-1]].strip(), attributes


def _without_comment(line: str) -> str:
    marks = [at for at, c, _ in _scan(line) if c == "#"]
    return line[: marks[0]] if marks else line
