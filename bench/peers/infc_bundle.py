"""infc: the bundle that `infc build` made, through its C ABI."""

from __future__ import annotations

import os
from pathlib import Path

from infc.runtime import load

from ..cases import Case, inputs
from . import Call

VERSION_OF = "infc"
SETTINGS = {"": "the bundle of `infc build bench/minilm.infer`, through the C ABI (infc.runtime)"}


def open_case(case: Case, folder: Path, threads: int, variant: str) -> tuple[Call, str]:
    """The bundle lies in `folder`."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    model = load(folder / "minilm.bundle", threads=threads, cpus=cpus)
    arrays = inputs(case)
    return lambda: model.run(**arrays)["embedding"], ""
