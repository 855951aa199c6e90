"""SentencePiece's `precompiled_charsmap`: a trie over bytes whose values are places in a list of replacements.

    uint32 bytes of the trie · uint32 units of a double array · replacements, each behind it a zero byte

The tokenizers library walks the trie without looking where it goes, so what it could reach is walked here first: every
step stays inside the array, every value is the beginning of a replacement, none of which is long. Layout: Darts-clone
(Yata, "A clone of Darts"), as SentencePiece writes it and its reader `spm_precompiled` takes it.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np

from ..ir.graph import Array

MOST_BYTES = 4 << 20
"""SentencePiece's own sets have some 240,000."""
MOST_REPLACEMENT = 128
"""Bytes. The longest compatibility form has 33."""
LONGEST_KEY = 5
"""Bytes that the library looks up at once: a cluster of less than six, or one character."""


def why_not_charsmap(text: str) -> str:
    """ "" where a tokenizer may be given this map in base64; else what is wrong with it."""
    if len(text) > MOST_BYTES:
        return f"has {len(text):,} characters, and at most {MOST_BYTES:,} are taken"
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return f"is no base64: {error}"
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 4 or size % 4 or not 4 <= size <= len(blob) - 4:
        return f"says that its trie has {size:,} bytes, and {len(blob):,} are there in all"
    units = np.frombuffer(blob[4 : 4 + size], "<u4").astype(np.int64)
    replacements = blob[4 + size :]
    try:
        replacements.decode()
    except UnicodeDecodeError as error:
        return f"has replacements that are no UTF-8: {error}"
    longest = max(len(part) for part in replacements.split(b"\0"))
    if longest > MOST_REPLACEMENT:
        return f"has a replacement of {longest:,} bytes, and at most {MOST_REPLACEMENT} are taken"
    return _why_not_trie(units, replacements)


def _why_not_trie(units: Array, replacements: bytes) -> str:
    outside = "has a trie that leads outside of itself"
    beginnings = np.frombuffer(replacements + b"\0", np.uint8) & 0xC0 != 0x80
    labels = np.arange(1, 256)
    nodes = _offset(units[:1])
    seen = np.zeros(len(units), bool)
    for _ in range(LONGEST_KEY):
        # All 255 neighbours of a node are looked at.
        if nodes.size and int((nodes | 255).max()) >= len(units):
            return outside
        children = (nodes[:, None] ^ labels[None, :])[
            units[nodes[:, None] ^ labels[None, :]] & (1 << 31 | 255) == labels
        ]
        found = units[children]
        nodes = children ^ _offset(found)
        if nodes.size and int(nodes.max()) >= len(units):
            return outside
        values = units[nodes[found >> 8 & 1 == 1]] & ((1 << 31) - 1)
        if values.size and (int(values.max()) > len(replacements) or not beginnings[values].all()):
            return "has a value that is not the beginning of a replacement"
        nodes = np.unique(nodes)
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
    return ""


def _offset(units: Array) -> Array:
    return (units >> 10) << ((units & (1 << 9)) >> 6)
