"""Classifiers and rerankers answer over HTTP as transformers' pipelines and sentence-transformers' CrossEncoder do."""

# transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from platform import machine
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder

import infc
from infc.compiler.build import build
from infc.compiler.bundle.tokens import check_tokens
from infc.compiler.cache import Cache, Spare
from infc.compiler.driver import Request
from infc.compiler.errors import InfcError
from infc.compiler.frontends.huggingface import load
from infc.compiler.frontends.imported import Options
from infc.compiler.measure.text_rows import tokenize_rows
from infc.dsl import check_file
from infc.runtime import InferError
from tests.frontends.families import stir
from tests.frontends.test_text import WORDS, save
from tests.server.serving import Server, environment, running
from tests.server.test_hostile import peak_mib

from .support import ROOT, write_spec

LIMIT = 24
TEXTS = ["green apple", "Green a b . apples apple", "b", "café .", "", "apple green . " * 30, "a b a b " * 20]
PAIRS = [
    *zip(TEXTS, TEXTS[3:] + TEXTS[:3], strict=True),
    ("apple green . " * 9, "a b c " * 7),
    ("a " * 19, "b " * 20),
    # Both reach the limit, and of an odd number of tokens the longer one keeps one more, or the second.
    ("green " * 60, "b " * 30),
    ("b " * 30, "green " * 60),
    ("a apples " * 13, "b " * 26),
    ("a " * 26, "a " * 26),
]
LABELS = ("no", 'yes "sure" \U0001f937\u200d\u2642\ufe0f', "vielleicht\u00a0— später")
TOLERANCE = 1e-5

COMMON: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": LIMIT, "pad_token_id": 0,
}  # fmt: skip


LONGER: dict[str, Any] = {"max_position_embeddings": LIMIT + 1, "type_vocab_size": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {}, "Roberta": LONGER, "XLMRoberta": LONGER, "Electra": {"embedding_size": 16}, "Albert": {"embedding_size": 16},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "MPNet": {"max_position_embeddings": LIMIT + 2, "pad_token_id": 1},
}  # fmt: skip
"""What a tiny config of a family has beside what is common."""
SEGMENTED = ("Bert", "Electra", "Albert")


def folder(place: Path, kind: str, classes: int, *, segments: bool = True, **more: Any) -> Path:
    """A tiny sequence classifier with its tokenizer, as transformers saves them."""
    given = ["input_ids", *(["token_type_ids"] if segments and kind in SEGMENTED else []), "attention_mask"]
    save(place, model_max_length=LIMIT, model_input_names=given)
    torch.manual_seed(1)
    labels = {"id2label": dict(enumerate(LABELS[:classes])), "label2id": {n: i for i, n in enumerate(LABELS[:classes])}}
    config = getattr(transformers, f"{kind}Config")(**COMMON | FAMILIES[kind] | labels | more)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    stir(model, 0.2)
    model.save_pretrained(place)
    return place


def served(place: Path, *lines: str) -> Path:
    spec = write_spec(place, 'source huggingface("model")', *lines)
    return build(Request(spec, jobs=2)).bundle


def infer(server: Server, **given: Any) -> dict[str, Any]:
    answer = server.post("/infer", given)
    assert answer.status == 200, answer.json
    return answer.json["outputs"]


@dataclass(frozen=True)
class Case:
    kind: str
    classes: int
    problem: str | None
    pairs: bool
    top: int
    segments: bool = True

    def __str__(self) -> str:
        return f"{self.kind}-{self.classes}-{self.problem}-{'pairs' if self.pairs else 'texts'}-{self.segments}"


FULL = pytest.mark.full
CLASSIFIERS = [
    Case("Bert", 3, None, pairs=True, top=3),
    Case("DistilBert", 2, "single_label_classification", pairs=False, top=1),
    pytest.param(Case("Roberta", 3, "multi_label_classification", pairs=False, top=3), marks=FULL),
    pytest.param(Case("Bert", 2, None, pairs=True, top=1, segments=False), marks=FULL),
    pytest.param(Case("Albert", 1, None, pairs=True, top=1), marks=FULL),
    pytest.param(Case("Electra", 1, "regression", pairs=False, top=1), marks=FULL),
    pytest.param(Case("MPNet", 2, None, pairs=True, top=2), marks=FULL),
]


