"""The session of a locked-in worker that tries a folder's tokenizer before anything else uses it.

A tokenizer.json is a program of sorts: replacements that multiply a text, regular expressions that backtrack, tables of
ids. What can be seen is checked as data (`check_data`); then the tokenizer is loaded and texts that such faults show
themselves on are tokenized (`try_texts`), within the worker's own bounds on time and memory.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import require
from ..sandbox.child import Handle
from .charsmap import why_not_charsmap
from .errors import FrontendError
from .files import read_json_file

FILE = "tokenizer.json"
CHARSMAP = "precompiled_charsmap"
SAVE_AGAIN = "save it again with `AutoTokenizer.from_pretrained(...).save_pretrained(folder)`"
FILE_BYTES = 256 << 20
MOST_ADDED = 20_000
"""Added tokens. Real models have up to some thousands."""
MOST_PARTS = 256
"""Normalizers, pre-tokenizers and so on, those within sequences counted."""
MOST_PATTERN = 20_000
"""Characters of a regular expression or a replacement."""
IDS_PER_CHARACTER = 64
"""Byte fallback gives up to four a character, and compatibility forms up to eighteen characters."""
SECONDS = 2.0
"""Of processor time, for one text."""
LENGTHS = (200, 2_000, 16_000)
MOST_PIECES = 150
"""Parts of patterns that runs are made of."""
_KEYS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model",
)  # fmt: skip
_MODELS = ("BPE", "WordPiece", "WordLevel", "Unigram")


def open_session() -> Handle:
    """Answers one request: {"path", "maximum"} (the greatest id that the model has an embedding for, or None)."""
    return lambda request: probe(Path(request["path"]), request["maximum"])


def user_error(error: BaseException, request: Mapping[str, Any]) -> str:
    """What the reader of tokenizers said."""
    return f"{shown(Path(request['path']))} is no tokenizer: {' '.join(str(error).split())[:300]}"


def probe(path: Path, maximum: int | None) -> dict[str, Any]:
    """Checks and tries the tokenizer.json at path. Raises FrontendError naming what is wrong."""
    said = read_json_file(path, dict, FILE_BYTES)
    check_data(said, shown(path), maximum)
    tokenizer = open_tokenizer(path)
    return {"texts": try_texts(tokenizer, said, shown(path), maximum)}


def shown(path: Path) -> str:
    """`folder/tokenizer.json`."""
    return f"{path.parent.name}/{path.name}"


def load(path: Path) -> Any:
    """The tokenizer. Raises FrontendError where the library does not take it."""
    try:
        return require("tokenizers").Tokenizer.from_file(str(path))
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise FrontendError(
            f"{shown(path)} is no tokenizer: {' '.join(str(error).split())[:300]}",
            hint=SAVE_AGAIN,
        ) from None


def open_tokenizer(path: Path, limit: int | None = None, side: str = "right") -> Any:
    """The tokenizer as the server has it: without padding, and cut to the limit where there is one. Raises FrontendError."""
    tokenizer = load(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit is not None:
        tokenizer.enable_truncation(limit, direction=side)
    return tokenizer


# ── what can be seen ─────────────────────────────────────────────────────────────────────────────────────────────────


def check_data(said: Mapping[str, Any], where: str, maximum: int | None) -> None:
    """Keys, counts and ids of a tokenizer.json. Raises FrontendError that begins with where."""

    def refuse(what: str, hint: str = "") -> FrontendError:
        return FrontendError(f"{where} {what}", hint=hint)

    unknown = [key for key in said if key not in _KEYS]
    if unknown:
        raise refuse(f"has the key {unknown[0][:80]!r}, which is not known", f"known are {', '.join(_KEYS)}")
    model = said.get("model")
    if not isinstance(model, dict):
        raise refuse("has no `model`")
    kind = cast("dict[str, Any]", model).get("type")
    if kind is not None and kind not in _MODELS:
        raise refuse(f"has a model of type {str(kind)[:80]!r}, and {', '.join(_MODELS)} are known")
    vocabulary = cast("dict[str, Any]", model).get("vocab")
    if isinstance(vocabulary, dict):
        for token, number in cast("dict[str, Any]", vocabulary).items():
            _check_id(number, f"gives token {token[:80]!r}", maximum, refuse)
    elif isinstance(vocabulary, list):
        rows = cast("list[Any]", vocabulary)
        if any(not isinstance(r, list) or len(cast("list[Any]", r)) != 2 for r in rows):
            raise refuse("has a vocabulary whose rows are no pairs of token and score")
        if maximum is not None and len(rows) - 1 > maximum:
            raise refuse(f"has {len(rows):,} tokens, and the model's vocabulary ends at {maximum}", _OTHER)
    else:
        raise refuse("has a model without a vocabulary")
    added: Any = said.get("added_tokens") or []
    if not isinstance(added, list):
        raise refuse("has `added_tokens` that are no list")
    rows = cast("list[Any]", added)
    if len(rows) > MOST_ADDED:
        raise refuse(f"has {len(rows):,} added tokens, and at most {MOST_ADDED:,} are taken")
    for row in rows:
        token = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        content = token.get("content")
        if not isinstance(content, str) or not content:
            raise refuse("has an added token without content")
        _check_id(token.get("id"), f"gives the added token {content[:80]!r}", maximum, refuse)
    parts = 0
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        for part in _parts(said.get(name)):
            parts += 1
            if parts > MOST_PARTS:
                raise refuse(
                    f"has more than {MOST_PARTS} parts under normalizer, pre_tokenizer, post_processor and decoder"
                )
            for key, value in part.items():
                if key == CHARSMAP and isinstance(value, str):
                    wrong = why_not_charsmap(value)
                    if wrong:
                        raise refuse(f"has a {name}.{CHARSMAP} that {wrong}", SAVE_AGAIN)
                elif isinstance(value, str) and len(value) > MOST_PATTERN:
                    raise refuse(
                        f"has {len(value):,} characters under {name}.{key[:40]}, and at most {MOST_PATTERN:,} are taken"
                    )
            if name == "post_processor":
                for token, number in _special_ids(part):
                    _check_id(number, f"puts in {token[:80]!r} and gives it", maximum, refuse)


_OTHER = "the tokenizer belongs to another model"


def _check_id(number: Any, what: str, maximum: int | None, refuse: Any) -> None:
    if type(number) is not int or not 0 <= number < 1 << 31:
        raise refuse(f"{what} the id {str(number)[:40]}, which is none")
    if maximum is not None and number > maximum:
        raise refuse(f"{what} the id {number}, and the model's vocabulary ends at {maximum}", _OTHER)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """value and the objects within it, each once; no recursion, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            part = cast("dict[str, Any]", item)
            yield part
            waiting += part.values()
        elif isinstance(item, list):
            waiting += cast("list[Any]", item)


