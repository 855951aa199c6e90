"""Texts that tokenizers are compared on: two hundred, made of a vocabulary and of what scripts and people write."""

from __future__ import annotations

import random
from collections.abc import Iterator

TEXTS = 200
_PIECES = (
    "Hello", "world", "THE", "Straße", "İstanbul", "ΣΊΣΥΦΟΣ", "cafe\u0301", "naïve", "你好", "世界", "こんにちは", "안녕하세요", "ภาษาไทย",
    "العربية", "עברית", "हिन्दी", "Привет", "\U0001f469\u200d\U0001f4bb", "\U0001f600", "\u200b", "\u00a0", "\u3000", "\ufb01ne", "①",
    "ｆｕｌｌ", "don't", "3.14", "1,000", "a-b", "e.g.", "http://x.org/?q=1", "@user", "#tag", "{}", "\\n", "\t", "\n", "  ", "...", "—",
)  # fmt: skip


def texts(vocabulary: list[str], limit: int | None, seed: int = 0) -> Iterator[str]:
    """Two hundred texts, others for another seed: scripts, marks, emoji, long words, the tokenizer's own tokens, empty ones and
    over-long ones."""
    chance = random.Random(seed)
    words = sorted(vocabulary)
    yield from ("", " ", "\n", "a", "A" * 300)
    for number in range(TEXTS - 5):
        few = chance.randrange(1, 24)
        longer = min(limit or 64, 2048) + 8 if number % 40 == 0 else 0
        parts = [chance.choice(words if chance.random() < 0.5 and words else _PIECES) for _ in range(few + longer)]
        yield "".join(part + chance.choice(("", " ", " ", " ")) for part in parts)