@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_a_classifier_answers_as_transformers_does(tmp_path: Path, case: Case) -> None:
    place = folder(tmp_path / "model", case.kind, case.classes, segments=case.segments, problem_type=case.problem)
    pipe = transformers.pipeline("text-classification", model=str(place), device="cpu")
    names = ["first", "second"] if case.pairs else ["text"]
    rows: list[tuple[str, ...]] = list(PAIRS) if case.pairs else [(text,) for text in TEXTS]
    bundle = served(
        tmp_path, f"task classify(top = {case.top})", *(f"input {name}: string, truncate" for name in names)
    )
    with running(bundle / "serve", bundle) as server:
        columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
        found = infer(server, **columns)
        for row, labels, scores in zip(rows, found["label"], found["score"], strict=True):
            if not row[-1] and case.pairs:
                continue  # the pipeline takes an empty second text for none; the tokenizer's own lists do not, nor do we
            given: dict[str, str] = dict(zip(("text", "text_pair"), row, strict=False))
            want = pipe(given, truncation=True, top_k=case.top)
            assert labels == [item["label"] for item in want], row
            np.testing.assert_allclose(scores, [item["score"] for item in want], atol=TOLERANCE)
        assert infer(server, **{name: rows[0][at] for at, name in enumerate(names)})["label"] == found["label"][:1]
        assert infer(server, **{name: [] for name in names}) == {"label": [], "score": []}
        predicted = server.post("/predict", {"inputs": [list(row) for row in rows]}).json
        for row, labels, scores, each in zip(rows, found["label"], found["score"], predicted, strict=True):
            assert {item["label"] for item in each} == set(LABELS[: case.classes]), row
            assert [item["label"] for item in each[: case.top]] == labels
            np.testing.assert_allclose([item["score"] for item in each[: case.top]], scores, atol=1e-6)
        assert server.post("/predict", {"inputs": rows[0] if case.pairs else rows[0][0]}).json == predicted[0]
        wrong = server.post("/predict", {"inputs": [["a"] if case.pairs else ["a", "b"]]})
        assert (wrong.status, wrong.json["error"]["field"]) == (422, "inputs[0]")
        assert list(server.get("/info").json["model_type"]) == ["classifier"]
        with infc.load(bundle) as here:
            same = here.run(columns)
            assert same["label"].tolist() == found["label"]
            np.testing.assert_allclose(same["score"], found["score"], atol=1e-6)
            assert here.run({name: [] for name in names})["score"].shape == (0, case.top)
        inputs = [{"name": n, "datatype": "BYTES", "shape": [len(rows)], "data": columns[n]} for n in names]
        answer = server.post("/v2/models/m/infer", {"inputs": inputs[::-1]})
        assert answer.status == 200, answer.json
        (logits,) = answer.json["outputs"]
        assert (logits["name"], logits["shape"]) == ("logits", [len(rows), case.classes])
        said = server.get("/v2/models/m").json["inputs"]
        assert [(i["name"], i["datatype"]) for i in said] == [(name, "BYTES") for name in names]


