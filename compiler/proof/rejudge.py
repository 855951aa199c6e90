"""A bundle's evidence judged again, from its folder alone: what it holds, what each document speaks of, every verdict.

    bundled = open_bundle(folder)          # content is not read; evidence is held against its index
    verdicts = judge_again(bundled, bundled.documents)

Documents of one machine and one subject are pooled as a build pools them. Several machines that fit the declared hardware
are as many chances to be wrong, so that each is judged at its part of the level; a target that one of them misses is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from ...dsl import check_text
from ...dsl.spec import AccuracyTarget, BundleSizeTarget, Model, Spec, Target
from ...runtime.document import strict_json
from ..bundle.evidence import read_evidence
from ..bundle.manifest import Manifest, read_manifest
from ..errors import Exit, InfcError
from .agreement import accuracy, scores_for
from .answers import Answers, read_answers
from .document import LoadOf, Run, machine_key, read_run
from .judge import Evidence, Terms, judge, statistical
from .ledger import Ledger
from .loads import Load, price_of, tightest
from .machine import misfit
from .prove import size
from .verdict import Verdict, noted

ACCURACY = "accuracy"
REPEAT = "repeat"
REPORT, VERDICTS = "build.json", "targets.json"
AGAIN = "build it again, or copy it again"
_VERDICTS = TypeAdapter(list[Verdict])


@dataclass(frozen=True)
class Document:
    """One file of evidence: its name, what it is for, its bytes, and what they say."""

    name: str
    kind: str
    data: bytes
    said: Run | Answers


@dataclass(frozen=True)
class Bundled:
    """A bundle as its folder says: `report` is evidence/build.json ({} where there is none), `stored` what
    evidence/targets.json says (None: there is no such file), `others` the files of evidence that are no documents."""

    folder: Path
    manifest: Manifest
    spec: Spec
    documents: tuple[Document, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stored: tuple[Verdict, ...] | None = None
    others: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def model(self) -> Model:
        """The model that the targets are of."""
        return self.spec.models[0]

    @property
    def targets(self) -> tuple[Target, ...]:
        """All that the spec declares, in the order of the verdicts."""
        return (*self.model.targets.items, *self.spec.bundle_targets.items)

    @property
    def features(self) -> tuple[str, ...]:
        """CPU features that every variant needs."""
        variants = [v.cpu_features for model in self.manifest.models for v in model.variants]
        return tuple(f for f in (variants[0] if variants else ()) if all(f in other for other in variants))

    @property
    def runs(self) -> tuple[Run, ...]:
        """What `serve prove` recorded."""
        return tuple(d.said for d in self.documents if isinstance(d.said, Run))

    @property
    def cores(self) -> int | None:
        """Cores of the machine that it was built for; None where neither spec nor evidence says it."""
        declared = self.spec.hardware[0].cores
        return declared if declared is not None else next((run.subject.cores for run in self.runs), None)


def open_bundle(folder: Path) -> Bundled:
    """Raises InfcError: exit 2 where folder is no bundle, exit 7 where its manifest or its evidence is damaged."""
    manifest = read_manifest(folder)
    spec = _read_spec(folder)
    if not (folder / "evidence").is_dir():
        return Bundled(folder, manifest, spec)
    files = read_evidence(folder)
    documents = tuple(
        read_document(data, folder / "evidence" / name, kind) for name, (kind, data) in sorted(files.items()) if kind
    )
    others = {name: data for name, (kind, data) in files.items() if not kind}
    return Bundled(folder, manifest, spec, documents, _report(folder, others), _stored(folder, others), others)


def read_document(data: bytes, where: Path, kind: str = "") -> Document:
    """A document of either schema. Raises InfcError (exit 7)."""
    said = read_answers(data, where) if is_accuracy(data) else read_run(data, where)
    return Document(where.name, kind, data, said)


def is_accuracy(data: bytes) -> bool:
    """Whether a document says that it holds scores."""
    return b"infc.accuracy/" in data[:200]


def _read_spec(folder: Path) -> Spec:
    path = folder / "spec.infer"
    try:
        result = check_text(path.read_text(encoding="utf-8"), file=str(path))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from None
    if result.spec is None:
        first = next(iter(result.errors), None)
        said = first.title if first is not None else "it is empty"
        raise _damaged(path, f"is no spec: {said}")
    return result.spec


def _report(folder: Path, others: Mapping[str, bytes]) -> Mapping[str, Any]:
    if REPORT not in others:
        return {}
    try:
        found = strict_json(others[REPORT])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _damaged(folder / "evidence" / REPORT, "is no report of a build")
    return cast(dict[str, Any], found)


def _stored(folder: Path, others: Mapping[str, bytes]) -> tuple[Verdict, ...] | None:
    if VERDICTS not in others:
        return None
    try:
        return tuple(_VERDICTS.validate_json(others[VERDICTS]))
    except (ValueError, RecursionError):
        raise _damaged(folder / "evidence" / VERDICTS, "is no list of verdicts") from None


def _damaged(path: Path, what: str) -> InfcError:
    return InfcError(f"{path} {what}", exit_code=Exit.DAMAGED, hint=AGAIN)


def terms_of(bundled: Bundled) -> Terms:
    """By what the claims of the bundle are judged."""
    price = price_of(bundled.spec.hardware[0])
    claims = statistical(bundled.targets)
    ceiling = bundled.manifest.memory.serving_bytes
    return Terms(bundled.model, bundled.model.targets.confidence, claims, price, ceiling)


def timed_targets(targets: Sequence[Target]) -> list[Target]:
    """Those that `serve prove` measures."""
    return [t for t in targets if not isinstance(t, AccuracyTarget | BundleSizeTarget)]


def evidence_by_machine(bundled: Bundled, documents: Sequence[Document]) -> dict[tuple[str, str], Evidence]:
    """The runs, pooled by machine and subject, in the order of the documents."""
    timed = timed_targets(bundled.targets)
    found: dict[tuple[str, str], Evidence] = {}
    for document in documents:
        run = document.said
        if not isinstance(run, Run):
            continue
        key = (machine_key(run.fingerprint), run.subject.digest)
        if key not in found:
            found[key] = Evidence(misfit=misfit_of(run.fingerprint, bundled))
        evidence = found[key]
        if run.blocks:
            load = load_said(run.load)
            if load not in evidence.loads:
                evidence.loads[load] = Ledger(tightest(timed, load, bundled.model))
            evidence.loads[load].add(run, repeat=document.kind == REPEAT)
        if run.starts:
            evidence.starts[run.starts[0].cold].append(run)
        if run.fill is not None:
            evidence.fills.append(run)
    return found


def load_said(load: LoadOf) -> Load:
    """The load of a document."""
    if load.mode == "closed":
        return Load(connections=load.connections or 1, items=load.items)
    burst = None if load.burst is None else (load.burst.factor, load.burst.duration_s, load.burst.every_s)
    return Load(load.rate, 1, "steady" if load.arrival == "steady" else "poisson", burst, load.items)


def misfit_of(fingerprint: Mapping[str, Any], bundled: Bundled) -> str:
    """Why a measurement on that machine decides nothing of this bundle; "" where it does."""
    return misfit(fingerprint, bundled.spec.hardware[0], bundled.features, bundled.spec.accepts)


def judge_again(bundled: Bundled, documents: Sequence[Document]) -> tuple[Verdict, ...]:
    """The verdict on each target of the bundle's spec that these documents give. Raises InfcError as `judge` does."""
    terms = terms_of(bundled)
    machines = list(evidence_by_machine(bundled, documents).values())
    answers = [d.said for d in documents if isinstance(d.said, Answers)]
    found: list[Verdict] = []
    for target in bundled.targets:
        if isinstance(target, BundleSizeTarget):
            found.append(size(target, bundled.folder))
        elif isinstance(target, AccuracyTarget):
            said = next((a for a in answers if scores_for(target, a)), None)
            found.append(accuracy(target, said, terms.confidence, terms.claims))
        else:
            found.append(_of_machines(target, machines, terms))
    return tuple(found)


