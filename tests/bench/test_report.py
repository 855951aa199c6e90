"""The page and its data say what was measured, and what was not."""

from __future__ import annotations

import json

import pytest

from bench.cases import Case
from bench.document import document, readme_lines
from bench.interleave import Plan, Result, Row
from bench.profile import Kind, label
from bench.report import Run, render
from bench.start import Started
from bench.suites import Exactness, Profiled, Setting, StreamResult
from bench.worker import Block


def row(name: str, seconds: float, exact: float = 1.0, note: str = "") -> Row:
    return Row(name, note=note, blocks=[Block(seconds, seconds, 1)] * 3, exact=exact)


@pytest.fixture
def run() -> Run:
    case = Case("minilm", 1, 128, "int8")
    absent = Row("OpenVINO", failure="not installed: No module named 'nncf'")
    rows = (row("infc", 0.1, 0.995), row("onnxruntime", 0.2, 0.98, note="per channel"), row("b", 0.3, 0.992), absent)
    streams = StreamResult(
        "minilm", "int8", (row("infc", 1.0, 0.995), row("b, padded", 3.0), row("b, sorted", 1.4), row("b, one by one", 2.0)),
        (Exactness("infc", 0.996, 0.99), Exactness("b", failure="it died")),
    )  # fmt: skip
    kind = Kind("layer.*.output.dense", "linear", "template:linear", 6, 0.05, 0.05 * 80e9)
    return Run(
        results=[Result(case, rows, (100.0, 100.0))],
        streams=[streams],
        starts=[Started("infc", "int8", 2**20, "", [0.2, 0.1], 2**21, 0.995), Started("other", "int8", failure="no")],
        profiles=[Profiled(case, 100.0, (kind, Kind("softmax", "softmax", "tvm", 1, 0.01, 5.0)))],
        settings=[Setting("b", "int8", "1.2", "static")],
        limits={1: {"fma": 50.0, "memory": 10.0}, 2: {"fma": 99.6, "memory": 20.0}},
        plan=Plan(),
        machine="A CPU",
        threads=2,
        commit="abc",
        date="2026-01-02",
        load=0.25,
        minutes=3.2,
    )


def test_the_page_says_what_was_measured_and_what_was_not(run: Run) -> None:
    page = render(run)
    for said in (
        "| encoders | int8 | 1 | 3.00× | 3.00× | 2.00× | 1 |",
        "|  | onnxruntime | 200.0 | 200.0 | 2.00 [2.00–2.00] |",
        "0.980000 † |",
        "|  | OpenVINO | – | – | – | – | not installed: No module named 'nncf' |",
        "infc runs at **3.00×** the speed of the best peer, b",
        "Open all the same: OpenVINO did not run.",
        "| float32 multiply-add, GFLOP/s | 50 | 100 |",
        "Peers padded: infc runs at **3.00×**",
        "Peers sorted or bucketed: infc runs at **1.40×**",
        "| infc | int8 | 100 | 150 | 2 | 1 | 0.995000 |",
        "| infc | int8 | 0.996000 | 0.990000 |",
        "| b | int8 | – | it died |",
        "| layer.*.output.dense | 6 | 50.0 (80%) |",
        "| softmax | 1 | 10.0 |",
        "* minilm-1x128-int8, onnxruntime: per channel",
        "Commit abc, 2026-01-02; the load average before the run was 0.2",
    ):
        assert said in page, said


def test_the_data_can_be_quoted(run: Run) -> None:
    data = json.loads(json.dumps(document(run), allow_nan=False))
    assert data["summary"][0]["mean"] == pytest.approx(3.0)
    assert data["cases"][0]["verdict"]["open"] == "OpenVINO did not run"
    assert data["streams"][0]["sorted_or_bucketed"]["ratio"] == pytest.approx(1.4)
    assert readme_lines(run) == [
        "encoders, int8: 3.00× the best peer's speed (least 3.00×), 2.00× onnxruntime's; 1 of 1 cases open",
        "stream, int8: 3.00× the best padded peer's speed",
        "stream, int8: 1.40× the best sorted or bucketed peer's speed",
        "start, int8: infc answers after 150 ms, 2 MiB resident, 1 MiB on disk",
    ]


def test_products_are_told_apart_by_their_place_in_a_layer() -> None:
    assert label("encoder.layer.3.output.dense", "linear") == "layer.*.output.dense"
    assert label("encoder.layer.3.output.LayerNorm", "layer_norm") == "layer_norm"
    assert label("layers.0", "linear") == "layers.0"
