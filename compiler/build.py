"""`infc build`: compile, bundle, measure, publish; what was built before with the same inputs is used again."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..dsl.spec import Model, Spec
from .build_key import build_key, find_build, remember_build, tuning_digest
from .bundle.content import bundle_content, lock_sections, manifest_of, retarget
from .bundle.evidence import INDEX, write_evidence
from .bundle.lock import check_lock, lock_beside, lock_text, read_lock, write_lock
from .bundle.manifest import Manifest, bundle_digest, is_whole, read_manifest
from .bundle.server import find as find_server
from .bundle.tokens import check_tokens
from .bundle.write import check_replaceable, finish, publish, recover, temporary_beside, write_content
from .cache import WITHOUT_CACHE, Spare
from .codegen.plan import Plan
from .compare import first_difference
from .decisions import narrowest
from .disk import disk_full, is_full
from .driver import Compiled, Machine, Request, check_spec, choose_machine, compile_model, versions
from .errors import Exit, InfcError
from .frontends import Imported
from .passes.pipeline import parse_passes
from .processes import check_interrupted, run_child
from .proof.baseline import Comparison, check_baseline, compare
from .proof.prove import Bundle, NeedsSource, Proof, prove
from .proof.verdict import Verdict, Word, binding, exit_code, overall
from .report.ops import machine_limits, op_rows
from .report.page import REPORT, write_report
from .target import Limits
from .temporary import work_folder


@dataclass(frozen=True)
class Outcome:
    """What a build came to: where the bundle is (where a target is missed: what was built), its digest, each target's verdict,
    kernels by provider."""

    bundle: Path
    digest: str
    verdicts: tuple[Verdict, ...]
    report: Mapping[str, Any]
    reused: bool = False
    comparisons: tuple[Comparison, ...] = ()
    """With the baseline, where one was given."""

    @property
    def verdict(self) -> Word:
        """Of all targets together; "met" where nothing was promised."""
        return overall(self.verdicts)

    @property
    def worse(self) -> bool:
        """Whether it is worse than the baseline."""
        return any(comparison.worse for comparison in self.comparisons)

    @property
    def exit_code(self) -> Exit:
        """What `infc build` ends with, nothing being allowed."""
        return self.ends_with(frozenset())

    def ends_with(self, allowed: frozenset[str]) -> Exit:
        """What it ends with where targets of the kinds `allowed` need not be proved."""
        code = exit_code(overall(self.verdicts, allowed))
        return Exit.WORSE if self.worse and code != Exit.UNMET else code


def build(request: Request) -> Outcome:
    """Builds request.spec, and proves its targets. Where one is missed, what was built is at `failed_place` and no bundle is
    written. Raises InfcError: exit 2 for a bad spec, 3 where the model cannot be served, 6 where a tool is missing."""
    request = replace(request, notice=_first_only(request.notice))
    spec = check_spec(request)
    machine = choose_machine(spec)
    out = request.output or request.spec.parent / f"{request.spec.stem}.bundle"
    for place in (out, failed_place(out)):
        recover(place)
        check_replaceable(place)
    find_server(machine.platform.arch)
    if request.baseline is not None:
        check_baseline(request.baseline)
    if request.passes is not None:
        parse_passes(request.passes)
    if request.locked:
        read_lock(lock_beside(request.spec), f"infc build {request.spec}")
    spare = Spare(request.cache, request.notice)
    tuned = request.tune > 0 and not request.locked
    key = build_key(request, spec, machine, tuning_digest(request, spec, machine), tuned=tuned)
    found = spare.ask(lambda cache: find_build(cache, key))
    if found is not None:
        try:
            return _reuse(request, spec, machine, found, out, spare)
        except NeedsSource:
            request.report("the model is imported once more, for its rows")
        except (OSError, ValueError, KeyError, TypeError) as error:  # removed or damaged while it was read
            if is_full(error):
                raise disk_full(out.parent, request.spec.parent) from error
            spare.failed(error)
    with temporary_beside(out) as temporary:
        try:
            with work_folder() as work:
                outcome = _build_into(request, spec, machine, temporary, work, spare)
        except OSError as error:
            if error.errno != errno.EFBIG and not is_full(error):  # EFBIG: `ulimit -f`
                raise
            raise disk_full(temporary.parent, tempfile.gettempdir(), request.spec.parent) from error
        check_interrupted()
        return _published(outcome, out, request.baseline)


def failed_place(out: Path) -> Path:
    """Where a build that misses a target leaves what it built: NAME.failed beside NAME.bundle."""
    return out.with_name(f"{out.name.removesuffix('.bundle')}.failed")


def _published(outcome: Outcome, out: Path, baseline: Path | None) -> Outcome:
    """Moves what was built to where it belongs: with a target missed that is not `out`, which stays as it was; nor is it where
    `out` is the baseline that it is worse than."""
    failed = failed_place(out)
    lost = outcome.worse and baseline is not None and baseline.resolve() == out.resolve()
    if outcome.verdict == "missed" or lost:
        publish(outcome.bundle, failed)
        return replace(outcome, bundle=failed)
    publish(outcome.bundle, out)
    _remove_failed(failed)
    return replace(outcome, bundle=out)


def _remove_failed(place: Path) -> None:
    """Removes what an earlier miss left; a bundle that somebody built to there stays."""
    try:
        missed = any(v["verdict"] == "missed" for v in json.loads((place / "evidence" / "targets.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if missed:
        shutil.rmtree(place)


def _first_only(notice: Callable[[str], None]) -> Callable[[str], None]:
    """`notice`, but of texts about the cache the first alone: a broken one is said once, however many parts fail."""
    said: list[str] = []

    def once(text: str) -> None:
        if text.endswith(WITHOUT_CACHE):
            said.append(text)
        if len(said) < 2 or not text.endswith(WITHOUT_CACHE):
            notice(text)

    return once


def _build_into(request: Request, spec: Spec, machine: Machine, folder: Path, work: Path, spare: Spare) -> Outcome:
    model = spec.models[0]
    compiled = compile_model(request, spec, model, machine, work)
    try:
        sections = lock_sections(
            spec,
            compiled.imported.used_files,
            machine,
            versions(machine),
            compiled.decisions,
            compiled.tuning.choices,
        )
        lock = lock_text(sections)
        lock_path = lock_beside(request.spec)
        if request.locked:
            check_lock(lock_path, sections, f"infc build {request.spec}")
        request.report("writing the bundle")
        content, executables = bundle_content(spec, model, compiled, machine, lock)
        files = write_content(folder, content, executables)
        manifest = manifest_of(spec, model, compiled, machine, files)
        check_memory(machine, manifest)
        check_items(model, manifest)
        finish(folder, manifest)
        check_tokens(compiled.imported, machine.platform.arch, folder, work, spare)
        if machine.runs_here:
            request.report("asking the bundle for its known answers")
            check_answers(compiled, machine, folder, work)
        measured = machine.runs_here and spec.promised
        limits = machine_limits(machine, work, spare) if measured else None
        report = build_report(compiled, model, machine, folder, sections["tools"], limits)
        _write_evidence(folder, Proof(), report)
        if request.cache is not None:
            table = tuning_digest(request, spec, machine) if request.locked else compiled.tuning.table
            tuned = request.tune > 0 and not request.locked and not compiled.tuning.missing
            key = build_key(request, spec, machine, table, tuned=tuned)
            spare.ask(lambda cache: remember_build(cache, key, compiled.imported.used_files, folder))
        proof = prove(Bundle(folder, spec, model, machine, compiled.imported), work, spare, request.report)
        compared = _compare(request, spec, machine, folder, compiled.imported, work)
    finally:
        compiled.imported.close()
    _write_evidence(folder, proof, report)
    write_report(folder)
    outcome = Outcome(folder, bundle_digest(folder), proof.verdicts, report, comparisons=compared)
    if outcome.verdict != "missed":
        write_lock(lock_path, lock)
    return outcome


def _compare(
    request: Request, spec: Spec, machine: Machine, folder: Path, imported: Imported | None, work: Path
) -> tuple[Comparison, ...]:
    if request.baseline is None:
        return ()
    return compare(
        folder, request.baseline, spec, spec.models[0], machine, imported, work, request.margin, request.report
    )


def _write_evidence(folder: Path, proof: Proof, report: Mapping[str, Any]) -> None:
    others = {"build.json": (json.dumps(report, indent=1, sort_keys=True) + "\n").encode()}
    if proof.verdicts:
        others["targets.json"] = verdicts_text(proof.verdicts).encode()
    write_evidence(folder, proof.documents, others)


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """evidence/targets.json."""
    return json.dumps([v.as_json() for v in verdicts], indent=1, allow_nan=False) + "\n"


def check_items(model: Model, manifest: Manifest) -> None:
    """Raises InfcError (exit 2) where a request of the declared traffic has more rows than the server takes at once."""
    served = manifest.models[0]
    most = served.dims.get(served.batch_dim or "", (1, 1))[1] if served.batch_dim else 1
    most = min(most, manifest.serve.batch.max_rows) if served.task.kind == "tensor" else manifest.serve.queue
    if model.traffic.items[1] > most:
        raise InfcError(
            f"`items` says up to {model.traffic.items[1]} rows a request, and the server takes {most}",
            hint=f"write `items {min(model.traffic.items[0], most)}..{most}`, or raise the bound of `dim batch`",
        )


def check_answers(compiled: Compiled, machine: Machine, folder: Path, work: Path) -> None:
    """The bundle's own `serve check`: what is built starts, and gives what the source gives. Raises InfcError (exit 3)
    with the first value that differs."""
    done = run_child([str((folder / "serve").resolve()), "check"])
    if done.returncode == 0:
        return
    lines = done.stderr.strip().removeprefix("serve: error: ").splitlines()
    said, where = lines[0] if lines else f"serve check ended with {done.returncode}", ""
    if narrowest(compiled.imported.graph) == "float32":
        first = first_difference(compiled.imported, machine, work / "compare")
        where = f"; the first value that differs: {first.name} ({first.op}, stage {first.stage})" if first else ""
    raise InfcError(
        f"the bundle does not give its known answers: {said}{where}",
        exit_code=Exit.UNMET,
        hint="this is a fault of infc: please report it with the spec and the model, if you can",
    )


def unused_statements(model: Model) -> list[str]:
    """What the spec says that has no effect on the build."""
    notes: list[str] = []
    precision = model.search.precisions[0].kind
    if model.data.calibrate is not None and precision != "int8":
        notes.append(f"`calibrate` has no effect: {precision} needs no calibration")
    if model.data.calibrate is None and precision == "int8":
        notes.append("int8 without `data { calibrate }`: no scales are migrated and no layer is kept wider")
    return notes


def always_wide(plan: Plan, precision: str) -> list[str]:
    """What no precision but float32 has a kernel for, and is therefore no layer of the decisions."""
    if precision == "float32":
        return []
    found = Counter(s.op.mnemonic for s in plan.steps if s.op.mnemonic in ("conv", "recurrence"))
    return [
        f"{op} stays in float32 ({count} step{'s' * (count > 1)}): it has no {precision} kernel"
        for op, count in sorted(found.items())
    ]


def check_memory(machine: Machine, manifest: Manifest) -> None:
    """Raises InfcError (exit 3) where the declared machine has less memory than serving takes."""
    have = machine.hardware.memory_bytes
    if have is not None and manifest.memory.serving_bytes > have:
        need = manifest.memory.serving_bytes
        raise InfcError(
            f"serving takes up to {need / 2**20:.0f} MiB, and the machine has {have / 2**20:.0f} MiB",
            exit_code=Exit.UNMET,
            hint="use a machine with more memory, or lower the bounds of `dim` lines",
        )


class Missed(InfcError):
    """Exit 3: the targets that are missed, first the one that binds, and what to relax."""

    def __init__(self, outcome: Outcome) -> None:
        missed = binding(outcome.verdicts)
        relaxed = [v.relaxed for v in missed if v.relaxed]
        others = f", and so {'are' if len(missed) > 2 else 'is'} {len(missed) - 1} more" if len(missed) > 1 else ""
        super().__init__(
            f"{missed[0].target} is missed{others}; there is no bundle, and what was built is in {outcome.bundle}",
            exit_code=Exit.UNMET,
            hint=f"relax it: {'; '.join(relaxed)}" if relaxed else "",
        )
        self.outcome = outcome


def _reuse(request: Request, spec: Spec, machine: Machine, found: Path, out: Path, spare: Spare) -> Outcome:
    """Puts a remembered bundle at `out`, unless it stands there already, with this spec's targets and their verdicts."""
    if not is_whole(found, bundle_digest(found)):
        raise ValueError("the bundle in the cache is damaged")
    manifest = read_manifest(found)
    request.report("nothing to compile: using what was built before")
    with temporary_beside(out) as temporary, work_folder() as work:
        shutil.copytree(found, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".entry.json"))
        report = json.loads((found / "evidence" / "build.json").read_text(encoding="utf-8"))
        lock = retarget(temporary, spec, manifest)
        lock_path = lock_beside(request.spec)
        if request.locked and (not lock_path.exists() or lock_path.read_text(encoding="utf-8") != lock):
            raise InfcError(f"{lock_path} is not the lock of this build", hint=f"infc build {request.spec} writes it")
        digest = bundle_digest(temporary)
        here = is_whole(out, digest)
        proof = prove(Bundle(temporary, spec, spec.models[0], machine, None), work, spare, request.report)
        compared = _compare(request, spec, machine, temporary, None, work)
        _write_evidence(temporary, proof, report)
        check_interrupted()
        outcome = Outcome(temporary, digest, proof.verdicts, report, True, compared)
        if outcome.verdict != "missed":
            write_lock(lock_path, lock)
        if here and outcome.verdict != "missed" and same_evidence(out, temporary):
            _remove_failed(failed_place(out))
            return replace(outcome, bundle=out)
        write_report(temporary)
        return _published(outcome, out, request.baseline)


