"""The tokenizer that goes into a bundle is one that the server can read, fits the model beside it, and does not explode."""

from __future__ import annotations

from pathlib import Path

from ..frontends.errors import FrontendError
from ..ir.graph import Graph
from ..sandbox.process import Bounds, Confined, Worker

IDS = "input_ids"
BOUNDS = Bounds(memory_bytes=1 << 30, disk_bytes=1 << 20, answer_bytes=1 << 20, seconds=20.0)
SESSION = "infc.compiler.frontends.tokenizer_check"


def check_tokenizer(path: Path, graph: Graph, *, required: bool = False) -> None:
    """Tries the tokenizer in a locked-in worker (see frontends/tokenizer_check). Raises FrontendError (exit 2) where it is
    damaged, gives ids that the model has no embedding for, or takes too much; `required`: see sandbox.process."""
    spec = graph.input_specs.get(IDS)
    maximum = None if spec is None or spec.maximum is None else int(spec.maximum)
    at = path.absolute()
    subject = f"{at.parent.name}/{at.name}"
    confined = Confined(read=(str(at), str(at.resolve())), bounds=BOUNDS, required=required)
    worker = Worker(SESSION, subject, confined=confined)
    try:
        worker.ask({"do": "try", "path": str(at), "maximum": maximum})
    except FrontendError as error:
        if subject in error.message:
            raise
        raise FrontendError(f"{subject}: {error.message}", hint=error.hint) from None
    finally:
        worker.close()
