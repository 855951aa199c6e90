"""Spec: what a `.infer` file says, resolved and typed. The compiler reads this and never the text.

Everything is a frozen dataclass of plain values in base units: seconds, bytes, USD, fractions of 1 (5 % is 0.05),
events a second. Scopes and layers are resolved: each `Model` carries the data, traffic, targets and search that hold
for it. Defaults are filled in where they are constants; `None` says "not written, and the default depends on more
than the text" (each field tells what then holds).

Each object keeps where it was written: `thing.span` is its statement, `thing.at("field")` the value of one field,
falling back to the statement; `None` where nothing was written. Spans are not part of equality.

    Spec ─ models: Model ─ source, task, inputs, outputs, dims, data, traffic, targets, search
         ├ hardware: Hardware, ...      alternatives; search picks one
         ├ serve: Serve
         └ bundle_targets: Targets      only with several models
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .span import Span

SourceKind = Literal["huggingface", "torch", "export", "onnx", "jax"]
TaskKind = Literal["tensor", "embed", "classify", "rerank", "tag", "generate"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
Pooling = Literal["mean", "cls", "max", "last", "mean_sqrt", "weighted_mean"]
InputKind = Literal["tensor", "text", "image"]
Policy = Literal["reject", "truncate"]
DataKind = Literal["jsonl", "csv", "npz", "folder"]
Arrival = Literal["poisson", "steady"]
RateUnit = Literal["req/s", "items/s", "tok/s"]
Op = Literal["<=", ">="]
Fusion = Literal["auto", "on", "off"]
HardwareKind = Literal["cpu", "cuda", "rocm", "tpu"]

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")
"""The element types that an `input` or `output` may have, as NumPy (and ml_dtypes) name them."""

CPU_ISAS = (
    "native", "x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-bf16", "x86-64-amx",
    "aarch64-neon", "aarch64-dotprod", "aarch64-i8mm",
)  # fmt: skip
"""The values of a CPU's `isa`; `native` means the nearest of the others on the machine that builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """What every part of a Spec has: the span of its statement, and those of its fields."""

    span: Span | None = field(default=None, compare=False, repr=False)
    spans: tuple[tuple[str, Span], ...] = field(default=(), compare=False, repr=False)

    def at(self, name: str) -> Span | None:
        """The span of the value of field `name`; the statement's where the field has none of its own."""
        for key, span in self.spans:
            if key == name:
                return span
        return self.span


