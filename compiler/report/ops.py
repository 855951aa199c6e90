"""Time by op and provider of a bundle that was just built, for evidence/build.json."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runtime import Model, load
from ..bundle.golden import golden_sizes, random_inputs
from ..cache import Spare, cache_key
from ..driver import Compiled, Machine
from ..target import Limits
from .limits import bounds_of, kinds_at_limit
from .profile import StepTime, kinds_of, step_times

RUNS = 7


def op_rows(compiled: Compiled, machine: Machine, folder: Path, limits: Limits | None) -> list[dict[str, Any]]:
    """For each op and provider: its steps, their share of one request's time, and what share of the machine's limit they reach
    and which (None: this machine cannot run it, or its limits are not known)."""
    if not machine.runs_here:
        counts = Counter((step.op.name, compiled.rendered.providers[step.index]) for step in compiled.plan.steps)
        return [{"op": op, "provider": who, "steps": n, "share": None} for (op, who), n in counts.most_common()]
    graph = compiled.imported.graph
    sizes = golden_sizes(graph)[-1]
    with load(folder, threads=machine.cores) as model:
        steps = step_times(model, random_inputs(graph, sizes), runs=RUNS)
        reached = _reached(model, steps, sizes, machine, limits) if limits is not None else {}
    rows: list[dict[str, Any]] = []
    for kind in kinds_of(steps):
        of_limit, bound = reached.get((kind.op, kind.provider), (None, None))
        known = (
            {}
            if limits is None
            else {"of_limit": None if of_limit is None else round(min(of_limit, 1.0), 3), "bound": bound}
        )
        rows.append(
            {"op": kind.op, "provider": kind.provider, "steps": kind.steps, "share": round(kind.share, 3), **known}
        )
    return rows


def machine_limits(machine: Machine, work: Path, spare: Spare) -> Limits:
    """The peaks of this machine for the code that was built: measured once, then remembered."""
    key = cache_key(
        "limits",
        1,
        machine.variant,
        machine.cores,
        json.dumps(machine.target.fingerprint(), sort_keys=True, default=str),
    )
    found = spare.ask(lambda cache: cache.get_bytes(key))
    if found is not None:
        told: dict[str, dict[str, float]] = json.loads(found)
        return Limits(told["ops"], told["read"])
    limits = machine.target.limits(machine.variant, min(machine.cores, len(os.sched_getaffinity(0))), work)
    spare.ask(
        lambda cache: cache.put_bytes(key, json.dumps({"ops": dict(limits.ops), "read": dict(limits.read)}).encode())
    )
    return limits


def _reached(
    model: Model, steps: list[StepTime], sizes: Mapping[str, int], machine: Machine, limits: Limits
) -> dict[tuple[str, str], tuple[float, str]]:
    named = {str(key): size for key, size in sizes.items()}
    return kinds_at_limit(steps, bounds_of(model.description["steps"], named, limits, machine.target.caches()))
