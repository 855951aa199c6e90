"""SentencePiece's character maps: real ones are taken, and no map that is taken can make the library fail."""

# sentencepiece and tokenizers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import base64
import io
import random
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as schema
from tokenizers import normalizers

from infc.compiler.frontends.charsmap import MOST_BYTES, why_not_charsmap

LINES = ["the quick brown fox jumps over the lazy dog", "na\u00efve caf\u00e9 d\u00e9j\u00e0 vu", "hello world"] * 20
TEXTS = [
    "\ufdfa\ufb01\u2460\u00bd",
    "ＡＢＣ ｶﾞ",
    "e\u0301\u0323 \u1e9b\u0323",
    "\u3000\u00a0\u200b\ufeff",
    "a\tb\r\nc",
    "漢字\U0001f469\u200d\U0001f4bb",
]


def charsmap(rule: str) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, vocab_size=33, normalization_rule_name=rule, minloglevel=2
    )
    model: Any = schema.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString(out.getvalue())
    return model.normalizer_spec.precompiled_charsmap


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"])
def test_the_maps_of_sentencepiece_are_taken(rule: str) -> None:
    assert why_not_charsmap(base64.b64encode(charsmap(rule)).decode()) == ""


def test_no_map_that_is_taken_makes_the_library_fail() -> None:
    whole, rng = charsmap("nmt_nfkc"), random.Random(3)
    size = int.from_bytes(whole[:4], "little")
    taken = 0
    for number in range(400):
        blob = bytearray(whole)
        for _ in range(rng.choice((1, 10, 1000))):
            # Also far ahead of what a text reaches, and among the first steps of each.
            at = rng.choice((rng.randrange(4, 4 + size), rng.randrange(4, 2000), rng.randrange(len(blob))))
            blob[at] = rng.randrange(256)
        if number % 7 == 0:
            del blob[rng.randrange(4 + size, len(blob)) :]
        text = base64.b64encode(blob).decode()
        if why_not_charsmap(text):
            continue
        taken += 1
        normalizer = normalizers.Precompiled(bytes(blob))
        for each in TEXTS:
            assert isinstance(normalizer.normalize_str(each), str)
        for point in rng.sample(range(1, 0xD800), 500):
            normalizer.normalize_str(chr(point))
    assert 10 < taken < 390


def trie(*units: int, text: bytes = b"") -> str:
    body = b"".join(unit.to_bytes(4, "little") for unit in units)
    return base64.b64encode(len(body).to_bytes(4, "little") + body + text).decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("????", "is no base64"),
        ("", "its trie has 0 bytes, and 0 are there"),
        (base64.b64encode(b"\x04\0\0\0\0\0").decode(), "its trie has 4 bytes, and 6 are there"),
        (base64.b64encode(b"\x05\0\0\0" + bytes(9)).decode(), "its trie has 5 bytes"),
        (base64.b64encode(b"\xfc\xff\xff\xff" + bytes(9)).decode(), "its trie has 4,294,967,292 bytes"),
        (trie(1 << 10, 0), "a trie that leads outside of itself"),
        (trie(0xFFFFFFFF, *[0] * 300), "a trie that leads outside of itself"),
        (trie(*[0] * 256, text=b"\xff"), "replacements that are no UTF-8"),
        (trie(*[0] * 256, text=b"a" * 200), "a replacement of 200 bytes"),
        # The root leads to 0; 'a' (97) has a leaf at 97 ^ 1 = 96, whose value is behind the end of the replacements.
        (trie(*[97 | 1 << 8 | 1 << 10 if n == 97 else 99 if n == 96 else 0 for n in range(256)], text=b"b\0"),
         "a value that is not the beginning"),
        (trie(*[97 | 1 << 8 | 1 << 10 if n == 97 else 1 if n == 96 else 0 for n in range(256)], text="é".encode()),
         "a value that is not the beginning"),
        ("A" * (MOST_BYTES + 4), "characters, and at most"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_map_is_said(given: str, said: str) -> None:
    assert said in why_not_charsmap(given)
