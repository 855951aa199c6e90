"""The session of a locked-in worker that imports what people did not write themselves (see confined)."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..sandbox.child import Handle
from .errors import FrontendError
from .imported import Imported, Options
from .sources import model_source
from .spec_json import model_from_json
from .wire import read_arrays, write_arrays, write_graph


def open_session() -> Handle:
    """What answers requests: `import` once, then `run` and `tokenize`."""
    from . import load_here

    imported: Imported | None = None

    def handle(request: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal imported
        folder = Path(request["folder"])
        if request["do"] == "import":
            model = model_from_json(request["model"])
            imported = load_here(model, Path(request["root"]), Options(work=folder))
            return _said(imported, folder)
        if imported is None:
            raise FrontendError("no model was imported")
        if request["do"] == "tokenize":
            return {"rows": _tokenized(imported, request)}
        compute = imported.layers if request["layers"] else imported.reference
        assert compute is not None
        found = compute(read_arrays(request["inputs"], folder, "in"))
        return {"outputs": write_arrays(found, folder, "out")}

    return handle


def _tokenized(imported: Imported, request: Mapping[str, Any]) -> list[dict[str, list[int]]]:
    from ..measure.text_rows import tokenize_rows

    assert imported.text is not None
    return tokenize_rows(imported.text, request["texts"], request["truncate"], int(request["first"]))


def _said(imported: Imported, folder: Path) -> dict[str, Any]:
    text = imported.text
    return {
        "graph": write_graph(imported.graph, folder),
        "mlir": imported.mlir,
        "used_files": [str(f.absolute()) for f in imported.used_files],
        "notes": list(imported.notes),
        "layers": imported.layers is not None,
        "text": None if text is None else {**asdict(text), "tokenizer": text.tokenizer.read_text(encoding="utf-8")},
    }


def user_error(error: BaseException, request: Mapping[str, Any]) -> str:
    """An exception that no check of ours foresaw: what it says, and where in the model's own code."""
    place = model_source("".join(traceback.format_tb(error.__traceback__)), str(request.get("root", "")))
    said = " ".join(str(error).split())[:500]
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{f'{place}: ' if place else ''}the model cannot be imported: {what}"
