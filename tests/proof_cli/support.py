"""A bundle that makes claims: the fixture model, a spec, and evidence made from latencies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infc.compiler.bundle.evidence import write_evidence
from infc.compiler.bundle.manifest import read_manifest
from infc.compiler.proof.admit import answers_subject, digest_of
from infc.compiler.proof.answers import pack
from infc.compiler.proof.ask import describe
from infc.compiler.proof.document import Described
from infc.compiler.proof.loads import Load
from infc.compiler.proof.rejudge import judge_again, open_bundle
from tests.proof.documents import block, document
from tests.server.bundles import Fixture, digests, write_manifest

Json = dict[str, Any]
REPORT: Json = {
    "ops": [{"op": "linear", "provider": "template:linear", "share": 0.75, "steps": 3}], "precision": "float32",
    "layers": [], "tools": {"infc": "0.1.0"}, "bytes": {"model.so": 5000, "weights.bin": 32}, "tuning": {"choices": {}},
}  # fmt: skip
LOCK = """format = 1

[choice.fixture.0]
precision = "float32"
variant = "any"

[inputs]
"model.py" = "{model}"
spec = "00"

[tools]
infc = "0.1.0"
ziglang = "0.17.1"
"""


def spec_text(
    targets: str, *, data: str = "", traffic: str = "", hardware: str = "cores 1", budget: str = "8 s"
) -> str:
    """The spec of the fixture model."""
    return f"""infer 1
model fixture {{
  source torch("model.py:make")
  input  features: float32[batch, 8]
  output score: float32[batch, 1]
  dim    batch in 1..16
}}
{f"data {{ evaluate {data} }}" if data else ""}
{f"traffic {{ {traffic} }}" if traffic else ""}
{f"targets {{ {targets} }}" if targets else ""}
hardware {{ use cpu {{ {hardware} }} }}
search {{ budget {budget} }}
"""


@dataclass(frozen=True)
class Made:
    """A bundle, and what a document of it speaks of."""

    folder: Path
    about: Described

    def document(self, load: Load | None = None, blocks: Sequence[Json] = (), **other: object) -> Json:
        """A document of this bundle and this machine; `other` replaces members."""
        said = {"subject": self.about.subject.model_dump(mode="json"), "fingerprint": self.about.fingerprint}
        return document(load, blocks, **{**said, **other})

    def file(self, path: Path, load: Load | None = None, blocks: Sequence[Json] = (), **other: object) -> Path:
        """The same as a file."""
        path.write_text(json.dumps(self.document(load, blocks, **other)))
        return path

    def subject(self, **members: object) -> Json:
        """The subject with other members, and a digest that fits."""
        said = {**self.about.subject.model_dump(mode="json", exclude={"digest"}), **members}
        return {**said, "digest": digest_of(said)}


Documents = Callable[[Made], list[tuple[str, Json]]]


def nothing(_: Made) -> list[tuple[str, Json]]:
    """No evidence."""
    return []


def looked(blocks: Sequence[Json], load: Load | None = None) -> Documents:
    """One look at a load."""
    return lambda made: [("look", made.document(load or Load(), blocks))]


def make(
    make_bundle: Callable[..., Path],
    server: Path,
    targets: str = "",
    documents: Documents = nothing,
    *,
    kind: str = "score",
    edit: Callable[[Json], None] | None = None,
    model: bytes = b"",
    **spec: str,
) -> Made:
    """The bundle, its evidence judged as a build judges it. `kind`: the C model; `edit` changes the manifest; `model` is the
    file that the lock says it was made from."""
    bundle = make_bundle(Fixture(kind=kind), serve=server)
    (bundle / "spec.infer").write_text(spec_text(targets, **spec))
    (bundle / "infer.lock").write_text(LOCK.replace("{model}", hashlib.sha256(model).hexdigest()))
    manifest: Json = json.loads((bundle / "manifest.json").read_text())
    manifest["memory"] = {"serving_bytes": 4 << 30, "swapping_bytes": 8 << 30}
    for name in ("spec.infer", "infer.lock"):
        path = bundle / name
        entry = {"path": name, "bytes": path.stat().st_size, "executable": False, "sha256": digests(path)}
        manifest["files"].append(entry)
    if edit is not None:
        edit(manifest)
    write_manifest(bundle, manifest)
    opened = open_bundle(bundle)
    made = Made(bundle, describe(bundle, opened.manifest, ["--cores", "1"]))
    rejudged(bundle, [(kind, json.dumps(said).encode()) for kind, said in documents(made)])
    return made


def rejudged(bundle: Path, documents: Sequence[tuple[str, bytes]]) -> None:
    """Writes evidence and the verdicts that it gives."""
    report = json.dumps(REPORT).encode()
    write_evidence(bundle, documents, {"build.json": report})
    opened = open_bundle(bundle)
    verdicts = [v.as_json() for v in judge_again(opened, opened.documents)]
    others = {"build.json": report, **({"targets.json": json.dumps(verdicts).encode()} if verdicts else {})}
    write_evidence(bundle, documents, others)


def even(mean_s: float, requests: int = 100, blocks: int = 20, *, seed: int = 1, least: float = 0.9) -> list[Json]:
    """Blocks of requests that take `mean_s` seconds, evenly between `least` times that and as much above."""
    draw = np.random.default_rng(seed)
    return [
        block(mean_s * draw.uniform(least, 2 - least, requests), index, seed=1000 * seed + index)
        for index in range(blocks)
    ]


def top1(made: Made, hits: int = 100, rows: int = 100) -> Json:
    """A document of accuracy: the reference's best class in `hits` of `rows`."""
    values = (np.arange(rows) < hits).astype(np.float64)[:, None]
    scores: Json = {
        "metric": "top1",
        "versus": "float32",
        "output": "score",
        "kind": "rows",
        "rows": rows,
        "columns": 1,
    }
    scores |= {"single": True, "values": pack(values), "problem": ""}
    subject = answers_subject(read_manifest(made.folder))
    head: Json = {"schema": "infc.accuracy/1", "utc": "2026-11-29T12:00:00Z", "subject": subject, "isa": "any"}
    return {**head, "data": "0", "rows": rows, "labels": "", "scores": [scores]}
