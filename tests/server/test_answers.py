"""What a model answers: bounded in size before it is computed, finite unless the bundle allows otherwise."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .bundles import Fixture, encoded, rewritten, score
from .conftest import MakeBundle
from .serving import Answer, Server, run, running

ROW = [0.5, -1.0, 2.0, 3.25, -4.0, 5.5, 0.125, 7.0]
INFER = "/v2/models/fixture/infer"
JSON = {"content-type": "application/json"}


def features(rows: list[list[float]]) -> dict[str, Any]:
    return {"name": "features", "shape": [len(rows), 8], "datatype": "FP32", "data": rows}


def first(value: float) -> list[float]:
    return [value, *ROW[1:]]


def peak(server: Server) -> int:
    """The most memory that the server has held, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


# ── names, once each ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["outputs", "inputs"])
def test_two_hundred_thousand_equal_tensors_are_refused_and_cost_their_own_bytes(
    serve_binary: Path, make_bundle: MakeBundle, name: str
) -> None:
    other = "inputs" if name == "outputs" else "outputs"
    tensor = json.dumps(features([ROW])) if name == "inputs" else '{"name":"score"}'
    once = [features([ROW])] if other == "inputs" else []
    body = (
        f'{{"{name}":[{",".join([tensor] * (200_000 if name == "outputs" else 4_000))}],"{other}":{json.dumps(once)}}}'
    )
    with running(serve_binary, make_bundle(Fixture(serve={"max_body_bytes": 16 << 20}))) as server:
        # As large, so that the thread that reads large bodies has its memory.
        small = json.dumps({"inputs": [features([ROW])]}).encode()
        assert server.post(INFER, small + b" " * len(body)).status == 200
        before = peak(server)
        answer = server.request("POST", INFER, body, JSON)
        assert answer.status == 422
        assert "twice" in answer.json["error"]
        assert len(answer.body) < 1024
        assert peak(server) - before < 3 * len(body) + (8 << 20)


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        (INFER, '{"inputs": [], "inputs": []}', "inputs: the field is given twice"),
        (INFER, '{"id": "a", "id": "b", "inputs": []}', "id: the field is given twice"),
        (INFER, '{"outputs": [], "outputs": [], "inputs": []}', "outputs: the field is given twice"),
        (INFER, '{"inputs": [{"name": "features", "name": "bias"}]}', "inputs[0].name: the field is given twice"),
        (INFER, '{"inputs": [{"name": "features", "data": [], "data": []}]}', "inputs[0].data: the field is given"),
        (INFER, '{"inputs": [{"name": "features"}, {"name": "features"}]}', "features: the input is given twice"),
        (INFER, '{"inputs": [{"name": "nothing"}]}', "nothing: there is no such input"),
        (INFER, '{"inputs": [{"name": "features", "shape": [1,1,1,1,1,1,1,1,1]}]}', "more than 8 dimensions"),
        (INFER, '{"outputs": [{"name": "label"}, {"name": "label"}], "inputs": []}', "label: the output is asked for"),
        (INFER, '{"outputs": [{"name": "label"}, {"name": "x"}], "inputs": []}', "x: there is no such output"),
        (INFER, json.dumps({"id": "x" * 257, "inputs": []}), "id: it has 257 bytes, and at most 256 are taken"),
        ("/infer", '{"features": null, "features": [[1,1,1,1,1,1,1,1]]}', "features: the input is given twice"),
        ("/infer", '{"id": "a", "id": "b"}', "id: the field is given twice"),
        ("/infer", '{"model": "fixture", "model": "fixture"}', "model: the field is given twice"),
        ("/infer", json.dumps({"id": "x" * 257}), "id: it has 257 bytes"),
    ],
)
def test_a_field_or_a_tensor_that_is_there_twice_is_refused(
    score_server: Server, path: str, body: str, part: str
) -> None:
    answer = score_server.request("POST", path, body, JSON)
    assert answer.status == 422, answer.body
    error = answer.json["error"]
    assert part in (error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", '{"model": "fixture", "input": "a", "input": "b"}'),
        ("/v1/embeddings", '{"model": "fixture", "model": "fixture", "input": "a"}'),
        ("/infer", '{"text": "a", "text": "b"}'),
        ("/tokenize", '{"text": "a", "text": "b"}'),
        ("/detokenize", '{"ids": [1], "ids": [2]}'),
    ],
)
def test_fields_of_text_requests_are_given_once(embed_server: Server, path: str, body: str) -> None:
    assert embed_server.request("POST", path, body, JSON).status == 422


def test_several_models_and_the_extra_fields_are_still_found(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(name="a"), Fixture(kind="embed", name="b"))) as server:
        assert server.post("/infer", {"model": "a", "id": "7", "features": [ROW]}).json["id"] == "7"
        assert server.post("/infer", {"text": "x", "model": "b"}).status == 200
        twice = server.request("POST", "/infer", '{"model": "a", "model": "b", "text": "x"}', JSON)
        assert twice.status == 422


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

