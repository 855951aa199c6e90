"""What clients of text-embeddings-inference send: /embed, /info, /tokenize with `inputs`, /decode, /health; `max_inputs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .bundles import Fixture, embed
from .conftest import MakeBundle
from .serving import Server, running

tokenizers = pytest.importorskip("tokenizers")
TEXTS = ["", "Hello, World!", "naïve café — ÅNGSTRÖM", "日本語", "🙂 emoji‍👩", '"quoted"\n\ttab', "x" * 40]


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def test_embed_gives_a_list_of_embeddings_that_are_1_long_unless_asked_otherwise(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    task = {"normalize": False, "dimensions": [2], "prompts": {"query": "query: "}, "overflow": "reject", "limit": 8}
    with running(serve_binary, make_bundle(Fixture(kind="embed", task=task))) as server:

        def ask(**given: Any) -> Any:
            answer = server.post("/embed", given)
            assert answer.status == 200, answer.json
            return answer.json

        ids = server.post("/tokenize", {"text": ["hello", "wide world"]}).json["ids"]
        plain = embed(ids)
        np.testing.assert_allclose(ask(inputs=["hello", "wide world"], normalize=False), plain, rtol=1e-5)
        np.testing.assert_allclose(ask(inputs=["hello", "wide world"]), unit(plain), rtol=1e-5)
        np.testing.assert_allclose(ask(inputs="hello"), unit(plain)[:1], rtol=1e-5)
        np.testing.assert_allclose(ask(inputs=ids, model=None, truncate=None), unit(plain), rtol=1e-5)
        np.testing.assert_allclose(ask(inputs=ids[0]), unit(plain)[:1], rtol=1e-5)
        np.testing.assert_allclose(ask(inputs=ids, dimensions=2), unit(plain[:, :2]), rtol=1e-5)
        prompted = server.post("/tokenize", {"inputs": "hello", "prompt_name": "query"}).json
        np.testing.assert_allclose(
            ask(inputs="hello", prompt_name="query"), unit(embed([[t["id"] for t in prompted[0]]])), rtol=1e-5
        )
        long = "a b c d e f g h i j"
        left = server.post("/tokenize", {"text": long}).json["ids"]
        left = [left[0], *left[5:]]
        np.testing.assert_allclose(
            ask(inputs=long, truncate=True, truncation_direction="Left"), unit(embed([left])), rtol=1e-5
        )
        for given, field in (
            ({"inputs": long}, "inputs"),
            ({"inputs": "a", "dimensions": 3}, "dimensions"),
            ({"inputs": "a", "prompt_name": "none"}, "prompt_name"),
            ({"inputs": "a", "pooling": "cls"}, "pooling"),
            ({"inputs": {"a": 1}}, "inputs"),
            ({}, "inputs"),
            ({"inputs": "a", "model": "other"}, ""),
        ):
            refused = server.post("/embed", given)
            assert refused.status in (404, 422), given
            assert field in json.dumps(refused.json), refused.json
        assert "does not classify texts" in server.post("/predict", {"inputs": "a"}).json["error"]["message"]


def test_a_model_that_normalizes_gives_nothing_else(embed_server: Server) -> None:
    refused = embed_server.post("/embed", {"inputs": "a", "normalize": False})
    assert (refused.status, refused.json["error"]["field"]) == (422, "normalize")
    assert embed_server.post("/embed", {"inputs": []}).status == 422


def test_tokens_have_their_place_in_the_text_in_code_points(embed_server: Server, tokenizer: Path) -> None:
    reference = tokenizers.Tokenizer.from_file(str(tokenizer))
    reference.no_truncation()
    reference.no_padding()
    for special in (True, False):
        answer = embed_server.post("/tokenize", {"inputs": TEXTS, "add_special_tokens": special}).json
        for text, tokens in zip(TEXTS, answer, strict=True):
            encoding = reference.encode(text, add_special_tokens=special)
            for token, id_, spelling, (start, stop), is_special in zip(
                tokens,
                encoding.ids,
                encoding.tokens,
                encoding.offsets,
                encoding.special_tokens_mask,
                strict=True,
            ):
                part = {"text": text[start:stop], "start": start, "stop": stop}
                if is_special:
                    part = {"text": spelling, "start": None, "stop": None}
                assert token == {"id": id_, "special": bool(is_special), **part}
    assert embed_server.post("/tokenize", {"inputs": "hello"}).json[0][1]["text"] == "hello"
    assert embed_server.post("/tokenize", {"inputs": []}).json == []
    for given, field in (
        ({"inputs": "a", "text": "b"}, "text"),
        ({"inputs": "a", "special": True, "add_special_tokens": False}, "add_special_tokens"),
        ({"inputs": "a", "specials": False}, "specials"),
        ({"inputs": "a", "prompt_name": "none"}, "prompt_name"),
        ({"inputs": "a", "add_special_tokens": "no"}, "add_special_tokens"),
    ):
        refused = embed_server.post("/tokenize", given)
        assert (refused.status, refused.json["error"]["field"]) == (422, field)


def test_decode_gives_a_list_of_texts(embed_server: Server) -> None:
    ids = embed_server.post("/tokenize", {"text": "hello world"}).json["ids"]
    assert embed_server.post("/decode", {"ids": ids}).json == ["hello world"]
    kept = embed_server.post("/decode", {"ids": [ids, [7592]], "skip_special_tokens": False}).json
    assert kept == ["[CLS] hello world [SEP]", "hello"]
    assert embed_server.post("/decode", {"ids": ids, "skip_special": False}).json["error"]["field"] == "skip_special"
    for path in ("/decode", "/detokenize"):
        refused = embed_server.post(path, {"ids": [7592, 40_000]})
        assert refused.json["error"]["message"] == "ids: the vocabulary has no id 40000"
    assert embed_server.post("/decode", {}).json["error"]["field"] == "ids"


def test_an_answer_of_tokens_that_would_be_too_large_is_refused_before_it_is_made(embed_server: Server) -> None:
    text = ["a " * 30_000] * 16
    refused = embed_server.post("/tokenize", {"inputs": text})
    assert (refused.status, refused.json["error"]["code"]) == (422, "answer_too_large")
    assert embed_server.post("/tokenize", {"inputs": text[:1]}).status == 200


def test_info_and_health(
    embed_server: Server, score_server: Server, serve_binary: Path, make_bundle: MakeBundle
) -> None:
    said = embed_server.get("/info").json
    assert (said["model_id"], said["model_type"]) == ("fixture", {"embedding": {"pooling": "mean"}})
    assert said["model_dtype"] == "float32"
    assert (said["max_input_length"], said["auto_truncate"], said["max_client_batch_size"]) == (64, False, 2048)
    assert score_server.get("/info").status == 422
    assert embed_server.get("/health").status == 200
    assert embed_server.post("/info", {}).status == 405
    with running(serve_binary, make_bundle(Fixture(kind="embed", name="a"), Fixture(kind="embed", name="b"))) as server:
        refused = server.get("/info")
        assert (refused.status, refused.json["error"]["field"]) == (422, "model")
        assert server.post("/embed", {"inputs": "a", "model": "b"}).status == 200
        assert server.post("/embed", {"inputs": "a"}).status == 422


def test_max_inputs_bounds_the_texts_of_one_request(serve_binary: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(Fixture(kind="embed"))
    with running(serve_binary, bundle, env={"INFC__MAX_INPUTS": "2"}) as server:
        assert server.get("/info").json["max_client_batch_size"] == 2
        for path, given, field in (
            ("/embed", {"inputs": ["a"] * 3}, "inputs"),
            ("/v1/embeddings", {"model": "fixture", "input": ["a"] * 3}, "input"),
            ("/infer", {"text": ["a"] * 3}, "text"),
            ("/tokenize", {"text": ["a"] * 3}, "text"),
            ("/tokenize", {"inputs": ["a"] * 3}, "inputs"),
            ("/detokenize", {"ids": [[7592]] * 3}, "ids"),
        ):
            refused = server.post(path, given)
            assert refused.status in (400, 422), path
            said = json.dumps(refused.json)
            assert "it has 3 texts, and one request may have 2 (`max_inputs`)" in said, said
            assert f'"{field}"' in said or f"{field}:" in said, said
            fewer = {name: value[:2] if isinstance(value, list) else value for name, value in given.items()}
            assert server.post(path, fewer).status == 200, path


@pytest.mark.parametrize("value", ["0", "2049", "many"])
def test_max_inputs_that_cannot_be_is_refused(serve_binary: Path, make_bundle: MakeBundle, value: str) -> None:
    environment = {"INFC__MAX_INPUTS": value}
    with (
        pytest.raises(AssertionError, match=r"max_inputs.*expected a whole number, 1 to 2048"),
        running(serve_binary, make_bundle(Fixture(kind="embed")), env=environment),
    ):
        pass
