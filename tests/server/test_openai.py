"""`/v1/models` and `/v1/embeddings`, by hand and through the official client."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt
import pytest

from .bundles import Json, embed
from .serving import Server

HELLO = [101, 7592, 102]


def vectors(answer: Json) -> npt.NDArray[np.float64]:
    data: list[Json] = answer["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return np.array([item["embedding"] for item in data])


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ("hello", [HELLO]),
        (["hello", ""], [HELLO, [101, 102]]),
        (HELLO, [HELLO]),
        ([HELLO, [101, 102]], [HELLO, [101, 102]]),
        ("", [[101, 102]]),
    ],
)
def test_every_form_of_input(embed_server: Server, given: object, rows: list[list[int]]) -> None:
    answer = embed_server.post("/v1/embeddings", {"model": "fixture", "input": given}).json
    assert answer["object"] == "list"
    assert answer["model"] == "fixture"
    tokens = sum(len(ids) for ids in rows)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    for found, ids in zip(vectors(answer), rows, strict=True):
        assert np.allclose(found, embed([ids])[0], atol=1e-6)


def test_base64_holds_the_same_floats(embed_server: Server) -> None:
    body = {"model": "fixture", "input": "hello", "encoding_format": "base64", "user": "u", "dimensions": None}
    text = embed_server.post("/v1/embeddings", body).json["data"][0]["embedding"]
    floats = np.frombuffer(base64.b64decode(text), dtype="<f4")
    listed = embed_server.post("/v1/embeddings", body | {"encoding_format": "float"}).json["data"][0]["embedding"]
    assert np.array_equal(floats, np.array(listed, dtype=np.float32))


WRONG: list[tuple[Json, int, str, str]] = [
    ({"model": "x"}, 404, "model", "no model"),
    ({"model": None}, 422, "model", "expected a string"),
    ({"input": []}, 422, "input", "empty"),
    ({"input": [[]]}, 422, "input[0]", "empty"),
    ({"input": 5}, 422, "input", "got a number"),
    ({"input": ["a", 5]}, 422, "input[1]", "got a number"),
    ({"input": [1, "a"]}, 422, "input[1]", "expected a token id"),
    ({"input": [1.5]}, 422, "input[0]", "expected a token id"),
    ({"input": [101, 30522]}, 422, "input", "expected 0 to 30521, got 30522"),
    ({"input": [[101], [-1]]}, 422, "input[1]", "got -1"),
    ({"input": [5] * 65}, 422, "input", "has 65 tokens"),
    ({"input": ["word " * 63]}, 422, "input[0]", "the limit is 64"),
    ({"input": ["a"] * 2049}, 422, "input", "more than 2048"),
    ({"dimensions": 4}, 422, "dimensions", "have 8 dimensions and cannot be shortened to 4"),
    ({"dimensions": 0}, 422, "dimensions", "at least 1"),
    ({"encoding_format": "hex"}, 422, "encoding_format", "base64"),
]


@pytest.mark.parametrize("field", ["task", "instruction", "truncate_prompt_tokens", "embedding_types", "x" * 99])
def test_a_field_that_could_change_the_answer_is_refused_by_name(embed_server: Server, field: str) -> None:
    body = {"model": "fixture", "input": "hello"}
    answer = embed_server.post("/v1/embeddings", {**body, field: False})
    assert answer.status in (400, 422)
    assert "the field is not known; known are model, input" in answer.json["error"]["message"]
    assert answer.json["error"]["param"] == field[:64]
    assert embed_server.post("/v1/embeddings", {**body, field: None}).status == 200


@pytest.mark.parametrize(("change", "status", "param", "part"), WRONG)
def test_wrong_requests_have_the_protocols_error_form(
    embed_server: Server, change: Json, status: int, param: str, part: str
) -> None:
    answer = embed_server.post("/v1/embeddings", {"model": "fixture", "input": "hello"} | change)
    assert answer.status == status
    error = answer.json["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert part in error["message"]


def test_missing_fields_and_malformed_bodies(embed_server: Server) -> None:
    assert embed_server.post("/v1/embeddings", {"model": "fixture"}).json["error"]["param"] == "input"
    assert embed_server.post("/v1/embeddings", {"input": "a"}).json["error"]["param"] == "model"
    assert embed_server.post("/v1/embeddings", b"{").status == 400


def test_the_models_own_dimensions_may_be_asked_for(embed_server: Server) -> None:
    assert embed_server.post("/v1/embeddings", {"model": "fixture", "input": "a", "dimensions": 8}).status == 200


def test_models_are_listed(embed_server: Server) -> None:
    assert embed_server.get("/v1/models").json["data"][0]["id"] == "fixture"
    assert embed_server.get("/v1/models/fixture").json["object"] == "model"
    assert embed_server.get("/v1/models/x").status == 404


def test_many_inputs_come_back_in_order(embed_server: Server) -> None:
    rows = [[101, 1000 + i, 102] for i in range(500)]
    answer = embed_server.post("/v1/embeddings", {"model": "fixture", "input": rows}).json
    assert np.allclose(vectors(answer), np.concatenate([embed([ids]) for ids in rows]), atol=1e-6)


def test_a_tensor_model_gives_no_embeddings(score_server: Server) -> None:
    answer = score_server.post("/v1/embeddings", {"model": "fixture", "input": "a"})
    assert (answer.status, answer.json["error"]["param"]) == (422, "model")


def test_the_official_client_works_unchanged(embed_server: Server) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{embed_server.url}/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["fixture"]
    answer = client.embeddings.create(model="fixture", input=["hello", "hello world"])
    assert np.allclose(answer.data[0].embedding, embed([HELLO])[0], atol=1e-6)
    assert answer.usage.prompt_tokens == 7
    plain = client.embeddings.create(model="fixture", input="hello", encoding_format="float")
    assert np.allclose(plain.data[0].embedding, embed([HELLO])[0], atol=1e-6)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="x", input="hello")
    with pytest.raises(openai.UnprocessableEntityError, match="limit is 64"):
        client.embeddings.create(model="fixture", input="word " * 100)