# ── model ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Located):
    """Where the model comes from.

    `huggingface("dir")`: `path` is the folder. `huggingface(hub = "org/name", revision = "<40 hex>")`: `path` is None.
    `torch("file.py:factory")` and `jax(...)`: `path` is the file, `entry` the function. `export("model.pt2")` and
    `onnx("model.onnx")`: `path` is the file. `path` is absolute; `written` is the string as it stands in the text.
    `nan_allowed` False: a NaN in a parameter or buffer, and an infinity in a parameter, is refused by name.
    """

    kind: SourceKind
    path: str | None = None
    entry: str | None = None
    hub: str | None = None
    revision: str | None = None
    written: str = ""
    nan_allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Located):
    """What the model is for. `pooling`, `normalize`, `prompt` and `dimensions` belong to `embed`, `labels` and `top` to
    `classify`, `labels` and `aggregation` (how tokens become entities, unless a request says it) to `tag`.

    `None` for an `embed` option: what the folder's sentence-transformers files say, else mean pooling, normalized, no
    prompt; `dimensions` (): those of config.json. `labels` is an absolute path (None: the source's own labels), `top` how many
    classes an answer names.
    """

    kind: TaskKind = "tensor"
    pooling: Pooling | None = None
    normalize: bool | None = None
    prompt: str | None = None
    dimensions: tuple[int, ...] = ()
    labels: str | None = None
    top: int = 1
    aggregation: Aggregation = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Located):
    """One input. `name` is what requests call it, `foreign` the name inside the source where that differs.

    `tensor`: `dtype` is one of DTYPES, each of `dims` a fixed extent or the name of a symbol; () is a scalar.
    `text`: `limit_tokens` counts special tokens too (None: what the source's tokenizer and position table allow).
    `image`: `formats` are those accepted (`jpeg`, `png`), `limit_bytes` bounds the encoded file (default 10 MiB).
    `policy` is what happens beyond a limit. `nan_allowed` False: a NaN is refused with 422; an infinity counts as NaN.
    `range` bounds each element, both ends included; None: unbounded.
    """

    name: str
    kind: InputKind = "tensor"
    foreign: str | None = None
    dtype: str | None = None
    dims: tuple[int | str, ...] = ()
    formats: tuple[str, ...] = ()
    limit_tokens: int | None = None
    limit_bytes: int | None = None
    policy: Policy = "reject"
    nan_allowed: bool = False
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Located):
    """One output that the spec names, in the source's order; `dtype` and `dims` as in `Input`, checked by build.

    `nan_allowed` False: an answer with a NaN or an infinity in this output is an error for the request that asked.
    """

    name: str
    foreign: str | None = None
    dtype: str = "float32"
    dims: tuple[int | str, ...] = ()
    nan_allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dim(Located):
    """The bounds of a symbol, both included."""

    name: str
    lo: int
    hi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet(Located):
    """Rows to calibrate or evaluate with. `path` is absolute, `written` as it stands in the text.

    `jsonl`: `field` is the key of the text (None: a row is an object of the inputs' names). `csv`: `columns` in the
    order of the input's last dimension (() : all but the label), `label` the column of labels. `npz`: arrays named as
    the inputs, labels under `label`. `folder`: images, one folder a class. `rows` None: all; `seed` picks which.
    """

    kind: DataKind
    path: str
    written: str
    field: str | None = None
    columns: tuple[str, ...] = ()
    label: str | None = None
    rows: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Data(Located):
    """The two data sets; None where not written."""

    calibrate: DataSet | None = None
    evaluate: DataSet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Located):
    """Events a second: `req/s` counts calls, `items/s` rows (also written img/s), `tok/s` tokens."""

    value: float
    unit: RateUnit = "req/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(Located):
    """The rate times `factor` for `duration_s`, once every `every_s` seconds."""

    factor: float
    duration_s: float
    every_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic(Located):
    """The load that targets are measured under.

    `rate` None and not `offline`: one request at a time, closed loop. `items` are the rows of a request, drawn evenly
    between both ends (default 1..1). `offline`: batch work, the whole of `evaluate` as fast as it goes.
    """

    rate: Rate | None = None
    arrival: Arrival = "poisson"
    burst: Burst | None = None
    items: tuple[int, int] = (1, 1)
    offline: bool = False


# ── targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTarget(Located):
    """`latency`, `ttft` or `itl`: the `quantile` (0.99 for p99, 1.0 for max) is at most `bound` seconds."""

    kind: Literal["latency", "ttft", "itl"] = "latency"
    statistic: str
    quantile: float
    op: Op = "<="
    bound: float
    at_rate: Rate | None = None
    arrival: Arrival | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputTarget(Located):
    """At least `bound` of `unit` completed a second while every latency target holds."""

    kind: Literal["throughput"] = "throughput"
    op: Op = ">="
    bound: float
    unit: RateUnit = "req/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyTarget(Located):
    """Agreement with the reference (`versus` "float32"), quality against "labels", or a metric of the user's (None).

    `metric` is a word (`cosine`, `top1`, `max_abs_error`, `mse`, `auc`, `f1`, `perplexity`, ...) or "metric", and then
    `metric_path` (absolute) and `metric_entry` name the function. `rise` True: the bound is on the relative rise
    against the reference (perplexity). `bound` has the metric's own unit (a fraction of 1 where % was written).
    """

    kind: Literal["accuracy"] = "accuracy"
    metric: str
    op: Op
    bound: float
    versus: Literal["float32", "labels"] | None = None
    rise: bool = False
    metric_path: str | None = None
    metric_entry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTarget(Located):
    """At most `bound` USD per `count` of `per`."""

    kind: Literal["cost"] = "cost"
    op: Op = "<="
    bound: float
    per: Literal["requests", "tokens"] = "requests"
    count: float = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTarget(Located):
    """At most `bound` bytes: peak resident set of the process (`host`) or allocation on the `device`."""

    kind: Literal["memory"] = "memory"
    place: Literal["host", "device"] = "host"
    op: Op = "<="
    bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartTarget(Located):
    """At most `bound` seconds from exec to the first correct answer; page cache warm, or dropped when `cold`."""

    kind: Literal["cold_start"] = "cold_start"
    op: Op = "<="
    bound: float
    cold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSizeTarget(Located):
    """At most `bound` bytes on disk, without evidence and report."""

    kind: Literal["bundle_size"] = "bundle_size"
    op: Op = "<="
    bound: int


