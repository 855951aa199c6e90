"""The claims of a bundle held against fresh evidence of this machine: each holds, does not hold, or cannot be told."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...dsl.spec import AccuracyTarget, BundleSizeTarget, DataSet, Spec, Target
from ...runtime import InferError
from ..cache import Spare, file_digest
from ..errors import Exit, InfcError
from ..frontends import Imported
from .agreement import accuracy
from .answers import answers_subject, measure_answers
from .ask import describe
from .judge import Evidence, judge
from .prove import size
from .rejudge import Bundled, misfit_of, terms_of
from .run import Prover
from .store import Store
from .verdict import Verdict

Holds = Literal["holds", "does not hold", "cannot tell", "not claimed"]
WORDS: Mapping[str, Holds] = {"met": "holds", "missed": "does not hold", "not proved": "cannot tell"}
OF_A_BUILD, OF_VERIFY = "raise `budget` in `search`", "--budget S gives more time"
NO_ROWS = "the rows are not in the bundle: give --data SPEC"
Import = Callable[[], Imported]


@dataclass(frozen=True)
class Replayed:
    """One target of the bundle: what its evidence says, and what this machine says now (None: it was not asked)."""

    claimed: Verdict
    word: Holds
    now: Verdict | None = None
    why: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of `--data SPEC`: the spec, how its model is imported where that is needed, and what writes the rows as a file
    of requests; `source`: why that is not the model of the bundle, or ""."""

    spec: Spec
    import_model: Import
    write: Callable[[Spec, Import], Path]
    source: str = ""

    @property
    def data(self) -> DataSet:
        """Its `evaluate`. Raises InfcError (exit 2)."""
        found = self.spec.models[0].data.evaluate
        if found is None:
            raise InfcError(f"{self.spec.file} declares no rows", hint='write `data { evaluate npz("rows.npz") }`')
        return found


def replay(
    bundled: Bundled,
    verdicts: Sequence[Verdict],
    rows: Rows | None,
    budget_s: float,
    work: Path,
    report: Callable[[str], None],
) -> list[Replayed]:
    """Each target in the order of the spec; those that the evidence does not prove are not replayed. Load and starts are
    measured for at most `budget_s` seconds. Raises InfcError: exit 2 for other settings than those of the evidence, exit 6
    where this machine cannot run the bundle."""
    claimed = [t for t, v in zip(bundled.targets, verdicts, strict=True) if v.verdict == "met"]
    now: dict[Target, Verdict | str] = {}
    if claimed:
        check_settings(bundled)
    imported: list[Imported] = []

    def once() -> Imported:
        assert rows is not None
        if not imported:
            report("importing the model")
            imported.append(rows.import_model())
        return imported[0]

    try:
        for target in claimed:
            if isinstance(target, BundleSizeTarget):
                now[target] = size(target, bundled.folder)
        now |= _replay_accuracy(bundled, claimed, rows, once, report)
        timed = [t for t in claimed if t not in now]
        if timed:
            requests = None if rows is None else rows.write(rows.spec, once)
            evidence = _measure(bundled, timed, requests, budget_s, work, report)
            terms = terms_of(bundled)
            now |= {target: judge(target, evidence, terms) for target in timed}
    finally:
        for model in imported:
            model.close()
    return [_of(verdict, now.get(target)) for target, verdict in zip(bundled.targets, verdicts, strict=True)]


def outcome(found: Sequence[Replayed]) -> Exit:
    """0 where all that was replayed holds, 3 where a claim does not, else 4."""
    words = {r.word for r in found}
    return Exit.UNMET if "does not hold" in words else Exit.UNPROVED if "cannot tell" in words else Exit.OK


def check_settings(bundled: Bundled) -> None:
    """Raises InfcError (exit 2) where the server would run otherwise here than it did for the evidence, and (exit 6) where it
    does not run at all."""
    arguments = [] if bundled.cores is None else ["--cores", str(bundled.cores)]
    here = describe(bundled.folder, bundled.manifest, arguments).subject
    for run in bundled.runs[-1:]:
        for key in sorted(here.settings.keys() | run.subject.settings.keys()):
            said, now = run.subject.settings.get(key), here.settings.get(key)
            if said != now:
                raise InfcError(
                    f"the claims are of a server with {key} = {said}, and here it is {now}",
                    hint=f"unset INFC__{key.upper().replace('.', '__')}, or move serve.toml out of the bundle",
                )


