"""Bundle folders for the report's tests: no model and no server, but a manifest, a spec and evidence with known numbers."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.compiler.bundle.evidence import write_evidence
from infc.compiler.bundle.manifest import (
    Batch,
    Manifest,
    Memory,
    Model,
    OutputTensor,
    Platform,
    Serve,
    Task,
    Variant,
    digest_file,
)
from infc.compiler.bundle.write import finish
from infc.compiler.proof.answers import pack
from infc.compiler.proof.document import REFUSED
from infc.compiler.proof.loads import Load
from infc.compiler.proof.rejudge import judge_again, open_bundle
from infc.runtime.document import FORMAT

Array = NDArray[Any]

SPEC = """infer 1
model fraud {
  source  torch("model.py:make")
  input   features: float32[batch, 64]
  output  score: float32[batch, 1]
  dim     batch in 1..64
}
data { evaluate npz("data/evaluate.npz"), rows 512 }
traffic { rate 100 req/s }
targets {
  latency     p99 <= 10 ms
  latency     p99.9 <= 12 ms
  latency     p50 <= 900 us at 200 req/s, steady
  latency     max <= 100 ms
  throughput  >= 150 req/s
  accuracy    max_abs_error <= 1e-5 vs float32
  accuracy    top1 >= 0.9 vs labels
  cost        <= 1 USD per 1M requests
  memory      <= 128 MiB
  cold_start  <= 300 ms
  cold_start  cold <= 2 s
  bundle_size <= 20 MB
}
hardware { use cpu { cores 1, price 0.08 USD/h } }
search { precision float32; budget 100 s }
serve { protocols kserve }
"""
FINGERPRINT: Mapping[str, Any] = {
    "arch": "x86_64", "cores": 2, "physical_cores": 2, "memory_bytes": 25276059648, "model_name": "AMD EPYC",
    "vendor": "AuthenticAMD", "family": "25", "model": "17", "device": None, "isa": ["avx2", "fma"], "os": "linux",
    "kernel": "6.1.0", "serve": "0.1.0",
}  # fmt: skip
SETTINGS: Mapping[str, Any] = {"queue": 256, "threads": 1, "instances": 1}


@dataclass(frozen=True)
class Run:
    """One document to be: `latencies` [blocks][requests] in seconds, inf: refused; or starts; or a full queue."""

    kind: str
    load: Load = field(default_factory=Load)
    latencies: Sequence[Array] = ()
    first: int = 0
    lag: float | None = 1e-4
    steal: float | None = 0.0
    starts: Sequence[float] = ()
    cold: bool = False
    pages_left: int | None = None
    fill_bytes: int | None = None
    utc: str = "2026-11-29T13:04:22Z"
    fingerprint: Mapping[str, Any] = field(default_factory=lambda: FINGERPRINT)

    def document(self) -> bytes:
        """As `serve prove` writes it."""
        load = self.load
        burst = None if load.burst is None else dict(zip(("factor", "duration_s", "every_s"), load.burst, strict=True))
        arguments = load.arguments() if self.latencies else []
        fill = None
        if self.fill_bytes is not None:
            fill = {
                "requests": 384, "rows": 64, "bytes": 16384, "statuses": {"200": 380, "429": 4}, "open": 0,
                "peak_rss_bytes": self.fill_bytes, "ceiling_bytes": 200 << 20,
            }  # fmt: skip
        return json.dumps({
            "schema": "infc.evidence/2",
            "utc": self.utc,
            "command": ["prove", "--cores", "1", *arguments, "--seed", "1", "--out", "prove.json"],
            "bundle": "ab" * 32,
            "subject": {"digest": "cd" * 32, "files": {"serve": "ef" * 32}, "model": "01" * 32, "settings": dict(SETTINGS), "cores": 1},
            "load": {
                "digest": f"{hash(str(load)):x}", "mode": "closed" if load.rate is None else "open", "rate": load.rate,
                "connections": load.connections if load.rate is None else None,
                "arrival": None if load.rate is None else load.arrival, "burst": burst, "items": list(load.items),
                "requests": {"source": "file", "count": 512, "digest": "23" * 32},
            },
            "seed": 1, "warmup_s": 0.5, "block_s": 1.0,
            "fingerprint": dict(self.fingerprint), "tools": {"serve": "0.1.0", "tokenizers": "0.23.2"},
            "placement": {"server": [0], "generator": [1], "shared": False},
            "before": {"jitter_p99_s": 1e-4, "steal": self.steal, "foreign": 0.01, "pressure": None},
            "blocks": [self._block(self.first + i, part) for i, part in enumerate(self.latencies)],
            "starts": [{"s": s, "cold": self.cold, "pages_left": self.pages_left} for s in self.starts],
            "fill": fill,
        }).encode()  # fmt: skip

    def _block(self, index: int, latencies: Array) -> dict[str, Any]:
        good = np.isfinite(latencies)
        counts = np.where(
            good, np.round(np.where(good, latencies, 0) * 1e9).astype(np.uint64), np.uint64(REFUSED + 429)
        )
        ok = int(good.sum())
        rate = self.load.mean_rate or 900.0
        return {
            "index": index, "seed": 1000 + index, "start_s": 0.2, "sent": len(latencies), "ok": ok, "rows": ok,
            "elapsed_s": len(latencies) / rate, "errors": {"429": len(latencies) - ok} if ok < len(latencies) else {},
            "latency": base64.b64encode(zlib.compress(counts.astype("<u8").tobytes())).decode(),
            "lag_p99_s": self.lag, "lag_max_s": self.lag, "connections_most": 3, "connections_short": 0,
            "generator_cpu": 0.05, "server_cpu": 0.2, "steal": self.steal, "foreign": 0.0, "pressure": None,
            "peak_rss_bytes": (30 << 20) + index, "ended": None,
        }  # fmt: skip


def latencies(seed: int, blocks: int, requests: int, median: float = 8e-4, sigma: float = 0.4) -> list[Array]:
    """Log-normal latencies [blocks][requests] in whole nanoseconds."""
    rng = np.random.default_rng(seed)
    return [np.round(rng.lognormal(np.log(median), sigma, requests) * 1e9) / 1e9 for _ in range(blocks)]


def scores(seed: int = 3, rows: int = 512) -> bytes:
    """A document of accuracy."""
    rng = np.random.default_rng(seed)
    each = (("max_abs_error", "float32", rng.random(rows) * 2e-7), ("top1", "labels", (rng.random(rows) < 0.99) * 1.0))
    return json.dumps({
        "schema": "infc.accuracy/1", "utc": "2026-11-29T13:03:03Z", "subject": "ab" * 32, "isa": "x86-64-v3", "data": "cd" * 32,
        "rows": rows, "labels": pack(np.zeros(rows)),
        "scores": [
            {"metric": metric, "versus": versus, "output": "score", "kind": "rows", "rows": rows, "columns": 1, "single": True,
             "values": pack(values), "problem": ""}
            for metric, versus, values in each
        ],
    }).encode()  # fmt: skip


BUILT: Mapping[str, Any] = {
    "format": 1, "model": "fraud", "precision": "int8", "batchable": True, "batchable_reason": "", "trim": False,
    "trim_reason": "the model has no length", "tail": {"norm": "no kernel for this shape"}, "notes": ["a note of the build"],
    "tools": {"infc": "0.1.0", "ziglang": "0.17.1"}, "bytes": {"model.so": 52792},
    "ops": [
        {"op": "linear", "provider": "template:linear", "share": 0.875, "steps": 3, "of_limit": 0.61, "bound": "int8"},
        {"op": "softmax", "provider": "tvm", "share": 0.125, "steps": 1, "of_limit": None, "bound": None},
    ],
    "layers": [{"layer": "encoder.0", "precision": "int8", "reason": ""}, {"layer": "head", "precision": "float32", "reason": "keep 'head'"}],
    "islands": [{"steps": ["attention", "permute"], "why": "it reads a value that exists per row only"}],
}  # fmt: skip


def full() -> list[Run]:
    """Runs for every target of SPEC: two looks and a void one at the declared rate, a miss measured again, starts, memory."""
    declared, steady = Load(100.0), Load(200.0, 1, "steady")
    refused = latencies(2, 20, 60)
    refused[3][5] = np.inf
    return [
        Run("look", declared, latencies(1, 20, 40), lag=4e-3),
        Run("look", declared, refused, 20),
        Run("look", declared, latencies(3, 20, 200), 40),
        Run("look", steady, latencies(4, 20, 60, median=1.2e-3)),
        Run("repeat", steady, latencies(5, 20, 60, median=1.3e-3), 20),
        Run("look", Load(connections=64), latencies(6, 20, 900, median=6e-2, sigma=0.1)),
        Run("look", Load(150.0), latencies(7, 20, 100, median=1e-3)),
        Run("fill", declared, fill_bytes=60 << 20),
        Run("warm starts", declared, starts=(latencies(8, 1, 74, median=0.18, sigma=0.1)[0]).tolist()),
        Run("cold starts", declared, starts=(latencies(9, 1, 74, median=0.9, sigma=0.2)[0]).tolist(), cold=True, pages_left=0, steal=None),
    ]  # fmt: skip


def make(
    folder: Path,
    runs: Sequence[Run] | None = None,
    *,
    spec: str = SPEC,
    answers: bytes | None = None,
    built: Mapping[str, Any] = BUILT,
    judged: bool = True,
    name: str = "fraud",
) -> Path:
    """Writes a bundle. `judged`: with evidence/targets.json, as the evidence gives it."""
    folder.mkdir(parents=True)
    (folder / "spec.infer").write_text(spec, encoding="utf-8")
    (folder / "infer.lock").write_text("format = 1\n", encoding="utf-8")
    (folder / "serve").write_bytes(b"\x7fELF" + bytes(1000))
    files = [digest_file(folder, folder / name) for name in ("infer.lock", "serve", "spec.infer")]
    model = Model(
        name=name, version="1", aliases=[], task=Task(kind="tensor"), inputs=[],
        outputs=[OutputTensor(name="score", dtype="float32", shape=["batch", 1])], dims={"batch": (1, 64)}, batchable=True,
        batch_dim="batch", length_dim=None, golden="models/0/golden.json",
        variants=[Variant(id=0, precision="int8", isa="x86-64-v3", cpu_features=["avx2"], library="model.so", weights="weights.bin")],
    )  # fmt: skip
    batch = Batch(max_requests=64, max_rows=64, max_tokens=64, wait_s=0.0)
    serve = Serve(
        protocols=["kserve"], queue=256, deadline_s=None, threads=1, instances=1, batch=batch, max_body_bytes=1 << 24
    )
    finish(folder, Manifest(
        format=FORMAT, infc="0.1.0", platform=Platform(os="linux", arch="x86_64", glibc="2.28"), models=[model], serve=serve,
        traffic=None, targets=[], memory=Memory(serving_bytes=200 << 20, swapping_bytes=400 << 20), files=files,
    ))  # fmt: skip
    documents = [] if answers is None else [("accuracy", answers)]
    documents += [(run.kind, run.document()) for run in (full() if runs is None else runs)]
    others = {"build.json": json.dumps(built).encode()}
    write_evidence(folder, documents, others)
    if judged:
        bundled = open_bundle(folder)
        verdicts = judge_again(bundled, bundled.documents)
        others["targets.json"] = json.dumps([v.as_json() for v in verdicts]).encode()
        write_evidence(folder, documents, others)
    return folder
