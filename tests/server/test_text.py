"""Tokenization in the server against the tokenizers package, with a limit that cuts, and with hostile text."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .bundles import Fixture, embed
from .conftest import MakeBundle
from .serving import Server, running

tokenizers = pytest.importorskip("tokenizers")
LIMIT = 16

TEXTS = [
    "",
    " ",
    "Hello, World!",
    "naïve café — ÅNGSTRÖM",
    "日本語のテキスト",
    "🙂🙃 emoji‍👩‍👩‍👧",
    "a\u0000b\u200db\u202ec",
    "x" * 5000,
    "word " * 40,
    "[CLS] [SEP] [MASK] ##ing",
    "tab\tnew\nline\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def cutting(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    task = {"limit": LIMIT, "overflow": "truncate", "prompt": "query: "}
    with running(serve_binary, make_bundle(Fixture(kind="embed", task=task))) as server:
        yield server


def test_tokens_equal_those_of_the_tokenizers_package(embed_server: Server, tokenizer: Path) -> None:
    reference = tokenizers.Tokenizer.from_file(str(tokenizer))
    reference.no_truncation()
    reference.no_padding()
    answer = embed_server.post("/tokenize", {"text": TEXTS}).json
    for text, ids, pieces in zip(TEXTS, answer["ids"], answer["tokens"], strict=True):
        encoding = reference.encode(text)
        assert (ids, pieces) == (encoding.ids, encoding.tokens)
    bare = embed_server.post("/tokenize", {"text": "hello", "special": False}).json
    assert bare["ids"] == [7592]


def test_detokenize_gives_the_text_again(embed_server: Server) -> None:
    ids = embed_server.post("/tokenize", {"text": "hello world"}).json["ids"]
    assert embed_server.post("/detokenize", {"ids": ids}).json["text"] == "hello world"
    many = embed_server.post("/detokenize", {"ids": [ids, [7592]], "skip_special": False}).json["text"]
    assert many == ["[CLS] hello world [SEP]", "hello"]
    assert embed_server.post("/detokenize", {"ids": ["x"]}).status == 422
    assert embed_server.post("/tokenize", {}).status == 422


def test_tokenize_needs_a_text_model(score_server: Server) -> None:
    assert score_server.post("/tokenize", {"text": "a"}).status == 422


def test_prompt_and_cut_are_those_of_the_tokenizers_package(cutting: Server, tokenizer: Path) -> None:
    reference = tokenizers.Tokenizer.from_file(str(tokenizer))
    reference.no_padding()
    reference.enable_truncation(LIMIT)
    expected = [reference.encode("query: " + text).ids for text in TEXTS]
    assert max(len(ids) for ids in expected) == LIMIT
    answer = cutting.post("/v1/embeddings", {"model": "fixture", "input": TEXTS}).json
    for item, ids in zip(answer["data"], expected, strict=True):
        assert np.allclose(item["embedding"], embed([ids])[0], atol=1e-6)
    assert answer["usage"]["prompt_tokens"] == sum(len(ids) for ids in expected)


def test_given_ids_are_cut_before_their_last_special_token(cutting: Server) -> None:
    ids = [101, *range(2000, 2040), 102]
    answer = cutting.post("/v1/embeddings", {"model": "fixture", "input": ids}).json
    kept = [*ids[: LIMIT - 1], 102]
    assert np.allclose(answer["data"][0]["embedding"], embed([kept])[0], atol=1e-6)


def test_a_text_of_random_characters_never_breaks_the_server(cutting: Server, tokenizer: Path) -> None:
    reference = tokenizers.Tokenizer.from_file(str(tokenizer))
    reference.no_padding()
    reference.enable_truncation(LIMIT)
    chooser = random.Random(11)
    planes = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    texts = ["".join(chr(chooser.randint(*chooser.choice(planes))) for _ in range(30)) for _ in range(50)]
    answer = cutting.post("/v1/embeddings", {"model": "fixture", "input": texts}).json
    for item, text in zip(answer["data"], texts, strict=True):
        assert np.allclose(item["embedding"], embed([reference.encode("query: " + text).ids])[0], atol=1e-6)


def test_a_lone_surrogate_is_422_with_the_field(cutting: Server) -> None:
    answer = cutting.post("/v1/embeddings", b'{"model": "fixture", "input": ["ok", "x\\ud800y"]}')
    assert (answer.status, answer.json["error"]["param"]) == (422, "input[1]")
    assert "surrogate" in answer.json["error"]["message"]
    answer = cutting.post("/infer", b'{"text": "\\udc00"}')
    assert (answer.status, answer.json["error"]["field"]) == (422, "text")


def test_a_million_repeats_are_cut_or_refused_and_others_go_on(cutting: Server, embed_server: Server) -> None:
    for unit, cut in (("a", 422), ("a ", 200), ("\u200d", 422), ("👩‍", 422)):
        characters = 900_000 // len(unit.encode()) * len(unit)
        body = json.dumps({"text": unit * (characters // len(unit))}, ensure_ascii=False).encode()
        answer = cutting.post("/infer", body)
        assert answer.status == cut, "a text is cut only where its first tokens stay what they are"
        if cut == 422:
            prompt = len("query: ")
            assert f"{characters + prompt} characters; at most 65536 are taken" in answer.json["error"]["message"]
        refused = embed_server.post("/infer", body)
        assert refused.status == 422
    assert embed_server.post("/infer", {"text": "hello"}).status == 200


def test_a_long_text_is_cut_to_the_tokens_of_the_whole(cutting: Server, tokenizer: Path) -> None:
    reference = tokenizers.Tokenizer.from_file(str(tokenizer))
    reference.no_padding()
    reference.enable_truncation(LIMIT)
    for text in ("naïve café, a.b c! " * 500, "x" * 30_000 + " y", "日本 a " * 9000, " " * 60_000 + "a b"):
        answer = cutting.post("/v1/embeddings", {"model": "fixture", "input": text}).json
        ids = reference.encode("query: " + text).ids
        assert np.allclose(answer["data"][0]["embedding"], embed([ids])[0], atol=1e-6)


def test_many_texts_and_ids_are_refused_with_the_number_that_is_taken(embed_server: Server) -> None:
    empty = [""] * 200_000
    for path, body in (
        ("/infer", {"text": empty}),
        ("/tokenize", {"text": empty}),
        ("/v1/embeddings", {"model": "fixture", "input": empty}),
        ("/v2/models/fixture/infer", _oip(empty)),
        ("/detokenize", {"ids": [[1]] * 3000}),
    ):
        answer = embed_server.post(path, body)
        assert answer.status == 422, path
        assert b"more than 2048" in answer.body
    assert embed_server.post("/tokenize", {"text": [""] * 2048}).status == 200
    assert embed_server.post("/detokenize", {"ids": [1] * 70_000}).status == 422
    assert embed_server.post("/tokenize", {"text": "a " * 40_000}).status == 422


def _oip(texts: list[str]) -> dict[str, object]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}


def test_the_deadline_holds_while_texts_are_tokenized(embed_server: Server) -> None:
    texts = ["lorem ipsum dolor sit amet " * 2] * 2000
    for path, body in (("/tokenize", {"text": texts}), ("/v1/embeddings", {"model": "fixture", "input": texts})):
        answer = embed_server.post(path, body, {"x-request-deadline-ms": "5"})
        assert answer.status == 504
