"""What `check` accepts and `build` does not honour yet, by name. Reads `honoured` in the table of keywords."""

from __future__ import annotations

from .diagnostics import Diagnostic
from .keywords import CALLS, KEYWORDS
from .span import Span
from .spec import AccuracyTarget, LatencyTarget, MemoryTarget, Model, Spec, Targets, ThroughputTarget

_HONOURED = {(block, keyword.word): keyword.honoured for keyword in KEYWORDS for block in keyword.blocks}


def unsupported_statements(spec: Spec) -> list[Diagnostic]:
    """One E0801 for each statement (or part of one) of a checked spec that `build` would have to ignore.

    Empty: `build` honours everything that the spec says. What the spec leaves to its defaults is never reported.
    """
    out: list[Diagnostic] = []
    if len(spec.models) > 1:
        names = ", ".join(m.name for m in spec.models)
        _add(out, f"several models ({names})", spec.models[1].span, "build takes one model")
    for model in spec.models:
        _model(out, model)
        _targets(out, model.targets)
        _search(out, model)
    _targets(out, spec.bundle_targets)
    _hardware(out, spec)
    for word in ("cache", "degrade", "tenants"):
        if getattr(spec.serve, word) is not None:
            _word(out, "serve", word, spec.serve.at(word))
    return out


def _add(out: list[Diagnostic], what: str, span: Span | None, label: str = "", help: tuple[str, ...] = ()) -> None:
    out.append(Diagnostic("E0801", f"`build` does not honour {what} yet", span, label, (), help))


def _word(out: list[Diagnostic], block: str, word: str, span: Span | None) -> None:
    """Reports a word that the table says is not honoured; one that is honoured in part names that part."""
    honoured = _HONOURED[(block, word)]
    if honoured is True:
        return
    label = f"honoured: {honoured}" if isinstance(honoured, str) else ""
    _add(out, f"`{word}`", span, label, ("remove the statement, or keep it for `infc check` only",))


def _call(out: list[Diagnostic], type: str, name: str, what: str, span: Span | None) -> None:
    forms = {form.name: form for form in CALLS[type]}
    if not forms[name].honoured:
        known = ", ".join(form.name for form in forms.values() if form.honoured)
        _add(out, f"{what} {name}", span, f"honoured: {known}")


def _model(out: list[Diagnostic], model: Model) -> None:
    _call(out, "source", model.source.kind, "source", model.source.at("kind"))
    _call(out, "task", model.task.kind, "task", model.task.at("kind"))
    for thing in model.inputs:
        if thing.kind == "image":
            _add(out, "an image input", thing.at("kind"), "honoured: tensors and text")
    for data in (model.data.calibrate, model.data.evaluate):
        if data is not None and data.seed:
            _add(out, "the `seed` of data", data.at("seed"), "the first rows are taken")
    traffic = model.traffic
    if traffic.rate is not None and traffic.rate.unit == "tok/s":
        _add(out, "a rate in tok/s", traffic.at("rate"), "honoured: req/s and items/s")


def _targets(out: list[Diagnostic], targets: Targets) -> None:
    for target in targets.items:
        if isinstance(target, LatencyTarget):
            if target.kind != "latency":
                _word(out, "targets", target.kind, target.span)
            elif target.at_rate is not None and target.at_rate.unit == "tok/s":
                _add(out, "a rate in tok/s", target.at("at_rate"), "honoured: req/s and items/s")
        elif isinstance(target, ThroughputTarget) and target.unit == "tok/s":
            _add(out, "throughput in tok/s", target.at("bound"), "honoured: req/s and items/s")
        elif isinstance(target, AccuracyTarget):
            if target.rise:
                _add(out, "accuracy as a rise", target.at("rise"))
            else:
                _call(out, "metric", target.metric, "accuracy", target.at("metric"))
        elif isinstance(target, MemoryTarget) and target.place == "device":
            _add(out, "`memory device`", target.at("place"), "honoured: host")


def _search(out: list[Diagnostic], model: Model) -> None:
    search = model.search
    precisions = [*search.precisions, *(keep.precision for keep in search.keep)]
    for precision in precisions:
        _call(out, "precision", precision.kind, "precision", precision.span)
        if precision.group is not None:
            _add(out, f"`group` of {precision.kind}", precision.at("group"), "a scale per output channel")
    if len(search.precisions) > 1:
        label = "build takes one precision, and searches for none"
        _add(out, "a choice of precisions", search.precisions[1].span, label)
    fields = {"fusion": "fusion", "batch": "batch", "wait": "wait_s", "instances": "instances", "threads": "threads",
              "prune": "prune", "objective": "objective"}  # fmt: skip
    written = dict(search.spans)
    for word, field in fields.items():
        if field in written:
            _word(out, "search", word, written[field])


def _hardware(out: list[Diagnostic], spec: Spec) -> None:
    written = [h for h in spec.hardware if h.written]
    for hardware in written:
        if hardware.kind != "cpu":
            _add(out, f"use {hardware.kind}", hardware.span, "honoured: one CPU")
        if hardware.count != (1, 1):
            _word(out, "use", "count", hardware.at("count"))
    for extra in written[1:]:
        _add(out, "a second `use`", extra.span, "honoured: one CPU")
