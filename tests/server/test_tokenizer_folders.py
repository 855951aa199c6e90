"""Forty folders of ten tokenizer classes: five hundred texts each become the ids that sentence-transformers makes of them, in
this process and in the server, or the folder is refused by name."""

# transformers and sentence-transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from infc.compiler.frontends.probe_texts import texts
from infc.compiler.frontends.sentence import read_settings
from infc.compiler.frontends.text import library_text
from infc.compiler.frontends.tokenizer_check import open_tokenizer
from infc.dsl.spec import Task

from .bundles import Fixture, compile_model, write_bundle

COUNT = 500
CORPUS = [
    "The quick brown fox",
    "na\u00efve caf\u00e9 d\u00e9j\u00e0 vu",
    "hello WORLD, hello world",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d",
] * 10
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CLASSES = {
    "BertTokenizer": "pieces", "ElectraTokenizer": "pieces", "DistilBertTokenizer": "pieces", "MPNetTokenizer": "angled",
    "RobertaTokenizer": "bytes", "GPT2Tokenizer": "bytes", "XLMRobertaTokenizer": "sentencepiece.bpe.model",
    "T5Tokenizer": "spiece.model", "AlbertTokenizer": "spiece.model", "CamembertTokenizer": "sentencepiece.bpe.model",
    "PreTrainedTokenizerFast": "tiktoken",
}  # fmt: skip
"""Ten classes, and what their files are; and tiktoken's file, which may be of any."""
SPECIAL: dict[str, dict[str, Any]] = {
    "T5Tokenizer": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "AlbertTokenizer": {
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": -1,
        "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    },
}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"model_max_length": 24}, {}),
    "left": ({"truncation_side": "left", "do_lower_case": True}, {"max_seq_length": 20}),
    "lower": ({"model_max_length": 512, "do_lower_case": False}, {"do_lower_case": True, "max_seq_length": 16}),
    "special": (
        {"model_max_length": 10**30, "additional_special_tokens": ["<ent>", "fox "], "padding_side": "left"},
        {},
    ),
}
"""Keys of tokenizer_config.json and of sentence_bert_config.json."""


def folder(place: Path, kind: str, name: str) -> Path:
    """A tiny encoder of sentence-transformers with a tokenizer of this class, from its vocabulary alone."""
    place.mkdir()
    how, (own, sentence) = CLASSES[kind], SETTINGS[name]
    if how in ("pieces", "angled"):
        special = PIECES if how == "pieces" else ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.train_from_iterator(
            [*CORPUS, *(t.lower() for t in CORPUS)], trainers.WordPieceTrainer(vocab_size=120, special_tokens=special)
        )
        words = sorted(made.get_vocab().items(), key=lambda item: item[1])
        (place / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), encoding="utf-8")
    elif how == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ANGLED if kind == "RobertaTokenizer" else ["<|endoftext|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
        )
        made.model.save(str(place))
    elif how == "tiktoken":
        pairs = [b"th", b"the", b" the", b"qu", b"\xc3\xa9", b"ld", b"or", b"orld", b" w", b"12", b"ll"]
        ranks = [*(bytes([byte]) for byte in range(256)), *pairs]
        lines = (f"{base64.b64encode(piece).decode()} {rank}\n" for rank, piece in enumerate(ranks))
        (place / "tokenizer.model").write_text("".join(lines))
    else:
        options: dict[str, Any] = {
            "vocab_size": 80,
            "hard_vocab_limit": False,
            "minloglevel": 2,
            **SPECIAL.get(kind, {}),
        }
        with (place / how).open("wb") as out:
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=out, **options)
    config = transformers.BertConfig(
        vocab_size=600,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=40,
    )
    transformers.BertModel(config).save_pretrained(place)
    pad = {"pad_token": "<|endoftext|>"} if how == "tiktoken" or kind == "GPT2Tokenizer" else {}
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **own, **pad}))
    (place / "sentence_bert_config.json").write_text(json.dumps(sentence))
    rows = [
        {"idx": n, "name": str(n), "type": f"sentence_transformers.models.{m}", "path": p}
        for n, (m, p) in enumerate((("Transformer", ""), ("Pooling", "1_Pooling")))
    ]
    (place / "modules.json").write_text(json.dumps(rows))
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 8, "pooling_mode": "mean"})
    )
    return place


FEW = {("XLMRobertaTokenizer", "special"), ("PreTrainedTokenizerFast", "left")}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=() if (kind, name) in FEW else pytest.mark.full)
        for kind in CLASSES
        for name in SETTINGS
    ],
)
def test_texts_become_the_ids_of_the_library(
    tmp_path: Path, kind: str, name: str, libraries: Path, serve_binary: Path
) -> None:
    place = folder(tmp_path / "model", kind, name)
    config = json.loads((place / "config.json").read_text())
    settings = read_settings(place, Task(kind="embed"))
    found = library_text(place, config, settings, 599, tmp_path)
    theirs: Any = SentenceTransformer(str(place), device="cpu")
    ours = open_tokenizer(found.tokenizer, found.limit.tokens, found.side)
    words = list(ours.get_vocab(with_added_tokens=True))
    every = [text for seed in range(3) for text in texts(words, found.limit.tokens, seed)][:COUNT]
    want = [theirs.preprocess([text])["input_ids"][0].tolist() for text in every]
    for text, ids in zip(every, want, strict=True):
        assert ours.encode(text).ids == ids, (text, found)
    assert found.limit.tokens is not None
    says = {"limit": found.limit.tokens, "truncation_side": found.side, "overflow": "truncate", "prompt": ""}
    model = (Fixture(kind="embed", task=says), compile_model(libraries, "embed", ()))
    bundle = write_bundle(tmp_path / "bundle", [model], None, found.tokenizer)
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps([text]) + "\n" for text in every), encoding="utf-8")
    command = [str(serve_binary), "tokenize", "--bundle", str(bundle), str(lines)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    for text, ids, line in zip(every, want, said.stdout.splitlines(), strict=True):
        assert json.loads(line)["input_ids"] == ids, (text, found)
