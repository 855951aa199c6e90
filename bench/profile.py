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

from infc.runtime import Model, load

from .bundles import bundle_folder
from .cases import ROOT, Case, parse_case
from .models import ENCODERS
from .peers import inputs

SECONDS, FEWEST = 1.5, 5
"""A profile runs the model for so long, and so often."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Steps alike: products by their place in a layer, others by op. `seconds` of all of them in one run (the least time of
    each step), `flops` of all of them in one run (0: not told)."""

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


def profile_model(model: Model, arrays: Mapping[str, Any], attention: float) -> list[Kind]:
    """Kinds of a loaded model. `attention`: the flops of one attention step, of which only the caller knows the lengths."""
    described: list[dict[str, Any]] = model.description["steps"]
    least = [float("inf")] * len(described)
    rows = [0] * len(described)
    model.profile()
    runs, end = 0, time.perf_counter() + SECONDS
    while runs < FEWEST or time.perf_counter() < end:
        model.run(arrays)
        runs += 1
        for number, step in enumerate(model.step_times()):
            least[number], rows[number] = min(least[number], step.seconds), step.rows
    model.profile(on=False)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for number, step in enumerate(described):
        groups.setdefault((label(step["name"], step["op"]), step["op"], step["provider"]), []).append(number)
    kinds: list[Kind] = []
    for (name, op, provider), members in groups.items():
        flops = attention * len(members)
        if op != "attention":
            flops = float(sum((described[n]["flops_per_row"] or 0) * rows[n] for n in members))
        kinds.append(Kind(name, op, provider, len(members), sum(least[n] for n in members), flops))
    return sorted(kinds, key=lambda kind: -kind.seconds)


def label(name: str, op: str) -> str:
    """`encoder.layer.3.output.dense` → `layer.*.output.dense` for products; for others the op."""
    return re.sub(r"^encoder\.layer\.\d+\.", "layer.*.", name) if "linear" in op else op


def main(case: Case, threads: int) -> None:
    encoder = ENCODERS.get(case.model)
    attention = 4.0 * case.batch * case.tokens**2 * encoder.hidden if encoder else 0.0
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    with load(bundle_folder(case.model, case.precision), threads=threads, cpus=cpus) as model:
        os.sched_setaffinity(0, {cpus[0]})
        print(json.dumps([asdict(kind) for kind in profile_model(model, inputs(case), attention)]))


if __name__ == "__main__":
    main(parse_case(sys.argv[1]), int(sys.argv[2]))
