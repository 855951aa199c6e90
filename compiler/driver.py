"""The compiler's table of contents: a spec to a bundle, one stage after the other.

    text -> Spec -> imported model -> Graph -> Plan -> sources -> model.so -> bundle -> measured values

Every stage is a function from artifact to artifact; `--emit STAGE` prints what a stage made and ends there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..dsl import check_file, unsupported_statements
from ..dsl.diagnostics import Diagnostic
from ..dsl.spec import Hardware, Model, Spec
from .cache import WITHOUT_CACHE, Cache
from .errors import Exit, InfcError
from .target import Platform, Rendered, Target, Tuning, discover, find_target
from .temporary import work_folder

if TYPE_CHECKING:
    from .codegen.plan import Plan
    from .decisions import Decision
    from .frontends import Imported
    from .passes.pipeline import Callback, Step

STAGES = ("ast", "spec", "mlir", "graph", "plan", "source")
"""What `--emit` takes."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `infc build` was asked. `jobs`: compilers at a time; `tune`: seconds that may go into measuring
    kernels; `baseline`: a bundle that the new one is held against, `margin`: the share by which it may be worse; `require_sandbox`, `import_memory` (bytes) and `import_seconds` are the settings of those names; `report`
    hears what begins, `notice` what a user should know and no place in the spec is about."""

    spec: Path
    output: Path | None = None
    profile: str | None = None
    sets: tuple[str, ...] = ()
    use: str | None = None
    allow_paths: tuple[str, ...] = ()
    locked: bool = False
    tune: float = 0.0
    passes: str | None = None
    annotate: bool = False
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    cache: Cache | None = None
    dump: Path | None = None
    baseline: Path | None = None
    margin: float = 0.02
    require_sandbox: bool = False
    import_memory: int = 0
    import_seconds: float = 0.0
    report: Report = lambda _: None
    notice: Report = lambda _: None
    warn: Callable[[Diagnostic], None] = lambda _: None


@dataclass(frozen=True)
class Machine:
    """What to build for: a target, one of its variants, how many cores, the statement it came from."""

    target: Target
    variant: str
    cores: int
    hardware: Hardware

    @property
    def platform(self) -> Platform:
        return self.target.platform(self.variant)

    @property
    def runs_here(self) -> bool:
        """Whether this machine can execute the code."""
        return self.target.runs_here(self.variant)


@dataclass(frozen=True)
class Compiled:
    """One model, compiled: its plan, who provides each step, and the files made, in `folder`."""

    imported: Imported
    plan: Plan
    rendered: Rendered
    library: Path
    weights: Path
    decisions: tuple[Decision, ...] = ()
    """The precision of each layer; () where all are float32."""
    tuning: Tuning = field(default_factory=Tuning)


def check_spec(request: Request) -> Spec:
    """text -> Spec. Raises InfcError (exit 2) with every error of the file."""
    result = check_file(
        request.spec, profile=request.profile, sets=request.sets, use=request.use, allow_paths=request.allow_paths
    )
    for warning in result.warnings:
        request.warn(warning)
    if result.spec is None:
        count = len(result.errors)
        raise InfcError(
            f"{request.spec}: {count} error{'s' if count > 1 else ''}", diagnostics=result.errors, exit_code=Exit.USAGE
        )
    refused = unsupported_statements(result.spec)
    if refused:
        raise InfcError(f"{request.spec} says what `build` does not honour yet", diagnostics=refused)
    return result.spec


def choose_machine(spec: Spec) -> Machine:
    """Spec -> the machine to build for. Raises InfcError (exit 2) for a target or variant that does not exist."""
    hardware = spec.hardware[0]
    if hardware.kind not in discover():
        raise InfcError(f"no target {hardware.kind!r} is installed", hint=f"there are: {', '.join(discover())}")
    target = find_target(hardware.kind)
    variant = target.resolve(hardware.isa or (hardware.machine.isa if hardware.machine else None))
    here = len(os.sched_getaffinity(0))
    return Machine(target, variant, hardware.cores or here, hardware)


def import_model(model: Model, folder: Path, work: Path, request: Request) -> Imported:
    """Spec -> Graph, through MLIR. Raises InfcError."""
    from .frontends import Options, load

    options = Options(
        work=work,
        require_sandbox=request.require_sandbox,
        import_memory=request.import_memory,
        import_seconds=request.import_seconds,
        allow_paths=request.allow_paths,
        warn=request.notice,
    )
    return load(model, folder, options=options)


def optimize(imported: Imported, request: Request) -> Imported:
    """Graph -> Graph, through the passes."""
    from .ir.verify import verify
    from .passes.pipeline import default_passes, parse_passes, run_passes

    passes = default_passes() if request.passes is None else parse_passes(request.passes)
    verify(imported.graph, "import")
    return replace(imported, graph=run_passes(imported.graph, passes, _callback(request)))


def reduce(
    imported: Imported, model: Model, machine: Machine, request: Request
) -> tuple[Imported, tuple[Decision, ...]]:
    """Graph -> Graph in the precision that the spec asks for, and the decision for each layer. A list of passes with
    `quantize` in it is taken as it is."""
    from .decisions import decide, layers_text
    from .passes.pipeline import parse_passes, run_passes
    from .passes.quantize import Quantize

    if request.passes is not None and any(isinstance(p, Quantize) for p in parse_passes(request.passes)):
        return imported, ()
    graph, refuses = imported.graph, partial(machine.target.refuses, machine.variant)
    decisions = decide(graph, model.search, refuses)
    if not decisions:
        return imported, ()
    if model.data.calibrate is not None and any(d.precision == "int8" for d in decisions):
        from .calibrate import migrate_scales, widen_sensitive
        from .measure.accuracy import agreement_targets, misses, per_token
        from .measure.rows import read_rows

        request.report(f"calibrating {model.name}")
        rows = read_rows(model.data.calibrate, model, imported).requests
        graph = migrate_scales(graph, rows, decisions)
        targets = agreement_targets(model.targets.items)
        if targets:
            decisions = widen_sensitive(graph, rows, decisions, partial(misses, targets, per_token(graph)), refuses)
    passes = (Quantize(layers_text(decisions)), *parse_passes("dead_code"))
    return replace(imported, graph=run_passes(graph, passes, _callback(request, 20))), decisions


def _callback(request: Request, first: int = 0) -> Callback:
    """Verifies every pass, and dumps its graph where asked, numbered from first + 1."""
    from .ir.printer import print_graph
    from .passes.pipeline import dump_to, each

    return each(_verified, *([dump_to(request.dump, print_graph, first)] if request.dump is not None else []))


def _verified(step: Step) -> None:
    from .ir.verify import verify

    verify(step.after, step.pass_.name)


def plan_model(imported: Imported) -> Plan:
    """Graph -> Plan."""
    from .codegen.plan_graph import plan_graph
    from .passes.ragged import analyse

    return plan_graph(imported.graph, analyse(imported.graph))


def tune_plan(plan: Plan, request: Request, model: Model, machine: Machine, work: Path) -> Tuning:
    """Plan -> how its kernels are made where that was measured: what the lock says (--locked), else what tables say or
    request.tune seconds of measuring here."""
    if request.locked:
        from .bundle.lock import locked_choices

        return Tuning(locked_choices(request.spec, model.name))
    if request.tune > 0:
        request.report(f"tuning {model.name}")
    tuning = machine.target.tune(plan, machine.variant, tuning_table(request, machine), request.tune, work)
    if tuning.problem:
        request.notice(f"{tuning.problem}{WITHOUT_CACHE}")
    return tuning


def tuning_table(request: Request, machine: Machine) -> Path | None:
    """Where this user's measured choices for the target are kept; None: nowhere."""
    if request.cache is None:
        return None
    return request.cache.folder / "tuning" / f"{machine.target.name}.toml"