def _of_machines(target: Target, machines: Sequence[Evidence], terms: Terms) -> Verdict:
    """One target on all machines of which there is evidence."""
    speaking = [e for e in machines if (v := judge(target, e, terms)).samples or v.verdict != "not proved"]
    fitting = [e for e in speaking if not e.misfit]
    if not fitting:
        return judge(target, speaking[-1] if speaking else machines[-1] if machines else Evidence(), terms)
    if len(fitting) == 1:
        return judge(target, fitting[0], terms)
    parted = replace(terms, confidence=1 - (1 - terms.confidence) / len(fitting))
    verdicts = [judge(target, evidence, parted) for evidence in fitting]
    words = [v.verdict for v in verdicts]
    word = "missed" if "missed" in words else "met" if "met" in words else "not proved"
    chosen = max((v for v in verdicts if v.verdict == word), key=lambda v: v.samples)
    return noted(
        replace(chosen, confidence=terms.confidence), f"one of {len(fitting)} machines that it was measured on"
    )


def differences(stored: Sequence[Verdict] | None, again: Sequence[Verdict]) -> list[str]:
    """What of targets.json its evidence does not give, a line each."""
    if stored is None:
        return [f"{VERDICTS} is absent"] if again else []
    if [_claim(v) for v in stored] != [_claim(v) for v in again]:
        return ["the targets are not those of spec.infer"]
    found: list[str] = []
    for said, now in zip(stored, again, strict=True):
        if said.verdict == "not proved" and not now.samples:
            continue  # nothing was claimed, and nothing was measured
        if said.verdict != now.verdict:
            found.append(f"{now.target} is {now.verdict}, and {VERDICTS} says {said.verdict}")
            continue
        other = [name for name in ("value", "low", "high", "samples") if not _close(said, now, name)]
        found += [
            f"{now.target}: {name} is {getattr(now, name)}, and {VERDICTS} says {getattr(said, name)}" for name in other
        ]
    return found


def _claim(verdict: Verdict) -> tuple[str, str, str, float]:
    return verdict.kind, verdict.statistic, verdict.op, verdict.bound


def _close(said: Verdict, now: Verdict, name: str) -> bool:
    """Whether two numbers are one but for rounding; the ends of resampled intervals may move by a tenth of their width, since
    another NumPy may draw other rows."""
    one, two = getattr(said, name), getattr(now, name)
    if one is None or two is None:
        return one is two
    ends = (now.low, now.high) if now.kind == ACCURACY else (None, None)
    width = ends[1] - ends[0] if ends[0] is not None and ends[1] is not None else 0.0
    return abs(one - two) <= 1e-9 * max(abs(one), abs(two)) + 0.1 * abs(width)
