"""Mutations from a seed: of bytes, and of JSON as text (what a JSON library would never write can be written so)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

PIECES = (
    b"\0", b"[", b"]", b"{", b"}", b'"', b"'", b",", b":", b"\n", b"\r", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"1e999",
    b"-1", b"nan", b"\\ud800", b"\\", b"\xe2\x80\xae", b"9" * 25, b"0x", b"__import__('pathlib').Path('canary').touch()",
)  # fmt: skip
WORDS = (
    b"null", b"true", b"false", b"0", b"-1", b"1", b"7", b"64", b"2147483648", b"281474976710656", b"9223372036854775807",
    b"-9223372036854775808", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"0.5", b"1e308", b"1e999", b"-0", b"-0.0",
    b"NaN", b"Infinity", b"-Infinity", b"01", b'""', b'"x"', b'"s0"', b"[]", b"{}", b"[[]]", b'["x"]', b'[{"a": 1}]',
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\\u202e"', b'"../x"', b'"/etc/passwd"', b'"NaN"', b'"Infinity"',
    b'"' + b"y" * 300 + b'"', b'"' + b"/z" * 3000 + b'"', b'{"a": 1, "a": 2}', b'{"as_int": -1}', b'{"as_none": true}',
    b'"torch.ops.aten.add.Tensor"', b'"_operator.mul"', b'"__import__(\'pathlib\').Path(\'canary\').touch()"',
)  # fmt: skip
KEYS = (b'""', b'"x"', b'"name"', b'"as_int"', b'"as_none"', b'"__class__"', b'"\\udfff"', b'"auto_map"')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
Span = tuple[int, int]


@dataclass(frozen=True)
class JsonText:
    """A JSON text and where its parts are: values, members (`"key": value`, or a list's element), keys."""

    text: bytes
    values: Sequence[Span]
    members: Sequence[Span]
    keys: Sequence[Span]


def json_text(text: bytes) -> JsonText:
    """The places in a well-formed JSON text."""
    values: list[Span] = []
    members: list[Span] = []
    keys: list[Span] = []
    open_: list[tuple[int, bool]] = []
    member = 0
    starts: list[int] = []
    wants_key = False
    for found in _TOKEN.finditer(text):
        at, end, word = found.start(), found.end(), found.group()
        if word in (b",", b":"):
            wants_key = word == b"," and open_[-1][1]
            continue
        if word in (b"}", b"]"):
            at, _ = open_.pop()
            member = starts.pop()
        elif wants_key:
            keys.append((at, end))
            member, wants_key = at, False
            continue
        elif not open_ or not open_[-1][1]:
            member = at
        if word in (b"{", b"["):
            open_.append((at, word == b"{"))
            starts.append(member)
            wants_key = word == b"{"
            continue
        values.append((at, end))
        if open_:
            members.append((member, end))
        wants_key = False
    return JsonText(text, values, members, keys)


def mutated_json(source: JsonText, rng: random.Random) -> bytes:
    """The text with some parts replaced, doubled, taken out, moved, nested; one in ten has bytes changed besides."""
    edits = [_edit(source, rng) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    out = source.text
    below = len(out) + 1
    for start, end, new in sorted(edits, reverse=True):
        if end <= below:
            out = out[:start] + new + out[end:]
            below = start
    return mutated_bytes(out, rng) if rng.random() < 0.1 else out


def _edit(source: JsonText, rng: random.Random) -> tuple[int, int, bytes]:
    """One edit: what stands at (start, end) becomes other bytes."""
    text = source.text
    start, end = rng.choice(source.values)
    how = rng.randrange(10)
    if how < 3:
        return start, end, rng.choice(WORDS)
    if how == 3:
        other, there = rng.choice(source.values)
        return start, end, text[other:there]
    if how == 4 and source.members:
        start, end = rng.choice(source.members)
        return start, end, text[start:end] + b", " + text[start:end]
    if how == 5 and source.members:
        start, end = rng.choice(source.members)
        found = re.compile(rb"\s*,\s*").match(text, end)
        return start, found.end() if found else end, b""
    if how == 6 and source.keys:
        start, end = rng.choice(source.keys)
        other, there = rng.choice(source.keys)
        return start, end, rng.choice((text[other:there], rng.choice(KEYS)))
    if how == 7 and rng.random() < 0.2:
        count = rng.choice((1, 5, 63, 64, 1000, 100_000))
        before, after = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        return start, end, before * count + text[start:end] + after * rng.choice((count, count, 0))
    return start, end, _value(text[start:end], rng)


def _value(value: bytes, rng: random.Random) -> bytes:
    """A number near it, or a text with a character more, less or changed."""
    digits = value.removeprefix(b"-")
    if digits.isdigit() and len(digits) < 19:
        return str(int(value) + rng.choice((-1, 1, 64, 1 << 20, -int(value) * 2))).encode()
    if len(value) > 1:
        at = rng.randrange(1, len(value))
        return (
            value[:at]
            + rng.choice((b"", b"(", b"\\n", b"0", b"s9", b"Pow(", b"/", b".."))
            + value[at + 1 - rng.randrange(2) :]
        )
    return rng.choice(WORDS)


def mutated_bytes(data: bytes, rng: random.Random, pieces: Sequence[bytes] = PIECES, tail: int = 0) -> bytes:
    """data with 1 to 8 places changed, taken out, doubled, cut or filled from pieces. `tail`: that many bytes at the end
    are changed more often (a zip's directory)."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not made:
            return rng.choice(pieces)
        at = rng.randrange(len(made))
        if tail and rng.random() < 0.6:
            at = max(0, len(made) - 1 - rng.randrange(tail))
        how = rng.randrange(7)
        if how == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            made[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        elif how == 2:
            del made[at : at + rng.choice((1, 4, 9, 100))]
        elif how == 3:
            made[at:at] = made[at : at + rng.choice((1, 4, 40, 100))]
        elif how == 4:
            made[at:at] = rng.choice(pieces)
        elif how == 5:
            there = rng.randrange(len(made))
            made[at : at + 4] = made[there : there + rng.choice((4, 16))]
        elif rng.random() < 0.2:
            del made[at:]
    return bytes(made)