def test_what_does_not_fit_a_pair_is_refused_by_name(tmp_path: Path) -> None:
    rewrite(folder(tmp_path / "model", "Bert", 3) / "config.json", id2label={"0": "x", "1": "x", "2": "x"})
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    bundle = served(tmp_path, 'task classify(labels = "labels.txt")', "input first: string", "input second: string")
    with running(bundle / "serve", bundle) as server:
        label = infer(server, first="green", second="b")["label"][0][0]
        assert label in "abc"
        run = [sys.executable, "-m", "infc", "run", str(bundle), "--text", "green", "--text", "b"]
        said = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=environment())
        assert f'"{label}"' in said.stdout
        alone = subprocess.run(run[:-2], capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
        assert (alone.returncode, "the last text is alone" in alone.stderr) == (2, True)
        for given, said in (
            ({"first": "a"}, "second: the input is missing"),
            ({"first": ["a"], "second": ["a", "b"]}, "second: it has 2 texts, and first has 1"),
            ({"first": "a", "second": ["a", "b"]}, "second: it has 2 texts, and first has 1"),
            ({"first": "a", "second": "b", "text": "c"}, "text: there is no such input; the model takes first, second"),
            (
                {"first": "a " * 20, "second": "b " * 20},
                "the pair has 43 tokens, special tokens included, and the limit is 24",
            ),
            ({"first": 5, "second": "b"}, "first: expected a string"),
        ):
            answer = server.post("/infer", given)
            assert answer.status == 422, answer.json
            assert said in answer.json["error"]["message"], answer.json
        refused = server.post("/rerank", {"query": "a", "texts": ["b"]})
        assert (refused.status, "does not rank" in refused.json["error"]["message"]) == (422, True)
        refused = server.post("/v1/embeddings", {"model": "m", "input": "a"})
        assert (refused.status, "no embeddings" in refused.json["error"]["message"]) == (422, True)


RERANKERS = [
    ("XLMRoberta", None),
    pytest.param("Electra", "torch.nn.modules.linear.Identity", marks=pytest.mark.full),
    pytest.param("Bert", None, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("kind", "activation"), RERANKERS)
def test_a_reranker_answers_as_a_cross_encoder_does(tmp_path: Path, kind: str, activation: str | None) -> None:
    made = folder(tmp_path / "made", kind, 1)
    function = None if activation is None else torch.nn.Identity()
    CrossEncoder(str(made), device="cpu", activation_fn=function).save_pretrained(str(tmp_path / "model"))
    theirs = CrossEncoder(str(tmp_path / "model"), device="cpu")
    lines = ["input query: string, truncate", "input document: string, truncate"]
    # The query comes first, however it is written.
    bundle = served(tmp_path, "task rerank", *(lines[::-1] if kind == "XLMRoberta" else lines))
    with running(bundle / "serve", bundle) as server:
        queries, documents = (list(column) for column in zip(*PAIRS, strict=True))
        got = infer(server, query=queries, document=documents)["score"]
        np.testing.assert_allclose(got, theirs.predict(PAIRS), atol=TOLERANCE)
        spread = infer(server, query="green apple", document=TEXTS)["score"]
        want = theirs.predict([("green apple", text) for text in TEXTS])
        np.testing.assert_allclose(spread, want, atol=TOLERANCE)
        assert infer(server, query="a", document=[]) == {"score": []}
        with infc.load(bundle) as here:
            np.testing.assert_allclose(here.run(query=queries, document=documents)["score"], got, atol=1e-6)
            np.testing.assert_allclose(here.run(query="green apple", document=TEXTS)["score"], spread, atol=1e-6)
            assert here.run(query="a", document=[])["score"].shape == (0,)
            for wrong, said in (
                ({"query": ["a"], "document": ["a", "b"]}, "query has 1 and document has 2 texts"),
                ({"query": "a"}, "the text 'document' is missing"),
                ({"query": "a", "document": None}, "'document' must be a text or a list of texts, not NoneType"),
                ({"txt": "a"}, "give query and document, or tokens as input_ids, "),
                ({}, ", not nothing"),
                ({"query": "a", "document": ["b", 3]}, r"document\[1\] must be a text, not int"),
                ({"query": "a", "document": "b", "top": 1}, "there is no input 'top' beside texts"),
            ):
                with pytest.raises(InferError, match=said):
                    here.run(cast("Any", wrong))
        check_rerank(
            server, want, theirs.predict([("green apple", text) for text in TEXTS], activation_fn=torch.nn.Identity())
        )


def check_rerank(server: Server, want: Any, logits: Any) -> None:
    """Both forms of /rerank for the query "green apple" and TEXTS."""
    order = np.argsort(-want, kind="stable").tolist()

    def post(path: str = "/rerank", **more: Any) -> Any:
        answer = server.post(path, {"query": "green apple", **more})
        assert answer.status == 200, answer.json
        return answer.json

    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        answer = post(path, documents=[{"text": t} if n % 2 else t for n, t in enumerate(TEXTS)], model="m")
        assert [item["index"] for item in answer["results"]] == order
        np.testing.assert_allclose([item["relevance_score"] for item in answer["results"]], want[order], atol=TOLERANCE)
        assert (answer["model"], set(answer), set(answer["results"][0])) == (
            "m", {"id", "model", "results", "usage"}, {"index", "relevance_score"},
        )  # fmt: skip
        assert answer["usage"]["total_tokens"] > len(TEXTS)
    assert post(documents=["apple"], texts=None)["results"][0]["index"] == 0
    # Neither the parts that are cut off nor the places that are not asked for take memory.
    far = ["a b " * 16_000] * 8 + ["b"]
    more = {"top_n": 1, "return_documents": True, "truncate": True}
    answer = server.post("/rerank", {"query": "a " * 30_000, "documents": far, **more})
    assert answer.status == 200, answer.json
    assert peak_mib(server) < 400
    some = post(documents=TEXTS, top_n=2, return_documents=True)["results"]
    assert [(i["index"], i["document"]) for i in some] == [(n, {"text": TEXTS[n]}) for n in order[:2]]
    bare = post(texts=TEXTS, raw_scores=True, return_text=True, truncate=True, truncation_direction="Right")
    assert [(i["index"], i["text"]) for i in bare] == [(n, TEXTS[n]) for n in order]
    np.testing.assert_allclose([i["score"] for i in bare], logits[order], atol=TOLERANCE)
    for body, status, said in (
        ({"query": "a", "texts": ["a"], "documents": ["a"]}, 422, "only one of texts and documents"),
        ({"query": "a"}, 422, "documents: the field is missing"),
        ({"texts": ["a"]}, 422, "query: the field is missing"),
        ({"query": "a", "texts": "b"}, 422, "texts: expected a list"),
        ({"query": "a", "documents": None, "texts": None}, 422, "documents: the field is missing"),
        ({"query": "a", "texts": []}, 422, "texts: the list is empty"),
        ({"query": "a", "documents": [{"title": "a"}]}, 422, "documents[0]: expected a string, or an object"),
        ({"query": "a", "documents": ["a", {"text": 5}]}, 422, "documents[1].text: expected a string"),
        ({"query": "a", "texts": ["a"], "rank_fields": []}, 422, "rank_fields: the field is not known"),
        ({"query": "a", "texts": ["a"], "top_n": 0}, 422, "top_n: expected a whole number"),
        (
            {"query": "a", "texts": ["a"], "top_n": True},
            422,
            "top_n: expected a whole number of at least 1, got a bool",
        ),
        ({"query": "a", "texts": ["a"], "return_text": True, "return_documents": False}, 422, "say different things"),
        ({"query": "a", "texts": ["a", "b " * 40], "truncate": False}, 422, "texts[1]: the pair has"),
        ({"query": ["a"], "texts": ["a"]}, 422, "query: expected a string"),
    ):
        answer = server.post("/rerank", body)
        assert (answer.status, said in answer.json["error"]["message"]) == (status, True), answer.json


def test_files_that_the_library_does_not_read_change_nothing(tmp_path: Path) -> None:
    files = {
        "sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": True},
        "config_sentence_transformers.json": {"activation_fn": "torch.nn.modules.linear.Identity"},
    }
    for task in ("rerank", "classify"):
        place = tmp_path / task
        folder(place / "model", "Bert", 1 if task == "rerank" else 3)
        for name, said in files.items():
            (place / "model" / name).write_text(json.dumps(said))
        checked = check_file(write_spec(place, 'source huggingface("model")', f"task {task}")).spec
        assert checked is not None
        found = load(checked.models[0], place, Options(work=place / "work")).text
        assert found is not None
        assert (found.limit, found.activation) == (LIMIT, "sigmoid" if task == "rerank" else "softmax")
        assert '"Lowercase"' not in found.tokenizer.read_text()


def rewrite(path: Path, **changes: Any) -> None:
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | changes))


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        pytest.param("task classify", {"id2label": {"0": "a", "2": "b", "1": 5}}, "id2label has 5 for class 1", marks=FULL),
        ("task classify", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "has the label 'a' twice"),
        pytest.param("task classify", {"id2label": {"0": "a", "1": "", "2": "b"}}, "label 1 is ''", marks=FULL),
        pytest.param("task classify", {"problem_type": "ranking"}, "problem_type is 'ranking'", marks=FULL),
        pytest.param("task classify(top = 4)", {}, "`top = 4`, and model has 3 classes", marks=FULL),
        ("task rerank", {}, "`task rerank` needs a model of one score"),
        pytest.param("task rerank\n  input query: string, up to 2 tokens\n  input document: string, up to 2 tokens", {},
         "a limit of 2 tokens leaves no room for the 3 special tokens", marks=FULL),
        pytest.param("task classify\n  output logits: float32[batch, 2]", {}, "gives logits: float32[batch, 3]", marks=FULL),
        pytest.param("task classify\n  output score: float32[batch, 3]", {}, "says output score: float32[batch, 3], and", marks=FULL),
        pytest.param("task classify", {"architectures": ["BertForTokenClassification"]}, "`task classify` needs logits of the shape", marks=FULL),
        ("task classify", {"architectures": ["BertModel"]}, "no field 'logits'"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_classifier_is_refused(
    tmp_path: Path, task: str, changes: dict[str, Any], said: str
) -> None:
    rewrite(folder(tmp_path / "model", "Bert", 3) / "config.json", **changes)
    with pytest.raises(InfcError, match=said.replace("(", r"\(").replace("[", r"\[")):
        served(tmp_path, task)


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        ("os.system", "the activation 'os.system', which is not supported"),
        pytest.param(5, "the activation 5", marks=FULL),
    ],
)
def test_an_activation_is_looked_up_and_never_imported(tmp_path: Path, activation: object, said: str) -> None:
    place = folder(tmp_path / "model", "Bert", 1)
    for name in ("sbert_ce_default_activation_function", "sentence_transformers"):
        value = activation if name.startswith("sbert") else {"activation_fn": activation}
        rewrite(place / "config.json", **{"sbert_ce_default_activation_function": None, name: value})
        with pytest.raises(InfcError, match=said):
            served(tmp_path, "task rerank")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("a\nb\n", "labels.txt has 2 labels, and the model has 3 classes"),
        pytest.param("a\nb\na", "has the label 'a' twice", marks=FULL),
        pytest.param("\ufeffa\nb\nc", "labels.txt begins with a byte order mark", marks=FULL),
    ],
)
def test_a_file_of_labels_fits_the_model(tmp_path: Path, labels: str, said: str) -> None:
    folder(tmp_path / "model", "Bert", 3)
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    with pytest.raises(InfcError, match=said):
        served(tmp_path, 'task classify(labels = "labels.txt")')


