"""Verdicts as diagnostics at the spec's lines, for terminals of CI systems."""

from __future__ import annotations

from collections.abc import Sequence

from ...dsl.diagnostics import Diagnostic
from ...dsl.spec import Spec
from .verdict import Verdict, interval


def diagnostics_of(spec: Spec, verdicts: Sequence[Verdict]) -> list[Diagnostic]:
    """An error for each missed target and a warning for each that is not proved, in the order of the spec; `verdicts` are those
    of the spec's targets in their order."""
    targets = [t for part in (spec.models[0].targets, spec.bundle_targets) for t in part.items] if verdicts else []
    found: list[Diagnostic] = []
    for target, verdict in zip(targets, verdicts, strict=True):
        if verdict.verdict == "met":
            continue
        missed = verdict.verdict == "missed"
        help = (f"relax it: {verdict.relaxed}",) if missed and verdict.relaxed else ()
        title = f"{verdict.target} is {verdict.verdict}: {interval(verdict)}"
        found.append(Diagnostic("E0901" if missed else "W0901", title, target.at("bound"), verdict.note, (), help))
    return found