def _special_ids(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Tokens that a post-processor puts in, with their ids."""
    for key in ("sep", "cls"):
        pair = part.get(key)
        if isinstance(pair, list) and len(cast("list[Any]", pair)) == 2:
            yield str(pair[0]), pair[1]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    ids = part.get("ids")
    if isinstance(ids, list):
        for number in cast("list[Any]", ids):
            yield str(part.get("id", "a token")), number


# ── what shows when it runs ──────────────────────────────────────────────────────────────────────────────────────────


def try_texts(tokenizer: Any, said: Mapping[str, Any], where: str, maximum: int | None) -> int:
    """Tokenizes texts that faults show on, and gives their number. Raises FrontendError naming the text."""
    count = 0
    for count, text in enumerate(probes(said), 1):  # noqa: B007 - given back
        begin = time.process_time()
        ids: list[int] = tokenizer.encode(text).ids
        took = time.process_time() - begin
        shown_text = json.dumps(text[:24])
        if took > SECONDS:
            raise FrontendError(
                f"{where} takes {took:.1f} s for a text of {len(text):,} characters that begins with {shown_text}",
                hint="a regular expression in it backtracks, or a replacement multiplies the text",
            )
        if len(ids) > IDS_PER_CHARACTER * (len(text) + 16):
            raise FrontendError(
                f"{where} makes {len(ids):,} tokens of a text of {len(text):,} characters that begins with {shown_text}",
                hint="a replacement in it multiplies the text",
            )
        if ids and maximum is not None and max(ids) > maximum:
            raise FrontendError(
                f"{where} makes the id {max(ids)} of a text that begins with {shown_text}, and the model's vocabulary ends "
                f"at {maximum}",
                hint=_OTHER,
            )
    return count


def probes(said: Mapping[str, Any]) -> Iterator[str]:
    """Plain texts, and runs of what the tokenizer's own patterns are made of, ever longer.

    A pattern that backtracks shows it where a run of what it repeats is followed by what it does not take. An engine
    does not even try where a character that every match must have is absent from the text: so there is a run, too,
    before a stop and then all that the patterns are made of.
    """
    yield from (
        "",
        " ",
        "Hello, world. 12345",
        "\u00e9\u0301\u200d\u200b\ufeff",
        "\U0001f469\u200d\U0001f4bb \u4f60\u597d \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
        "\0\n\t",
    )
    patterns: list[str] = []
    for name in ("normalizer", "pre_tokenizer"):
        for part in _parts(said.get(name)):
            patterns += [v for k, v in part.items() if isinstance(v, str) and v and k != CHARSMAP]
    tokens: list[Any] = said.get("added_tokens") or []
    added = [str(t["content"]) for t in tokens[:50]]
    pieces = list(dict.fromkeys(piece for pattern in patterns for piece in _pieces(pattern)))[:MOST_PIECES]
    everything = "".join(pieces)
    for length in LENGTHS:
        for piece in ("a", " ", "a ", "\u00e9", "1", ".", "\u4f60", "\U0001f600", "A\u0301", *added, *pieces):
            run = piece * (length // len(piece) + 1)
            yield run
            if length < LENGTHS[-1]:
                yield run + _STOP
                if everything:
                    yield run + _STOP + everything


_STOP = "\u2603"
_ESCAPED = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4}))")
_WORD = re.compile(r"\w{2,}")


def _pieces(pattern: str) -> Iterator[str]:
    """What stands in a pattern: its characters, words, characters written as numbers, and itself."""
    pattern = pattern[:200]
    for groups in _ESCAPED.findall(pattern):
        number = int("".join(groups), 16)
        if number < 0x110000 and not 0xD800 <= number < 0xE000:
            yield chr(number)
    yield from pattern
    yield from _WORD.findall(pattern)
    yield pattern
