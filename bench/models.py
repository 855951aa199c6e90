"""The models: MiniLM with its real weights, BERT-base with random ones, a small tabular network; and what they compute.

Nothing is downloaded: MiniLM is copied from a Python package, BERT-base and the network are drawn from a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from .artifacts import digest, folder_of
from .cases import ROOT, Case

MINILM = ROOT / "examples" / "minilm" / "models" / "all-MiniLM-L6-v2"
EXAMPLE = ROOT / "examples" / "minilm"
LONGEST = 256
"""Most tokens of a text."""

MLP = (64, 256, 256, 1)
"""Widths of the tabular network, ReLU between."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A text encoder: sizes, and the attention heads, which fusers ask for."""

    name: str
    title: str
    hidden: int
    inner: int
    layers: int
    heads: int


ENCODERS = {
    "minilm": Encoder("minilm", "MiniLM-L6 (real weights)", 384, 1536, 6, 12),
    "bert-base": Encoder("bert-base", "BERT-base (random weights)", 768, 3072, 12, 12),
}
STREAMED = "minilm"
"""The model of the stream of mixed lengths."""

TITLES = {name: encoder.title for name, encoder in ENCODERS.items()} | {"mlp": "MLP " + "-".join(map(str, MLP))}


def model_folder(name: str) -> Path:
    """Where the model's own files lie: a Hugging Face folder, or one with mlp.npz and model.py."""
    return MINILM if name == "minilm" else artifacts(name) / "model"


def artifacts(name: str) -> Path:
    """The cache folder of everything made from the model: exports, references, quantized files. Keyed by content."""
    makes = Path(__file__).resolve().with_name("reference.py").read_bytes()
    parts: list[str | bytes] = [version("torch"), makes, repr(ENCODERS.get(name, MLP))]
    if name in ENCODERS:
        parts += [version("transformers"), version("onnx"), (EXAMPLE / "prepare.py").read_bytes()]
    if name == "minilm":
        parts.append(str((MINILM / "model.safetensors").stat().st_size))
    return folder_of(name, digest(*parts))


def complete(name: str, shapes: Sequence[str]) -> bool:
    """Whether reference.py has made everything of these shapes."""
    files = [f"{shape}.{kind}" for shape in shapes for kind in ("npz", "npy", "onnx")]
    files += ["calibrate.jsonl"] if name in ENCODERS else []
    files += ["start.json", "stream.npz", "stream.npy", "dynamic.onnx"] if name == STREAMED else []
    return all((artifacts(name) / file).is_file() for file in files)


def output_of(case: Case) -> tuple[str, tuple[int, int]]:
    """The name of the output in exports, and its shape (float32)."""
    if case.model == "mlp":
        return "score", (case.batch, MLP[-1])
    return "embedding", (case.batch, ENCODERS[case.model].hidden)


def flops(case: Case) -> float:
    """Multiplications and additions of the matrix products: what no implementation avoids."""
    if case.model == "mlp":
        return float(case.batch * sum(2 * a * b for a, b in pairwise(MLP)))
    encoder = ENCODERS[case.model]
    a_token = 2 * (4 * encoder.hidden**2 + 2 * encoder.hidden * encoder.inner) + 4 * case.tokens * encoder.hidden
    return float(case.batch * case.tokens * encoder.layers * a_token)


def sentences(count: int, seed: int) -> list[str]:
    """Texts of a word to some two hundred, from the example's generator."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        import prepare  # pyright: ignore
    finally:
        sys.path.pop(0)
    return [str(text) for text in prepare.sentences(count, seed)]  # pyright: ignore
