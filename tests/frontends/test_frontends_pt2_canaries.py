"""A canary for each text of an exported program: whatever a file says, nothing of it runs.

The fields are found by walking torch's own dataclasses, so a field of a later torch is covered, or fails the first test.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportPrivateUsage=false
from __future__ import annotations

import copy
import dataclasses
import enum
import io
import json
import pickle
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._export.serde import schema
from torch._export.serde.serialize import _SYM_OPS
from torch._export.serde.union import _Union

from infc.compiler.frontends import FrontendError, load_here
from infc.compiler.frontends.pt2.operators import SIZE_OPERATORS
from infc.compiler.frontends.pt2.schema import ENUMS, FIELDS

from .pt2_files import CONSTANTS, MODEL, WEIGHTS, edited, entries, save_small, spec, write

ROOTS = {MODEL: "ExportedProgram", WEIGHTS: "PayloadConfig", CONSTANTS: "PayloadConfig"}
Path_ = tuple[str | int, ...]


def payloads(canary: Path) -> list[str]:
    """Texts that would touch the canary where they are evaluated, imported, formatted, resolved or opened."""
    touch = f'__import__("pathlib").Path("{canary}").touch()'
    return [
        touch,
        f'l"),getattr(__import__("os"),"system")("touch {canary}"),("',
        f'")\n{touch}\n("',
        f"{{0.__class__.__init__.__globals__[os].system('touch {canary}')}}",
        "torch.os.system",
        f"../../../../../../..{canary}",
        f"torch.ops.load_library('{canary}')",
        f'L["x"].size()[0] == ({touch} or 6)',
        f"Symbol('s0', integer=True) + {touch}",
        f'[1, {{"type": "builtins.dict", "context": "[{{\\"__enum__\\": 1, \\"fqn\\": \\"os:{canary}\\"}}]", "children_spec": []}}]',
        f'[{{"name": "{canary}", "target": "os.system", "graph_id": 1}}]',
        f"a,b,c;{touch},x,os.system",
    ]


FEW = 1
"""Payloads that the short run tries in each place: whatever evaluates a text runs the first."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("canaries") / "net.pt2")


def test_the_table_has_every_field_of_torchs_schema() -> None:
    for name, (union, fields) in FIELDS.items():
        theirs = getattr(schema, name)
        assert issubclass(theirs, _Union) is union
        hints = typing.get_type_hints(theirs, globalns=dict(vars(schema)))
        optional = {f.name for f in dataclasses.fields(theirs) if _has_default(f) and not union}
        assert {k: (_spelled(t), k in optional) for k, t in hints.items() if k != "_type"} == fields, name
    assert _reachable("ExportedProgram") | _reachable("PayloadConfig") == set(FIELDS)
    for name, values in ENUMS.items():
        assert set(values) == {e.value for e in getattr(schema, name)}, name


def test_the_size_operators_are_those_of_torchs_serializer() -> None:
    assert {f"{op.__module__}.{op.__name__}" for op in _SYM_OPS} == SIZE_OPERATORS


@pytest.mark.parametrize("entry", sorted(ROOTS))
def test_no_text_of_the_schema_runs(program: Path, tmp_path: Path, entry: str) -> None:
    _try_all(program, tmp_path, entry, FEW)


@pytest.mark.full
@pytest.mark.parametrize("entry", sorted(ROOTS))
def test_no_text_of_the_schema_runs_whatever_it_says(program: Path, tmp_path: Path, entry: str) -> None:
    _try_all(program, tmp_path, entry, None)


def test_every_text_of_the_schema_is_tried(program: Path, tmp_path: Path) -> None:
    tried = {f for e in ROOTS for fields, _ in _variants(e, json.loads(entries(program)[e]), "x") for f in fields}
    known = {
        f"{n}.{k}"
        for n, (_, fields) in FIELDS.items()
        for k, (kind, _) in fields.items()
        if "str" in kind or "{" in kind
    }
    assert known <= tried, sorted(known - tried)


