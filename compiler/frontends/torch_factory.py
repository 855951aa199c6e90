"""`torch("file.py:factory")`: the user's own code, run at build time in a process of its own.

The worker (worker) imports the file, calls the factory, exports and imports there, and hands over the Graph as
text and raw weights. It stays alive for the reference: the original module on NumPy inputs.
"""

from __future__ import annotations

from pathlib import Path

from ...dsl.spec import Model
from ..sandbox.process import Worker
from .answers import imported_from
from .errors import FrontendError
from .fields import bounds_of, expected_outputs, field_of
from .imported import Imported, Options
from .wire import expected_to_json, fields_to_json


def load(model: Model, folder: Path, options: Options) -> Imported:
    """The module that the factory makes, imported. Raises FrontendError with the user's file and line where their
    code fails."""
    source = model.source
    file, entry = Path(source.path or ""), source.entry or ""
    if not file.is_file():
        raise FrontendError(
            f"the file {source.written or file.name!r} does not exist", hint="paths are relative to the spec"
        )
    if not entry:
        raise FrontendError(
            f"torch({source.written!r}) names no function", hint=f'write `torch("{file.name}:make")`, say'
        )
    if model.task.kind != "tensor":
        raise FrontendError(
            f"`task {model.task.kind}` needs a tokenizer, which a torch source does not have",
            hint="use a huggingface source, or `task tensor`",
        )
    fields = tuple(field_of(line) for line in model.inputs)
    if not fields:
        raise FrontendError(
            f"model {model.name!r} has no inputs", hint="declare forward's parameters: `input x: float32[batch, 64]`"
        )
    request = {
        "do": "import",
        "file": str(file.resolve()),
        "entry": entry,
        "root": str(folder),
        "name": model.name,
        "fields": fields_to_json(fields),
        "bounds": bounds_of(model, fields),
        "expected": expected_to_json(expected_outputs(model)),
        "nan_allowed": source.nan_allowed,
    }
    session = f"{__package__}.worker"
    worker = Worker(
        session, repr(request["file"]), folder=options.work, cwd=file.resolve().parent, python=options.python
    )
    return imported_from(worker, worker.ask(request), owns=lambda path: True, mapped=True)
