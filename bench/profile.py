"""Where infc's time goes: the steps of a bundle by kind, as its own profiler sees them, with the arithmetic of each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infc.compiler.ir.dims import evaluate, parse_dim
from infc.compiler.report.profile import step_times
from infc.runtime import Model, load

from .bundles import bundle_folder
from .cases import ROOT, Case, parse_case
from .peers import inputs

SECONDS, FEWEST = 1.5, 5
"""A profile runs the model for so long, and so often."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Steps alike: products by their place in a layer, others by op. `seconds` of all of them in one run (the least time of
    each step), `flops` of all of them in one run."""

    name: str
    op: str
    provider: str
    steps: int
    seconds: float
    flops: float


def profile(case: Case, threads: int) -> tuple[Kind, ...]:
    """Slowest kind first, measured in a process of its own; nothing where the bundle cannot be run (its row says why)."""
    command = [sys.executable, "-m", "bench.profile", case.name, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return tuple(Kind(**kind) for kind in json.loads(done.stdout)) if done.returncode == 0 else ()


def profile_model(model: Model, arrays: Mapping[str, Any], sizes: Mapping[str, int]) -> list[Kind]:
    """Kinds of a loaded model; `sizes`: its dimensions in these arrays."""
    model.run(arrays)
    start = time.perf_counter()
    model.run(arrays)
    runs = max(FEWEST, int(SECONDS / (time.perf_counter() - start)))
    groups: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for step, described in zip(step_times(model, arrays, runs), model.description["steps"], strict=True):
        flops = evaluate(parse_dim(described["flops"]), sizes)
        groups.setdefault((label(step.name, step.op), step.op, step.provider), []).append((step.seconds, flops))
    kinds = [
        Kind(name, op, provider, len(members), sum(t for t, _ in members), float(sum(f for _, f in members)))
        for (name, op, provider), members in groups.items()
    ]
    return sorted(kinds, key=lambda kind: -kind.seconds)


def label(name: str, op: str) -> str:
    """`encoder.layer.3.output.dense` → `layer.*.output.dense` for products; for others the op."""
    return re.sub(r"^encoder\.layer\.\d+\.", "layer.*.", name) if "linear" in op else op


def main(case: Case, threads: int) -> None:
    sizes = {"batch": case.batch, "tokens": case.tokens}
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    with load(bundle_folder(case.model, case.precision), threads=threads, cpus=cpus) as model:
        os.sched_setaffinity(0, {cpus[0]})
        print(json.dumps([asdict(kind) for kind in profile_model(model, inputs(case), sizes)]))


if __name__ == "__main__":
    main(parse_case(sys.argv[1]), int(sys.argv[2]))
