"""What the language says becomes the right Spec: the two examples of the design, every statement, scopes, defaults."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from infc.dsl import Spec, check_file, check_text
from infc.dsl.make_targets import quantile_of
from infc.dsl.spec import (
    AccuracyTarget,
    BundleSizeTarget,
    Burst,
    Cache,
    ColdStartTarget,
    CostTarget,
    Degrade,
    Dim,
    Goal,
    Hardware,
    Input,
    Keep,
    LatencyTarget,
    MemoryTarget,
    Output,
    Precision,
    Queue,
    Rate,
    Task,
    Tenants,
    ThroughputTarget,
)
from infc.dsl.warn import requests_to_prove

from .samples import EMBEDDINGS, EVERYTHING, FRAUD


def spec_of(text: str) -> Spec:
    result = check_text(text, file="x.infer")
    assert result.spec is not None, [f"{d.span}: {d.title}" for d in result.errors]
    return result.spec


def test_the_first_example_of_the_design_reads_as_it_is_meant() -> None:
    spec = spec_of(EMBEDDINGS)
    model = spec.model
    assert (model.name, model.source.kind, model.source.written) == ("minilm", "huggingface", "models/all-MiniLM-L6-v2")
    assert model.task == Task(kind="embed", pooling="mean", normalize=True)
    assert model.inputs == (Input(name="text", kind="text", limit_tokens=256, policy="truncate"),)
    assert model.dim("tokens") == Dim(name="tokens", lo=1, hi=256)
    assert model.data.evaluate is not None
    assert (model.data.evaluate.kind, model.data.evaluate.field, model.data.evaluate.rows) == ("jsonl", "text", 512)
    assert model.traffic.rate == Rate(value=40.0)
    assert model.traffic.burst == Burst(factor=4, duration_s=10, every_s=60)
    assert (model.traffic.items, model.traffic.arrival) == ((1, 16), "poisson")
    assert model.targets.items == (
        LatencyTarget(statistic="p99", quantile=0.99, bound=0.02),
        ThroughputTarget(bound=120.0),
        AccuracyTarget(metric="cosine", op=">=", bound=0.995, versus="float32"),
        CostTarget(bound=0.6, per="requests", count=1e6),
        MemoryTarget(bound=512 << 20),
        ColdStartTarget(bound=0.1),
    )
    assert model.targets.confidence == 0.95
    named, plain, cuda = spec.hardware
    assert (named.name, named.kind, named.cores, named.memory_bytes) == ("aws:c7a.large", "cpu", 2, 4 << 30)
    assert plain == Hardware(isa="x86-64-v4", cores=2, memory_bytes=4 << 30, price_usd_per_h=0.08)
    assert (cuda.kind, cuda.arch, cuda.count, cuda.price_usd_per_h) == ("cuda", "sm_90", (1, 2), 3.5)
    search = model.search
    assert search.precisions == (
        Precision(),
        Precision(kind="bfloat16"),
        Precision(kind="int8"),
        Precision(kind="int4", group=32),
    )
    assert (search.fusion, search.batch, search.instances, search.budget_s) == ("auto", (1, 64), (1, 2), 300)
    assert search.objective == (
        Goal(sense="minimize", quantity="cost"),
        Goal(sense="minimize", quantity="latency", statistic="p99"),
    )
    serve = spec.serve
    assert serve.protocols == ("kserve", "openai")
    assert serve.queue == Queue(requests=256, deadline_s=0.2)
    assert serve.cache == Cache(size_bytes=64 << 20, ttl_s=600)
    assert serve.degrade == Degrade(variant="int8", above=0.5, above_s=1, below=0.1, below_s=30)
    assert serve.tenants == Tenants(header="x-tenant", limit=Rate(value=50.0))


def test_the_second_example_of_the_design_reads_as_it_is_meant() -> None:
    model = spec_of(FRAUD).model
    assert (model.source.kind, model.source.entry) == ("torch", "make")
    assert model.task == Task(kind="tensor")
    assert model.inputs == (Input(name="features", dtype="float32", dims=("batch", 64)),)
    assert model.outputs == (Output(name="score", dims=("batch", 1)),)
    assert model.dims == (Dim(name="batch", lo=1, hi=64),)


def test_the_examples_of_the_design_have_no_error_and_only_the_warning_about_the_missing_price() -> None:
    assert [d.code for d in check_text(EMBEDDINGS).diagnostics] == ["W0101"]
    assert check_text(FRAUD).diagnostics == ()


def test_every_other_statement_reads_as_it_is_meant() -> None:
    spec = spec_of(EVERYTHING)
    words, pictures, table, pairs = spec.models
    assert (words.source.hub, words.source.path, words.version, words.alias) == ("org/name", None, "2026.47", "chat")
    assert words.targets.items[0] == LatencyTarget(
        kind="ttft", statistic="p95", quantile=0.95, bound=0.2, at_rate=Rate(value=3.0), arrival="poisson"
    )
    assert [t.bound for t in words.targets.items] == [0.2, 0.05, 3, 0.5, 1000, 0.01, 12.5, 0.9, 20e9]
    metric = words.targets.items[7]
    assert isinstance(metric, AccuracyTarget)
    assert (metric.metric, metric.metric_entry, metric.versus) == ("metric", "fn", None)
    assert words.data.evaluate is not None
    assert (words.data.evaluate.columns, words.data.evaluate.label, words.data.evaluate.seed) == (
        ("a", "b", "c"),
        "y",
        1,
    )
    assert words.search.keep == (Keep(pattern="encoder.layer.11.*", precision=Precision()),)
    assert (words.search.prune, words.search.wait_s, words.search.threads) == (0.3, (0, 0.005), (2, 2))
    assert [g.quantity for g in words.search.objective] == ["cost", "latency", "throughput"]
    assert words.traffic.arrival == "steady"
    assert pictures.traffic.offline
    assert pictures.data.evaluate is not None
    assert pictures.data.evaluate.rows == 64
    assert pictures.inputs[0].formats == ("jpeg", "png")
    assert pictures.inputs[0].limit_bytes == 4 << 20
    assert pictures.targets.items[0] == ThroughputTarget(bound=50.0, unit="items/s")
    x, kind, flag = table.inputs
    assert (x.name, x.foreign, x.dims, x.nan_allowed, x.range) == ("x", "x:0", ("batch", "width"), True, (-5.0, 5.0))
    assert (kind.dtype, flag.dims) == ("int64", ())
    assert table.source.nan_allowed
    assert [o.nan_allowed for o in table.outputs] == [True]
    assert not pictures.source.nan_allowed
    assert table.dim("width") == Dim(name="width", lo=4, hi=64)
    assert [i.name for i in pairs.inputs] == ["query", "document"]
    assert spec.bundle_targets.confidence == 0.99
    assert spec.bundle_targets.items[1] == MemoryTarget(place="device", bound=40 * 10**9)
    assert spec.bundle_targets.items[4] == BundleSizeTarget(bound=3 * 10**9)
    rocm, tpu, cuda = spec.hardware
    assert (rocm.arch, rocm.count, tpu.topology, tpu.machine is not None, cuda.arch) == (
        "gfx942",
        (1, 8),
        "1x1",
        True,
        "sm_90",
    )
    assert [(a.kind, a.name) for a in spec.accepts] == [("cpu", "some machine")]
    assert (spec.serve.protocols, spec.serve.queue.deadline_s) == (("openai",), None)


def test_without_its_optional_blocks_a_spec_has_the_documented_defaults() -> None:
    spec = spec_of('infer 1\nmodel m { source huggingface("hf") }\n')
    model = spec.model
    assert spec.hardware == (Hardware(written=False),)
    assert not spec.promised
    assert (model.task.kind, model.traffic.rate, model.traffic.items) == ("tensor", None, (1, 1))
    assert model.search.precisions == (Precision(),)
    assert spec.serve.queue == Queue(requests=256)
    assert (model.dim("batch"), model.dim("tokens")) == (
        Dim(name="batch", lo=1, hi=64),
        Dim(name="tokens", lo=1, hi=512),
    )
    assert model.dim("width") is None


def test_with_one_model_a_block_may_stand_inside_or_outside() -> None:
    inside = FRAUD.replace("}\n", "  traffic { rate 5 req/s }\n}\n")
    outside = FRAUD + "traffic { rate 5 req/s }\n"
    assert spec_of(inside).model.traffic == spec_of(outside).model.traffic == spec_of(outside).model.traffic


def test_every_value_keeps_its_span() -> None:
    lines = EMBEDDINGS.split("\n")
    spec = spec_of(EMBEDDINGS)
    target = spec.model.targets.items[0]
    at = target.at("bound")
    assert at is not None
    assert lines[at.line - 1][at.col - 1 : at.end - 1] == "20 ms"
    queue = spec.serve.queue.at("deadline_s")
    assert queue is not None
    assert lines[queue.line - 1][queue.col - 1 : queue.end - 1] == "200 ms"
    assert spec.model.source.at("path") is not None


def test_everything_written_in_a_spec_has_a_span() -> None:
    def visit(thing: object) -> None:
        if isinstance(thing, tuple):
            for item in thing:  # pyright: ignore[reportUnknownVariableType]
                visit(item)  # pyright: ignore[reportUnknownArgumentType]
        elif is_dataclass(thing) and hasattr(thing, "span") and type(thing).__name__ not in ("Spec", "Machine", "Peak"):
            if thing.span is None:  # pyright: ignore
                assert thing == type(thing)(), f"{thing} was written, and has no span"
            for field in fields(thing):
                visit(getattr(thing, field.name))

    visit(spec_of(EVERYTHING).models)
    visit(spec_of(EMBEDDINGS).models)


@pytest.mark.parametrize(("statistic", "quantile"), [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)])
def test_percentiles_are_exact_decimals(statistic: str, quantile: float) -> None:
    assert quantile_of(statistic) == quantile


def test_the_requests_that_a_percentile_takes_are_those_of_the_design() -> None:
    assert requests_to_prove(0.99, 0.95) == 375
    assert requests_to_prove(0.999, 0.95) == 3763


def test_files_are_looked_for_beside_the_spec_and_only_when_wanted(tmp_path: Path) -> None:
    path = tmp_path / "x.infer"
    path.write_text(FRAUD)
    assert [d.code for d in check_file(path).diagnostics] == ["E0401"]
    assert check_file(path, need_files=False).ok
    (tmp_path / "model.py").write_text("")
    spec = check_file(path).spec
    assert spec is not None
    assert spec.model.source.path == str(tmp_path / "model.py")
    assert spec.files == (str(path.resolve()),)


def test_a_link_out_of_the_folder_is_refused_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.py").write_text("")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model.py").symlink_to(tmp_path / "elsewhere" / "model.py")
    path = tmp_path / "here" / "x.infer"
    path.write_text(FRAUD)
    assert [d.code for d in check_file(path).diagnostics] == ["E0402"]
    assert check_file(path, allow_paths=[tmp_path / "elsewhere"]).ok


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20ms", 0.02),
        ("20 ms", 0.02),
        ("0.5 s", 0.5),
        ("1e-4 s", 1e-4),
        ("1_000 us", 1e-3),
        ("1 min", 60.0),
        ("2 h", 7200.0),
    ],
)
def test_times_are_read_in_seconds(text: str, value: float) -> None:
    (target,) = spec_of(FRAUD + f"targets {{ latency p99 <= {text} }}").model.targets.items
    assert target.bound == value


@pytest.mark.parametrize(
    ("text", "value"), [("1 KiB", 1024), ("1 KB", 1000), ("2 GiB", 2 << 30), ("1.5 MiB", 3 << 19), ("1M B", 10**6)]
)
def test_sizes_are_read_in_bytes(text: str, value: int) -> None:
    (target,) = spec_of(FRAUD + f"targets {{ memory <= {text} }}").model.targets.items
    assert target.bound == value
    assert isinstance(target.bound, int)
