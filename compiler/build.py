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
from ..runtime import load
from .build_key import build_key, find_build, remember_build, tuning_digest
from .bundle.content import bundle_content, lock_sections, manifest_of
from .bundle.golden import golden_sizes, random_inputs
from .bundle.lock import check_lock, lock_beside, lock_text, read_lock, write_lock
from .bundle.manifest import Manifest, bundle_digest, is_whole
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
from .measure import Measured, measure, measure_again
from .measure.table import exit_code_of
from .passes.pipeline import parse_passes
from .processes import check_interrupted, run_child
from .report.profile import profile
from .temporary import work_folder

PROFILE_RUNS = 7


@dataclass(frozen=True)
class Outcome:
    """What a build came to: where the bundle is, its digest, each target with its measured value, kernels by provider."""

    bundle: Path
    digest: str
    exit_code: Exit
    measured: tuple[Measured, ...]
    report: Mapping[str, Any]
    reused: bool = False


def build(request: Request) -> Outcome:
    """Builds request.spec. Raises InfcError: exit 2 for a bad spec, 3 where a target is missed, 6 where a tool is missing."""
    request = replace(request, notice=_first_only(request.notice))
    spec = check_spec(request)
    machine = choose_machine(spec)
    out = request.output or request.spec.parent / f"{request.spec.stem}.bundle"
    recover(out)
    check_replaceable(out)
    find_server(machine.platform.arch)
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
            return _reuse(request, spec, machine, found, out)
        except (OSError, ValueError, KeyError, TypeError) as error:  # removed or damaged while it was read
            if is_full(error):
                raise disk_full(out.parent, request.spec.parent) from error
            spare.failed(error)
    with temporary_beside(out) as temporary:
        try:
            with work_folder() as work:
                outcome = _build_into(request, spec, machine, temporary, work, out, spare)
        except OSError as error:
            if error.errno != errno.EFBIG and not is_full(error):  # EFBIG: `ulimit -f`
                raise
            raise disk_full(temporary.parent, tempfile.gettempdir(), request.spec.parent) from error
        check_interrupted()
        publish(temporary, out)
    return outcome


def _first_only(notice: Callable[[str], None]) -> Callable[[str], None]:
    """`notice`, but of texts about the cache the first alone: a broken one is said once, however many parts fail."""
    said: list[str] = []

    def once(text: str) -> None:
        if text.endswith(WITHOUT_CACHE):
            said.append(text)
        if len(said) < 2 or not text.endswith(WITHOUT_CACHE):
            notice(text)

    return once


