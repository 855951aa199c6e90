"""Taggers answer over HTTP and in Python as transformers' token-classification pipeline does."""

# transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import infc
from infc.compiler.build import build
from infc.compiler.driver import Request
from infc.compiler.errors import InfcError
from infc.runtime import InferError
from tests.frontends.families import stir
from tests.server.serving import Server, environment, running

from .support import ROOT, write_spec
from .test_classifiers import folder as classifier
from .test_classifiers import rewrite, served

LIMIT = 24
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "NOUN", "X-Y-Z"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
CORPUS = [
    "Angela Merkel lives in Berlin .",
    "the café in Neuenburg am Rhein is closed",
    "unbelievable neighbours moved",
] * 4
TEXTS = [
    "Angela Merkel lives in Berlin, near the café.",
    "  two  spaces\tand a tab ",
    "unbelievableneighbours 🤷🏽‍♂️ moved to Neuenburg",
    "e\u0301cole ﬁne 東京 [SEP] <s> ZZZ",
    "Berlin",
    ".",
    "",
    "the café in Neuenburg am Rhein is closed . " * 9,
]


def word_pieces() -> tuple[Tokenizer, dict[str, str]]:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made, names


ROBERTA = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def byte_pairs(space: bool) -> tuple[Tokenizer, dict[str, str]]:
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=space)
    return made, ROBERTA


def unigram() -> tuple[Tokenizer, dict[str, str]]:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made, ROBERTA


@dataclass(frozen=True)
class Case:
    kind: str
    tokenizer: str
    aggregation: str = "none"
    more: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}-{self.tokenizer}"


SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": LIMIT + 2,
}  # fmt: skip


def folder(place: Path, case: Case) -> Path:
    """A tiny tagger with its tokenizer, as transformers saves them."""
    made, names = {
        "pieces": word_pieces, "bytes": lambda: byte_pairs(False), "spaced": lambda: byte_pairs(True), "unigram": unigram,
    }[case.tokenizer]()  # fmt: skip
    given = ["input_ids", "attention_mask"]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=LIMIT, model_input_names=given, **names
    ).save_pretrained(place)
    torch.manual_seed(3)
    size = {"vocab_size": made.get_vocab_size(), "pad_token_id": made.token_to_id(names["pad_token"])}
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    config = getattr(transformers, f"{case.kind}Config")(**SMALL | size | labels | dict(case.more))
    model = getattr(transformers, f"{case.kind}ForTokenClassification")(config).eval()
    stir(model, 0.3)
    model.save_pretrained(place)
    return place


def infer(server: Server, **given: Any) -> list[list[dict[str, Any]]]:
    answer = server.post("/infer", given)
    assert answer.status == 200, answer.json
    return answer.json["outputs"]["entities"]


def check(got: list[dict[str, Any]], want: list[dict[str, Any]], text: str) -> None:
    """Scores within 1e-5, all else equal."""
    assert [e | {"score": 0} for e in got] == [e | {"score": 0} for e in want], text
    assert [e["score"] for e in got] == pytest.approx([float(e["score"]) for e in want], abs=1e-5)


