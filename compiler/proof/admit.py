"""Whether a document of evidence speaks of a bundle: of what was run, of its loads, and of nothing that is known already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.document import strict_json
from ..bundle.manifest import Manifest
from ..errors import InfcError
from .answers import Answers, answers_subject
from .document import Run, Subject, machine_key
from .loads import Load, declared_load, load_of, price_of, saturating
from .needs import needs
from .rejudge import (
    ACCURACY,
    REPEAT,
    Bundled,
    Document,
    evidence_by_machine,
    load_said,
    read_document,
    terms_of,
    timed_targets,
)


def admit(
    bundled: Bundled, have: Sequence[Document], data: bytes, where: Path, settings: Mapping[str, Any]
) -> Document | None:
    """The document as one more of the bundle's; None where it is there already. `settings`: what is known of the server's.
    Raises InfcError (exit 2) that says why it is none of this bundle, or adds nothing to it."""
    try:
        found = read_document(data, where)
    except InfcError as error:
        raise InfcError(error.message, hint=error.hint) from None  # it is the argument that is wrong, not the bundle
    if any(_same(found, other) for other in have):
        return None
    if isinstance(found.said, Answers):
        return _admit_answers(bundled, have, found, found.said, where)
    run = found.said
    fault = subject_fault(run.subject, bundled, settings)
    if fault:
        raise InfcError(
            f"{where} is not of this bundle: {fault}",
            hint=f"{bundled.folder / 'serve'} prove --out FILE makes evidence of it",
        )
    if not (run.blocks or run.starts or run.fill is not None):
        raise InfcError(f"{where} has neither load nor starts nor a full queue: nothing was measured")
    if run.blocks:
        _check_load(bundled, have, run, where)
    return Document(found.name, _kind(bundled, have, run), data, run)


def _same(one: Document, other: Document) -> bool:
    return one.data == other.data or one.said.model_dump_json() == other.said.model_dump_json()


def _admit_answers(
    bundled: Bundled, have: Sequence[Document], found: Document, answers: Answers, where: Path
) -> Document:
    if answers.subject != answers_subject(bundled.manifest):
        raise InfcError(f"{where} is not of this bundle: its answers are those of other model files")
    known = [d for d in have if isinstance(d.said, Answers)]
    if known:
        raise InfcError(
            f"{where}: accuracy was measured already ({known[0].name}), and other rows are no further look at it",
            hint="build again with the other rows as `evaluate`",
        )
    return Document(found.name, ACCURACY, found.data, answers)


def _check_load(bundled: Bundled, have: Sequence[Document], run: Run, where: Path) -> None:
    """Raises InfcError (exit 2) for a load that no target is judged on, and for rows or seeds that make it useless."""
    load, spoken = load_said(run.load), loads_spoken_of(bundled)
    if load not in spoken:
        wanted = "; ".join(f"{kind} at {name}" for name, kind in spoken.items())
        raise InfcError(
            f"{where} was measured at {load}, of which no target speaks",
            hint=f"the targets speak of {wanted}" if wanted else "no target of this bundle speaks of a load",
        )
    requests = run.load.requests
    if bundled.model.data.evaluate is not None and requests.source == "generated":
        raise InfcError(
            f"{where} was measured with generated requests, and the spec declares rows: {bundled.model.data.evaluate.written}",
            hint="give the rows to serve prove: --requests FILE, or --text-file FILE",
        )
    for other in have:
        known = other.said
        if not isinstance(known, Run) or not known.blocks or load_said(known.load) != load:
            continue
        if known.load.requests.digest != requests.digest:
            raise InfcError(f"{where} was measured with other requests than {other.name} at the same load")
        if machine_key(known.fingerprint) != machine_key(run.fingerprint):
            continue
        if {b.seed for b in known.blocks} & {b.seed for b in run.blocks}:
            raise InfcError(
                f"{where} has blocks of the same seeds as {other.name}: it is the same load once more, not a further one",
                hint="serve prove --seed N, with another N than any before, makes fresh load",
            )


def _kind(bundled: Bundled, have: Sequence[Document], run: Run) -> str:
    """What a run is for: fresh load after a miss repeats it, other load is a further look."""
    if not run.blocks:
        return "fill" if not run.starts else "cold starts" if run.starts[0].cold else "warm starts"
    load, terms = load_said(run.load), terms_of(bundled)
    evidence = evidence_by_machine(bundled, have).get((machine_key(run.fingerprint), run.subject.digest))
    if evidence is None:
        return "look"
    wanted = [need for target in timed_targets(bundled.targets) for need in needs(target, evidence, terms)]
    return REPEAT if any(need.load == load and need.repeat for need in wanted) else "look"


def subject_fault(subject: Subject, bundled: Bundled, settings: Mapping[str, Any] | None = None) -> str:
    """Why a document is of another bundle, by the rule of runtime/server/src/commands/prove/subject.rs; "" where it is of
    this one. `settings`: the server's, so far as the manifest does not name them."""
    if subject.digest != digest_of(subject.model_dump(mode="json", exclude={"digest"})):
        return "its subject has another digest than it says"
    known = file_digests(bundled.manifest)
    for path, digest in sorted(subject.files.items()):
        if path not in known:
            return f"it was made with {path}, which this bundle has not"
        if known[path] != digest:
            return f"it was made with another {path}"
    for model in bundled.manifest.models:
        if not any({v.library, v.weights} <= set(subject.files) for v in model.variants):
            return f"it was made without the model {model.name!r}"
        if model.task.tokenizer is not None and model.task.tokenizer not in subject.files:
            return f"it was made without {model.task.tokenizer}"
    if "serve" not in subject.files:
        return "it was made without a server"
    if subject.model != _digest_of_models(bundled):
        return "the manifest describes its models otherwise"
    for key, value in {**(settings or {}), **manifest_settings(bundled.manifest)}.items():
        if subject.settings.get(key, value) != value:
            return f"it was made with {key} = {subject.settings[key]}, and the bundle says {value}"
    if bundled.cores is not None and subject.cores != bundled.cores:
        return f"it was made on {subject.cores} cores, and the bundle is for {bundled.cores}"
    return ""


