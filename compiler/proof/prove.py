"""The proof of one bundle: old evidence that speaks of it, what still has to be measured, and a verdict on each target."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...dsl.spec import AccuracyTarget, BundleSizeTarget, Model, Spec, Target
from ..bundle.manifest import Manifest, bundle_digest, content_size, read_manifest
from ..cache import Spare, cache_key, file_digest
from ..driver import Machine
from ..errors import InfcError
from ..frontends import Imported
from .agreement import accuracy, scores_for
from .answers import answers_subject, measure_answers, read_answers, wanted_of
from .judge import Evidence, Terms, judge, statistical
from .loads import price_of
from .machine import misfit
from .requests import write_requests
from .run import Prover
from .store import Store
from .verdict import Verdict, noted, verdict_of

Documents = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Proof:
    """Each target's verdict in the order of the spec, and the documents that they rest on: what each is for, its bytes."""

    verdicts: tuple[Verdict, ...] = ()
    documents: Documents = field(default_factory=Documents)


class NeedsSource(Exception):
    """The model has to be imported once more: its rows or its reference are needed."""


@dataclass(frozen=True)
class Bundle:
    """A bundle under proof: its folder, the spec that it is held against, the machine it is for, and its imported model
    (None: it was not imported; what needs it raises NeedsSource)."""

    folder: Path
    spec: Spec
    model: Model
    machine: Machine
    imported: Imported | None


def prove(bundle: Bundle, work: Path, spare: Spare, report: Callable[[str], None]) -> Proof:
    """Judges every target of the spec, measuring what is not known yet for at most the spec's `budget`. Raises NeedsSource,
    or InfcError where a measurement fails."""
    targets: tuple[Target, ...] = (*bundle.model.targets.items, *bundle.spec.bundle_targets.items)
    if not targets:
        return Proof()
    begin = time.monotonic()
    manifest = read_manifest(bundle.folder)
    confidence = bundle.model.targets.confidence
    claims = statistical(targets)
    terms = Terms(bundle.model, confidence, claims, price_of(bundle.machine.hardware), manifest.memory.serving_bytes)
    documents: Documents = []
    verdicts: dict[Target, Verdict] = {}
    for target in targets:
        if isinstance(target, BundleSizeTarget):
            verdicts[target] = size(target, bundle.folder)
    of_answers = [t for t in targets if isinstance(t, AccuracyTarget)]
    if not bundle.machine.runs_here:
        why = f"this machine cannot run {bundle.machine.variant} code: `infc attach` adds evidence made where it runs"
        for target in targets:
            if isinstance(target, AccuracyTarget):
                verdicts[target] = noted(accuracy(target, None, confidence, claims), why)
            elif target not in verdicts:
                verdicts[target] = judge(target, Evidence(misfit=why), terms)
        return Proof(tuple(verdicts[t] for t in targets), documents)
    if of_answers:
        report("proving: accuracy")
        answers = _answers(bundle, manifest, of_answers, (1 - confidence) / claims, spare)
        documents.append(("accuracy", answers))
        read = read_answers(answers, "evidence of accuracy")
        for target in of_answers:
            verdicts[target] = accuracy(target, read, confidence, claims)
    timed = [t for t in targets if t not in verdicts]
    if timed:
        evidence, store = _measure(bundle, timed, terms, work, spare, report, begin)
        documents += [(kind, data) for kind, data, _ in store.kept.runs]
        for target in timed:
            verdicts[target] = judge(target, evidence, terms)
    return Proof(tuple(verdicts[t] for t in targets), documents)


def _measure(
    bundle: Bundle,
    targets: Sequence[Target],
    terms: Terms,
    work: Path,
    spare: Spare,
    report: Callable[[str], None],
    begin: float,
) -> tuple[Evidence, Store]:
    store = Store(spare)
    search = bundle.model.search
    cores = min(bundle.machine.cores, len(os.sched_getaffinity(0)))
    prover = Prover(
        bundle.folder,
        work,
        targets,
        terms,
        cores,
        _requests(bundle, work, spare),
        store,
        report,
        search.seed,
    )
    about = prover.describe()
    evidence = Evidence(
        misfit=misfit(about.fingerprint, bundle.machine.hardware, bundle.machine.platform.features, bundle.spec.accepts)
    )
    prover.prove(evidence, max(0.0, search.budget_s - (time.monotonic() - begin)))
    return evidence, store


def size(target: BundleSizeTarget, folder: Path) -> Verdict:
    """Bytes of what a build writes, without evidence and report."""
    value = float(content_size(folder, read_manifest(folder)))
    word = "met" if value <= target.bound else "missed"
    return verdict_of(target, word, confidence=1.0, value=value, low=value, high=value, note="arithmetic")


def _requests(bundle: Bundle, work: Path, spare: Spare) -> Path | None:
    """The rows of `evaluate` as requests: made now, or those that were made for this bundle before."""
    data = bundle.model.data.evaluate
    if data is None:
        return None
    path = work / "requests.jsonl"
    key = cache_key("requests", 1, bundle_digest(bundle.folder), repr(data), file_digest(Path(data.path)))
    if bundle.imported is None:
        found = spare.ask(lambda cache: cache.get_bytes(key))
        if found is None:
            raise NeedsSource
        path.write_bytes(found)
        return path
    write_requests(bundle.model, bundle.imported, path)
    spare.ask(lambda cache: cache.put_bytes(key, path.read_bytes()))
    return path


def _answers(
    bundle: Bundle, manifest: Manifest, targets: Sequence[AccuracyTarget], alpha: float, spare: Spare
) -> bytes:
    """The document of the answers' scores: kept, or measured now. Bits do not depend on the machine, so it travels."""
    data = bundle.model.data.evaluate
    if data is None:
        raise InfcError("an accuracy target needs `data { evaluate ... }`")
    subject = answers_subject(manifest)
    digest = cache_key(file_digest(Path(data.path)), repr(data))
    own = any(t.metric_path is not None for t in targets)  # what such a function imports is not known: asked each time
    key = cache_key("accuracy", 2, subject, digest, wanted_of(targets))
    found = None if own else spare.ask(lambda cache: cache.get_bytes(key))
    if found is not None:
        try:
            if all(scores_for(t, read_answers(found, "the build cache")) for t in targets):
                return found
        except InfcError:
            pass  # of another version, or damaged: measured again
    if bundle.imported is None:
        raise NeedsSource
    head = {
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "subject": subject,
        "isa": bundle.machine.variant,
        "data": digest,
    }
    answers = measure_answers(bundle.model, bundle.imported, bundle.folder, targets, bundle.machine.cores, alpha, head)
    written = answers.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
    if not own:
        spare.ask(lambda cache: cache.put_bytes(key, written))
    return written