def _build_into(
    request: Request, spec: Spec, machine: Machine, folder: Path, work: Path, out: Path, spare: Spare
) -> Outcome:
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
        finish(folder, manifest)
        check_tokens(compiled.imported, machine.platform.arch, folder, work, spare)
        if machine.runs_here:
            request.report("asking the bundle for its known answers")
            check_answers(compiled, machine, folder, work)
        request.report("measuring" if machine.runs_here else "not measuring: this machine cannot run the code")
        measured = measure(spec, model, compiled.imported, machine, folder)
    finally:
        compiled.imported.close()
    report = build_report(compiled, model, machine, folder, sections["tools"])
    (folder / "evidence").mkdir(exist_ok=True)
    (folder / "evidence" / "build.json").write_text(
        json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    (folder / "evidence" / "targets.json").write_text(rows_text(measured), encoding="utf-8")
    code = exit_code_of(measured, spec.promised)
    if code == Exit.UNMET:
        raise Missed(measured)
    write_lock(lock_path, lock)
    if request.cache is not None:
        table = tuning_digest(request, spec, machine) if request.locked else compiled.tuning.table
        tuned = request.tune > 0 and not request.locked and not compiled.tuning.missing
        key = build_key(request, spec, machine, table, tuned=tuned)
        spare.ask(lambda cache: remember_build(cache, key, compiled.imported.used_files, folder))
    return Outcome(out, bundle_digest(folder), code, measured, report)


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
    """What the spec says that has no effect on a float32 build that is measured and not proved."""
    notes: list[str] = []
    precision = model.search.precisions[0].kind
    if model.data.calibrate is not None and precision != "int8":
        notes.append(f"`calibrate` has no effect: {precision} needs no calibration")
    if model.data.calibrate is None and precision == "int8":
        notes.append("int8 without `data { calibrate }`: no scales are migrated and no layer is kept wider")
    if model.targets.at("confidence") is not None and model.targets.confidence != 0.95:
        notes.append("`confidence` has no effect: values are measured, not proved")
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
    """Exit 3: the measured values, and which of them miss their target."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        missed = [m for m in measured if m.met is False]
        super().__init__(
            "; ".join(f"{m.target} is missed: measured {m.shown}" for m in missed),
            exit_code=Exit.UNMET,
            hint=f"relax it: {'; '.join(m.relaxed for m in missed)}",
        )
        self.measured = tuple(measured)


def _reuse(request: Request, spec: Spec, machine: Machine, found: Path, out: Path) -> Outcome:
    """Puts a remembered bundle at `out`, unless it stands there already."""
    digest = bundle_digest(found)
    here = (out / "evidence" / "targets.json").exists() and is_whole(out, digest)
    if not here and not is_whole(found, digest):
        raise ValueError("the bundle in the cache is damaged")
    request.report("nothing changed: using the bundle built before")
    lock = (found / "infer.lock").read_text(encoding="utf-8")
    lock_path = lock_beside(request.spec)
    if request.locked and (not lock_path.exists() or lock_path.read_text(encoding="utf-8") != lock):
        raise InfcError(f"{lock_path} is not the lock of this build", hint=f"infc build {request.spec} writes it")
    if here:
        measured = _measure_again(request, spec, machine, out)
    else:
        with temporary_beside(out) as temporary:
            shutil.copytree(found, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".entry.json"))
            measured = _measure_again(request, spec, machine, temporary)
            publish(temporary, out)
    write_lock(lock_path, lock)
    report = json.loads((found / "evidence" / "build.json").read_text(encoding="utf-8"))
    return Outcome(out, digest, exit_code_of(measured, spec.promised), measured, report, reused=True)


def _measure_again(request: Request, spec: Spec, machine: Machine, bundle: Path) -> tuple[Measured, ...]:
    """What the bundle's evidence says of the targets, after another look at what proved nothing."""
    path = bundle / "evidence" / "targets.json"
    before = tuple(Measured(**row) for row in json.loads(path.read_text()))
    if not any(row.is_void for row in before):
        return before
    request.report("measuring again what was void")
    measured = measure_again(spec, spec.models[0], machine, bundle, before)
    path.write_text(rows_text(measured), encoding="utf-8")
    if exit_code_of(measured, spec.promised) == Exit.UNMET:
        raise Missed(measured)
    return measured


def rows_text(measured: Sequence[Measured]) -> str:
    """evidence/targets.json."""
    return json.dumps([m.as_json() for m in measured], indent=1) + "\n"


def build_report(
    compiled: Compiled, model: Model, machine: Machine, folder: Path, tools: Mapping[str, object]
) -> dict[str, Any]:
    """Per op: steps, provider of the kernel, share of the time; islands with their reasons; whether rows may be merged
    and cut; the tools by version."""
    plan = compiled.plan
    placement = plan.placement
    return {
        "format": 1,
        "model": model.name,
        "tools": dict(tools),
        "ops": op_rows(compiled, machine, folder),
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


def op_rows(compiled: Compiled, machine: Machine, folder: Path) -> list[dict[str, Any]]:
    """For each op and provider: its steps, and their share of one request's time (None: this machine cannot run it)."""
    if machine.runs_here:
        graph = compiled.imported.graph
        with load(folder, threads=machine.cores) as model:
            kinds = profile(model, random_inputs(graph, golden_sizes(graph)[-1]), runs=PROFILE_RUNS)
        return [{"op": k.op, "provider": k.provider, "steps": k.steps, "share": round(k.share, 3)} for k in kinds]
    counts = Counter((step.op.name, compiled.rendered.providers[step.index]) for step in compiled.plan.steps)
    return [{"op": op, "provider": who, "steps": n, "share": None} for (op, who), n in counts.most_common()]
