"""Measured values for a spec's targets: agreement on data in this process, time and memory on the bundle's own server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...dsl.spec import AccuracyTarget, BundleSizeTarget, CostTarget, MemoryTarget, Model, Spec, Target
from ..driver import Machine
from ..frontends import Imported
from .accuracy import measure_accuracy
from .result import Measured
from .server import Evidence, prove
from .table import judge, unmeasured

__all__ = ["Measured", "measure", "measure_again"]


def measure(spec: Spec, model: Model, imported: Imported, machine: Machine, bundle: Path) -> tuple[Measured, ...]:
    """A value for each target, in the order of the spec. Writes the server's evidence into the bundle.

    Where this machine cannot run the code, what needs a run is left unmeasured and says so.
    """
    targets: tuple[Target, ...] = (*model.targets.items, *spec.bundle_targets.items)
    if not targets:
        return ()
    if not machine.runs_here:
        why = f"this machine cannot run {machine.variant} code"
        return tuple(_size_of(target, bundle) or unmeasured(target, why) for target in targets)
    measured: list[Measured] = []
    timed = [t for t in targets if not isinstance(t, AccuracyTarget | BundleSizeTarget)]
    evidence = prove(model, bundle, timed) if timed else None
    scores = measure_accuracy(
        model, imported, bundle, [t for t in targets if isinstance(t, AccuracyTarget)], machine.cores
    )
    for target in targets:
        if isinstance(target, AccuracyTarget):
            measured.append(judge(target, scores[target], f"{scores[target].rows} rows"))
        elif (size := _size_of(target, bundle)) is not None:
            measured.append(size)
        else:
            assert evidence is not None
            measured.append(_from_evidence(target, evidence, model, machine))
    return tuple(measured)


def measure_again(
    spec: Spec, model: Model, machine: Machine, bundle: Path, before: Sequence[Measured]
) -> tuple[Measured, ...]:
    """What was measured on this bundle before, what was void of it (something was) once more. Writes the new evidence into the
    bundle."""
    rows = list(zip((*model.targets.items, *spec.bundle_targets.items), before, strict=True))
    evidence = prove(model, bundle, [target for target, row in rows if row.is_void])
    return tuple(_from_evidence(target, evidence, model, machine) if row.is_void else row for target, row in rows)


def _from_evidence(target: Target, evidence: Evidence, model: Model, machine: Machine) -> Measured:
    if isinstance(target, CostTarget):
        price = machine.hardware.price_usd_per_h
        if price is None and machine.hardware.machine is not None:
            price = machine.hardware.machine.price_usd_per_h
        if price is None:
            return unmeasured(target, "the hardware has no price")
        rate = model.traffic.rate.value if model.traffic.rate is not None else evidence.throughput
        if target.per == "tokens" or rate <= 0:
            return unmeasured(target, "a cost per token is for models that generate")
        return judge(target, price / 3600 / rate * target.count, f"at {rate:g} req/s")
    value, note = evidence.value_of(target)
    measured = judge(target, value, note)
    if evidence.void and not measured.met and not isinstance(target, MemoryTarget):
        return replace(measured, met=None, note=evidence.void)
    return measured


def _size_of(target: Target, bundle: Path) -> Measured | None:
    """A bundle_size target's value; None for any other."""
    return judge(target, float(_size(bundle)), "arithmetic") if isinstance(target, BundleSizeTarget) else None


def _size(bundle: Path) -> int:
    """Bytes on disk without evidence and report."""
    from ..bundle.write import EVIDENCE

    return sum(
        path.stat().st_size
        for path in bundle.rglob("*")
        if path.is_file() and path.relative_to(bundle).parts[0] not in EVIDENCE
    )
