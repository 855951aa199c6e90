"""`infc build --baseline BUNDLE`: whether a new bundle is worse than another one, measured on this machine in turn.

    found = compare(new, old, spec, model, machine, imported, work, margin, report)
    any(c.worse for c in found)     # exit 5

Compute time goes through the C ABI, whole and per op; latency, throughput, starts and memory through the bundles' own
servers under the new spec's load, where it has targets for them; accuracy through the same rows. All claims hold together
at CONFIDENCE: each is taken at its share of the level.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from ...dsl.spec import AccuracyTarget, BundleSizeTarget, Model, Spec, Target
from ..bundle.manifest import Manifest, bundle_digest, content_size, read_manifest, verify_files
from ..bundle.manifest import Model as Served
from ..driver import Machine
from ..errors import Exit, InfcError
from ..frontends import Imported
from .ask import describe, needed
from .baseline_load import claims_in, compare_serving, turns_of
from .baseline_ops import Sides, compute
from .baseline_rows import accuracy
from .comparison import CONFIDENCE, MARGIN, Claim, Comparison, Size, as_json, claims_of, headline, judge, markdown, rows
from .prove import NeedsSource
from .requests import write_requests

__all__ = ["MARGIN", "Comparison", "as_json", "check_baseline", "compare", "headline", "markdown", "rows"]
Report = Callable[[str], None]


def check_baseline(old: Path) -> Manifest:
    """Before anything is built. Raises InfcError: exit 2 where it is no bundle, exit 7 where it is damaged, exit 6 where it is
    for another kind of machine."""
    manifest = read_manifest(old)
    verify_files(old, manifest, [file.path for file in manifest.files])
    if (manifest.platform.os, manifest.platform.arch) != (platform.system().lower(), platform.machine()):
        raise InfcError(f"the baseline {old} does not run here", exit_code=Exit.MISSING, hint=needed(manifest))
    return manifest


def compare(
    new: Path,
    old: Path,
    spec: Spec,
    model: Model,
    machine: Machine,
    imported: Imported | None,
    work: Path,
    margin: float,
    report: Report,
) -> tuple[Comparison, ...]:
    """Each comparison, those of time first. Raises NeedsSource where the rows are needed and `imported` is None; InfcError: exit
    2 where `old` is no bundle or of another interface, exit 6 where one of the two does not run here, exit 7 where `old` is damaged."""
    old_manifest, manifest = check_baseline(old), read_manifest(new)
    check_interface(manifest, old_manifest, old)
    if not machine.runs_here:
        raise InfcError(
            f"--baseline measures both bundles, and this machine cannot run {machine.variant} code",
            exit_code=Exit.MISSING,
            hint="build without --baseline here, and with it where the bundle runs",
        )
    sides = Sides(new, old, manifest, old_manifest, machine.cores)
    targets: tuple[Target, ...] = (*model.targets.items, *spec.bundle_targets.items)
    found: list[Claim] = []
    if _same(manifest, old_manifest, "models/"):
        found.append(_unchanged("compute time", "the same code and weights"))
    else:
        if imported is None and model.data.evaluate is not None:
            raise NeedsSource
        report("comparing with the baseline: compute time")
        found += compute(sides, model, imported, work)
    found += _accuracy(sides, model, imported, report)
    turns = turns_of(targets, model)
    if turns and _same(manifest, old_manifest, ""):
        found.append(_unchanged("serving", "the same files and settings"))
    elif turns:
        if imported is None and model.data.evaluate is not None:
            raise NeedsSource
        for folder, said in ((old, old_manifest), (new, manifest)):
            describe(folder, said)
        alpha = (1 - CONFIDENCE) / (claims_of(found) + claims_in(turns))
        requests = _requests(model, imported, work)
        found += compare_serving(sides, turns, model, targets, requests, work, alpha, margin, report)
    found.append(_size(sides, judged=any(isinstance(t, BundleSizeTarget) for t in targets)))
    alpha = (1 - CONFIDENCE) / claims_of(found)
    return tuple(judge(claim, alpha, margin) for claim in found)


def check_interface(new: Manifest, old: Manifest, where: Path) -> None:
    """Raises InfcError (exit 2) that names the first thing in which two bundles cannot be held against each other."""
    if len(new.models) != len(old.models):
        raise InfcError(f"the baseline {where} has {len(old.models)} models, and the new bundle {len(new.models)}")
    ours, theirs = new.models[0], old.models[0]
    if ours.task.kind != theirs.task.kind:
        raise InfcError(
            f"the baseline {where} is of another task: {theirs.task.kind}, and the new bundle of {ours.task.kind}"
        )
    if ours.task.texts != theirs.task.texts:
        raise InfcError(
            f"the baseline {where} takes the texts {_listed(theirs.task.texts)}, not {_listed(ours.task.texts)}"
        )
    for kind in ("inputs", "outputs"):
        a, b = _tensors(ours, kind), _tensors(theirs, kind)
        if a != b:
            raise InfcError(
                f"the baseline {where} has other {kind}: {_listed(b)}, and the new bundle has {_listed(a)}",
                hint="a baseline is a bundle of the same task with the same inputs and outputs",
            )


def _tensors(model: Served, kind: str) -> list[str]:
    """Name, type and shape of each; of a dimension that varies it does not matter how it is called."""
    items = model.inputs if kind == "inputs" else model.outputs
    return [f"{t.name}: {t.dtype}[{', '.join('*' if isinstance(d, str) else str(d) for d in t.shape)}]" for t in items]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _same(new: Manifest, old: Manifest, below: str) -> bool:
    """Whether all files below a folder ("": all that a server reads, and its settings) are the same, byte for byte."""
    read = ("serve", "models/") if not below else (below,)
    one, other = ({f.path: f.sha256 for f in m.files if f.path.startswith(read)} for m in (new, old))
    return one == other and (bool(below) or (new.serve, new.models) == (old.serve, old.models))


def _unchanged(what: str, why: str) -> Claim:
    return Size(what, math.nan, math.nan, f"{why}: nothing to measure", samples=0)


def _accuracy(sides: Sides, model: Model, imported: Imported | None, report: Report) -> list[Claim]:
    targets = [t for t in model.targets.items if isinstance(t, AccuracyTarget)]
    if not targets or _same(sides.new_manifest, sides.old_manifest, "models/"):
        return []
    if imported is None:
        raise NeedsSource
    report("comparing with the baseline: accuracy")
    return list(accuracy(sides, model, imported, targets))


def _requests(model: Model, imported: Imported | None, work: Path) -> Path | None:
    if imported is None:
        return None
    path = work / "baseline-requests.jsonl"
    return path if write_requests(model, imported, path) else None


def _size(sides: Sides, *, judged: bool) -> Claim:
    """Bytes of what a build writes, without evidence and report."""
    new, old = (
        float(content_size(folder, said))
        for folder, said in ((sides.new, sides.new_manifest), (sides.old, sides.old_manifest))
    )
    return Size("bundle_size", new, old, "arithmetic" if judged else "no target says how large it may be", judged)


def digest_of(old: Path) -> str:
    """The baseline's digest, for --json."""
    return bundle_digest(old)