@pytest.mark.parametrize("target", [
    "torch.os.system", "torch.ops.load_library", "torch.ops.aten.from_file.default", "torch.ops.aten.__class__",
    "torch.ops.aten.add.__init__", "torch.ops.aten.save.default", "_operator.attrgetter", "_operator.methodcaller",
    "torch.utils.cpp_extension.load_inline", "math.__loader__.exec_module", "#ns:op", "torch.ops.aten._print.default",
    "torch.ops.aten.set_.source_Tensor_storage_offset", "torch.ops.quantized.linear.default", "torch.ops.aten.add.Nope",
    "torch.ops.higher_order.cond", "torch.ops.profiler._record_function_enter.default", "os.system", "",
])  # fmt: skip
def test_an_operator_that_is_not_of_the_list_is_refused(program: Path, tmp_path: Path, target: str) -> None:
    def change(value: Any) -> None:
        value["graph_module"]["graph"]["nodes"][-1]["target"] = target

    with pytest.raises(FrontendError):
        load_here(spec(edited(program, tmp_path / "evil.pt2", MODEL, change)), tmp_path)


@pytest.mark.parametrize("entry", [
    "data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/constants/opaque_obj_0/x", "data/weights/model.pt",
    "data/constants/model.pt", "data/sample_inputs/model.pt", "data/weights/weight_0", "data/constants/tensor_0",
    "extra/x.pkl", "data/aotinductor/model/x.so", "data/weights/../constants/opaque_obj_0", "models/model.pkl",
])  # fmt: skip
@pytest.mark.parametrize("used", [False, True])
def test_no_pickle_is_executed_wherever_it_lies(program: Path, tmp_path: Path, entry: str, used: bool) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    parts = entries(program)
    saved = io.BytesIO()
    torch.save(Bomb(), saved)
    for data in (pickle.dumps(Bomb(), protocol=2), saved.getvalue()):
        evil = dict(parts)
        evil[entry] = data
        if used:
            for name in (WEIGHTS, CONSTANTS):
                config = json.loads(evil[name])
                for row in config["config"].values():
                    row.update(path_name=entry.rpartition("/")[2], use_pickle=True)
                evil[name] = json.dumps(config).encode()
        _harmless(write(tmp_path / "evil.pt2", evil), tmp_path, canary)


def _try_all(program: Path, tmp_path: Path, entry: str, count: int | None) -> None:
    canary = tmp_path / "canary"
    parts = entries(program)
    value = json.loads(parts[entry])
    for text in payloads(canary)[:count]:
        for _, made in _variants(entry, value, text):
            _harmless(write(tmp_path / "evil.pt2", {**parts, entry: json.dumps(made).encode()}), tmp_path, canary)


def _harmless(path: Path, work: Path, canary: Path) -> None:
    """Loads a file, in this process, which no sandbox confines, and runs what loads."""
    try:
        found = load_here(spec(path), work)
        found.reference({i: np.ones((3, 4), dtype="float32") for i in found.graph.input_specs})
    except FrontendError:
        pass
    assert not canary.exists()


def _variants(entry: str, value: Any, text: str) -> Iterator[tuple[set[str], Any]]:
    """({Type.field, ...}, the JSON with the texts of these fields replaced) for each text within reach of the root type."""
    places: dict[str, list[Path_]] = {}
    _find(ROOTS[entry], value, (), places)
    for name, found in places.items():
        union, fields = FIELDS[name]
        at = found[0]
        for key, (kind, _) in fields.items():
            made = _made(kind, text, 3, key)
            if made is None:
                continue
            changed = {key: made} if union else {**_at(value, at), key: made}
            yield _labels(name, key, kind), _with(value, at, changed)
            if not union and kind in ("{str}",):
                known = _at(value, at).get(key, {})
                for each in known:
                    yield {f"{name}.{key}"}, _with(value, at, {**_at(value, at), key: {**known, each: text}})
            if not union and kind.startswith("{") and _at(value, at).get(key):
                renamed = {text if i == 0 else k: v for i, (k, v) in enumerate(_at(value, at)[key].items())}
                yield {f"{name}.{key}"}, _with(value, at, {**_at(value, at), key: renamed})


