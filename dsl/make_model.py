"""The `model` block and its `data` and `traffic` → `Model`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .cursor import Captured, TypeValue
from .diagnostics import Label
from .entries import Entry
from .make_search import make_search
from .make_targets import make_targets
from .making import Making, call_of, spans_of, value_of
from .paths import PathValue
from .spec import (
    Burst,
    Data,
    DataSet,
    Dim,
    Input,
    Model,
    Output,
    Rate,
    Source,
    Task,
    Traffic,
    default_dim,
)
from .suggest import hint, listed

DEFAULT_IMAGE_LIMIT = 10 << 20


def make_model(making: Making, name: str) -> Model | None:
    """The model called `name`; None where its source is missing or wrong."""
    source = _source(making, name)
    task = _task(making, name)
    inputs = tuple(_input(making, e) for e in making.all(name, "model", "input"))
    outputs = tuple(_output(making, e) for e in making.all(name, "model", "output"))
    dims = tuple(_dim(e) for e in making.all(name, "model", "dim"))
    version, alias = making.one(name, "model", "version"), making.one(name, "model", "alias")
    span = making.collected.models[name]
    model = Model(
        name=name,
        span=span,
        source=source or Source(kind="torch", span=span),
        task=task,
        inputs=inputs,
        outputs=outputs,
        dims=dims,
        version="1" if version is None else value_of(version.match.captures, "version"),
        alias=None if alias is None else value_of(alias.match.captures, "alias"),
        spans=tuple(
            (word, entry.span) for word, entry in (("version", version), ("alias", alias)) if entry is not None
        ),
    )
    if not making.doubtful(name, "input", "output", "dim", "task", "source"):
        _check_symbols(making, model)
        _check_inputs(making, model)
    if not model.inputs and not making.doubtful(name, "input", "task"):
        model = replace(model, inputs=_default_inputs(model.task))
    data = _data(making, name)
    traffic = _traffic(making, name)
    targets = make_targets(making, name)
    search = make_search(making, name)
    model = replace(model, data=data, traffic=traffic, targets=targets, search=search)
    return model if source is not None else None


def _source(making: Making, name: str) -> Source | None:
    entry = making.one(name, "model", "source")
    if entry is None:
        if not making.doubtful(name, "source"):
            help = ('as in `source huggingface("models/my-model")` or `source torch("model.py:make")`',)
            making.error("E0306", f"model `{name}` has no source", making.collected.models[name], "", help)
        return None
    call = call_of(entry, "source")
    kind: Any = call.name
    args = call.args
    where = args.get("path") or args.get("factory")
    path = None if where is None else making.path(where, folder=kind == "huggingface")
    value: PathValue | None = None if where is None else where.value
    hub = args.get("hub")
    if hub is not None and "revision" not in args:
        making.error(
            "E0214", "a model of the hub needs its revision", call.span, 'expected revision = "<40 hex digits>"',
            ("without it two builds may read different weights",),
        )  # fmt: skip
    if hub is None and "revision" in args:
        making.error("E0213", "revision belongs to hub", args["revision"].span, 'expected hub = "org/name" too')
    return Source(
        kind=kind,
        path=path,
        entry=None if value is None else value.entry,
        hub=value_of(args, "hub"),
        revision=value_of(args, "revision"),
        written="" if value is None else value.written + (f":{value.entry}" if value.entry else ""),
        nan_allowed="nan" in entry.match.captures,
        span=entry.span,
        spans=(
            ("kind", call.span),
            *spans_of(entry.match.captures, nan_allowed="nan"),
            *spans_of(args, path="path", hub="hub", revision="revision"),
            *spans_of(args, path="factory", entry="factory"),
        ),
    )


def _task(making: Making, name: str) -> Task:
    entry = making.one(name, "model", "task")
    if entry is None:
        return Task()
    call = call_of(entry, "task")
    kind: Any = call.name
    labels = call.args.get("labels")
    normalize = value_of(call.args, "normalize")
    return Task(
        kind=kind,
        pooling=value_of(call.args, "pooling"),
        normalize=None if normalize is None else normalize == "true",
        prompt=value_of(call.args, "prompt"),
        dimensions=tuple(value_of(call.args, "dimensions", ())),
        labels=None if labels is None else making.path(labels),
        top=value_of(call.args, "top", 1),
        aggregation=value_of(call.args, "aggregation", "none"),
        span=entry.span,
        spans=(("kind", call.span), *((k, v.span) for k, v in call.args.items())),
    )


def _input(making: Making, entry: Entry) -> Input:
    captures = entry.match.captures
    type: TypeValue = captures["type"].value
    limit = captures.get("limit")
    tokens = nbytes = None
    if limit is not None:
        wants = {"text": "tokens", "image": "a size"}.get(type.kind)
        if wants is None:
            making.error(
                "E0503", "a tensor is bounded by its dims, not by `up to`", limit.span, "",
                ("as in `dim batch in 1..64`",),
            )  # fmt: skip
        elif (limit.unit == "tokens") != (type.kind == "text"):
            making.error("E0503", f"this input is bounded by {wants}", limit.span, f"expected {wants}")
        elif type.kind == "text":
            tokens = limit.value
        else:
            nbytes = limit.value
    policy = captures.get("policy")
    if policy is not None and policy.value == "truncate" and type.kind != "text":
        making.error("E0503", "only text can be truncated", policy.span, "expected reject")
    _check_nan(making, entry)
    bounds = captures.get("range")
    if bounds is not None and (type.kind != "tensor" or type.dtype == "bool"):
        making.error("E0503", f"`range` needs an input of numbers, and `{entry.key[0]}` is none", bounds.span)
    return Input(
        name=value_of(captures, "name"),
        kind=type.kind,  # pyright: ignore[reportArgumentType]
        foreign=value_of(captures, "foreign"),
        dtype=type.dtype,
        dims=type.dims,
        formats=type.formats,
        limit_tokens=tokens,
        limit_bytes=DEFAULT_IMAGE_LIMIT if type.kind == "image" and nbytes is None else nbytes,
        policy=value_of(captures, "policy", "reject"),
        nan_allowed="nan" in captures,
        range=None if bounds is None else (float(bounds.value[0]), float(bounds.value[1])),
        span=entry.span,
        spans=spans_of(
            captures, name="name", kind="type", dtype="type", dims="type", foreign="foreign", limit_tokens="limit",
            limit_bytes="limit", policy="policy", nan_allowed="nan", range="range",
        ),
    )  # fmt: skip


def _default_inputs(task: Task) -> tuple[Input, ...]:
    """What a task that reads text takes when no `input` is written; () leaves it to the source."""
    names = {"embed": ("text",), "tag": ("text",), "generate": ("text",), "rerank": ("query", "document")}
    return tuple(Input(name=name, kind="text") for name in names.get(task.kind, ()))


def _output(making: Making, entry: Entry) -> Output:
    captures = entry.match.captures
    type: TypeValue = captures["type"].value
    _check_nan(making, entry)
    return Output(
        name=value_of(captures, "name"),
        foreign=value_of(captures, "foreign"),
        dtype=type.dtype or "float32",
        dims=type.dims,
        nan_allowed="nan" in captures,
        span=entry.span,
        spans=spans_of(captures, name="name", dtype="type", dims="type", foreign="foreign", nan_allowed="nan"),
    )


def _check_nan(making: Making, entry: Entry) -> None:
    """`nan allowed` stands on an input or output of floats only: nothing else can be NaN."""
    type: TypeValue = entry.match.captures["type"].value
    nan = entry.match.captures.get("nan")
    floats = type.kind == "tensor" and (type.dtype or "").removeprefix("b").startswith("float")
    if nan is not None and not floats:
        name = entry.key[0]
        making.error("E0503", f"`nan allowed` needs a float {entry.word}, and `{name}` is none", nan.span)


def _dim(entry: Entry) -> Dim:
    captures = entry.match.captures
    lo, hi = captures["range"].value
    spans = spans_of(captures, name="name", lo="range", hi="range")
    return Dim(name=captures["name"].value, lo=lo, hi=hi, span=entry.span, spans=spans)


def _symbols(making: Making, name: str, word: str) -> list[tuple[str, Captured, Entry]]:
    return [
        (symbol, Captured(symbol, span), entry)
        for entry in making.all(name, "model", word)
        for symbol, span in entry.match.captures["type"].value.symbols
    ]


_TEXT_TASKS = ("embed", "classify", "rerank", "tag", "generate")
"""Tasks that read text."""


def _check_symbols(making: Making, model: Model) -> None:
    """Every symbol of a type has bounds; every `dim` bounds a symbol."""
    if model.source.kind == "huggingface" and not model.inputs:
        used = {"batch", "tokens"}
    else:
        used = {symbol for symbol, _, _ in _symbols(making, model.name, "input")} | {"batch"}
    if any(i.kind == "text" for i in model.inputs) or model.task.kind in _TEXT_TASKS:
        used |= {"tokens"}
    written = {dim.name for dim in model.dims}
    asked: set[str] = set()
    for symbol, captured, _ in [*_symbols(making, model.name, "input"), *_symbols(making, model.name, "output")]:
        if symbol in written or symbol in asked or default_dim(model, symbol) is not None:
            continue
        asked.add(symbol)
        help = hint(symbol, [*written, "batch", "tokens"])
        near = help and help[0].startswith("did you mean")
        help = help if near else (f"as in `dim {symbol} in 1..64`",)
        making.error(
            "E0501", f"`{symbol}` has no bounds", captured.span, f"expected a line `dim {symbol} in ...`", help
        )
    if not model.inputs:
        return
    for dim in model.dims:
        if dim.name not in used and dim.name not in asked:
            known = sorted(used - {"batch"} | {symbol for symbol, _, _ in _symbols(making, model.name, "output")})
            help = hint(dim.name, known, "symbols") or ("leave the line out",)
            making.error("E0502", f"no input has a dimension `{dim.name}`", dim.at("name"), "", help)


def _check_inputs(making: Making, model: Model) -> None:
    names: dict[str, Input | Output] = {}
    for thing in (*model.inputs, *model.outputs):
        if thing.name in names and isinstance(thing, Output) and isinstance(names[thing.name], Input):
            label = names[thing.name].span
            making.error(
                "E0504", f"`{thing.name}` is an input and an output", thing.at("name"), "expected another name", (),
                () if label is None else (Label(label, "the input"),),
            )  # fmt: skip
        names.setdefault(thing.name, thing)
    texts = [i for i in model.inputs if i.kind == "text"]
    for thing in texts:
        if model.task.kind == "tensor":
            tasks = listed(_TEXT_TASKS)
            making.error(
                "E0505", f"text needs a task that reads text, and `{model.name}` has task tensor", thing.at("kind"), "",
                (f"add a line such as `task embed`: {tasks}",),
            )  # fmt: skip
    for thing in model.inputs:
        if model.task.kind in ("embed", "classify", "tag", "generate") and thing.kind == "tensor" and texts:
            making.error(
                "E0505",
                f"with text, task {model.task.kind} has no other inputs",
                thing.at("name"),
                "expected text only",
            )
    if model.task.kind == "rerank" and model.inputs:
        wanted = {"query", "document"}
        if {i.name for i in model.inputs} != wanted:
            making.error("E0505", "task rerank has the inputs `query` and `document`", model.inputs[0].at("name"))
    if model.task.kind in ("embed", "tag") and len(texts) > 1:
        making.error("E0505", f"task {model.task.kind} has one text input", texts[1].at("name"))
    if model.task.kind == "classify" and len(texts) > 2:
        making.error("E0505", "task classify has one text input, or two for pairs", texts[2].at("name"))
    if model.source.kind == "torch" and model.task.kind == "tensor" and not model.inputs:
        help = ("as in `input features: float32[batch, 64]`, one line for each parameter of forward",)
        making.error("E0306", f"model `{model.name}` has no inputs", making.collected.models[model.name], "", help)
    tokens = model.dim("tokens")
    for thing in texts:
        written = next((d for d in model.dims if d.name == "tokens"), None)
        if (
            written is not None
            and tokens is not None
            and thing.limit_tokens is not None
            and thing.limit_tokens > tokens.hi
        ):
            making.error(
                "E0503", f"up to {thing.limit_tokens} tokens, and `dim tokens` ends at {tokens.hi}",
                thing.at("limit_tokens"), f"expected at most {tokens.hi}",
            )  # fmt: skip


# ── data and traffic ─────────────────────────────────────────────────────────────────────────────────────────────────


def _data(making: Making, name: str) -> Data:
    span = making.collected.blocks.get((name, "data")) or making.collected.blocks.get((None, "data"))
    sets = {word: _data_set(making, making.one(name, "data", word)) for word in ("calibrate", "evaluate")}
    return Data(calibrate=sets["calibrate"], evaluate=sets["evaluate"], span=span)


def _data_set(making: Making, entry: Entry | None) -> DataSet | None:
    if entry is None:
        return None
    call = call_of(entry, "source")
    captures = entry.match.captures
    kind: Any = call.name
    path = making.path(call.args["path"], folder=kind == "folder")
    return DataSet(
        kind=kind,
        path=path,
        written=call.args["path"].value.written,
        field=value_of(call.args, "field"),
        columns=value_of(call.args, "columns", ()),
        label=value_of(call.args, "label"),
        rows=value_of(captures, "rows"),
        seed=value_of(captures, "seed", 0),
        span=entry.span,
        spans=(*((k, v.span) for k, v in call.args.items()), *spans_of(captures, rows="rows", seed="seed")),
    )


def _traffic(making: Making, name: str) -> Traffic:
    rate, items = making.one(name, "traffic", "rate"), making.one(name, "traffic", "items")
    offline = making.one(name, "traffic", "offline")
    span = making.collected.blocks.get((name, "traffic")) or making.collected.blocks.get((None, "traffic"))
    if rate is not None and offline is not None:
        label = (Label(rate.span, "the rate"),)
        making.error("E0506", "batch work has no rate", offline.span, "expected `rate` or `offline`", (), label)
    captures = {} if rate is None else rate.match.captures
    burst = None
    if rate is not None and "factor" in captures:
        factor, duration, every = (captures[k].value for k in ("factor", "duration", "every"))
        if duration >= every:
            making.error(
                "E0506", "a burst is shorter than the time from one to the next", captures["duration"].span,
                f"expected less than {captures['every'].value:g} s",
            )  # fmt: skip
        burst = Burst(
            factor=factor, duration_s=duration, every_s=every, span=rate.match.given.get("burst"),
            spans=spans_of(captures, factor="factor", duration_s="duration", every_s="every"),
        )  # fmt: skip
    return Traffic(
        rate=None if rate is None else rate_of(captures["rate"]),
        arrival=value_of(captures, "arrival", "poisson"),
        burst=burst,
        items=(1, 1) if items is None else items.match.captures["range"].value,
        offline=offline is not None,
        span=span,
        spans=(
            *spans_of(captures, rate="rate", arrival="arrival"),
            *(() if items is None else (("items", items.span),)),
            *(() if offline is None else (("offline", offline.span),)),
        ),
    )


def rate_of(captured: Captured) -> Rate:
    """A captured rate, img/s as items/s."""
    unit: Any = "items/s" if captured.unit == "img/s" else captured.unit
    return Rate(value=float(captured.value), unit=unit, span=captured.span)
