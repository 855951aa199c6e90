"""What goes into a bundle, and what its manifest and lock say of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ...dsl.spec import LatencyTarget, Model, Spec
from ...runtime.arguments import check_finite
from ...runtime.errors import InferError
from ..bounds import batch_of
from ..cache import file_digest
from ..codegen.describe import describe_inputs, describe_outputs
from ..codegen.plan import arena_bytes
from ..decisions import Decision, narrowest
from ..driver import Compiled, Machine
from ..errors import InfcError
from ..ir.graph import Array
from ..ir.interpret import run
from ..proof.loads import per_second
from . import manifest as m
from .golden import golden, settled
from .lock import lock_text, read_lock
from .memory import largest_body, serving_ceiling
from .server import find as find_server
from .server import tokenizers_version
from .write import Content, finish, write_content

HEADER = Path(__file__).resolve().parent.parent.parent / "runtime" / "abi"
VARIANT = "models/0/variants/0"
INSTANCES = 1


def bundle_content(
    spec: Spec, model: Model, compiled: Compiled, machine: Machine, lock: str
) -> tuple[dict[str, Content], tuple[str, ...]]:
    """Content by path in the bundle, and which of it is executable."""
    graph = compiled.imported.graph
    content: dict[str, Content] = {
        "serve": find_server(machine.platform.arch),
        "spec.infer": spec.resolved,
        "infer.lock": lock,
        f"{VARIANT}/model.so": compiled.library,
        f"{VARIANT}/weights.bin": compiled.weights,
        "models/0/golden.json": golden(graph, _finite(model, _answers(compiled)), narrowest(graph)),
        "include/infc_model.h": HEADER / "infc_model.h",
        "examples/run.c": HEADER / "examples" / "run.c",
        "examples/run.py": HEADER / "examples" / "run.py",
    }
    if compiled.imported.text is not None:
        content["models/0/task/tokenizer.json"] = compiled.imported.text.tokenizer
    return content, ("serve", f"{VARIANT}/model.so")


Answers = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def _finite(model: Model, answers: Answers) -> Answers:
    """`answers`, or InfcError where the model itself gives what its output line does not allow."""
    allowed = {output.name for output in model.outputs if output.nan_allowed}

    def checked(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = answers(inputs)
        try:
            for name in (name for name in outputs if name not in allowed):
                check_finite(name, outputs[name])
        except InferError as error:
            hint = "write `range LOW..HIGH` behind an input whose values are never others"
            raise InfcError(f"for inputs within the ranges that the spec says, {error}", hint=hint) from None
        return outputs

    return checked


def _answers(compiled: Compiled) -> Answers:
    """What gives golden answers: the source framework, or in reduced precision the interpreter, which rounds alike."""
    graph = compiled.imported.graph
    if narrowest(graph) == "float32":
        return lambda inputs: settled(graph, inputs, compiled.imported.reference(inputs))
    return partial(run, graph)


def manifest_of(spec: Spec, model: Model, compiled: Compiled, machine: Machine, files: list[m.File]) -> m.Manifest:
    """The manifest of a bundle that holds `files`."""
    graph, platform = compiled.imported.graph, machine.platform
    rows, tokens = batch_of(compiled.plan)
    batch = m.Batch(max_requests=rows, max_rows=rows, max_tokens=tokens, wait_s=0.0)
    text = compiled.imported.text
    parts = {
        "weights": compiled.weights.stat().st_size + compiled.library.stat().st_size,
        "tokenizer": text.tokenizer.stat().st_size if text is not None else 0,
        "workspaces": INSTANCES * arena_bytes(compiled.plan, batch.max_rows, batch.max_tokens),
    }
    body = largest_body(machine.hardware.memory_bytes, **parts)
    serving = serving_ceiling(**parts, max_body=body)
    allowed = {output.name: output.nan_allowed for output in model.outputs}
    one = m.Model(
        name=model.name,
        version=model.version,
        aliases=[model.alias] if model.alias else [],
        task=_task(compiled),
        inputs=[m.InputTensor.model_validate(item) for item in describe_inputs(graph)],
        outputs=[
            m.OutputTensor.model_validate({**item, "nan_allowed": allowed.get(str(item["name"]), False)})
            for item in describe_outputs(graph)
        ],
        dims={name: bound for name, bound in graph.dims.items()},
        batchable=compiled.plan.placement.batchable,
        batch_dim=graph.batch_dim,
        length_dim=graph.length_dim if graph.length_dim in graph.dims else None,
        variants=[
            m.Variant(
                id=0,
                precision=model.search.precisions[0].kind,
                isa=machine.variant,
                cpu_features=list(platform.features),
                library=f"{VARIANT}/model.so",
                weights=f"{VARIANT}/weights.bin",
            )
        ],
        golden="models/0/golden.json",
    )
    return m.Manifest(
        format=m.FORMAT,
        infc=version("infc"),
        platform=m.Platform(os=platform.os, arch=platform.arch, glibc=platform.glibc),
        models=[one],
        serve=m.Serve(
            protocols=list(spec.serve.protocols),
            queue=spec.serve.queue.requests,
            deadline_s=spec.serve.queue.deadline_s,
            threads=machine.cores,
            instances=INSTANCES,
            batch=batch,
            max_body_bytes=body,
        ),
        traffic=_traffic(model),
        targets=_targets(spec),
        memory=m.Memory(serving_bytes=serving, swapping_bytes=2 * serving),
        files=files,
    )


def _task(compiled: Compiled) -> m.Task:
    text = compiled.imported.text
    if text is None:
        return m.Task(kind="tensor")
    return m.Task(
        kind=text.kind,
        texts=list(text.texts),
        tokenizer="models/0/task/tokenizer.json",
        limit=text.limit,
        overflow=text.overflow,
        truncation_side=text.side,
        segments=text.segments,
        prompt=text.prompt,
        prompts=dict(text.prompts),
        include_prompt=text.include_prompt,
        pooling="+".join(text.pooling) or None,
        normalize=text.normalize if text.kind == "embed" else None,
        dimensions=list(text.dimensions),
        labels=list(text.labels),
        activation=text.activation,
        top=text.top if text.kind == "classify" else None,
        aggregation=text.aggregation if text.kind == "tag" else None,
        unknown=text.unknown,
    )


def retarget(folder: Path, spec: Spec, manifest: m.Manifest) -> str:
    """Makes the bundle in `folder`, whose manifest is given, that of `spec`, which differs from the one it was built from in
    what is promised and under which load alone: spec.infer, infer.lock and the manifest. The lock's text."""
    sections = {key: value for key, value in read_lock(folder / "infer.lock", "infc build").items() if key != "format"}
    inputs = dict(cast(dict[str, object], sections["inputs"]))
    inputs["spec"] = hashlib.sha256(spec.resolved.encode()).hexdigest()
    lock = lock_text(_dotted({**sections, "inputs": inputs}))
    changed = write_content(folder, {"spec.infer": spec.resolved, "infer.lock": lock}, ())
    files = {file.path: file for file in (*manifest.files, *changed)}
    promised = {"targets": _targets(spec), "traffic": _traffic(spec.models[0])}
    finish(folder, manifest.model_copy(update={**promised, "files": [files[path] for path in sorted(files)]}))
    return lock


