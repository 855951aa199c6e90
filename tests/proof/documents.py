"""Documents of evidence as `serve prove` writes them, made from latencies."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.compiler.proof.document import Run, read_run
from infc.compiler.proof.loads import Load

QUIET = {"steal": 0.0, "foreign": 0.0, "pressure": 0.0}


def packed(latencies: NDArray[np.float64], status: int = 429) -> str:
    """Seconds as the document holds them; inf is a refusal."""
    counts = np.where(np.isinf(latencies), 0, latencies * 1e9).astype("<u8")
    counts[np.isinf(latencies)] = (1 << 63) + status
    return base64.b64encode(zlib.compress(counts.tobytes())).decode()


def block(latencies: Sequence[float] | NDArray[np.float64], index: int = 0, **other: object) -> dict[str, Any]:
    """One block; `other` replaces members."""
    values = np.asarray(latencies, np.float64)
    refused = int(np.isinf(values).sum())
    return {
        "index": index, "seed": index + 7, "start_s": 0.02, "sent": len(values), "ok": len(values) - refused,
        "rows": len(values) - refused, "elapsed_s": 1.0, "errors": {"429": refused} if refused else {},
        "latency": packed(values), "lag_p99_s": 1e-5, "lag_max_s": 1e-4, "connections_most": 2, "connections_short": 0,
        "generator_cpu": 0.1, "server_cpu": 0.5, **QUIET, "peak_rss_bytes": 50 << 20, "ended": None, **other,
    }  # fmt: skip


def document(load: Load | None = None, blocks: Sequence[dict[str, Any]] = (), **other: object) -> dict[str, Any]:
    """One run."""
    load = load or Load()
    burst = load.burst and dict(zip(("factor", "duration_s", "every_s"), load.burst, strict=True))
    opened = load.rate is not None
    return {
        "schema": "infc.evidence/2", "utc": "2026-11-29T12:00:00Z", "command": ["prove"], "bundle": "b" * 64,
        "subject": {"digest": "5" * 64, "files": {"serve": "0" * 64}, "model": "1" * 64, "settings": {"queue": 256}, "cores": 1},
        "load": {
            "digest": str(load), "mode": "open" if opened else "closed", "rate": load.rate,
            "connections": None if opened else load.connections, "arrival": load.arrival if opened else None, "burst": burst,
            "items": list(load.items), "requests": {"source": "generated", "count": 256, "digest": "2" * 64},
        },
        "seed": 1, "warmup_s": 0.5, "block_s": 1.0, "fingerprint": FINGERPRINT, "tools": {"serve": "0.1.0"},
        "placement": {"server": [0], "generator": [1], "shared": False},
        "before": {"jitter_p99_s": 1e-5, **QUIET}, "blocks": list(blocks), "starts": [], "fill": None, **other,
    }  # fmt: skip


FINGERPRINT = {
    "os": "linux", "arch": "x86_64", "kernel": "6.1", "vendor": "AuthenticAMD", "model_name": "AMD EPYC 9R14",
    "isa": ["avx2", "fma", "f16c", "bmi1", "bmi2"], "cores": 2, "memory_bytes": 8 << 30, "device": None, "serve": "0.1.0",
}  # fmt: skip


def run_of(load: Load | None = None, blocks: Sequence[dict[str, Any]] = (), **other: object) -> Run:
    """The document, read."""
    return read_run(json.dumps(document(load, blocks, **other)).encode(), "a test")


def exponential(load: Load, mean_s: float, requests: int = 4000, blocks: int = 8, seed: int = 0, first: int = 0) -> Run:
    """A run whose latencies are independent and exponential."""
    draw = np.random.default_rng(seed)
    size = requests // blocks
    return run_of(load, [block(draw.exponential(mean_s, size), first + i) for i in range(blocks)])


def starts_of(seconds: Sequence[float], *, cold: bool = False, pages_left: int | None = None) -> Run:
    """A run of starts alone."""
    return run_of(starts=[{"s": s, "cold": cold, "pages_left": pages_left} for s in seconds])


def fill_of(peak: int) -> Run:
    """A run with the queue full."""
    full = {"requests": 300, "rows": 64, "bytes": 9, "statuses": {"200": 2}, "open": 298, "peak_rss_bytes": peak}
    return run_of(fill={**full, "ceiling_bytes": None})
