"""Prompts, and what a request says of its texts: the embeddings that sentence-transformers gives, or a refusal by name."""

# transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

import infc
from infc.compiler.build import build
from infc.compiler.driver import Request
from infc.compiler.errors import InfcError
from infc.compiler.frontends.huggingface import load
from infc.compiler.frontends.imported import Options
from infc.compiler.ir.interpret import run
from infc.compiler.measure.text_rows import tokenize_rows
from infc.dsl import check_file
from infc.runtime import InferError
from tests.frontends.test_text import WORDS, save
from tests.server.serving import Server, running

from .support import Array, write_spec

TEXTS = ["green apple", "Green a b . apples apple a b . green green apple a b", "b", "café .", ""]
PROMPTS = {"query": "green a ", "passage": "apple . ", "none": None}
WIDTH = 32


def folder(place: Path, pooling: str, *, include: bool, normalize: bool = True, default: str | None = "query") -> Path:
    """A tiny BERT as sentence-transformers saves it."""
    save(place)
    torch.manual_seed(0)
    settings: dict[str, Any] = {"matryoshka_dimensions": [8, WIDTH]}
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, **settings,
    )  # fmt: skip
    model = BertModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(place)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    rows = [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{k}", "type": f"sentence_transformers.models.{k}"}
        for i, k in enumerate(kinds)
    ]
    (place / "modules.json").write_text(json.dumps(rows))
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode": pooling, "include_prompt": include})
    )
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    (place / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": PROMPTS, "default_prompt_name": default})
    )
    return place


def spec(place: Path, task: str = "task embed") -> Path:
    return write_spec(place, 'source huggingface("model")', task, "input text: string, truncate")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_a_prompt_that_is_not_pooled(tmp_path: Path, pooling: str) -> None:
    place = folder(tmp_path / "model", pooling, include=False)
    want = SentenceTransformer(str(place), device="cpu").encode(TEXTS)
    checked = check_file(spec(tmp_path)).spec
    assert checked is not None
    imported = load(checked.models[0], tmp_path, Options(work=tmp_path / "work"))
    assert imported.text is not None
    rows = tokenize_rows(imported.text, [(text,) for text in TEXTS], truncate=True)
    assert rows[0]["pooling_mask"][:4] == [0, 0, 0, 1], "[CLS] green a"
    for row, expected in zip(rows, want, strict=True):
        inputs = {name: np.asarray([ids]) for name, ids in row.items() if name in imported.graph.input_specs}
        for got in (run(imported.graph, inputs), imported.reference(inputs)):
            np.testing.assert_allclose(got["embedding"][0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "want"),
    [
        ("", (8,)),
        ("(dimensions = 16, 4, normalize = true)", (4, 16)),
        (f"(dimensions = {WIDTH})", ()),
        ("(dimensions = 4, 33)", f"an embedding of model has {WIDTH}"),
        ("(dimensions = 4, 4)", "write different counts"),
    ],
)
def test_the_spec_says_to_which_dimensions_an_embedding_may_be_cut(
    tmp_path: Path, said: str, want: tuple[int, ...] | str
) -> None:
    folder(tmp_path / "model", "mean", include=True)
    checked = check_file(spec(tmp_path, f"task embed{said}")).spec
    assert checked is not None
    if isinstance(want, str):
        with pytest.raises(InfcError, match=want):
            load(checked.models[0], tmp_path, Options(work=tmp_path / "work"))
        return
    task = load(checked.models[0], tmp_path, Options(work=tmp_path / "work")).text
    assert task is not None
    assert task.dimensions == want


def ask(server: Server, given: Any = TEXTS, **more: Any) -> Array:
    answer = server.post("/v1/embeddings", {"model": "m", "input": given, **more})
    assert answer.status == 200, answer.json
    return np.array([item["embedding"] for item in answer.json["data"]], np.float32)


@pytest.mark.parametrize("include", [pytest.param(True, marks=pytest.mark.full), False])
def test_a_request_says_which_prompt(tmp_path: Path, include: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    normalized = not include
    place = folder(tmp_path / "model", "mean", include=include, normalize=normalized)
    theirs = SentenceTransformer(str(place), device="cpu")
    bundle = build(Request(spec(tmp_path), jobs=2)).bundle
    with running(bundle / "serve", bundle) as server:

        def same(got: Array, want: Array) -> None:
            np.testing.assert_allclose(got, want, atol=1e-4)

        same(ask(server), theirs.encode(TEXTS))
        with infc.load(bundle) as here:
            same(here.run(text=TEXTS)["embedding"], theirs.encode(TEXTS))
            same(here.run(text=TEXTS[0])["embedding"], theirs.encode(TEXTS[:1]))
        with monkeypatch.context() as patched, infc.load(bundle) as here:
            patched.setitem(sys.modules, "tokenizers", None)
            with pytest.raises(InferError, match="texts need the package `tokenizers`"):
                here.run(text="a")
        for name in ("query", "passage", "none", "document"):
            same(ask(server, prompt_name=name), theirs.encode(TEXTS, prompt_name=name))
        for word, name in (("query", "query"), ("search_query", "query"), ("search_document", "passage")):
            same(ask(server, input_type=word), theirs.encode(TEXTS, prompt_name=name))
        same(ask(server, prompt=". b green "), theirs.encode(TEXTS, prompt=". b green "))
        same(ask(server, prompt=""), theirs.encode(TEXTS, prompt=""))
        plain = theirs.encode(TEXTS, prompt="")
        cut = plain[:, :8]
        short = ask(server, prompt="", dimensions=8)
        same(short, cut / np.linalg.norm(cut, axis=1, keepdims=True) if normalized else cut)
        same(ask(server, prompt="", dimensions=WIDTH), plain)
        long = TEXTS[1]
        theirs.tokenizer.truncation_side = "left"
        left = theirs.encode([long], prompt="")
        for more in (
            {"truncation_direction": "Left"},
            {"truncate": "START"},
            {"truncate": True, "truncation_direction": "left"},
        ):
            same(ask(server, long, prompt="", **more), left)
        if normalized:
            same(ask(server, prompt="", normalize=True), plain)
        else:
            same(ask(server, prompt="", normalize=True), plain / np.linalg.norm(plain, axis=1, keepdims=True))
            same(ask(server, prompt="", normalize=False), plain)
        for more, said in (
            (
                {"prompt_name": "nope"},
                'there is no prompt "nope"; the model\'s prompts are document, none, passage, query',
            ),
            ({"input_type": "image"}, "names no prompt"),
            ({"prompt": "a", "prompt_name": "query"}, "only one of"),
            ({"prompt": 5}, "expected a string"),
            ({"truncate": False}, "tokens"),
            ({"truncate": "NONE"}, "tokens"),
            ({"truncate": "MIDDLE"}, "START"),
            ({"truncate": "END", "truncation_direction": "left"}, "different ends"),
            ({"normalize": "yes"}, "expected true or false"),
            ({"dimensions": 9}, "cannot be shortened to 9, only to 8"),
            ({"input": [1, 2], "prompt_name": "query"}, "token ids are taken as they are"),
            *([({"normalize": False}, "are normalized where they are computed")] if normalized else []),
        ):
            answer = server.post("/v1/embeddings", {"model": "m", "input": long, **more})
            assert answer.status in (400, 422), (more, answer.json)
            assert said in answer.json["error"]["message"], (more, answer.json)
