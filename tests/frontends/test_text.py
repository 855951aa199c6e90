"""A folder's texts become the ids that its own library makes of them, or the folder is refused by name."""

# transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.probe_texts import texts
from infc.compiler.frontends.sentence import Settings
from infc.compiler.frontends.text import Text, library_text
from infc.compiler.frontends.token_limit import Limit, folder_limit
from infc.compiler.frontends.tokenizer_check import open_tokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "green",
    "Green",
    "apple",
    "##s",
    "a",
    "B",
    "b",
    "café",
    "cafe",
    ".",
]
NAMES = ["[CLS]", "[SEP]", "[MASK]"]
LONG = "green apple a b . " * 9
CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 40}


def save(folder: Path, *, lower: bool = False, **settings: Any) -> Path:
    """A BERT-like tokenizer as transformers saves it, with these keys of tokenizer_config.json."""
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def read(folder: Path, work: Path, said: Settings | None = None, config: dict[str, Any] = CONFIG) -> Text:
    return library_text(folder, config, said or Settings(), len(WORDS) - 1, work)


@pytest.mark.parametrize(
    ("lower", "settings"),
    [
        (False, {}),
        (True, {}),
        (False, {"truncation_side": "left"}),
        (False, {"model_max_length": 8}),
        (True, {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False}),
        (False, {"tokenizer_class": "BertTokenizer", "do_lower_case": True}),
        (False, {"tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False}),
        (False, {"tokenizer_class": "BertTokenizerFast"}),
    ],
    ids=json.dumps,
)
def test_what_tokenizer_config_says_counts(tmp_path: Path, lower: bool, settings: dict[str, Any]) -> None:
    folder = save(tmp_path / "m", lower=lower, **settings)
    found = read(folder, tmp_path)
    assert found.limit.tokens == min(40, settings.get("model_max_length", 64))
    assert found.side == settings.get("truncation_side", "right")
    assert folder / "tokenizer_config.json" in found.files
    theirs, ours = (
        AutoTokenizer.from_pretrained(folder),
        open_tokenizer(found.tokenizer, found.limit.tokens, found.side),
    )
    for text in (LONG, "Green Apples", "CAFÉ café", "", "\u4e2d\u6587 a", *texts(WORDS, found.limit.tokens)):
        want = theirs(text, truncation=True, max_length=found.limit.tokens)["input_ids"]
        assert ours.encode(text).ids == want, text


def test_a_text_is_lowered_before_the_tokenizer_where_the_settings_say_so(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    plain = open_tokenizer(read(folder, tmp_path / "1").tokenizer, None, "right")
    lowered = open_tokenizer(read(folder, tmp_path / "2", Settings(lower=True)).tokenizer, None, "right")
    assert plain.encode("Green B").tokens == ["[CLS]", "Green", "B", "[SEP]"]
    assert lowered.encode("Green B").tokens == ["[CLS]", "green", "b", "[SEP]"]


@pytest.mark.parametrize(
    ("said", "config", "limit"),
    [
        (Settings(limit=Limit(12)), CONFIG, 12),
        (Settings(limit=Limit(100)), CONFIG, 100),  # the position table bounds it later
        (Settings(), CONFIG, 40),
        (Settings(), {**CONFIG, "max_position_embeddings": 512}, 64),
        (Settings(), {"model_type": "bert"}, 64),
    ],
)
def test_the_limit_is_the_librarys(tmp_path: Path, said: Settings, config: dict[str, Any], limit: int) -> None:
    folder = save(tmp_path / "m")
    assert read(folder, tmp_path, said, config).limit.tokens == limit
    # And so find those who ask without the library, which know of the position table at once.
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": said.limit.tokens}))
    assert folder_limit(folder, "embed").tokens == min(limit, config.get("max_position_embeddings", limit))
    assert folder_limit(folder, "classify").tokens == min(64, config.get("max_position_embeddings", 64))


@pytest.mark.parametrize(
    ("config", "said", "limit", "origin"),
    [
        ({"max_position_embeddings": 40}, {"model_max_length": 64}, 40, "max_position_embeddings of config.json"),
        ({}, {"model_max_length": 64}, 64, "model_max_length of tokenizer_config.json"),
        ({}, {"model_max_length": 10**30}, 512, "no file of the folder says one"),
        (
            {"model_type": "xlm-roberta", "max_position_embeddings": 514},
            {"model_max_length": 514},
            512,
            "positions that config.json leaves for tokens",
        ),
    ],
)
def test_who_says_the_limit_is_known(
    tmp_path: Path, config: dict[str, Any], said: dict[str, Any], limit: int, origin: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    assert folder_limit(tmp_path, "embed") == Limit(limit, origin)


@pytest.mark.parametrize("longest", [True, "7", 0, 0.5, -3])
def test_a_length_that_is_no_count_is_refused_by_all(tmp_path: Path, longest: object) -> None:
    folder = save(tmp_path / "m", model_max_length=longest)
    for ask in (lambda: folder_limit(folder, "embed"), lambda: read(folder, tmp_path)):
        with pytest.raises(FrontendError, match=f"tokenizer_config.json: model_max_length is {longest!r}, and a count"):
            ask()


def test_without_any_limit_there_is_none(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", model_max_length=10**30)
    assert read(folder, tmp_path, config={"model_type": "bert"}).limit.tokens is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"truncation_side": "middle"}, "tokenizer"),
        ({"model_max_length": "many"}, "model_max_length is 'many'"),
        ({"model_max_length": -1}, "model_max_length is -1"),
        ({"added_tokens_decoder": {"x": 1}}, "tokenizer"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(FrontendError, match=said):
        read(save(tmp_path / "m", **settings), tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(FrontendError, match="has no tokenizer.json"):
        read(folder, tmp_path)


def test_a_folder_of_a_vocabulary_alone_has_a_tokenizer(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", tokenizer_class="BertTokenizer", do_lower_case=True)
    (folder / "tokenizer.json").unlink()
    found = open_tokenizer(read(folder, tmp_path).tokenizer, None, "right")
    assert found.encode("Green apples").tokens == ["[CLS]", "green", "apple", "##s", "[SEP]"]


def test_a_difference_is_refused_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: PreTrainedTokenizerFast, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": self.backend_tokenizer.encode(text).ids + [9] * (text == "a")}

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", other)
    with pytest.raises(FrontendError, match="makes other tokens of 'a' than"):
        read(save(tmp_path / "m", model_max_length=10**30), tmp_path, config={"model_type": "bert"})


@pytest.mark.parametrize(
    ("kind", "file", "special"),
    [
        ("XLMRobertaTokenizer", "sentencepiece.bpe.model", {}),
        ("T5Tokenizer", "spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
        (
            "AlbertTokenizer",
            "spiece.model",
            {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": NAMES},
        ),
    ],
)
def test_a_folder_with_sentencepiece_alone_is_tokenized_as_its_class_does(
    tmp_path: Path, kind: str, file: str, special: dict[str, Any]
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    lines = ["the quick brown fox", "na\u00efve caf\u00e9 d\u00e9j\u00e0 vu", "hello world"] * 20
    made: dict[str, Any] = {"vocab_size": 40, "hard_vocab_limit": False, "minloglevel": 2, **special}
    with (folder / file).open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, **made)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "xlm-roberta"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "model_max_length": 24}))
    found = library_text(folder, CONFIG, Settings(), 400, tmp_path)
    theirs, ours = (
        AutoTokenizer.from_pretrained(folder),
        open_tokenizer(found.tokenizer, found.limit.tokens, found.side),
    )
    assert found.limit.tokens == 24
    for text in (
        "",
        "hello world",
        "na\u00efve \ufb01ne \uff21\uff22",
        "fox " * 30,
        *texts(["fox", "caf\u00e9"], found.limit.tokens),
    ):
        assert ours.encode(text).ids == theirs(text, truncation=True, max_length=found.limit.tokens)["input_ids"], text