def _dotted(table: Mapping[str, object], prefix: str = "") -> dict[str, dict[str, object]]:
    """A TOML document's tables by their dotted names, as `lock_text` takes them."""
    found: dict[str, dict[str, object]] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        inner = cast(dict[str, object], value)
        deeper: dict[str, object] = {k: v for k, v in inner.items() if isinstance(v, dict)}
        plain = {k: v for k, v in inner.items() if k not in deeper}
        if plain or not inner:
            found[name] = plain
        found |= _dotted(deeper, f"{name}.")
    return found


def _targets(spec: Spec) -> list[m.Target]:
    return [_target(t) for t in (*spec.models[0].targets.items, *spec.bundle_targets.items)]


def _traffic(model: Model) -> m.Traffic | None:
    rate = model.traffic.rate
    return (
        m.Traffic(rate=per_second(rate, model.traffic.items), arrival=model.traffic.arrival)
        if rate is not None
        else None
    )


_UNITS = {"latency": "s", "ttft": "s", "itl": "s", "cold_start": "s", "memory": "B", "bundle_size": "B", "cost": "USD"}


def _target(target: object) -> m.Target:
    kind = str(getattr(target, "kind"))  # noqa: B009 - every member of the union has it
    statistic = target.statistic if isinstance(target, LatencyTarget) else str(getattr(target, "metric", ""))
    unit = str(getattr(target, "unit", "")) or _UNITS.get(kind, "")
    bound = float(getattr(target, "bound"))  # noqa: B009
    return m.Target(kind=kind, statistic=statistic, op=str(getattr(target, "op")), bound=bound, unit=unit)  # noqa: B009


def lock_sections(
    spec: Spec,
    used: Iterable[Path],
    machine: Machine,
    tools: Mapping[str, str],
    decisions: Sequence[Decision] = (),
    tuning: Mapping[str, str] | None = None,
) -> dict[str, dict[str, object]]:
    """The lock's decisions: inputs by digest, tools by version, the choice for each model, and how kernels are made where
    that is not as usual (`tuning`)."""
    root = Path(spec.folder or ".").resolve()
    inputs: dict[str, object] = {"spec": hashlib.sha256(spec.resolved.encode()).hexdigest()}
    data = [d.path for model in spec.models for d in (model.data.calibrate, model.data.evaluate) if d is not None]
    for path in sorted({*(p.resolve() for p in used), *(Path(p).resolve() for p in data)}):
        if path.is_file():
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
            inputs[name] = file_digest(path)
    server = find_server(machine.platform.arch)
    sections: dict[str, dict[str, object]] = {
        "inputs": inputs,
        "tools": {
            **tools,
            "serve": file_digest(server),
            "tokenizers-of-serve": tokenizers_version(server),
        },
    }
    for model in spec.models:
        sections[f"choice.{model.name}.0"] = {
            "target": machine.target.name,
            "variant": machine.variant,
            "precision": model.search.precisions[0].kind,
            "threads": machine.cores,
            **({"layers": [f"{d.layer}={d.precision}" for d in decisions]} if decisions else {}),
        }
        if tuning:
            sections[f"tuning.{model.name}.0"] = dict(tuning)
    return sections
