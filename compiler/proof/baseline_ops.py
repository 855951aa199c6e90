"""Compute time of two bundles, whole and per op, through the C ABI."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...dsl.spec import Model
from ..bundle.manifest import Manifest
from ..errors import Exit, InfcError
from ..frontends import Imported
from ..measure.rows import read_rows
from ..processes import run_child
from .ask import needed
from .baseline_child import WHOLE, Task, Times
from .comparison import Pairs

ROUNDS = 40
"""Of these the bound of one of 40 claims lies at the eighth smallest ratio, so that a few may be as wrong as they like."""
BLOCK_S, PAUSE_S, SECONDS = 0.02, 0.01, 90.0
COPIED_BYTES = 4 << 30
"""Most bytes that are copied for all rounds; larger models share copies."""
LEAST_SHARE, LEAST_S = 0.02, 2e-6
"""What an op must take, of all and at all, to be a claim of its own (and all, to be one): a clock says less of shorter ones."""
CPU_CODE = 10
"""INFC_CODE_CPU: the CPU lacks a feature."""


@dataclass(frozen=True)
class Sides:
    """The two bundles with their manifests, and the threads that each may use."""

    new: Path
    old: Path
    new_manifest: Manifest
    old_manifest: Manifest
    threads: int

    def manifest(self, side: str) -> Manifest:
        """Of "new" or "old"."""
        return self.new_manifest if side == "new" else self.old_manifest


def compute(sides: Sides, model: Model, imported: Imported | None, work: Path) -> list[Pairs]:
    """Compute time of the model and of each op: pairs over rounds. Raises InfcError: exit 6 where one of the two does not run
    here, exit 2 where one does not take the inputs of the other."""
    inputs, how = _inputs(model, imported, work)
    found = timed(sides, inputs, _sizes(model, sides.new_manifest), work)
    return pairs_of(found["rounds"], found["steps"], how)


def timed(sides: Sides, inputs: str, sizes: dict[str, int], work: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """What the child prints. Raises InfcError."""
    copied = sum(f.bytes for m in (sides.new_manifest, sides.old_manifest) for f in m.files if _loaded(f.path))
    copies = max(1, -(-copied * rounds // COPIED_BYTES))
    task = work / "baseline.json"
    Task(
        str(sides.new.resolve()), str(sides.old.resolve()), inputs, sizes, sides.threads, str(work), rounds, copies,
        BLOCK_S, PAUSE_S, SECONDS,
    ).write(task)  # fmt: skip
    done = run_child([sys.executable, "-m", f"{__package__}.baseline_child", str(task)])
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        why = f"signal {-done.returncode}" if done.returncode < 0 else said[-1] if said else f"code {done.returncode}"
        raise InfcError(
            f"timing the new bundle beside the baseline {sides.old} ended with {why}",
            exit_code=Exit.MISSING if done.returncode == -4 else Exit.INTERNAL,  # SIGILL
            hint=f"infc verify {sides.old} says whether it runs here",
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        raise _refused(sides, found["error"])
    return found


def _refused(sides: Sides, error: Mapping[str, Any]) -> InfcError:
    side = str(error["side"])
    place = f"the baseline {sides.old}" if side == "old" else f"the new bundle {sides.new}"
    if error["code"] == CPU_CODE or error["kind"] != "CALLER":
        return InfcError(
            f"{place} does not run here: {error['message']}", exit_code=Exit.MISSING, hint=needed(sides.manifest(side))
        )
    return InfcError(f"{place} cannot be compared: {error['message']}")


def pairs_of(
    rounds: list[dict[str, Times]], steps: Mapping[str, Mapping[str, int]], how: str, least_s: float = LEAST_S
) -> list[Pairs]:
    """The whole, then the ops that both have, the slowest first, then those that one has alone."""
    if not rounds:
        return [Pairs("compute time", "s", (), (), how, unmeasured="a round takes too long")]
    new, old = [r["new"] for r in rounds], [r["old"] for r in rounds]
    whole = min(_least(new, WHOLE), _least(old, WHOLE))
    long = max(_least(new, WHOLE), _least(old, WHOLE)) >= least_s
    found = [_pairs("compute time", WHOLE, new, old, how + ("" if long else ": too short to judge"), judged=long)]
    ops = dict.fromkeys(op for side in (new[0], old[0]) for op in side if op != WHOLE)
    for op in sorted(ops, key=lambda op: -max(_least(new, op), _least(old, op))):
        counts = [steps.get(side, {}).get(op, 0) for side in ("new", "old")]
        note = f"{counts[0]} step{'s' * (counts[0] != 1)}"
        if counts[0] != counts[1]:
            note += f", of the baseline {counts[1]}"
        long = max(_least(new, op), _least(old, op))
        judged = all(op in side[0] for side in (new, old)) and long >= max(LEAST_SHARE * whole, least_s)
        if not all(op in side[0] for side in (new, old)):
            note += ": the other has none"
        elif not judged:
            note += ": too short to judge alone"
        found.append(_pairs(f"{op} ops", op, new, old, note, judged=judged))
    return found


def _pairs(what: str, op: str, new: list[Times], old: list[Times], note: str, *, judged: bool) -> Pairs:
    a, b = (tuple(side.get(op, 0.0) for side in part) for part in (new, old))
    return Pairs(what, "s", a, b, note, judged)


def _least(rounds: list[Times], op: str) -> float:
    return min(r.get(op, 0.0) for r in rounds)


def _inputs(model: Model, imported: Imported | None, work: Path) -> tuple[str, str]:
    """A file of inputs, and what they are: a row of `evaluate` of middle length, as often as a request has rows; "": none, and
    the child makes some."""
    data = model.data.evaluate
    rows = _rows(model)
    if data is None or imported is None:
        return "", f"a request of {rows} row{'s' * (rows > 1)}, made from a seed"
    requests = sorted(read_rows(data, model, imported).requests, key=lambda r: sum(a.size for a in r.values()))
    chosen = requests[len(requests) // 2]
    arrays: dict[str, Any] = {f"i:{name}": np.repeat(array, rows, axis=0) for name, array in chosen.items()}
    path = work / "baseline.npz"
    np.savez(path, **arrays)
    return str(path), f"a row of `evaluate` of middle length{f', {rows} times' if rows > 1 else ''}"


def _rows(model: Model) -> int:
    low, high = model.traffic.items
    return max(1, (low + high) // 2)


def _sizes(model: Model, manifest: Manifest) -> dict[str, int]:
    """Of inputs that are made: rows as declared, half the bound of the length, the least of others."""
    served = manifest.models[0]
    found: dict[str, int] = {}
    for name, (low, high) in served.dims.items():
        size = _rows(model) if name == served.batch_dim else (high + 1) // 2 if name == served.length_dim else low
        found[name] = min(max(low, size), high)
    return found


def _loaded(path: str) -> bool:
    return path.startswith("models/")