def file_digests(manifest: Manifest) -> dict[str, str]:
    """The digest of each content file, by its path, as subjects name it."""
    return {f.path: hashlib.sha256("".join(f.sha256).encode()).hexdigest() for f in manifest.files}


def subject_of(bundled: Bundled) -> dict[str, str]:
    """What a subject may name of this bundle: digests of files that a server loads, and of the models' descriptions."""
    models = bundled.manifest.models
    loaded = {"serve", *(path for m in models for v in m.variants for path in (v.library, v.weights))}
    loaded |= {m.task.tokenizer for m in models if m.task.tokenizer is not None}
    files = {path: digest for path, digest in sorted(file_digests(bundled.manifest).items()) if path in loaded}
    return {**files, "models": _digest_of_models(bundled)}


def _digest_of_models(bundled: Bundled) -> str:
    return digest_of(strict_json((bundled.folder / "manifest.json").read_bytes())["models"])


def manifest_settings(manifest: Manifest) -> dict[str, Any]:
    """Settings that the manifest gives the server, under the server's names."""
    serve, batch = manifest.serve, manifest.serve.batch
    found: dict[str, Any] = {
        "queue": serve.queue,
        "threads": serve.threads,
        "instances": serve.instances,
        "max_body_bytes": serve.max_body_bytes,
        "protocols": list(serve.protocols),
        "batch.max_requests": batch.max_requests,
        "batch.max_rows": batch.max_rows,
        "batch.wait_s": batch.wait_s,
    }
    if batch.max_tokens > 0:
        found["batch.max_tokens"] = batch.max_tokens
    if serve.deadline_s is not None:
        found["deadline_s"] = serve.deadline_s
    return found


def digest_of(value: Any) -> str:
    """sha256 of a JSON value's canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def loads_spoken_of(bundled: Bundled) -> dict[Load, str]:
    """Each load that a target is judged on, with the first kind of target that is."""
    price = price_of(bundled.spec.hardware[0])
    found: dict[Load, str] = {}
    for target in bundled.targets:
        if target.kind in ("throughput", "cost"):
            found.setdefault(saturating(bundled.model), target.kind)
        load = load_of(target, bundled.model, price)
        if load is not None:
            found.setdefault(load, target.kind)
    if any(t.kind == "memory" for t in bundled.targets):
        found.setdefault(declared_load(bundled.model.traffic), "memory")
    return found
