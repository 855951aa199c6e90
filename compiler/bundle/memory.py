"""The memory ceiling of a bundle's server, as it is declared in the manifest.

ceiling = process + weights + tokenizers + workspaces + requests + connections + answers

The same sum as in `runtime/server/src/memory.rs`, where each term is explained; there for the settings that the server
runs with, here for those that the bundle is written with.
"""

from __future__ import annotations

MIB = 1 << 20
PROCESS = 96 * MIB
TOKENIZER = 48
"""Bytes of a loaded tokenizer for each byte of its file."""
PARSED = 5
"""Bytes held for each byte of a request."""
SMALL_REQUESTS = 512 * (80 << 10)
LARGE_REQUESTS = 8
"""Bodies of the largest size that are held at once."""
CONNECTIONS = 4096
CONNECTION = 16 << 10
ANSWERS = (32 + 2 * 64) * MIB


def serving_ceiling(*, weights: int, tokenizer: int, workspaces: int, max_body: int) -> int:
    """Bytes. `weights`: of weights and library; `tokenizer`: of its file, or 0; `workspaces`: of all instances;
    `max_body`: of the largest body that is taken."""
    requests = (SMALL_REQUESTS + LARGE_REQUESTS * max_body) * PARSED
    return PROCESS + weights + tokenizer * TOKENIZER + workspaces + requests + CONNECTIONS * CONNECTION + ANSWERS