def same_evidence(one: Path, other: Path) -> bool:
    """Whether `one`, which has its report, holds the evidence of the other."""
    try:
        return (one / REPORT).is_file() and (one / "evidence" / INDEX).read_bytes() == (
            other / "evidence" / INDEX
        ).read_bytes()
    except OSError:
        return False


def build_report(
    compiled: Compiled, model: Model, machine: Machine, folder: Path, tools: Mapping[str, object], limits: Limits | None
) -> dict[str, Any]:
    """Per op: steps, provider of the kernel, share of the time; islands with their reasons; whether rows may be merged
    and cut; the tools by version."""
    plan = compiled.plan
    placement = plan.placement
    return {
        "format": 1,
        "model": model.name,
        "tools": dict(tools),
        "ops": op_rows(compiled, machine, folder, limits),
        "tail": {plan.steps[i].name: why for i, why in sorted(compiled.rendered.reasons.items())},
        "precision": model.search.precisions[0].kind,
        "layers": [asdict(d) for d in compiled.decisions],
        "tuning": {key: value for key, value in asdict(compiled.tuning).items() if key not in ("table", "problem")},
        "islands": [{"steps": [s.name for s in u.steps], "why": u.reason} for u in plan.units if u.island],
        "batchable": placement.batchable,
        "batchable_reason": placement.batchable_reason,
        "trim": plan.trim,
        "trim_reason": placement.trim_reason,
        "notes": [
            *compiled.imported.notes,
            *unused_statements(model),
            *always_wide(plan, model.search.precisions[0].kind),
        ],
        "bytes": {p.name: p.stat().st_size for p in sorted(folder.glob("models/0/variants/0/*"))},
    }
