"""`torch("file.py:factory")`: the user's own code, run at build time in a process of its own.

The worker imports the file, calls the factory, exports and imports there, and hands over the Graph as text and raw
weights. It stays alive for the reference: the original module on NumPy inputs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...dsl.spec import Model
from ..ir.graph import Array
from .errors import FrontendError
from .fields import bounds_of, expected_outputs, field_of
from .imported import Imported, Options
from .wire import expected_to_json, fields_to_json, read_arrays, read_graph, write_arrays

_START = "import sys; sys.path.append(sys.argv[1]); from {worker} import main; main(int(sys.argv[2]), int(sys.argv[3]))"


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
    worker = Worker(file.resolve().parent, options)
    try:
        said = worker.ask(request)
        graph = read_graph(said["graph"], worker.folder)
    except BaseException:
        worker.close()
        raise

    def reference(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = write_arrays(inputs, worker.folder, "in")
        return read_arrays(worker.ask({"do": "run", "inputs": rows})["outputs"])

    def layers(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = write_arrays(inputs, worker.folder, "in")
        return read_arrays(worker.ask({"do": "run", "inputs": rows, "layers": True})["outputs"])

    return Imported(
        graph=graph,
        mlir=str(said["mlir"]),
        reference=reference,
        layers=layers,
        used_files=tuple(Path(f) for f in said["used_files"]),
        notes=tuple(said["notes"]),
        close=worker.close,
    )


class Worker:
    """A Python process that runs the user's code, and the folder that it writes to.

    Requests and answers are JSON lines over two pipes of their own: what the user's code prints goes to stderr. The
    folder outlives `close` while weights are mapped from it: a temporary one goes when this object does.
    """

    def __init__(self, cwd: Path, options: Options) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if options.work is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="infc-import-", ignore_cleanup_errors=True)
            self.folder = Path(self._temporary.name)
        else:
            options.work.mkdir(parents=True, exist_ok=True)
            self.folder = options.work
        to_child, from_parent = os.pipe()
        from_child, to_parent = os.pipe()
        package = __name__.rpartition(".")[0]
        root = Path(__file__).parents[len(package.split(".")) - 1]
        if package.split(".")[0] == "infc" and not (root / "infc").is_dir():
            root = _import_root(package.split(".")[0])
        command = [
            options.python or sys.executable, "-P", "-c", _START.format(worker=f"{package}.worker"),
            str(root), str(to_child), str(to_parent),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            pass_fds=(to_child, to_parent),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(to_parent)
        self._requests = os.fdopen(from_parent, "w", encoding="utf-8")
        self._answers = os.fdopen(from_child, "r", encoding="utf-8")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request. Raises FrontendError: the worker's, or that it died."""
        try:
            self._requests.write(json.dumps({**request, "folder": str(self.folder)}) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise FrontendError(
                f"the process that runs {request.get('file', 'the model')!r} {how}",
                hint="its own messages are above; `sys.exit` and `os._exit` have no place in a factory",
            )
        answer = json.loads(line)
        if "error" in answer:
            raise FrontendError(answer["error"]["message"], hint=answer["error"]["hint"])
        return answer["ok"]

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            try:
                self._requests.close()
                self._process.wait(timeout=5)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._answers.close()

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _import_root(name: str) -> Path:
    """The folder on sys.path that holds package name."""
    for entry in sys.path:
        if (Path(entry or ".") / name).is_dir():
            return Path(entry or ".").resolve()
    return Path.cwd()