Target = (
    LatencyTarget | ThroughputTarget | AccuracyTarget | CostTarget | MemoryTarget | ColdStartTarget | BundleSizeTarget
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets(Located):
    """What is promised, in the order written. Empty: nothing is promised, and the build says so."""

    items: tuple[Target, ...] = ()
    confidence: float = 0.95


# ── hardware ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak(Located):
    """The vendor's peak rate of one precision, operations a second (a fused multiply-add counts two)."""

    precision: str
    ops_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Located):
    """One entry of the catalogue. Sizes and rates are of the whole machine (CPU) or of one device."""

    name: str
    kind: HardwareKind
    aliases: tuple[str, ...] = ()
    vendor: str | None = None
    isa: str | None = None
    arch: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    peaks: tuple[Peak, ...] = ()
    price_usd_per_h: float | None = None
    topologies: tuple[str, ...] = ()
    source: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware(Located):
    """One alternative of the `hardware` block; properties of a catalogue name are filled in, written ones win.

    `cores` are physical (None: all that the machine has), `memory_bytes` is the host's, `price_usd_per_h` is for one
    machine, `count` the fleet's size (both ends included); targets hold per machine at rate / count. `isa` belongs to
    `cpu`, `arch` to `cuda` (`sm_90`) and `rocm` (`gfx942`), `topology` to `tpu` (`1x1`). `machine` is the catalogue's
    entry where a name was given. Written True: a `use` line said so; False: no `hardware` block, this machine's CPU.
    """

    kind: HardwareKind = "cpu"
    name: str | None = None
    isa: str | None = "native"
    arch: str | None = None
    topology: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    price_usd_per_h: float | None = None
    count: tuple[int, int] = (1, 1)
    machine: Machine | None = None
    written: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(Located):
    """`accept cpu "…"`: a measurement on the machine with this fingerprint name counts as proof."""

    kind: HardwareKind
    name: str


# ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision(Located):
    """A number format of weights and activations: `float32`, `bfloat16`, `float16`, `float8`, `int8`, `int4`.

    `group`: weights that share a scale (int8, int4); None: a scale per output channel.
    """

    kind: str = "float32"
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Located):
    """Layers whose name matches the glob `pattern` keep `precision`."""

    pattern: str
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal(Located):
    """One step of the objective, most important first: `minimize cost`, `maximize throughput`, `latency p99`."""

    sense: Literal["minimize", "maximize"]
    quantity: Literal["latency", "ttft", "itl", "throughput", "accuracy", "cost", "memory", "cold_start", "bundle_size"]
    statistic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Located):
    """What the search may choose between. A range of one value, or one precision, pins.

    Defaults (also what holds until search exists): float32, fusion auto, batch, wait, instances and threads None
    (free: the build chooses). `wait_s` is how long a request may wait for company. `prune` is the largest share of
    weights that may be dropped. `objective` (): the lowest latency at the reference precision.
    """

    precisions: tuple[Precision, ...] = (Precision(),)
    fusion: Fusion = "auto"
    batch: tuple[int, int] | None = None
    wait_s: tuple[float, float] | None = None
    instances: tuple[int, int] | None = None
    threads: tuple[int, int] | None = None
    keep: tuple[Keep, ...] = ()
    prune: float | None = None
    objective: tuple[Goal, ...] = ()
    budget_s: float = 300.0
    seed: int = 0