def _labels(name: str, key: str, kind: str) -> set[str]:
    """The fields that are set where a kind is made: its own, and those of records within."""
    base = kind.strip("[]{}?")
    own = {f"{name}.{key}"}
    return own | ({x for k, (inner, _) in FIELDS[base][1].items() for x in ({f"{base}.{k}"} if base != name else set()) | (
        _labels(base, k, inner) if base != name and not FIELDS[base][0] and inner.strip("[]{}?") in FIELDS else set()
    )} if base in FIELDS else set())  # fmt: skip


def _made(kind: str, text: str, depth: int, key: str) -> Any:
    """A value of a kind with the text in it; None where no text can be in it."""
    if kind.endswith("?"):
        return _made(kind[:-1], text, depth, key)
    if kind == "str":
        return text
    if kind.startswith(("[", "{")):
        inner = _made(kind[1:-1], text, depth, key)
        if kind.startswith("{"):
            return {text: _plain(kind[1:-1]) if inner is None else inner}
        return None if inner is None else [inner]
    if kind in FIELDS and depth and not FIELDS[kind][0]:
        row = {k: (_made(t, text, depth - 1, k), t, o) for k, (t, o) in FIELDS[kind][1].items()}
        if all(v is None for v, _, _ in row.values()):
            return None
        return {k: _plain(t) if v is None else v for k, (v, t, o) in row.items() if v is not None or not o}
    if kind in FIELDS and depth:
        for k, (t, _) in FIELDS[kind][1].items():
            inner = _made(t, text, depth - 1, k)
            if inner is not None:
                return {k: inner}
    return None


def _plain(kind: str) -> Any:
    """The least value of a kind."""
    if kind.endswith("?"):
        return None
    if kind in ("int", "float", "str", "bool"):
        return {"int": 0, "float": 0.0, "str": "", "bool": False}[kind]
    if kind.startswith(("[", "{")):
        return [] if kind.startswith("[") else {}
    if kind in ENUMS:
        return max(ENUMS[kind])
    union, fields = FIELDS[kind]
    if union:
        return {k: _plain(t) for k, (t, _) in list(fields.items())[:1]}
    return {k: _plain(t) for k, (t, o) in fields.items() if not o}


def _find(kind: str, value: Any, at: Path_, places: dict[str, list[Path_]]) -> None:
    """Where in a value each type occurs."""
    if kind.endswith("?"):
        if value is not None:
            _find(kind[:-1], value, at, places)
    elif kind.startswith("["):
        for i, each in enumerate(value):
            _find(kind[1:-1], each, (*at, i), places)
    elif kind.startswith("{"):
        for k, each in value.items():
            _find(kind[1:-1], each, (*at, k), places)
    elif kind in FIELDS:
        places.setdefault(kind, []).append(at)
        for k, each in value.items():
            _find(FIELDS[kind][1][k][0], each, (*at, k), places)


def _at(value: Any, path: Path_) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: Path_, new: Any) -> Any:
    if not path:
        return new
    made = copy.deepcopy(value)
    _at(made, path[:-1])[path[-1]] = new
    return made


def _has_default(field: Any) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _spelled(hint: Any) -> str:
    """A type as the table writes it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return f"{_spelled(next(a for a in arguments if a is not type(None)))}?"
    if origin is list:
        return f"[{_spelled(arguments[0])}]"
    if origin is dict:
        assert arguments[0] is str
        return f"{{{_spelled(arguments[1])}}}"
    assert isinstance(hint, (type, enum.EnumMeta))
    return hint.__name__


def _reachable(name: str) -> set[str]:
    """Dataclasses within reach of one of torch's."""
    found: set[str] = set()
    todo = [name]
    while todo:
        each = todo.pop()
        if each in found or each in ENUMS or not dataclasses.is_dataclass(getattr(schema, each, None)):
            continue
        found.add(each)
        hints = typing.get_type_hints(getattr(schema, each), globalns=dict(vars(schema)))
        todo += [_spelled(t).strip("[]{}?") for t in hints.values()]
    return found