def _of(claimed: Verdict, now: Verdict | str | None) -> Replayed:
    if isinstance(now, Verdict):
        return Replayed(claimed, WORDS[now.verdict], now, now.note.replace(OF_A_BUILD, OF_VERIFY))
    if now is not None:
        return Replayed(claimed, "cannot tell", None, now)
    return Replayed(claimed, "not claimed", None, f"{claimed.verdict} in the bundle")


def _replay_accuracy(
    bundled: Bundled, claimed: Sequence[Target], rows: Rows | None, once: Import, report: Callable[[str], None]
) -> dict[Target, Verdict | str]:
    """Claims of accuracy on the rows given; the reason why none can be told otherwise."""
    targets = [t for t in claimed if isinstance(t, AccuracyTarget)]
    if not targets:
        return {}
    if rows is None:
        return dict.fromkeys(targets, NO_ROWS)
    found: dict[Target, Verdict | str] = {}
    if rows.source:
        found |= {t: rows.source for t in targets if t.versus == "float32"}
    asked = [_with_metric_of(t, rows.spec) for t in targets if t not in found]
    if not asked:
        return found
    try:
        imported = once()
    except InfcError as error:
        if error.exit_code != Exit.MISSING:
            raise
        said = f"{error.message}{f': {error.hint}' if error.hint else ''}"
        return {**found, **dict.fromkeys((t for t in targets if t not in found), said)}
    report("replaying accuracy")
    terms = terms_of(bundled)
    data = rows.data
    head = {
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "subject": answers_subject(bundled.manifest),
        "isa": bundled.manifest.models[0].variants[0].isa,
        "data": hashlib.sha256(f"{file_digest(Path(data.path))}{data!r}".encode()).hexdigest(),
    }
    alpha = (1 - terms.confidence) / terms.claims
    try:
        answers = measure_answers(rows.spec.models[0], imported, bundled.folder, asked, bundled.cores or 1, alpha, head)
    except InferError as error:
        if error.kind != "CALLER":
            raise
        raise InfcError(f"{data.written}: the bundle does not take a row: {error.message}") from None
    for target in targets:
        found.setdefault(target, accuracy(target, answers, terms.confidence, terms.claims))
    return found


def _with_metric_of(target: AccuracyTarget, spec: Spec) -> AccuracyTarget:
    """The target, with the file of the user's metric where the spec given has it."""
    if target.metric_path is None:
        return target
    name = Path(target.metric_path).name
    for other in spec.models[0].targets.items:
        if isinstance(other, AccuracyTarget) and other.metric_path and Path(other.metric_path).name == name:
            return replace(target, metric_path=other.metric_path)
    raise InfcError(f"{spec.file} has no accuracy metric of {name}, which the bundle claims")


def _measure(
    bundled: Bundled,
    targets: Sequence[Target],
    requests: Path | None,
    budget_s: float,
    work: Path,
    report: Callable[[str], None],
) -> Evidence:
    """Fresh evidence: with arrivals and rows of a seed that no run before had."""
    cores = bundled.cores
    if cores is None:
        serve = bundled.manifest.serve
        cores = max(1, serve.threads * serve.instances)
    prover = Prover(
        bundled.folder, work, targets, terms_of(bundled), cores, requests, Store(Spare(None, report)), report,
        secrets.randbelow(1 << 31),
    )  # fmt: skip
    evidence = Evidence(misfit=misfit_of(prover.describe().fingerprint, bundled))
    try:
        prover.prove(evidence, max(0.0, budget_s))
    except OSError as error:
        raise InfcError(
            f"measuring failed: {error}", exit_code=Exit.MISSING, hint="it takes a disk to write to"
        ) from None
    return evidence


def other_source(spec: Spec, locked: Mapping[str, Any]) -> str:
    """Why the model of `spec` is not that of the bundle, by the digests that its lock names; "" where it is, or none can be
    compared. Data files may be others: their rows are what is asked."""
    root = Path(spec.folder or ".")
    model = spec.models[0]
    data = {Path(d.path).resolve() for d in (model.data.calibrate, model.data.evaluate) if d is not None}
    for name, digest in sorted(locked.items()):
        path = (root / name).resolve()
        if name == "spec" or path in data or not path.is_file():
            continue
        if file_digest(path) != digest:
            return f"{path} is not what the bundle was made from: there is no reference to compare with"
    return ""
