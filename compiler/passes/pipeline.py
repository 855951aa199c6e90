"""The pipeline: an ordered list of passes, as values and as text.

    text := pass ("," pass)*        pass := name [ "{" option ("," option)* "}" ]        option := key "=" value

A pass is a frozen dataclass in a file of this folder: its class variable `name` is its name, its fields are its options
(bool, int, float or str, each with a default) and `apply` takes a graph to a graph. Passes are found by folder; printing
and parsing go by their fields, so `parse_passes(print_passes(p)) == p` for every list of passes. Verifying, timing and
dumping live in the callback of `run_passes`, never in a pass.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, cast, get_type_hints, runtime_checkable

from ..errors import InfcError
from ..ir.graph import Graph

Option = bool | int | float | str


@runtime_checkable
class Pass(Protocol):
    """A graph-to-graph function with a name and typed options (the fields of a frozen dataclass)."""

    name: ClassVar[str]

    def apply(self, graph: Graph) -> Graph:
        """The graph rewritten; the argument is left as it was."""
        ...


@dataclass(frozen=True)
class Step:
    """One pass that ran, for the callback: where in the list, what it got, what it gave, how long it took (s)."""

    index: int
    pass_: Pass
    before: Graph
    after: Graph
    seconds: float


Callback = Callable[[Step], None]


def run_passes(graph: Graph, passes: Sequence[Pass], callback: Callback | None = None) -> Graph:
    """graph after each of passes in order; callback sees every step."""
    for index, pass_ in enumerate(passes):
        start = time.perf_counter()
        after = pass_.apply(graph)
        if callback is not None:
            callback(Step(index, pass_, graph, after, time.perf_counter() - start))
        graph = after
    return graph


def default_passes() -> tuple[Pass, ...]:
    """What `infc build` runs unless told otherwise."""
    return parse_passes("canonicalize,fold,canonicalize,cse,fuse,canonicalize,fold,cse,fuse_loops,dead_code")


def each(*callbacks: Callback) -> Callback:
    """A callback that calls callbacks in order."""

    def call(step: Step) -> None:
        for callback in callbacks:
            callback(step)

    return call


def dump_to(folder: Path, render: Callable[[Graph], str], first: int = 0) -> Callback:
    """A callback that writes each graph to folder as `03-fuse.ir`, numbered from first + 1."""

    def call(step: Step) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{first + step.index + 1:02d}-{step.pass_.name}.ir").write_text(render(step.after), encoding="utf-8")

    return call


@cache
def known_passes() -> dict[str, type[Pass]]:
    """Every pass class by name, found in this folder."""
    package = __name__.rpartition(".")[0]
    folder = str(Path(__file__).parent)
    found: dict[str, type[Pass]] = {}
    for module in pkgutil.iter_modules([folder]):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if not isinstance(value, type) or value.__module__ != f"{package}.{module.name}":
                continue
            name = getattr(value, "name", None)
            if isinstance(name, str) and callable(getattr(value, "apply", None)):
                found[name] = cast("type[Pass]", value)
    return dict(sorted(found.items()))


def print_passes(passes: Sequence[Pass]) -> str:
    """passes as text; an option that has its default is left out."""
    return ",".join(_print_pass(p) for p in passes)


def parse_passes(text: str) -> tuple[Pass, ...]:
    """The passes that `print_passes` printed. Raises InfcError (exit 2) with the part that does not fit."""
    if not text.strip():
        return ()
    return tuple(_parse_pass(part, text) for part in _split(text))


def _print_pass(pass_: Pass) -> str:
    options: list[str] = []
    for field in fields(pass_):  # type: ignore[arg-type]  # every pass is a dataclass
        value: Option = getattr(pass_, field.name)
        if value != field.default:
            options.append(f"{field.name}={str(value).lower() if isinstance(value, bool) else value}")
    return pass_.name + (f"{{{','.join(options)}}}" if options else "")


def _split(text: str) -> list[str]:
    parts, depth, start = list[str](), 0, 0
    for at, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    if depth != 0:
        raise InfcError(f"passes {text!r}: the braces do not pair", hint='write -p "canonicalize,fuse{qkv=false}"')
    return [*parts, text[start:]]


def _parse_pass(part: str, text: str) -> Pass:
    match = re.fullmatch(r"\s*([a-z_][a-z0-9_]*)\s*(?:\{(.*)\})?\s*", part)
    if match is None:
        raise InfcError(f"passes {text!r}: {part!r} is no pass", hint='write -p "canonicalize,fuse{qkv=false}"')
    class_ = known_passes().get(match[1])
    if class_ is None:
        raise InfcError(f"there is no pass {match[1]!r}", hint=f"known passes: {', '.join(known_passes())}")
    kinds = {f.name: get_type_hints(class_)[f.name] for f in fields(class_)}  # type: ignore[arg-type]
    options: dict[str, Option] = {}
    for item in (match[2] or "").split(","):
        if not item.strip():
            continue
        key, equals, value = (s.strip() for s in item.partition("="))
        if not equals or key not in kinds:
            known = ", ".join(kinds) or "none"
            raise InfcError(f"pass {match[1]!r} has no option {item.strip()!r}", hint=f"its options: {known}")
        options[key] = _parse_value(value, kinds[key], f"option {key!r} of pass {match[1]!r}")
    return class_(**options)


def _parse_value(value: str, kind: type, what: str) -> Option:
    if kind is bool:
        if value not in ("true", "false"):
            raise InfcError(f"{what} is true or false, not {value!r}")
        return value == "true"
    if kind is str:
        return value
    try:
        return cast("Option", kind(value))
    except ValueError:
        raise InfcError(f"{what} is a number, not {value!r}") from None
