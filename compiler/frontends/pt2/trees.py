"""How a program's inputs and outputs lie in tuples, lists and dictionaries: torch's tree specs, as data.

    Tree := Leaf | Node(keys | None, [Tree])

torch's own reader imports modules that a spec names; here a spec gives names of outputs and the number of leaves, no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from . import strict_json
from .refused import Refused, shown

MAX_DEPTH = 16
MAX_LEAVES = 4096
_POSITIONAL = ("builtins.tuple", "builtins.list", "collections.deque", "torch.Size", "builtins.NoneType")
_KEYED = (
    "builtins.dict",
    "collections.OrderedDict",
    "collections.defaultdict",
    "torch.fx.immutable_collections.immutable_dict",
)
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]{1,200}")


@dataclass(frozen=True)
class Tree:
    """A leaf (`children` is None), or what holds children: under `keys`, or by position."""

    keys: tuple[str, ...] | None = None
    children: tuple[Tree, ...] | None = None


def parse_tree(text: str, namedtuples: dict[str, Any], what: str) -> Tree:
    """The tree of a spec. `namedtuples` are the field names by type, as the program gives them. Raises Refused."""
    if len(text) > 1 << 20:
        raise Refused(f"{what} is too long")
    value = strict_json.parse(text, what)
    if not isinstance(value, list) or len(cast("list[Any]", value)) != 2 or value[0] != 1:
        raise Refused(f"{what} is no tree of version 1")
    return _tree(value[1], namedtuples, what, 0)


def leaves(tree: Tree) -> int:
    """How many leaves a tree has."""
    return 1 if tree.children is None else sum(leaves(c) for c in tree.children)


def leaf_names(tree: Tree) -> list[str]:
    """A name for each leaf, in order: keys joined by "_", positions of the outermost tuple as output0, output1, ..."""
    found: list[str] = []
    _name(tree, "", found)
    return found


def _name(tree: Tree, prefix: str, found: list[str]) -> None:
    if tree.children is None:
        found.append(prefix or "output0")
        return
    for i, child in enumerate(tree.children):
        if tree.keys is None:
            _name(child, f"{prefix}_{i}" if prefix else f"output{i}", found)
        else:
            _name(child, f"{prefix}_{tree.keys[i]}" if prefix else tree.keys[i], found)


def _tree(value: Any, namedtuples: dict[str, Any], what: str, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise Refused(f"{what} is nested too deeply")
    if type(value) is not dict or set(cast("dict[str, Any]", value)) != {"type", "context", "children_spec"}:
        raise Refused(f"{what} is no tree")
    node = cast("dict[str, Any]", value)
    kind, context, below = node["type"], node["context"], node["children_spec"]
    if type(below) is not list or len(cast("list[Any]", below)) > MAX_LEAVES:
        raise Refused(f"{what} is no tree")
    if kind is None:
        if context is not None or below:
            raise Refused(f"{what} has a leaf with children")
        return Tree()
    if type(kind) is not str:
        raise Refused(f"{what} has a node of the type {shown(kind)}")
    children = tuple(_tree(c, namedtuples, what, depth + 1) for c in cast("list[Any]", below))
    keys = _keys(kind, context, namedtuples, what)
    if keys is not None and (len(keys) != len(children) or len(set(keys)) != len(keys)):
        raise Refused(f"{what} has {len(children)} values for the keys {shown(keys)}")
    return Tree(keys, children)


def _keys(kind: str, context: Any, namedtuples: dict[str, Any], what: str) -> tuple[str, ...] | None:
    """The keys of a node's children; None where they are counted."""
    if kind in _POSITIONAL:
        return None
    known = namedtuples.get(context if kind == "collections.namedtuple" and type(context) is str else kind)
    if known is not None:
        return _plain(known["field_names"], what)
    said = strict_json.parse(context, what) if type(context) is str else context
    if kind in _KEYED:
        if kind == "collections.defaultdict" and type(said) is dict:
            said = cast("dict[str, Any]", said).get("dict_context")
        return _plain(said, what)
    if type(said) is list:
        rows = cast("list[Any]", said)
        return _plain(rows[0] if len(rows) == 2 and type(rows[0]) is list else rows, what)
    raise Refused(
        f"{what} has values in a {shown(kind)}, and only tuples, lists, dictionaries and named tuples are known",
        "return a tuple or a dict of tensors",
    )


def _plain(keys: Any, what: str) -> tuple[str, ...]:
    if type(keys) is not list:
        raise Refused(f"{what} has no keys where they are needed")
    found: list[str] = []
    for key in cast("list[Any]", keys):
        text = str(key) if type(key) is int else key
        if type(text) is not str or not _PLAIN.fullmatch(text):
            raise Refused(f"{what} has the key {shown(key)}, and names have letters, digits, '_', '-' and '.'")
        found.append(text)
    return tuple(found)
