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
SMALL_REQUESTS = 256 * (80 << 10)
LARGE_REQUESTS = 4
"""Bodies of the largest size that are held at once."""
CONNECTIONS = 4096
CONNECTION = 16 << 10
ANSWERS = (32 + 2 * 64) * MIB
BODIES = tuple(n * MIB for n in (16, 8, 4, 2, 1))
"""Bytes that a bundle's largest body may have: the first of them with which the machine's memory is enough."""


def serving_ceiling(*, weights: int, tokenizer: int, workspaces: int, max_body: int) -> int:
    """Bytes. `weights`: of weights and library; `tokenizer`: of its file, or 0; `workspaces`: of all instances;
    `max_body`: of the largest body that is taken."""
    requests = (SMALL_REQUESTS + LARGE_REQUESTS * max_body) * PARSED
    return PROCESS + weights + tokenizer * TOKENIZER + workspaces + requests + CONNECTIONS * CONNECTION + ANSWERS


def largest_body(have: int | None, *, weights: int, tokenizer: int, workspaces: int) -> int:
    """The `max_body` that a machine with `have` bytes (None: not declared) serves within them; the smallest where none
    does."""

    def fits(body: int) -> bool:
        total = serving_ceiling(weights=weights, tokenizer=tokenizer, workspaces=workspaces, max_body=body)
        return have is None or total <= have

    return next((body for body in BODIES if fits(body)), BODIES[-1])