FULL = pytest.mark.full
CASES = [
    Case("Bert", "pieces"),
    Case("Roberta", "bytes", "average"),
    pytest.param(Case("XLMRoberta", "unigram", "simple"), marks=FULL),
    pytest.param(
        Case("DistilBert", "pieces", "first", (("dim", 32), ("n_layers", 2), ("n_heads", 2), ("hidden_dim", 64))), marks=FULL
    ),
    pytest.param(Case("Electra", "pieces", "max", (("embedding_size", 16),)), marks=FULL),
    pytest.param(Case("Roberta", "spaced"), marks=FULL),
    pytest.param(Case("MPNet", "unigram"), marks=FULL),
    pytest.param(Case("DebertaV2", "unigram", "simple", (("type_vocab_size", 0),)), marks=FULL),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tagger_answers_as_transformers_does(tmp_path: Path, case: Case) -> None:
    place = folder(tmp_path / "model", case)
    task = "task tag" if case.aggregation == "none" else f"task tag(aggregation = {case.aggregation})"
    bundle = served(tmp_path, task, "input text: string, truncate")
    pipe = transformers.pipeline("token-classification", model=str(place), device="cpu")
    with running(bundle / "serve", bundle) as server, infc.load(bundle) as here:
        for how in STRATEGIES:
            got = infer(server, text=TEXTS, aggregation_strategy=how)
            same = here.run(text=TEXTS, aggregation_strategy=how)["entities"]
            for text, ours, mine in zip(TEXTS, got, same, strict=True):
                want = pipe(text, aggregation_strategy=how)
                check(ours, want, text)
                check(mine, want, text)
        for text in TEXTS[:3]:
            check(infer(server, text=text)[0], pipe(text, aggregation_strategy=case.aggregation), text)
            every = {"ignore_labels": [], "aggregation_strategy": None}
            said = pipe(text, ignore_labels=[], aggregation_strategy=case.aggregation)
            check(infer(server, text=text, **every)[0], said, text)
            check(here.run(text=text, **every)["entities"][0], said, text)
            ignored = ["O", LABELS[1], "PER"]
            check(
                infer(server, text=text, ignore_labels=ignored)[0],
                pipe(text, ignore_labels=ignored, aggregation_strategy=case.aggregation),
                text,
            )
        assert infer(server, text=[]) == []
        assert here.run(text=[]) == {"entities": []}
        assert list(server.get("/info").json["model_type"]) == ["token_classifier"]


def test_what_a_tagger_is_asked_otherwise(tmp_path: Path) -> None:
    place = folder(tmp_path / "model", Case("Bert", "pieces"))
    rows = [{"text": text} for text in TEXTS[:5]]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "labels.txt").write_text("".join(f"{label.lower()}\n" for label in LABELS))
    spec = write_spec(tmp_path, 'source huggingface("model")', 'task tag(labels = "labels.txt")')
    data = 'data { evaluate jsonl("data.jsonl") }\ntargets {\n  accuracy top1 >= 1 vs float32\n  accuracy cosine >= 0.9999 vs float32\n}\n'
    spec.write_text(spec.read_text() + data, encoding="utf-8")
    outcome = build(Request(spec, jobs=2))
    assert [(v.verdict, v.note.partition("; ")[2]) for v in outcome.verdicts] == [
        ("not proved", "at least 30 rows are needed")
    ] * 2
    assert [round(v.value or 0, 6) for v in outcome.verdicts] == [1, 1]
    bundle = outcome.bundle
    pipe = transformers.pipeline("token-classification", model=str(place), device="cpu")
    with running(bundle / "serve", bundle) as server:
        want = [entity | {"entity": entity["entity"].lower()} for entity in pipe(TEXTS[0], ignore_labels=[])]
        check(infer(server, text=TEXTS[0], ignore_labels=[])[0], want, TEXTS[0])
        run = [sys.executable, "-m", "infc", "run", str(bundle), "--text", TEXTS[0]]
        said = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=environment()).stdout
        (found,) = json.loads(said)["outputs"]["entities"]
        check(found, [entity for entity in want if entity["entity"] != "O"], TEXTS[0])
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["Berlin", "Berlin"]}]
        answer = server.post("/v2/models/m/infer", {"inputs": inputs})
        assert answer.status == 200, answer.json
        tokens = len(server.post("/tokenize", {"text": "Berlin"}).json["ids"])
        assert answer.json["outputs"][0]["shape"] == [2, tokens, len(LABELS)]
        inputs[0]["data"] = ["Berlin", "Berlin near"]
        answer = server.post("/v2/models/m/infer", {"inputs": inputs})
        assert (answer.status, "different numbers of tokens" in answer.json["error"]) == (422, True)
        for given, field in (
            ({"aggregation_strategy": "mean"}, "aggregation_strategy"),
            ({"ignore_labels": "O"}, "ignore_labels"),
            ({"stride": 3}, "stride"),
        ):
            answer = server.post("/infer", {"text": "a", **given})
            assert (answer.status, answer.json["error"]["field"]) == (422, field)
        for path, body in (
            ("/predict", {"inputs": "a"}),
            ("/embed", {"inputs": "a"}),
            ("/rerank", {"query": "a", "texts": ["a"]}),
        ):
            assert server.post(path, body).status == 422, path
    with infc.load(bundle) as here:
        for given, part in (
            ({"aggregation_strategy": "mean"}, "must be one of none, simple"),
            ({"ignore_labels": "O"}, "must be a list of labels, not str"),
            ({"ignore_labels": [1]}, "one of them is no text"),
            ({"stride": 3}, "there is no input 'stride' beside texts"),
        ):
            with pytest.raises(InferError, match=part):
                here.run(text="a", **given)


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("task tag", {"id2label": dict.fromkeys(map(str, range(7)), "a")}, "has the label 'a' twice"),
        pytest.param('task tag(labels = "labels.txt")', {}, "labels.txt has 1 labels, and the model has 7 classes", marks=FULL),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_tagger_is_refused(tmp_path: Path, task: str, changes: dict[str, Any], said: str) -> None:
    rewrite(folder(tmp_path / "model", Case("Bert", "pieces")) / "config.json", **changes)
    (tmp_path / "labels.txt").write_text("a\n")
    with pytest.raises(InfcError, match=said.replace("[", r"\[")):
        served(tmp_path, task)


def test_a_classifier_of_texts_is_no_tagger(tmp_path: Path) -> None:
    classifier(tmp_path / "model", "Bert", 3)
    with pytest.raises(InfcError, match=r"`task tag` needs logits of the shape \[batch, tokens, classes\]"):
        served(tmp_path, "task tag")
