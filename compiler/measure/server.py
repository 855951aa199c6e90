"""Time and memory of a bundle: its own `serve prove` under open-loop load, as evidence in the bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...dsl.spec import ColdStartTarget, LatencyTarget, MemoryTarget, Model, Target, ThroughputTarget
from ..errors import Exit, InfcError
from ..processes import run_child
from .result import VOID

SHORTEST_S, LONGEST_S = 2.0, 12.0
"""Bounds of one measured load. A longer one is what a proof takes, and this is no proof."""


@dataclass(frozen=True)
class Evidence:
    """What `serve prove` wrote. `document` is evidence/NNN.json."""

    document: dict[str, Any]

    @property
    def throughput(self) -> float:
        """Highest rate that was answered, requests a second; 0 where it was not measured."""
        found: dict[str, Any] = self.document.get("throughput") or {}
        return float(found.get("req_s") or 0.0)

    @property
    def void(self) -> str:
        """Why times of this run mean nothing, or "": the machine was so busy that the load itself came late."""
        if self.document.get("valid", True):
            return ""
        return f"{VOID}this machine is too busy, the load was sent {float(self.document['generator']['lag_p99_s']) * 1e3:.1f} ms late"

    def value_of(self, target: Target) -> tuple[float, str]:
        """A target's value in base units, and how it was measured. Raises InfcError (exit 1) where the evidence lacks it."""
        document = self.document
        load: dict[str, Any] = document["load"]
        try:
            if isinstance(target, LatencyTarget):
                sent = int(document["requests"]["sent"])
                return float(document["latency_s"][target.statistic]), f"{sent} requests at {load['rate']:g} req/s"
            if isinstance(target, ThroughputTarget):
                return self.throughput, "closed loop"
            if isinstance(target, MemoryTarget):
                return float(document["memory"]["peak_rss_bytes"]), "peak resident set under that load"
            if isinstance(target, ColdStartTarget):
                starts = sorted(float(s) for s in document["cold_start_s"])
                return starts[len(starts) // 2], f"median of {len(starts)} starts, page cache warm"
        except (KeyError, IndexError, TypeError) as error:
            raise InfcError(f"the evidence has no value for {target.kind}: {error}", exit_code=Exit.INTERNAL) from error
        raise InfcError(f"a {target.kind} target is not measured on a server", exit_code=Exit.INTERNAL)


def prove(model: Model, bundle: Path, targets: Sequence[Target]) -> Evidence:
    """Runs the bundle's `serve prove` and files its evidence as evidence/001.json, 002.json, ...

    The load lasts until the tightest percentile could be seen at the declared rate, within bounds. Raises InfcError with
    the server's own message where it fails.
    """
    folder = bundle / "evidence"
    folder.mkdir(exist_ok=True)
    out = folder / f"{len(list(folder.glob('[0-9][0-9][0-9].json'))) + 1:03d}.json"
    quantiles = [t.quantile for t in targets if isinstance(t, LatencyTarget) and t.quantile < 1]
    rates = [t.at_rate.value for t in targets if isinstance(t, LatencyTarget) and t.at_rate is not None]
    rate = rates[0] if rates else model.traffic.rate.value if model.traffic.rate is not None else None
    needed = max((math.ceil(math.log(0.05) / math.log(q)) for q in quantiles if 0 < q < 1), default=100)
    duration = min(max(needed / rate if rate else SHORTEST_S, SHORTEST_S), LONGEST_S)
    command = [str((bundle / "serve").resolve()), "prove", "--duration", f"{duration:g}", "--out", str(out)]
    command += ["--rate", f"{rate:g}"] if rate is not None else []
    if not any(isinstance(t, ThroughputTarget) for t in targets) and rate is not None:
        command += ["--throughput", "0"]
    data = model.data.evaluate
    if data is not None and data.kind == "jsonl":
        command += ["--text-file", str(Path(data.path).resolve())]
        command += ["--field", data.field] if data.field is not None else []
    else:
        command += ["--rows", str(max(1, sum(model.traffic.items) // 2))]
    done = run_child(command)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise InfcError(
            f"measuring failed: serve prove ended with {done.returncode}: {said[-1] if said else 'it said nothing'}",
            exit_code=Exit.INTERNAL,
            hint="INFC__DEBUG=1 shows more; a model that fails on the load's own rows may need `range` behind its inputs",
        )
    return Evidence(json.loads(out.read_text(encoding="utf-8")))
