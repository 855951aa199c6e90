"""What is run: a model at one batch and length in one precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "bench"
"""Where a run keeps its bundles, logs and results."""

OURS = "infc"
PRECISIONS = ("float32", "bfloat16", "int8")
FLOOR = {"float32": 0.9999, "bfloat16": 0.9999, "int8": 0.99}
"""Least cosine against float32 torch, by precision: below it a row does not count."""

ABSOLUTE_FLOOR = 1e-5
"""Largest absolute error of the tabular suite."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """`batch` rows of `tokens` tokens each (0: the model takes no tokens), nothing padded."""

    model: str
    batch: int
    tokens: int = 0
    precision: str = "float32"

    @property
    def shape(self) -> str:
        """`8x128`; `8` where there are no tokens."""
        return f"{self.batch}x{self.tokens}" if self.tokens else str(self.batch)

    @property
    def name(self) -> str:
        """`minilm-8x128-int8`."""
        return f"{self.model}-{self.shape}-{self.precision}"

    @property
    def title(self) -> str:
        """For people, without the model and the precision."""
        return f"{self.tokens} tokens, batch {self.batch}" if self.tokens else f"batch {self.batch}"


SHAPES = {
    "minilm": ("1x32", "1x128", "8x32", "8x128"),
    "bert-base": ("1x32", "1x128", "8x32", "8x128"),
    "mlp": ("1", "32"),
}
"""What is measured of each model."""


def floor_of(case: Case) -> float:
    """What the case's exactness must reach, see accuracy.py."""
    return -ABSOLUTE_FLOOR if case.model == "mlp" else FLOOR[case.precision]


def parse_case(name: str) -> Case:
    """The case of `minilm-8x128-int8`. Raises ValueError."""
    model, shape, precision = name.rsplit("-", 2)
    return make_case(model, shape, precision)


def make_case(model: str, shape: str, precision: str) -> Case:
    """The case of a model, `8x128` (or `8`) and a precision. Raises ValueError."""
    batch, _, tokens = shape.partition("x")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    return Case(model, int(batch), int(tokens or 0), precision)
