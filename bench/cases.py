"""What is run: MiniLM's encoder with pooling and normalization, at one batch and length."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "examples" / "minilm" / "minilm.infer"
MODEL = ROOT / "examples" / "minilm" / "models" / "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Case:
    """`batch` rows of `tokens` tokens each, nothing padded."""

    batch: int
    tokens: int

    @property
    def name(self) -> str:
        """`8x128`."""
        return f"{self.batch}x{self.tokens}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.tokens} tokens, batch {self.batch}"


CASES = (Case(1, 32), Case(1, 128), Case(8, 32), Case(8, 128))


def parse_case(name: str) -> Case:
    """The case of `8x128`. Raises ValueError."""
    batch, _, tokens = name.partition("x")
    return Case(int(batch), int(tokens))


def inputs(case: Case) -> dict[str, NDArray[np.int64]]:
    """`input_ids` and `attention_mask`, int64 [batch, tokens]: random words between [CLS] and [SEP], the mask all ones."""
    rng = np.random.default_rng(case.batch * 1000 + case.tokens)
    ids = rng.integers(1000, 30_000, (case.batch, case.tokens))
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def flops(case: Case) -> float:
    """Multiplications and additions of the matrix products, from the model's config: what no implementation avoids."""
    config: dict[str, Any] = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    a_token = 2 * (4 * hidden * hidden + 2 * hidden * inner) + 4 * case.tokens * hidden
    return float(case.batch * case.tokens * layers * a_token)
