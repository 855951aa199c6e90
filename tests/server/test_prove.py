"""`serve prove`: load in blocks, recorded request by request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .bundles import Fixture
from .conftest import MakeBundle
from .proving import FAILED, latencies, prove, statuses, try_prove

QUICK = ("--block-seconds", "0.5", "--warmup", "0.1")


@pytest.fixture(scope="module")
def score_bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle()


@pytest.fixture(scope="module")
def embed_bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle(Fixture(kind="embed"))


def test_a_document_holds_what_was_run_and_what_was_seen(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    traffic = {"rate": 120.0, "arrival": "steady"}
    targets = [{"kind": "latency", "statistic": "p99", "op": "<=", "bound": 1e-9, "unit": "s"}]
    bundle = make_bundle(Fixture(manifest={"targets": targets, "traffic": traffic}))
    out = tmp_path / "folder" / "e.json"
    out.parent.mkdir()
    result = try_prove(serve_binary, bundle, tmp_path, *QUICK, "--blocks", "2", "--seed", "9", f"--out={out}")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert [path.name for path in out.parent.iterdir()] == ["e.json"]
    document = json.loads(out.read_text())
    assert set(document) == {
        "schema", "utc", "command", "bundle", "subject", "load", "seed", "warmup_s", "block_s", "fingerprint", "tools",
        "placement", "before", "blocks", "starts", "fill",
    }  # fmt: skip
    assert (document["schema"], document["seed"]) == ("infc.evidence/2", 9)
    assert (document["warmup_s"], document["block_s"]) == (0.1, 0.5)
    assert document["command"] == [
        "prove",
        "--bundle",
        bundle.name,
        *QUICK,
        "--blocks",
        "2",
        "--seed",
        "9",
        "--out=e.json",
    ]
    load = document["load"]
    assert (load["mode"], load["rate"], load["arrival"], load["items"]) == ("open", 120.0, "steady", [1, 1])
    assert (load["connections"], load["burst"], load["requests"]["source"]) == (None, None, "generated")
    assert set(document["before"]) == {"jitter_p99_s", "steal", "foreign", "pressure"}
    assert document["before"]["jitter_p99_s"] > 0
    assert (document["starts"], document["fill"]) == ([], None)
    assert document["fingerprint"]["physical_cores"] is None or document["fingerprint"]["physical_cores"] >= 1
    assert [block["index"] for block in document["blocks"]] == [0, 1]
    for block in document["blocks"]:
        assert set(block) == {
            "index", "seed", "start_s", "sent", "ok", "rows", "elapsed_s", "errors", "latency", "lag_p99_s", "lag_max_s",
            "connections_most", "connections_short", "generator_cpu", "server_cpu", "foreign", "steal", "pressure",
            "peak_rss_bytes", "ended",
        }  # fmt: skip
        assert (block["sent"], block["ok"], block["rows"], block["errors"]) == (60, 60, 60, {})
        found = latencies(block)
        assert len(found) == 60
        assert (found > 0).all()
        assert (found < FAILED).all()
        assert block["elapsed_s"] >= 0.5
        assert block["start_s"] > 0
        assert 0 <= block["lag_p99_s"] <= block["lag_max_s"]
        assert block["connections_most"] >= 1
        assert (block["connections_short"], block["ended"]) == (0, None)
        assert block["peak_rss_bytes"] > 1 << 20
        for share in ("server_cpu", "foreign", "steal", "pressure"):
            assert block[share] is None or block[share] >= 0


def test_blocks_have_their_rate_exactly_and_seeds_of_their_own(
    serve_binary: Path, score_bundle: Path, tmp_path: Path
) -> None:
    first = prove(serve_binary, score_bundle, tmp_path, *QUICK, "--rate", "90.5", "--blocks", "3")
    later = prove(serve_binary, score_bundle, tmp_path, *QUICK, "--rate", "90.5", "--blocks", "2", "--first-block", "2")
    # 45.25 requests: 45, and every fourth time one more.
    assert {block["sent"] for block in first["blocks"]} <= {45, 46}
    assert len({block["seed"] for block in first["blocks"] + later["blocks"]}) == 4
    assert [block["index"] for block in later["blocks"]] == [2, 3]
    assert later["blocks"][0]["seed"] == first["blocks"][2]["seed"]
    assert later["blocks"][0]["sent"] == first["blocks"][2]["sent"]
    assert later["load"] == first["load"]


def test_a_burst_sends_its_share_of_a_period(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    document = prove(
        serve_binary, score_bundle, tmp_path, "--rate", "100", "--burst", "4:0.2:0.6", "--blocks", "1", "--warmup", "0"
    )
    (block,) = document["blocks"]
    assert (block["sent"], document["block_s"]) == (80 + 40, 0.6)
    assert document["load"]["burst"] == {"factor": 4.0, "duration_s": 0.2, "every_s": 0.6}


def test_refused_requests_are_marked_with_their_status_in_the_order_of_sending(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    serve = {"queue": 1, "batch": {"max_requests": 1, "max_rows": 16, "max_tokens": 256, "wait_s": 0.0}}
    bundle = make_bundle(Fixture(defines=("DELAY_MS=100",), serve=serve))
    arguments = ("--block-seconds", "0.5", "--warmup", "0", "--rate", "100", "--blocks", "1")
    (block,) = prove(serve_binary, bundle, tmp_path, *arguments)["blocks"]
    found = latencies(block)
    assert (len(found), block["sent"], block["ended"]) == (50, 50, None)
    assert block["errors"] == statuses(block)
    assert set(block["errors"]) == {"429"}
    assert block["ok"] == 50 - block["errors"]["429"] == block["rows"]
    assert found[0] < FAILED  # the first finds nobody before it
    assert (found[found < FAILED] >= 90_000_000).all()  # each sleeps for 100 ms in the model


def test_requests_have_as_many_rows_as_they_are_told(serve_binary: Path, embed_bundle: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('"hello"\n{"body": "hello world"}\n\n')
    texts = ("--text-file", str(rows), "--field", "body")
    arguments = (*QUICK, *texts, "--rate", "100", "--blocks", "1", "--items")
    (block,) = prove(serve_binary, embed_bundle, tmp_path, *arguments, "3..3")["blocks"]
    assert (block["sent"], block["ok"], block["rows"]) == (50, 50, 150)
    document = prove(serve_binary, embed_bundle, tmp_path, *arguments, "1..4")
    (block,) = document["blocks"]
    assert (block["sent"], block["ok"]) == (50, 50)
    assert 50 < block["rows"] < 200
    assert document["load"]["items"] == [1, 4]
    assert document["load"]["requests"]["count"] == 2


def test_native_requests_are_merged_key_by_key(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"features": [[i] * 8], "bias": [[0.5]]}) + "\n" for i in range(5)))
    arguments = (*QUICK, "--requests", str(rows), "--items", "2..16", "--rate", "100", "--blocks", "1")
    (block,) = prove(serve_binary, score_bundle, tmp_path, *arguments)["blocks"]
    assert (block["ok"], block["errors"]) == (50, {})
    assert 100 <= block["rows"] <= 800


def test_the_closed_loop_keeps_each_connection_busy(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(defines=("DELAY_MS=20",)))
    document = prove(serve_binary, bundle, tmp_path, *QUICK, "--closed", "3", "--blocks", "1")
    (block,) = document["blocks"]
    assert (document["load"]["mode"], document["load"]["connections"], document["load"]["rate"]) == ("closed", 3, None)
    assert (block["connections_most"], block["errors"], block["lag_p99_s"]) == (3, {}, None)
    found = latencies(block)
    assert len(found) == block["sent"] == block["ok"] > 0
    assert (found >= 18_000_000).all()
    # No rate is declared: one connection.
    document = prove(serve_binary, bundle, tmp_path, *QUICK, "--blocks", "1")
    assert (document["load"]["mode"], document["load"]["connections"]) == ("closed", 1)
    assert document["blocks"][0]["connections_most"] == 1


def test_too_few_connections_are_told(serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle(Fixture(defines=("DELAY_MS=20",)))
    arguments = (*QUICK, "--rate", "100", "--blocks", "1", "--connections", "1")
    (block,) = prove(serve_binary, bundle, tmp_path, *arguments)["blocks"]
    assert (block["connections_most"], block["ok"]) == (1, 50)
    assert block["connections_short"] > 0
    # What waited for a connection waited for the server: its latency counts from when it was due.
    assert float(np.max(latencies(block))) > 40_000_000


def test_connections_that_the_server_closes_while_they_are_idle_cost_no_request(
    serve_binary: Path, score_bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("idle_timeout_s = 0.1")
    arguments = (
        "--rate",
        "4",
        "--arrival",
        "steady",
        "--blocks",
        "1",
        "--block-seconds",
        "1.5",
        "--config",
        str(config),
    )
    (block,) = prove(serve_binary, score_bundle, tmp_path, *arguments)["blocks"]
    assert (block["sent"], block["ok"], block["errors"]) == (6, 6, {})


def test_a_server_that_ends_under_load_fails_what_it_was_asked(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(defines=("EXIT_AT=20",)))
    document = prove(serve_binary, bundle, tmp_path, *QUICK, "--rate", "100", "--blocks", "2")
    for block in document["blocks"]:
        assert block["ended"] == "exit status: 9"
        assert block["sent"] == 50 == len(latencies(block))
        assert block["errors"] == {"0": 50 - block["ok"]}
        assert block["ok"] < 20


def test_starts_that_answer_differently_are_an_error(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(defines=("PER_PROCESS",)))
    for arguments in (["--blocks", "2", "--rate", "20", *QUICK], ["--blocks", "0", "--starts", "2"]):
        result = try_prove(serve_binary, bundle, tmp_path, *arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert "two starts gave different answers to one request" in result.stderr


def test_a_bundle_that_is_damaged_or_for_another_machine_ends_with_its_own_code(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(defines=("DRIFT",)))
    result = try_prove(serve_binary, bundle, tmp_path, *QUICK, "--rate", "10", "--blocks", "1")
    assert result.returncode == 6
    assert "gives another answer here" in result.stderr
    bundle = make_bundle()
    (bundle / "models/0/variants/0/weights.bin").write_bytes(bytes(32))
    result = try_prove(serve_binary, bundle, tmp_path, *QUICK, "--rate", "10", "--blocks", "1")
    assert result.returncode == 7
    assert "does not match its digest" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--rate", "0"], "--rate must be a number above 0"),
        (["--rate", "nan"], "--rate must be a number above 0"),
        (["--rate", "inf"], "--rate must be a number above 0"),
        (["--rate", "10", "--closed", "1"], "cannot be used with"),
        (["--closed", "0"], "--closed must be 1 to 1024"),
        (["--closed", "4", "--connections", "3"], "--closed 4 needs as many --connections"),
        (["--closed", "1", "--burst", "2:1:3"], "--burst needs a rate"),
        (["--arrival", "steady"], "--arrival needs a rate"),
        (["--rate", "1", "--arrival", "random"], "--arrival"),
        (["--rate", "1", "--burst", "2:3:1"], "--burst"),
        (["--rate", "1", "--burst", "2:1:3", "--block-seconds", "2"], "a block of bursts is one period"),
        (["--rate", "1", "--block-seconds", "0"], "--block-seconds must be above 0"),
        (["--rate", "1", "--block-seconds", "nan"], "--block-seconds must be above 0"),
        (["--rate", "1", "--warmup", "-1"], "--warmup must be 0 to 3600"),
        (["--rate", "1", "--blocks", "10001"], "--blocks must be 0 to 10000"),
        (["--rate", "1", "--first-block", "18446744073709551615"], "--first-block must be 0 to 1000000000"),
        (["--rate", "1e9"], "requests; at most 20000000 are taken"),
        (["--blocks", "0"], "measures nothing"),
        (["--blocks", "0", "--cold"], "--cold says how --starts N start"),
        (["--connections", "0"], "--connections must be 1 to 65536"),
        (["--items", "2..1"], "expected LO..HI"),
        (["--items", "1..17"], "has at most 16 rows"),
        (["--cores", "0"], "--cores must be 1 to 65535"),
        (["--cores", "60000"], "--cores 60000: this process may use"),
        (["--model", "z"], 'no model called "z"'),
        (["--field", "text"], "--text-file"),
        (["--text-file", "absent"], "texts are for models of texts"),
        (["--requests", "absent"], "absent: No such file"),
        (["--out", "absent/e.json"], "a folder that is there"),
        (["--duration", "3"], "--duration"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    serve_binary: Path, score_bundle: Path, tmp_path: Path, arguments: list[str], part: str
) -> None:
    result = try_prove(serve_binary, score_bundle, tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert part in result.stderr


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ([{"features": [[1] * 8, [2] * 8]}], "line 1: features has 2 rows, and a line is one row"),
        ([{"features": [[1] * 8]}, {"features": [[1] * 7]}], "line 2: features has the shape [1, 7]"),
        ([{"features": [[1] * 8]}, {"features": [[1] * 8], "bias": [[1]]}], "line 2: bias has the shape [1, 1]"),
        ([{"features": [[1] * 8], "id": "a"}, {"features": [[1] * 8], "id": "b"}], 'line 2: "id" is not'),
        ([[1]], "line 1: expected an object"),
    ],
)
def test_rows_that_make_no_request_are_refused_by_name_and_line(
    serve_binary: Path, score_bundle: Path, tmp_path: Path, lines: list[object], part: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = try_prove(serve_binary, score_bundle, tmp_path, "--requests", str(rows), "--items", "1..2")
    assert result.returncode == 2
    assert part in result.stderr