REPEAT = 200_000


@pytest.fixture(scope="module")
def wide(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    with running(serve_binary, make_bundle(Fixture(defines=(f"REPEAT={REPEAT}",)))) as server:
        yield server


def test_an_answer_beyond_the_bound_is_refused_before_it_is_computed(wide: Server) -> None:
    executions = wide.get("/v2/models/fixture/stats").json["model_stats"][0]["execution_count"]
    for path, body in (("/infer", {"features": [ROW] * 16}), (INFER, {"inputs": [features([ROW] * 16)]})):
        answer = wide.post(path, body)
        assert answer.status == 422
        error = answer.json["error"]
        text = error if isinstance(error, str) else error["message"]
        assert "and at most 67108864 are given" in text
        assert "the answer may have 70" in text
        if isinstance(error, dict):
            assert error["code"] == "answer_too_large"
    assert wide.get("/v2/models/fixture/stats").json["model_stats"][0]["execution_count"] == executions


def test_fewer_rows_other_outputs_or_bytes_are_answered(wide: Server) -> None:
    answer = wide.post("/infer", {"features": [ROW] * 2})
    assert np.array(answer.json["outputs"]["score"]).shape == (2, REPEAT)
    label = wide.post(INFER, {"inputs": [features([ROW] * 16)], "outputs": [{"name": "label"}]})
    assert label.json["outputs"][0]["data"] == [1] * 16
    wanted = [{"name": "score", "parameters": {"binary_data": True}}]
    answer = wide.post(INFER, {"inputs": [features([ROW] * 16)], "outputs": wanted})
    length = int(answer.headers["inference-header-content-length"])
    found = np.frombuffer(answer.body[length:], "<f4").reshape(16, REPEAT)
    assert np.allclose(found, score(np.array([ROW] * 16, np.float32)), atol=1e-6)


def test_many_large_answers_at_once_stay_under_the_ceiling_and_small_ones_are_given(wide: Server) -> None:
    """Clients that ask for 40 MB each and do not read: what is rendered is bounded, and others are answered."""
    ceiling = wide.metric("infc_memory_ceiling_bytes")
    body = json.dumps({"features": [ROW] * 9}).encode()
    head = f"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    streams = [socket.create_connection(("127.0.0.1", wide.port), timeout=30) for _ in range(12)]
    try:
        for stream in streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.sendall(head.encode() + body)
        firsts = [stream.recv(15) for stream in streams]
        assert all(f.startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")) for f in firsts), firsts
        assert any(f.startswith(b"HTTP/1.1 200") for f in firsts)
        assert any(f.startswith(b"HTTP/1.1 429") for f in firsts)
        small = wide.post(INFER, {"inputs": [features([ROW])], "outputs": [{"name": "label"}]})
        assert small.status in (200, 429)
        assert peak(wide) < ceiling
    finally:
        for stream in streams:
            stream.close()
    # Shares come back once their connections are gone.
    end = time.monotonic() + 20
    while (status := wide.post("/infer", {"features": [ROW] * 9}).status) != 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert status == 200


def test_the_ceiling_is_printed_exported_and_the_sum_of_its_terms(serve_binary: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(Fixture(kind="embed"))
    terms = json.loads(run(serve_binary, bundle, "check").stdout)["memory_ceiling"]
    assert terms["total"] == sum(bytes_ for name, bytes_ in terms.items() if name != "total")
    assert terms["weights"] == sum(
        (bundle / f"models/0/variants/0/{n}").stat().st_size for n in ("weights.bin", "model.so")
    )
    assert terms["requests"] == 5 * (256 * (80 << 10) + 4 * (1 << 20))
    env = {"INFC__MAX_BODY_BYTES": str(2 << 20)}
    with running(serve_binary, bundle, env=env) as server:
        assert server.metric("infc_memory_ceiling_bytes") == terms["total"] + 5 * 4 * (1 << 20)
        server.stop()
        assert server.process.stderr is not None
        assert "serve: note: memory ceiling " in server.process.stderr.read()


# ── non-finite outputs ───────────────────────────────────────────────────────────────────────────────────────────────

BAD = {998.0: "NaN", 997.0: "infinity", -997.0: "-infinity"}


@pytest.mark.parametrize("value", BAD)
def test_a_non_finite_output_is_500_with_its_place(score_server: Server, value: float) -> None:
    before = score_server.metric("infc_non_finite_total")
    text = f"score[2][0]: the model's output is {BAD[value]} (non_finite)"
    rows = [ROW, ROW, first(value), first(998.0)]
    native = score_server.post("/infer", {"features": rows})
    assert (native.status, native.json["error"]["code"]) == (500, "non_finite")
    assert (native.json["error"]["field"], native.json["error"]["message"]) == ("score[2][0]", text)
    oip = score_server.post(INFER, {"inputs": [features(rows)]})
    assert (oip.status, oip.json["error"]) == (500, text)
    assert score_server.metric("infc_non_finite_total") == before + 2
    assert score_server.post("/infer", {"features": [ROW]}).status == 200


def test_a_row_beyond_the_first_part_of_a_large_request_has_its_own_number(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    serve = {"batch": {"max_requests": 8, "max_rows": 4, "max_tokens": 256, "wait_s": 0.0}}
    with running(serve_binary, make_bundle(Fixture(serve=serve))) as server:
        answer = server.post("/infer", {"features": [*[ROW] * 13, first(998.0), ROW]})
        assert answer.json["error"]["field"] == "score[13][0]"


def test_batch_neighbours_of_a_non_finite_output_are_answered(serve_binary: Path, make_bundle: MakeBundle) -> None:
    fixture = Fixture(defines=("DELAY_MS=30",))
    with running(serve_binary, make_bundle(fixture)) as server:
        answers: dict[int, Answer] = {}

        def ask(number: int) -> None:
            row = first(998.0) if number % 3 == 0 else first(number / 10)
            answers[number] = server.post("/infer", {"features": [row]})

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
        assert any(batch["batch_size"] > 1 for batch in stats["batch_stats"]), "requests shared batches"
        assert {k: stats["inference_stats"][k]["count"] for k in ("success", "fail")} == {"success": 16, "fail": 8}
    for number, answer in answers.items():
        if number % 3 == 0:
            assert (answer.status, answer.json["error"]["code"]) == (500, "non_finite")
        else:
            expected = score(np.array([first(number / 10)], np.float32))
            assert np.allclose(answer.json["outputs"]["score"], expected, atol=1e-5)


def test_texts_name_the_one_whose_embedding_is_not_finite(embed_server: Server) -> None:
    body: dict[str, Any] = {"model": "fixture", "input": [[101, 7592, 102], [101, 30520, 102], [101, 102]]}
    answer = embed_server.post("/v1/embeddings", body)
    assert (answer.status, answer.json["error"]["code"]) == (500, "non_finite")
    assert answer.json["error"]["type"] == "server_error"
    assert answer.json["error"]["param"] == "embedding[1][7]"
    body["input"].pop(1)
    assert embed_server.post("/v1/embeddings", body).status == 200


def test_where_it_is_allowed_json_has_null_and_bytes_have_the_bits(serve_binary: Path, make_bundle: MakeBundle) -> None:
    rows = [first(998.0), first(997.0), first(-997.0), ROW]
    with running(serve_binary, make_bundle(Fixture(nan_allowed=("score",)))) as server:
        native = server.post("/infer", {"features": rows}).json["outputs"]["score"]
        assert native[:3] == [[None]] * 3
        assert native[3] != [None]
        oip = server.post(INFER, {"inputs": [features(rows)]}).json["outputs"][0]["data"]
        assert oip[:3] == [None] * 3
        wanted = [{"name": "score", "parameters": {"binary_data": True}}]
        answer = server.post(INFER, {"inputs": [features(rows)], "outputs": wanted})
        bits = np.frombuffer(answer.body[int(answer.headers["inference-header-content-length"]) :], "<f4")
        assert np.isnan(bits[0])
        assert list(bits[1:3]) == [np.inf, -np.inf]
        assert server.metric("infc_non_finite_total") == 0
    with running(serve_binary, make_bundle(Fixture(kind="embed", nan_allowed=("embedding",)))) as server:
        body = {"model": "fixture", "input": [[101, 30520, 102]], "encoding_format": "float"}
        (item,) = server.post("/v1/embeddings", body).json["data"]
        assert [value is None for value in item["embedding"]] == [False] * 7 + [True]
        (item,) = server.post("/v1/embeddings", body | {"encoding_format": "base64"}).json["data"]
        assert np.isnan(np.frombuffer(base64.b64decode(item["embedding"]), "<f4")[7])


def test_only_the_outputs_that_were_allowed_may_be_non_finite(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(nan_allowed=("label",)))) as server:
        assert server.post("/infer", {"features": [first(998.0)]}).status == 500


def test_known_answers_may_be_non_finite(serve_binary: Path, make_bundle: MakeBundle) -> None:
    """Whether a request gets such an answer is another question than whether the bundle gives the right ones."""
    bundle = make_bundle()
    rows = np.array([ROW, first(998.0), first(-997.0)], np.float32)
    outputs = {
        "score": encoded(np.array([[score(rows[:1])[0, 0]], [np.nan], [-np.inf]], np.float32)),
        "label": encoded((score(rows)[:, 0] > 0).astype(np.int64)),
    }
    golden = {
        "format": 1,
        "cases": [{"inputs": {"features": encoded(rows)}, "outputs": outputs}],
        "max_abs_error": 1e-5,
    }
    rewritten(bundle, bundle / "models/0/golden.json", json.dumps(golden))
    result = run(serve_binary, bundle, "check")
    assert result.returncode == 0, result.stderr
