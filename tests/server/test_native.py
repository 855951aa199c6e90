"""`POST /infer`: right answers, and for each wrong request the status and the field at fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .bundles import WIDTH, Fixture, embed, score
from .conftest import MakeBundle
from .serving import Answer, Server, running

ROW = [0.5, -1.0, 2.0, 3.25, -4.0, 5.5, 0.125, 7.0]


def error(answer: Answer) -> tuple[int, str | None, str]:
    found = answer.json["error"]
    assert found["status"] == answer.status
    return answer.status, found["field"], found["message"]


def test_outputs_by_name_with_the_model_and_the_callers_id(score_server: Server) -> None:
    answer = score_server.post("/infer", {"features": [ROW, ROW[::-1]], "id": "a-1"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    expected = score(np.array([ROW, ROW[::-1]]))
    assert np.allclose(answer.json["outputs"]["score"], expected, atol=1e-6)
    assert answer.json["outputs"]["label"] == [int(v > 0) for v in expected[:, 0]]
    assert (answer.json["model"], answer.json["id"]) == ("fixture", "a-1")
    assert len(answer.headers["x-infc-digest"]) == 64
    assert answer.headers["x-infc-variant"] == "0"


def test_ids_are_made_or_taken_from_the_header_and_differ(score_server: Server) -> None:
    first, second = (score_server.post("/infer", {"features": [ROW]}).json["id"] for _ in range(2))
    assert first != second
    answer = score_server.post("/infer", {"features": [ROW]}, {"x-request-id": "h-7"})
    assert answer.json["id"] == answer.headers["x-request-id"] == "h-7"


def test_inputs_with_a_default_may_be_given(score_server: Server) -> None:
    answer = score_server.post("/infer", {"features": [ROW], "bias": [[10.0]]})
    expected = score(np.array([ROW]), np.array([[10.0]]))
    assert np.allclose(answer.json["outputs"]["score"], expected, atol=1e-6)


def test_zero_rows_give_zero_rows(score_server: Server) -> None:
    answer = score_server.post("/infer", {"features": []})
    assert answer.status == 200
    assert answer.json["outputs"] == {"score": [], "label": []}


def test_more_rows_than_a_batch_holds_are_split_and_joined_in_order(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(serve={"batch": {"max_requests": 4, "max_rows": 3, "max_tokens": 64, "wait_s": 0.0}})
    rows = np.random.default_rng(1).standard_normal((16, WIDTH))
    with running(serve_binary, make_bundle(fixture)) as server:
        answer = server.post("/infer", {"features": rows.tolist()})
    assert np.allclose(answer.json["outputs"]["score"], score(rows), atol=1e-5)
    assert len(answer.json["outputs"]["label"]) == 16


@pytest.mark.parametrize(
    ("body", "field", "part"),
    [
        ({}, "features", "missing; expected float32 [batch, 8]"),
        ({"features": [ROW[:7]]}, "features", "expected shape [batch, 8], got [1, 7]"),
        ({"features": ROW}, "features[0]", "expected a list"),
        ({"features": [[ROW]]}, "features[0][0]", "got a list"),
        ({"features": [ROW, ROW[:3]]}, "features[1]", "3 values where the lists before have 8"),
        ({"features": [ROW] * 17}, "features", "batch is 1 to 16"),
        ({"features": [[*ROW[:7], "x"]]}, "features[0][7]", "expected float32, got a string"),
        ({"features": [[*ROW[:7], None]]}, "features[0][7]", "got null"),
        ({"features": [[*ROW[:7], True]]}, "features[0][7]", "got a bool"),
        ({"features": [[*ROW[:7], float("nan")]]}, "features[0][7]", "finite number, got NaN"),
        ({"features": [[float("inf"), *ROW[1:]]]}, "features[0][0]", "got infinity"),
        ({"features": [[float("-inf"), *ROW[1:]]]}, "features[0][0]", "got -infinity"),
        ({"features": [[1e300, *ROW[1:]]]}, "features[0][0]", "float32 cannot hold"),
        ({"features": [ROW, [1001.0, *ROW[1:]]]}, "features[1][0]", "expected -1000 to 1000, got 1001"),
        ({"features": "x"}, "features", "expected a list, got a string"),
        ({"features": {"a": 1}}, "features", "expected a list, got an object"),
        ({"features": [ROW], "bias": [[1.0], [2.0]]}, "bias", "batch is 2 here and 1 in"),
        ({"features": [ROW], "color": 3}, "color", "no such input; the model takes features, bias"),
        ({"features": [ROW], "id": 7}, "id", "expected a string, got a number"),
    ],
)
def test_right_form_but_wrong_value_is_422_with_the_field(
    score_server: Server, body: object, field: str, part: str
) -> None:
    status, found, message = error(score_server.post("/infer", body))
    assert (status, found) == (422, field)
    assert part in message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"features": [[1,2,]]}',
        b'{"features": 01}',
        b"\xff\xfe",
        b"{} x",
        b'{"features": nul}',
    ],
)
def test_what_is_no_json_object_is_400(score_server: Server, body: bytes) -> None:
    assert error(score_server.post("/infer", body))[0] == 400


def test_an_input_given_twice_is_refused(score_server: Server) -> None:
    row = json.dumps([ROW])
    status, field, message = error(score_server.post("/infer", f'{{"features": {row}, "features": {row}}}'.encode()))
    assert (status, field) == (422, "features")
    assert "twice" in message


def test_models_are_found_by_name_and_alias_and_others_are_404(score_server: Server) -> None:
    for name in ("fixture", "other name"):
        assert score_server.post("/infer", {"features": [ROW], "model": name}).status == 200
    status, field, message = error(score_server.post("/infer", {"features": [ROW], "model": "gpt"}))
    assert (status, field) == (404, "model")
    assert "gpt" in message


def test_a_fault_that_only_the_model_sees_is_the_callers_and_has_its_field(score_server: Server) -> None:
    status, field, message = error(score_server.post("/infer", {"features": [[999.0, *ROW[1:]]]}))
    assert (status, field) == (422, "features")
    assert "999 is not taken" in message


def test_text_models_take_a_text_or_a_list(embed_server: Server) -> None:
    ids = [101, 7592, 102]
    for text in ("hello", ["hello"]):
        answer = embed_server.post("/infer", {"text": text})
        assert np.allclose(answer.json["outputs"]["embedding"], embed([ids]), atol=1e-6)
    assert embed_server.post("/infer", {"text": []}).json["outputs"] == {"embedding": []}
    empty = embed_server.post("/infer", {"text": ""})
    assert np.allclose(empty.json["outputs"]["embedding"], embed([[101, 102]]), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "field", "part"),
    [
        ({}, "text", "missing"),
        ({"text": 5}, "text", "expected a string, got a number"),
        ({"text": ["a", None]}, "text[1]", "got null"),
        ({"text": "word " * 63}, "text", "has 65 tokens, special tokens included, and the limit is 64"),
        ({"text": ["a", "word " * 100]}, "text[1]", "102 tokens"),
        ({"features": [[1]]}, "features", "the model takes text"),
    ],
)
def test_wrong_texts_are_422_with_the_field(embed_server: Server, body: object, field: str, part: str) -> None:
    status, found, message = error(embed_server.post("/infer", body))
    assert (status, found) == (422, field)
    assert part in message


@pytest.fixture(scope="module")
def two_models(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    bundle = make_bundle(Fixture(name="a", model={"version": "7"}), Fixture(kind="embed", name="b"))
    with running(serve_binary, bundle) as server:
        yield server


def test_of_several_models_one_is_named(two_models: Server) -> None:
    assert two_models.post("/infer", {"features": [ROW], "model": "a"}).json["model"] == "a"
    assert two_models.post("/infer", {"text": "x", "model": "b"}).json["model"] == "b"
    status, field, message = error(two_models.post("/infer", {"features": [ROW]}))
    assert (status, field) == (422, "model")
    assert "a, b" in message
    assert two_models.get("/v2/models/a/versions/7").status == 200
    assert two_models.get("/v2/models/a/versions/1").status == 404
    assert [m["id"] for m in two_models.get("/v1/models").json["data"]] == ["a", "b"]


def test_a_declared_range_with_nan_allowed_takes_nan_and_infinity(serve_binary: Path, make_bundle: MakeBundle) -> None:
    def allow(manifest: dict[str, object]) -> None:
        manifest["models"][0]["inputs"][0] |= {"nan": True, "min": None, "max": None}  # type: ignore[index]
        manifest["models"][0]["outputs"][0]["nan_allowed"] = True  # type: ignore[index]

    with running(serve_binary, make_bundle(Fixture(), edit=allow)) as server:
        answer = server.post("/infer", {"features": [[float("nan"), *ROW[1:]]]})
        assert answer.status == 200
        assert answer.json["outputs"]["score"] == [[None]]