def emit(request: Request, stage: str) -> str:
    """The text of one stage. Raises InfcError for a stage that does not exist."""
    if stage not in STAGES:
        raise InfcError(f"there is no stage {stage!r} to emit", hint=f"the stages are {', '.join(STAGES)}")
    if stage == "ast":
        from ..dsl.explain import print_ast

        try:
            return print_ast(request.spec)
        except OSError as error:
            raise InfcError(f"cannot read {request.spec}: {error.strerror}") from error
    spec = check_spec(request)
    if stage == "spec":
        return spec.resolved
    machine = choose_machine(spec)
    texts: list[str] = []
    for model in spec.models:
        with work_folder() as work:
            texts.append(_emit_model(request, spec, model, machine, stage, work))
    return "\n".join(texts)


def _emit_model(request: Request, spec: Spec, model: Model, machine: Machine, stage: str, work: Path) -> str:
    imported = import_model(model, Path(spec.folder or "."), work, request)
    try:
        if stage == "mlir":
            return imported.mlir
        imported, _ = reduce(optimize(imported, request), model, machine, request)
        if stage == "graph":
            from .ir.printer import print_graph
            from .passes.ragged import analyse, explain

            return print_graph(imported.graph) + "\n" + explain(analyse(imported.graph), imported.graph)
        plan = plan_model(imported)
        tuning = tune_plan(plan, replace(request, tune=0.0), model, machine, work)
        rendered = machine.target.render(plan, machine.variant, tuning.choices)
        if stage == "plan":
            from .codegen.plan import print_plan

            return print_plan(plan, rendered.providers)
        return "\n".join(f"/* ==== {name} ==== */\n{text}" for name, text in rendered.sources.items())
    finally:
        imported.close()


def compile_model(request: Request, spec: Spec, model: Model, machine: Machine, work: Path) -> Compiled:
    """Spec -> model.so and weights, through every stage."""
    from .bounds import check_inputs, check_plan, memory_of
    from .bundle.tokenizer import check_tokenizer
    from .compare import check_smallest
    from .measure.accuracy import check_metrics
    from .measure.rows import check_rows

    memory = memory_of(machine.hardware, here=machine.runs_here)
    check_inputs(model, memory)
    request.report(f"importing {model.name}")
    imported = import_model(model, Path(spec.folder or "."), work / "import", request)
    try:
        if imported.tokenizer is not None:
            check_tokenizer(imported.tokenizer, imported.graph, required=request.require_sandbox)
        check_rows(model, imported, request.notice)
        check_metrics(model.targets.items, imported.graph)
        if model.source.kind != "export":  # a program was traced already: it is its own reference
            check_smallest(imported)
        request.report(f"optimizing {model.name}")
        imported, decisions = reduce(optimize(imported, request), model, machine, request)
        plan = plan_model(imported)
        check_plan(plan, memory)
        request.report(f"compiling {model.name} for {machine.variant}: {len(plan.steps)} steps")
        tuning = tune_plan(plan, request, model, machine, work / "tuning")
        rendered = machine.target.render(plan, machine.variant, tuning.choices)
        built = machine.target.compile(rendered, machine.variant, work / "native", request.jobs)
    except BaseException:
        imported.close()
        raise
    return Compiled(imported, plan, rendered, built.library, built.weights, decisions, tuning)


def versions(machine: Machine) -> Mapping[str, str]:
    """Name to version of everything that decides a bundle's bytes."""
    from importlib.metadata import version

    found = {"infc": version("infc"), **machine.target.tools()}
    for package in ("torch", "torch-mlir", "transformers", "tokenizers"):
        found[package] = version(package)
    return found
