"""The session of a worker that runs a user's factory (see torch_factory): the user's own code, as their user."""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import importlib.util
import inspect
import random
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..sandbox.child import Handle
from .audit import Audit
from .errors import FrontendError
from .sources import is_library, shorten
from .wire import bounds_from_json, expected_from_json, fields_from_json, read_arrays, write_arrays, write_graph

SEED = 0
"""Factories that draw random weights make the same ones in every build."""


def open_session() -> Handle:
    """What answers requests: `import` once, then `run`."""
    run: Handle | None = None

    def handle(request: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal run
        if request["do"] == "import":
            said, run = import_factory(request)
            return said
        if run is None:
            raise FrontendError("no model was imported")
        return run(request)

    return handle


def import_factory(request: Mapping[str, Any]) -> tuple[dict[str, Any], Handle]:
    """Calls the factory and imports what it makes; also what runs it later."""
    import numpy as np
    import torch

    from .fields import keys_of
    from .finite import check_module
    from .fx_export import bind, export_module, flatten_outputs
    from .import_mlir import import_program
    from .layers import recorded
    from .to_mlir import to_mlir

    file, entry, folder = Path(request["file"]), str(request["entry"]), Path(request["folder"])
    fields = fields_from_json(request["fields"])
    audit = Audit(own=(folder,))
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    with audit.watching():
        module = make_module(file, entry)
    exported = export_module(module, fields, bounds_from_json(request["bounds"]))
    program = to_mlir(exported, request["root"])
    expected = expected_from_json(request["expected"])
    graph = import_program(program, request["name"], expected=expected)
    allowed = bool(request.get("nan_allowed", False))
    notes = check_module(module, set(program.weights), file.name, nan_allowed=allowed)
    said = {
        "graph": write_graph(graph, folder),
        "mlir": program.text(),
        "used_files": sorted({str(file), *audit.files()}),
        "notes": list(notes),
        "layers": True,
    }
    names = tuple(name for name, _ in graph.outputs)
    wanted = keys_of(expected, exported.outputs)

    def run(asked: Mapping[str, Any]) -> dict[str, Any]:
        arrays = read_arrays(asked["inputs"], folder, "in")
        tensors = [torch.from_numpy(np.array(arrays[f.name], dtype=f.dtype)) for f in fields]
        positional, named = bind(module, fields, tensors)
        with torch.no_grad(), recorded(module) as layers:
            found = flatten_outputs(module(*positional, **named))
        outputs = {name: found[key].numpy() for name, key in zip(names, wanted, strict=True)}
        return {"outputs": write_arrays(layers if asked.get("layers") else outputs, folder, "out")}

    return said, run


def make_module(file: Path, entry: str) -> Any:
    """What the factory `entry` of `file` returns: a torch.nn.Module. Raises FrontendError, or what the code raises."""
    from torch import nn

    factory: Any = load_file(file)
    for part in entry.split("."):
        if not hasattr(factory, part):
            functions = [
                n for n, v in vars(load_file(file)).items() if callable(v) and getattr(v, "__module__", "") == file.stem
            ]
            known = f"; it has {', '.join(functions)}" if functions else ""
            raise FrontendError(f"{file.name} has no function {entry!r}{known}")
        factory = getattr(factory, part)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise FrontendError(f"{entry!r} in {file.name} is no function but {type(factory).__name__}")
    required = [
        p.name
        for p in inspect.signature(factory).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if required:
        raise FrontendError(
            f"{file.name}: {entry}({', '.join(required)}) takes arguments, and a factory is called without any",
            hint="give them defaults, or add a function without parameters",
        )
    module = factory()
    if not isinstance(module, nn.Module):
        raise FrontendError(
            f"{file.name}: {entry}() returns {type(module).__name__}, and a torch.nn.Module is needed",
            hint="return the module itself, in eval mode",
        )
    return module.eval()


def load_file(file: Path) -> ModuleType:
    """The user's file as a module; its folder is searched first for what it imports."""
    name = file.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise FrontendError(f"{file.name} is no Python file", hint="its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def user_error(error: BaseException, request: Mapping[str, Any]) -> str:
    """An exception of the user's code in one line: file, line, type and message, at their innermost frame."""
    where = ""
    root = str(request.get("root", ""))
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shorten(error.filename, root)}:{error.lineno}: SyntaxError: {error.msg}"
    for frame in traceback.extract_tb(error.__traceback__):
        ours = Path(frame.filename).resolve().is_relative_to(Path(__file__).resolve().parent)
        if not is_library(frame.filename) and not ours:
            where = f"{shorten(frame.filename, root)}:{frame.lineno}: "
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if isinstance(error, SystemExit):
        text = f"the code called sys.exit({error.code!r})"
    return f"{where}{type(error).__name__}: {text}".rstrip(": ")
