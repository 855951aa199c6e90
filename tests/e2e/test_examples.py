"""The examples, served by their own bundles, against sentence-transformers and torch."""

# torch and sentence_transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infc.runtime import Model, load
from tests.server.serving import Server, running

from .conftest import BundleOf
from .support import Array, answered, infc

LEAST_COSINE = 0.99999
MOST_ERROR = 1e-5
SENTENCES = 200


# ── MiniLM: texts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def minilm(bundle_of: BundleOf) -> Path:
    return bundle_of("minilm")


@pytest.fixture(scope="module")
def minilm_server(minilm: Path) -> Iterator[Server]:
    with running(minilm / "serve", minilm) as server:
        yield server


@pytest.fixture(scope="module")
def sentences(examples: Path) -> list[str]:
    """200 texts whose lengths reach from one token between the special ones to more than the limit of 256."""
    rows = (examples / "minilm" / "data" / "evaluate.jsonl").read_text().splitlines()
    words = " ".join(json.loads(row)["text"] for row in rows).split()
    counts = [1 + int(219 * (i / (SENTENCES - 1)) ** 2) for i in range(SENTENCES)]
    return [" ".join(words[37 * i % 3000 : 37 * i % 3000 + n]) for i, n in enumerate(counts)]


@pytest.fixture(scope="module")
def source(examples: Path) -> Any:
    """The model in sentence-transformers."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    (folder,) = (examples / "minilm" / "models").iterdir()
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def embeddings(server: Server, texts: list[str]) -> Array:
    answer = server.post("/v1/embeddings", {"model": "minilm", "input": texts})
    assert answer.status == 200, answer.body
    return np.array([item["embedding"] for item in answer.json["data"]], np.float32)


def cosines(a: Array, b: Array) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def test_embeddings_over_http_match_sentence_transformers(
    minilm_server: Server, sentences: list[str], source: Any
) -> None:
    lengths = [len(source.tokenizer(text)["input_ids"]) for text in sentences]
    assert min(lengths) <= 4
    assert max(lengths) > 240
    want = source.encode(sentences, batch_size=16, convert_to_numpy=True)
    got = np.concatenate([embeddings(minilm_server, sentences[i : i + 20]) for i in range(0, SENTENCES, 20)])
    found = cosines(got, want)
    assert found.min() >= LEAST_COSINE, (int(found.argmin()), float(found.min()))
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5


def test_an_empty_text_is_its_special_tokens_and_a_long_one_is_cut_as_declared(
    minilm_server: Server, source: Any
) -> None:
    texts = ["", "tides " * 700, "naïve — 日本語 🙂\u0000\u200d"]
    assert cosines(embeddings(minilm_server, texts), source.encode(texts)).min() >= LEAST_COSINE


def test_concurrent_requests_each_get_their_own_bits(minilm_server: Server, sentences: list[str]) -> None:
    texts = sentences[:48]
    alone = [embeddings(minilm_server, [text])[0] for text in texts]

    def embed(text: str) -> Array:
        return embeddings(minilm_server, [text])[0]

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(embed, texts * 2))
    for number, got in enumerate(together):
        assert np.array_equal(got, alone[number % len(texts)]), number
    accepted, outcomes = minilm_server.metric("infc_accepted_total"), minilm_server.metric("infc_outcomes_total")
    assert accepted == outcomes + minilm_server.metric("infc_in_flight")


def test_every_protocol_and_the_command_line_give_the_same_text_embedding(minilm: Path, minilm_server: Server) -> None:
    text = "A man is playing the guitar on stage."
    want = embeddings(minilm_server, [text])[0]
    native = minilm_server.post("/infer", {"text": [text]}).json["outputs"]["embedding"][0]
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    oip = minilm_server.post("/v2/models/minilm/infer", body).json["outputs"][0]
    done = infc("run", minilm, "--text", text)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)["outputs"]["embedding"][0]
    for got in (native, oip["data"], line):
        assert np.array_equal(np.asarray(got, np.float32).reshape(-1), want)


def test_ragged_minilm_computes_no_padding(minilm: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = (1, 8, 31, 256)
    rows = [{"input_ids": rng.integers(1000, 30000, (1, n))} for n in lengths]
    with load(minilm, threads=2) as model:
        model.profile()
        together = [answered(r) for r in model.run_batch(rows)]
        counted = {t.rows for t in model.step_times() if t.op == "linear"}
        alone = [model.run(row) for row in rows]
    assert counted == {sum(lengths)}
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a["embedding"], b["embedding"])


# ── fraud and digits: tensors ────────────────────────────────────────────────────────────────────────────────────────


class Tensors:
    """A tensor example: its bundle, its torch module, and rows to ask."""

    def __init__(self, name: str, bundle: Path) -> None:
        self.name, self.bundle = name, bundle
        found = importlib.util.spec_from_file_location(f"example_{name}", bundle.parent / "model.py")
        assert found is not None
        assert found.loader is not None
        file = importlib.util.module_from_spec(found)
        found.loader.exec_module(file)
        with np.load(bundle.parent / "data" / "evaluate.npz") as data:
            self.input = "features" if name == "fraud" else "image"
            self.rows: Array = data[self.input][:32].astype(np.float32)
        with torch.no_grad():
            self.want: Array = file.make()(torch.from_numpy(self.rows)).numpy()
        self.output = "score" if name == "fraud" else "logits"

    def check(self, got: Any) -> None:
        have = np.asarray(got, np.float32).reshape(self.want.shape)
        assert np.abs(have - self.want).max() <= MOST_ERROR


@pytest.fixture(scope="module", params=["fraud", "digits"])
def tensors(request: pytest.FixtureRequest, bundle_of: BundleOf) -> Tensors:
    return Tensors(request.param, bundle_of(request.param))


def test_loader_matches_torch(tensors: Tensors) -> None:
    for threads in (1, 2):
        with load(tensors.bundle, threads=threads) as model:
            assert isinstance(model, Model)
            tensors.check(model.run({tensors.input: tensors.rows})[tensors.output])
            singles = [{tensors.input: tensors.rows[i : i + 1]} for i in range(32)]
            tensors.check(np.stack([answered(r)[tensors.output][0] for r in model.run_batch(singles)]))


def test_http_matches_torch(tensors: Tensors) -> None:
    with running(tensors.bundle / "serve", tensors.bundle) as server:
        native = server.post("/infer", {tensors.input: tensors.rows.tolist()})
        assert native.status == 200, native.body
        tensors.check(native.json["outputs"][tensors.output])
        tensor = {"name": tensors.input, "shape": list(tensors.rows.shape), "datatype": "FP32"}
        body = {"inputs": [tensor | {"data": tensors.rows.reshape(-1).tolist()}]}
        answer = server.post(f"/v2/models/{tensors.name}/infer", body).json["outputs"][0]
        assert answer["shape"] == list(tensors.want.shape)
        tensors.check(answer["data"])


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_the_command_line_matches_torch(tensors: Tensors, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        np.save(file, tensors.rows)
    else:
        file.write_text(json.dumps(tensors.rows.tolist()))
    done = infc("run", tensors.bundle, "--input", f"{tensors.input}={file}")
    assert done.returncode == 0, done.stderr
    tensors.check(json.loads(done.stdout)["outputs"][tensors.output])


def test_outputs_go_to_a_file_when_asked(tensors: Tensors, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", tensors.rows)
    argument = f"{tensors.input}={tmp_path / 'rows.npy'}"
    done = infc("run", tensors.bundle, "--input", argument, "--output", tmp_path / "out.npz", "--threads", "2")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with np.load(tmp_path / "out.npz") as found:
        tensors.check(found[tensors.output])
