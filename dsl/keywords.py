"""The one table of the language: word → where it may stand, form, default, help, whether `build` honours it yet.

Checker, formatter, `--explain`, JSON Schema and "not supported yet" read it; a new statement is a line here (and its
field in `spec.py`), never a change of the grammar.

A form is a pattern of one statement, between commas:
    word, `<=`, `=`, `:`     stands for itself
    name:type                a value, read as `type` (values.py) and kept under `name`; `type..` is a range
    name:a|b                 one of these words
    [ ... ]                  may be left out
The first pattern is the head; the others are properties that may follow it, after commas, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

TOP = "top"
SCOPED = ("data", "traffic", "targets", "search")
"""Blocks that may stand inside a `model` block."""

BUNDLE_TARGETS = ("memory", "cold_start", "bundle_size", "cost", "confidence")
"""What a top-level `targets` block may hold beside several models."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """One word of the language.

    `blocks`: where it may stand. `head` and `properties`: its form. `each`: every comma-separated item has the head's
    form. `opens`: the block that follows, `needs_block`: it must. `key`: captures that tell two statements of this word
    apart (empty: one statement a block). `whole`: a later layer replaces all of them together. `honoured`: True, False
    or, in words, which part `build` honours.
    """

    word: str
    blocks: tuple[str, ...]
    head: str = ""
    properties: tuple[str, ...] = ()
    each: bool = False
    opens: str | None = None
    needs_block: bool = True
    key: tuple[str, ...] = ()
    whole: bool = False
    required: bool = False
    default: str = ""
    honoured: bool | str = True
    help: str = ""


def _block(word: str, blocks: tuple[str, ...], help: str, default: str = "", honoured: bool | str = True) -> Keyword:
    return Keyword(word, blocks, opens=word, default=default, honoured=honoured, help=help)


KEYWORDS: tuple[Keyword, ...] = (
    # ── top level ────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("infer", (TOP,), "language:count", required=True,
        help="the version of the language; the first statement of every file"),
    Keyword("include", (TOP,), "path:path", key=("path",),
        help="another file as an earlier layer: what this file says replaces it"),
    Keyword("let", (TOP,), "name:name = value:any", key=("name",),
        help="a name for a value, to be used wherever that value may stand"),
    Keyword("profile", (TOP,), "name:name", opens=TOP, key=("name",),
        help="a layer that `--profile NAME` adds"),
    Keyword("drop", (TOP, "model", *SCOPED, "hardware", "serve"), "what:any", key=("what",),
        help="removes a statement of an earlier layer, as in `drop latency p99`"),
    Keyword("model", (TOP,), "name:name", opens="model", key=("name",), required=True,
        help="a model: where it comes from, what it takes and gives"),
    _block("data", (TOP, "model"), "rows to calibrate and evaluate with",
        "none: accuracy cannot be measured"),
    _block("traffic", (TOP, "model"), "the load that is expected",
        "a request is one row, sent one at a time"),
    _block("targets", (TOP, "model"), "what is promised and proved",
        "none: the lowest latency at the reference precision, and nothing is promised"),
    _block("hardware", (TOP,), "the machines to choose from",
        "this machine's CPU"),
    _block("search", (TOP, "model"), "what the build may choose between",
        "float32"),
    _block("serve", (TOP,), "how the server answers",
        "every protocol, a queue of 256 requests"),
    # ── model ────────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("source", ("model",), "source:source", ("nan:nan allowed",), required=True,
        help="where the model comes from; a weight that is NaN or infinite is refused unless allowed",
        honoured="huggingface, torch, export"),
    Keyword("task", ("model",), "task:task", default="tensor", honoured="tensor, embed, classify, rerank, tag",
        help="what the model is for; brings pre- and post-processing into the bundle"),
    Keyword("input", ("model",), "[foreign:string as] name:name : type:input",
        ("up to limit:limit", "policy:reject|truncate", "nan:nan allowed", "range range:number.."),
        key=("name",), whole=True, default="what the source declares; NaN refused, no range, reject beyond a limit",
        honoured="tensors and text", help="an input: name, type and limits"),
    Keyword("output", ("model",), "[foreign:string as] name:name : type:tensor", ("nan:nan allowed",), key=("name",),
        default="output0, output1, ... or the source's own names; an answer that is NaN or infinite is an error",
        help="an output: name and type, checked by build"),
    Keyword("dim", ("model",), "name:name in range:count..", key=("name",),
        default="batch in 1..64, tokens in 1..512 (or the text input's limit)", help="the bounds of a symbol"),
    Keyword("version", ("model",), "version:version", default='"1"', help="what protocols call this version"),
    Keyword("alias", ("model",), "alias:alias", default="the model's name", help="what protocols call the model"),
    # ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("calibrate", ("data",), "source:dataset", ("rows rows:count", "seed seed:index"),
        default="none: nothing is calibrated", help="rows that calibrate quantization"),
    Keyword("evaluate", ("data",), "source:dataset", ("rows rows:count", "seed seed:index"),
        default="none: accuracy is not measured", help="rows that accuracy is measured on"),
    # ── traffic ──────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("rate", ("traffic",), "rate:rate",
        ("arrival:poisson|steady", "burst factor:factor for duration:time every every:time"),
        default="one request at a time", honoured="req/s and items/s",
        help="the rate of requests, how they arrive (poisson unless steady), bursts"),
    Keyword("items", ("traffic",), "range:count..", default="1", help="rows in a request"),
    Keyword("offline", ("traffic",), default="off", help="batch work: no rate, as fast as it goes (64 requests at a time)"),
    # ── targets ──────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("latency", ("targets",), "stat:stat <= bound:time [at rate:rate]", ("arrival:poisson|steady",),
        key=("stat",), help="intended send time to last byte, tokenization included"),
    Keyword("ttft", ("targets",), "stat:stat <= bound:time [at rate:rate]", ("arrival:poisson|steady",), key=("stat",),
        honoured=False, help="to the first token (`generate`)"),
    Keyword("itl", ("targets",), "stat:stat <= bound:time [at rate:rate]", ("arrival:poisson|steady",), key=("stat",),
        honoured=False, help="between tokens (`generate`)"),
    Keyword("throughput", ("targets",), ">= bound:rate", help="completed a second while every latency target holds"),
    Keyword("accuracy", ("targets",), "metric:metric [rise:rise] op:compare bound:ratio [vs versus:float32|labels]",
        key=("metric", "versus"), honoured="all but perplexity",
        help="agreement with the reference, quality against labels, or a metric of your own"),
    Keyword("cost", ("targets",), "<= bound:money per count:events", help="price times machines, over the rate"),
    Keyword("memory", ("targets",), "[place:host|device] <= bound:size", key=("place",), honoured="host",
        help="peak resident set (or `device` allocation) under load"),
    Keyword("cold_start", ("targets",), "[cold:cold] <= bound:time", key=("cold",),
        help="exec to first correct answer, page cache warm (`cold`: dropped)"),
    Keyword("bundle_size", ("targets",), "<= bound:size", help="bytes on disk without evidence and report"),
    Keyword("confidence", ("targets",), "bound:confidence", default="95 %",
        help="of every statistical statement above"),
    # ── hardware ─────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("use", ("hardware",), "[kind:cpu|cuda|rocm|tpu] [name:string]", opens="use", needs_block=False,
        key=("#",), whole=True, honoured="one CPU", help="one alternative: a kind, a catalogue name, properties"),
    Keyword("accept", ("hardware",), "kind:cpu|cuda|rocm|tpu name:string", key=("kind", "name"),
        help="a measurement on this other machine counts as proof"),
    Keyword("isa", ("use", "machine"), "isa:isa", default="native", help="the instruction set of a CPU"),
    Keyword("cores", ("use", "machine"), "cores:count", default="all", help="physical cores"),
    Keyword("memory", ("use", "machine"), "memory:size", default="all", help="the host's memory"),
    Keyword("device_memory", ("use", "machine"), "memory:size", default="the catalogue's",
        help="the accelerator's memory"),
    Keyword("price", ("use", "machine"), "price:price", default="none: cost is not known",
        help="of one machine, an hour"),
    Keyword("arch", ("use", "machine"), "arch:arch", default="the catalogue's",
        help="an accelerator's architecture: sm_90, gfx942"),
    Keyword("topology", ("use", "machine"), "shape:shape", each=True, default="1x1", help="chips of a TPU slice"),
    Keyword("count", ("use",), "range:count..", default="1", honoured=False,
        help="a fleet: targets hold per machine at rate / count"),
    # ── the catalogue's own files ────────────────────────────────────────────────────────────────────────────────────
    Keyword("machine", ("catalogue",), "name:string", opens="machine", key=("name",),
        help="one entry of the catalogue"),
    Keyword("kind", ("machine",), "kind:cpu|cuda|rocm|tpu", required=True, help="what sort of machine it is"),
    Keyword("alias", ("machine",), "alias:alias", each=True, help="other names of the entry"),
    Keyword("vendor", ("machine",), "vendor:string", help="who makes the chip"),
    Keyword("bandwidth", ("machine",), "bandwidth:bandwidth", help="of the memory that holds weights"),
    Keyword("peak", ("machine",), "precision:name speed:speed", key=("precision",),
        help="operations a second of one precision (a fused multiply-add counts two)"),
    Keyword("from", ("machine",), "source:string", required=True, help="where sizes, rates and price were read"),
    Keyword("date", ("machine",), "date:date", required=True, help="when they were read (YYYY-MM-DD)"),
    # ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("precision", ("search",), "precision:precision", each=True, default="float32", honoured="one of float32, bfloat16, int8",
        help="number formats to try; one pins"),
    Keyword("fusion", ("search",), "fusion:auto|on|off", default="auto", honoured=False, help="whether ops are fused"),
    Keyword("batch", ("search",), "range:count..", default="free", honoured=False, help="rows that run together"),
    Keyword("wait", ("search",), "range:wait..", default="free", honoured=False,
        help="how long a request waits for company"),
    Keyword("instances", ("search",), "range:count..", default="free", honoured=False,
        help="copies of the model that run at once"),
    Keyword("threads", ("search",), "range:count..", default="free", honoured=False, help="threads of one copy"),
    Keyword("keep", ("search",), "pattern:string precision:precision", key=("pattern",), honoured="float32, bfloat16, int8",
        help="layers (a glob over their names) that keep a precision"),
    Keyword("prune", ("search",), "up to share:share", default="nothing", honoured=False,
        help="weights that may be dropped"),
    Keyword("objective", ("search",), "[sense:minimize|maximize] quantity:quantity [stat:stat]",
        ("then [sense:minimize|maximize] quantity:quantity [stat:stat]",),
        default="minimize latency", honoured=False, help="what to improve once every target holds, in order"),
    Keyword("budget", ("search",), "budget:time", default="5 min", help="how long the proof may take"),
    Keyword("seed", ("search",), "seed:index", default="0", help="of the load that proves targets"),
    # ── serve ────────────────────────────────────────────────────────────────────────────────────────────────────────
    Keyword("protocols", ("serve",), "protocol:kserve|openai", each=True, whole=True, default="kserve, openai",
        help="beside the native /infer, health and metrics, which are always on"),
    Keyword("queue", ("serve",), "size:requests", ("deadline deadline:time",), default="256 requests",
        help="how many requests may wait, and how long"),
    Keyword("cache", ("serve",), "kind:exact", ("size:size", "ttl ttl:time"), default="off", honoured=False,
        help="answers of equal requests are kept"),
    Keyword("degrade", ("serve",), opens="degrade", default="off", honoured=False,
        help="a cheaper measured variant takes over while the queue is long"),
    Keyword("to", ("degrade",), "variant variant:name when queue > above:share for above_for:time",
        ("back below below:share for below_for:time",), honoured=False, required=True,
        help="which variant, when, and when back"),
    Keyword("tenants", ("serve",), "header header:header", ("limit limit:rate each",), default="off", honoured=False,
        help="callers told apart by a header, with a rate limit each"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """An argument of a call: `name = value`, or by position. `many`: all that is left by position."""

    name: str
    type: str
    required: bool = False
    positional: bool = False
    many: bool = False
    help: str = ""


@dataclass(frozen=True, slots=True)
class CallForm:
    """`name(options)`; `bare`: may be written without brackets. `one_of`: exactly one of these must be given."""

    name: str
    options: tuple[Option, ...] = ()
    bare: bool = False
    one_of: tuple[str, ...] = ()
    honoured: bool = True
    help: str = ""


_ROWS = (Option("path", "path", required=True, positional=True, help="the file"),)
_GROUP = (Option("group", "count", help="weights that share a scale"),)

CALLS: dict[str, tuple[CallForm, ...]] = {
    "source": (
        CallForm("huggingface", (
            Option("path", "path", positional=True, help="a folder with config.json and safetensors"),
            Option("hub", "hub", help="org/name, from the local cache"),
            Option("revision", "revision", help="40 hex digits"),
        ), one_of=("path", "hub"), help="a Hugging Face model folder"),
        CallForm("torch", (Option("factory", "entry", required=True, positional=True, help="file.py:function"),),
            help="a Python function that returns an nn.Module in eval mode"),
        CallForm("export", (Option("path", "path", required=True, positional=True, help="a .pt2 file"),),
            help="a saved torch.export program"),
        CallForm("onnx", (Option("path", "path", required=True, positional=True, help="an .onnx file"),),
            honoured=False, help="an ONNX model"),
        CallForm("jax", (Option("factory", "entry", required=True, positional=True, help="file.py:function"),),
            honoured=False, help="a JAX function"),
    ),
    "task": (
        CallForm("tensor", bare=True, help="tensors in, tensors out"),
        CallForm("embed", (
            Option("pooling", "mean|cls|max|last|mean_sqrt|weighted_mean", help="tokens to one vector"),
            Option("normalize", "true|false", help="to length 1"),
            Option("prompt", "string", help="text put before each input"),
            Option("dimensions", "counts", help="shorter embeddings that a request may ask for"),
        ), bare=True, help="text to a vector"),
        CallForm("classify", (
            Option("labels", "path", help="a file with one label a line"),
            Option("top", "count", help="how many classes an answer names"),
        ), bare=True, help="text, or a pair of texts, to classes"),
        CallForm("rerank", bare=True, help="query and document to a score"),
        CallForm("tag", (
            Option("labels", "path", help="a file with one label a line"),
            Option("aggregation", "none|simple|first|average|max", help="how tokens become entities"),
        ), bare=True, help="a label for each token of a text"),
        CallForm("generate", bare=True, honoured=False, help="text to text, token by token"),
    ),
    "dataset": (
        CallForm("jsonl", (*_ROWS, Option("field", "string",
            help="the key of the text")), help="one JSON object a line"),
        CallForm("csv", (*_ROWS, Option("columns", "strings", help="the columns of the input, in order"),
            Option("label", "string", help="the column of labels")), help="comma-separated, with a header"),
        CallForm("npz", _ROWS, help="NumPy arrays named as the inputs; labels under `label`"),
        CallForm("folder", _ROWS, help="images, one folder a class"),
    ),
    "metric": (
        *(CallForm(name, bare=True, honoured=name != "perplexity")
          for name in ("cosine", "top1", "top5", "max_abs_error", "mse", "auc", "f1", "precision", "recall",
                       "perplexity")),
        CallForm("metric", (Option("function", "entry", required=True, positional=True, help="file.py:function"),),
            help="fn(outputs, labels) -> float"),
    ),
    "precision": (
        CallForm("float32", bare=True, help="the reference"),
        CallForm("bfloat16", bare=True, help="weights and activations; float32 sums"),
        CallForm("float16", bare=True, honoured=False),
        CallForm("float8", bare=True, honoured=False),
        CallForm("int8", _GROUP, bare=True, help="a scale per output channel, and per token as it comes"),
        CallForm("int4", _GROUP, bare=True, honoured=False),
    ),
}  # fmt: skip
"""The types that are written as calls."""

AGREEMENT_METRICS = ("cosine", "top1", "top5", "max_abs_error", "mse", "perplexity")
"""Metrics that may be taken against the reference model (`vs float32`)."""

LABEL_METRICS = ("top1", "top5", "auc", "f1", "precision", "recall", "mse", "max_abs_error", "perplexity")
"""Metrics that may be taken against labels."""

ERROR_METRICS = ("max_abs_error", "mse", "perplexity")
"""Metrics where less is better, so bounded with <=."""

_BY_BLOCK: dict[str, dict[str, Keyword]] = {}
for _keyword in KEYWORDS:
    for _name in _keyword.blocks:
        _BY_BLOCK.setdefault(_name, {})[_keyword.word] = _keyword


def words_of(block: str) -> dict[str, Keyword]:
    """The words that may stand in a block, in the table's order."""
    return _BY_BLOCK.get(block, {})


def homes_of(word: str) -> list[str]:
    """The blocks where a word may stand; empty for a word that the language has not."""
    return [block for block, words in _BY_BLOCK.items() if word in words and block not in ("catalogue", "machine")]