def test_data_of_pairs_and_the_tokens_of_the_server(tmp_path: Path) -> None:
    folder(tmp_path / "model", "Bert", 1)
    rows = [{"query": first, "document": second, "id": at} for at, (first, second) in enumerate(PAIRS)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = ["input query: string, truncate", "input document: string, truncate"]
    spec = write_spec(tmp_path, 'source huggingface("model")', "task rerank", *texts)
    data = 'data { evaluate jsonl("pairs.jsonl") }\ntargets { accuracy max_abs_error <= 1e-3 vs float32 }\n'
    spec.write_text(spec.read_text() + data, encoding="utf-8")
    outcome = build(Request(spec, jobs=2))
    (found,) = outcome.verdicts
    assert found.verdict == "met"
    assert f"{len(PAIRS)} rows" in found.note, found
    checked = check_file(spec).spec
    assert checked is not None
    imported = load(checked.model, tmp_path, Options())
    task = imported.text
    assert task is not None
    try:
        cached = Spare(Cache(tmp_path / "cache"), pytest.fail)
        check_tokens(imported, machine(), outcome.bundle, tmp_path, cached)

        def otherwise(rows: Any, truncate: bool) -> Any:
            found = tokenize_rows(task, rows, truncate)
            found[7]["token_type_ids"][-1] ^= 1
            return found

        other = replace(imported, tokenize=otherwise)
        with pytest.raises(InfcError, match="the server makes other tokens of .* and .*: token_type_ids"):
            check_tokens(other, machine(), outcome.bundle, tmp_path, Spare(None, pytest.fail))
        # What was the same is not compared again, until a setting is another.
        check_tokens(other, machine(), outcome.bundle, tmp_path, cached)
        assert imported.text is not None
        other = replace(other, text=replace(imported.text, limit=imported.text.limit - 1))
        with pytest.raises(InfcError, match="the server makes other tokens"):
            check_tokens(other, machine(), outcome.bundle, tmp_path, cached)
    finally:
        imported.close()
    spec.write_text(spec.read_text().replace("max_abs_error <= 1e-3", "cosine >= 0.9"), encoding="utf-8")
    with pytest.raises(InfcError, match="says nothing of output 'logits', which has one number a row"):
        build(Request(spec, jobs=2))


def test_texts_of_a_pair_share_their_bounds(tmp_path: Path) -> None:
    folder(tmp_path / "model", "Bert", 1)
    with pytest.raises(InfcError, match="'query' and 'document' have bounds of their own"):
        served(tmp_path, "task rerank", "input query: string", "input document: string, truncate")