# ── serve ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Located):
    """At most `requests` wait; each has `deadline_s` from arrival unless the caller gives one (None: no deadline)."""

    requests: int = 256
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache(Located):
    """The exact response cache: `size_bytes`, and how long an answer lives (None: until evicted)."""

    size_bytes: int
    ttl_s: float | None = None
    kind: Literal["exact"] = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrade(Located):
    """When the queue is fuller than `above` (fraction) for `above_s`, new requests go to `variant` (a precision);

    back when it stays below `below` for `below_s`."""

    variant: str
    above: float
    above_s: float
    below: float
    below_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants(Located):
    """Callers are told apart by `header`; each may send `limit` (None: no limit)."""

    header: str
    limit: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve(Located):
    """How the server answers. `protocols`: of `kserve` and `openai`; /infer, health and metrics are always on."""

    protocols: tuple[Literal["kserve", "openai"], ...] = ("kserve", "openai")
    queue: Queue = Queue()
    cache: Cache | None = None
    degrade: Degrade | None = None
    tenants: Tenants | None = None


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Located):
    """One model with everything that holds for it.

    `inputs` (): those of the source's architecture. A task that reads text (embed, generate, rerank) has its text
    inputs here also when no `input` is written. `version` and `alias` are what protocols call it (`alias` None:
    `name`). `dims` are the symbols that have a `dim` line; for the rest see `Model.dim`.
    """

    name: str
    source: Source
    task: Task = Task()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    dims: tuple[Dim, ...] = ()
    version: str = "1"
    alias: str | None = None
    data: Data = Data()
    traffic: Traffic = Traffic()
    targets: Targets = Targets()
    search: Search = Search()

    def dim(self, name: str) -> Dim | None:
        """The bounds of symbol `name`: its `dim` line, else the default of `default_dim`; None where neither is."""
        for dim in self.dims:
            if dim.name == name:
                return dim
        return default_dim(self, name)


def default_dim(model: Model, name: str) -> Dim | None:
    """The bounds of a symbol that has no `dim` line: `batch` 1..64; `tokens` 1..512, or up to the text input's limit.

    None for any other symbol: `check` asks for its `dim` line.
    """
    if name == "batch":
        return Dim(name="batch", lo=1, hi=64)
    if name == "tokens":
        limits = [i.limit_tokens for i in model.inputs if i.kind == "text" and i.limit_tokens is not None]
        return Dim(name="tokens", lo=1, hi=max(limits, default=512))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Located):
    """A checked `.infer` file with its layers applied.

    `file` is the path as given, `folder` the absolute folder that paths are relative to, `files` the absolute paths of
    every file of the language that was read (the spec and its includes). `hardware` is never empty. `bundle_targets`
    is what stands at top level beside several models (memory, cold_start, bundle_size, cost, confidence); with one
    model everything is in that model's `targets`. `resolved` is the text of the spec with all layers applied: a valid
    spec by itself, and the bundle's `spec.infer`.
    """

    models: tuple[Model, ...]
    hardware: tuple[Hardware, ...] = (Hardware(written=False),)
    accepts: tuple[Accept, ...] = ()
    serve: Serve = Serve()
    bundle_targets: Targets = Targets()
    profile: str | None = None
    language: int = 1
    file: str = "<text>"
    folder: str | None = None
    files: tuple[str, ...] = ()
    resolved: str = ""

    @property
    def model(self) -> Model:
        """The only model; ValueError where there are several."""
        if len(self.models) != 1:
            raise ValueError(f"this spec has {len(self.models)} models: {', '.join(m.name for m in self.models)}")
        return self.models[0]

    @property
    def promised(self) -> bool:
        """Whether any target is written, for a model or for the bundle."""
        return bool(self.bundle_targets.items) or any(m.targets.items for m in self.models)
