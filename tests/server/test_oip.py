"""The Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .bundles import Fixture, embed, score
from .conftest import MakeBundle
from .serving import Server, running

ROW = [0.5, -1.0, 2.0, 3.25, -4.0, 5.5, 0.125, 7.0]
INFER = "/v2/models/fixture/infer"


def features(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "shape": [1, 8], "datatype": "FP32", "data": ROW} | changes


def test_server_and_model_metadata(score_server: Server) -> None:
    server = score_server.get("/v2").json
    assert server["name"] == "infc"
    assert set(server["extensions"]) == {"statistics", "binary_tensor_data"}
    for path in ("/v2/models/fixture", "/v2/models/fixture/versions/1", "/v2/models/other%20name"):
        model = score_server.get(path).json
        assert (model["name"], model["versions"], model["platform"]) == ("fixture", ["1"], "infc")
        assert model["inputs"][0] == {"name": "features", "datatype": "FP32", "shape": [-1, 8]}
        assert model["outputs"][1] == {"name": "label", "datatype": "INT64", "shape": [-1]}
    assert score_server.get("/v2/models/fixture/ready").status == 200
    for path in ("/v2/health/live", "/v2/health/ready", "/health/live", "/health/ready"):
        assert score_server.get(path).status == 200


def test_flat_and_nested_data_give_the_same(score_server: Server) -> None:
    expected = score(np.array([ROW, ROW]))
    for data in (ROW + ROW, [ROW, ROW]):
        answer = score_server.post(INFER, {"id": "x", "inputs": [features(shape=[2, 8], data=data)]}).json
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("fixture", "1", "x")
        assert answer["outputs"][0]["name"] == "score"
        assert answer["outputs"][0]["shape"] == [2, 1]
        assert answer["outputs"][0]["datatype"] == "FP32"
        assert np.allclose(answer["outputs"][0]["data"], expected[:, 0], atol=1e-6)
        assert answer["outputs"][1] == {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 1]}


def test_data_may_stand_before_its_type_and_outputs_may_be_chosen(score_server: Server) -> None:
    body = {
        "outputs": [{"name": "label"}],
        "inputs": [{"data": ROW, "datatype": "FP32", "shape": [1, 8], "name": "features"}],
    }
    answer = score_server.post("/v2/models/fixture/versions/1/infer", body).json
    assert [o["name"] for o in answer["outputs"]] == ["label"]
    assert "id" not in answer


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"inputs": [features(datatype="FP64")]}, 422, "features: expected datatype FP32"),
        ({"inputs": [features(shape=[1, 7])]}, 422, "the shape is [1, 7] and the data has 8 values"),
        ({"inputs": [features(shape=[8])]}, 422, "expected shape [batch, 8], got [8]"),
        ({"inputs": [features(shape=[2**62, 2**62])]}, 422, "the data has 8 values"),
        ({"inputs": [features(shape=[-1, 8])]}, 422, "inputs[0].shape[0]"),
        ({"inputs": [features(shape=[17, 8], data=ROW * 17)]}, 422, "batch is 1 to 16"),
        (
            {"inputs": [features(data=[*ROW[:7], float("nan")])]},
            422,
            "features[0][7]: expected a finite number, got NaN",
        ),
        ({"inputs": [features(name="x")]}, 422, "x: there is no such input"),
        ({"inputs": [features(), features()]}, 422, "given twice"),
        ({"inputs": [{"name": "features", "shape": [1, 8], "datatype": "FP32"}]}, 422, "no data"),
        ({"inputs": []}, 422, "features: the input is missing"),
        ({"inputs": {}}, 422, "inputs: expected a list"),
        ({}, 422, "inputs: the field is missing"),
        ({"inputs": [features()], "outputs": [{"name": "z"}]}, 422, "z: there is no such output"),
        ([], 400, "expected an object"),
    ],
)
def test_wrong_requests_say_what_was_expected(score_server: Server, body: object, status: int, part: str) -> None:
    answer = score_server.post(INFER, body)
    assert answer.status == status
    assert next(iter(answer.json)) == "error"
    assert part in answer.json["error"]


def test_unknown_models_and_versions_are_404(score_server: Server) -> None:
    for path in ("/v2/models/x", "/v2/models/x/ready", "/v2/models/fixture/versions/2"):
        assert score_server.get(path).status == 404
    assert "no model" in score_server.post("/v2/models/x/infer", {"inputs": [features()]}).json["error"]


def test_statistics_count_batches_and_rows(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle()) as server:
        for rows in (1, 3):
            server.post(INFER, {"inputs": [features(shape=[rows, 8], data=ROW * rows)]})
        server.post(INFER, {"inputs": [features(data=[999.0, *ROW[1:]])]})
        (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
    assert (stats["inference_count"], stats["execution_count"]) == (5, 3)
    assert stats["inference_stats"]["success"]["count"] == 2
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["batch_stats"][0]["batch_size"] == 1


def test_text_models_take_bytes_named_text(embed_server: Server) -> None:
    metadata = embed_server.get("/v2/models/fixture").json
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    body = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["hello", ""]}]}
    output = embed_server.post(INFER, body).json["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [2, 8])
    expected = np.concatenate([embed([[101, 7592, 102]]), embed([[101, 102]])])
    assert np.allclose(np.reshape(output["data"], (2, 8)), expected, atol=1e-6)
    body["inputs"][0]["shape"] = [3]
    assert "the data has 2 texts" in embed_server.post(INFER, body).json["error"]


def test_protocols_that_are_not_declared_are_not_there(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(serve={"protocols": []}))) as server:
        assert server.get("/v2").status == server.get("/v1/models").status == 404
        assert server.post("/infer", {"features": [ROW]}).status == 200
        assert server.get("/v2/health/ready").status == 200


def binary(json_part: Any, tail: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(json_part).encode()
    return head + tail, {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}


def test_tensors_may_come_and_go_as_bytes(score_server: Server) -> None:
    data = np.array([ROW, ROW], dtype="<f4")
    tensor = {"name": "features", "shape": [2, 8], "datatype": "FP32", "parameters": {"binary_data_size": data.nbytes}}
    wanted = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    body, headers = binary({"id": "b", "inputs": [tensor], "outputs": wanted}, data.tobytes())
    answer = score_server.post(INFER, body, headers)
    assert answer.status == 200
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.body[:length])
    assert head["id"] == "b"
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert head["outputs"][1]["data"] == [1, 1]
    assert np.allclose(np.frombuffer(answer.body[length:], "<f4"), score(data)[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("size", "tail", "shape", "status", "part"),
    [
        (32, b"\0" * 31, [1, 8], 422, "features: 32 bytes are announced and 31 are there"),
        (32, b"\0" * 33, [1, 8], 400, "1 bytes belong to no tensor"),
        (28, b"\0" * 28, [1, 8], 422, "28 bytes are no float32 tensor of shape [1, 8]"),
        (32, b"\0" * 32, [2**62, 8], 422, "32 bytes are no float32 tensor"),
        (32, b"\xff" * 32, [1, 8], 422, "finite number, got NaN"),
        (-1, b"", [1, 8], 422, "binary_data_size: expected a number of bytes"),
        (None, b"", [1, 8], 422, "binary_data_size"),
    ],
)
def test_wrong_bytes_are_named(
    score_server: Server, size: int | None, tail: bytes, shape: list[int], status: int, part: str
) -> None:
    tensor = {"name": "features", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
    answer = score_server.post(INFER, *binary({"inputs": [tensor]}, tail))
    assert answer.status == status
    assert part in answer.json["error"]


def test_a_lying_header_length_is_400(score_server: Server) -> None:
    for length in ("999999", "-1", "x"):
        answer = score_server.post(INFER, b"{}", {"inference-header-content-length": length})
        assert answer.status == 400


def test_texts_may_come_as_bytes(embed_server: Server) -> None:
    texts = ["hello", ""]
    tail = b"".join(len(t).to_bytes(4, "little") + t.encode() for t in texts)
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    output = embed_server.post(INFER, *binary({"inputs": [tensor]}, tail)).json["outputs"][0]
    expected = np.concatenate([embed([[101, 7592, 102]]), embed([[101, 102]])])
    assert np.allclose(np.reshape(output["data"], (2, 8)), expected, atol=1e-6)
    for wrong in (tail[:-1], b"\xff\xff\xff\xff", b"\1\0\0\0\xff"):
        tensor["parameters"] = {"binary_data_size": len(wrong)}
        assert embed_server.post(INFER, *binary({"inputs": [tensor]}, wrong)).status == 422


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_official_triton_client_works_unchanged(score_server: Server, embed_server: Server, as_bytes: bool) -> None:
    client = pytest.importorskip("tritonclient.http")
    triton = client.InferenceServerClient(f"127.0.0.1:{score_server.port}")
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("fixture")
    tensor = client.InferInput("features", [1, 8], "FP32")
    tensor.set_data_from_numpy(np.array([ROW], dtype=np.float32), binary_data=as_bytes)
    wanted = client.InferRequestedOutput("score", binary_data=as_bytes)
    answer = triton.infer("fixture", [tensor], outputs=[wanted], request_id="t1")
    assert np.allclose(answer.as_numpy("score"), score(np.array([ROW])), atol=1e-6)
    assert np.allclose(triton.infer("fixture", [tensor]).as_numpy("score"), answer.as_numpy("score"))
    assert triton.get_inference_statistics("fixture")["model_stats"][0]["name"] == "fixture"
    triton.close()
    triton = client.InferenceServerClient(f"127.0.0.1:{embed_server.port}")
    text = client.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array(["hello"], dtype=np.object_), binary_data=as_bytes)
    assert np.allclose(triton.infer("fixture", [text]).as_numpy("embedding"), embed([[101, 7592, 102]]), atol=1e-6)
    triton.close()
