"""What can be chosen for a linear layer, and the shape it is chosen for; both are text in tables and locks."""

from __future__ import annotations

import re
from dataclasses import dataclass

LEAST_ROWS, MOST_TILES = 4, 64
"""Bounds of a choice. A tile's buffer also holds two panels of the kernel's one or two rows; more tiles than 64 never stay
in a cache."""

WORDS = {"float32": "float32", "bfloat16": "bfloat16", "q8": "int8"}
"""The graph's precisions as tables spell them."""


@dataclass(frozen=True, order=True)
class Shape:
    """A linear layer: the graph's precision (float32, bfloat16, q8), n columns, k terms a sum. `int8 1152x384` in tables."""

    precision: str
    n: int
    k: int

    def __str__(self) -> str:
        return f"{WORDS[self.precision]} {self.n}x{self.k}"


@dataclass(frozen=True)
class Choice:
    """How its kernel takes rows. `rows 14, tiles 7, no ahead` in tables."""

    rows: int
    """Rows of the tallest tile."""
    tiles: int
    """Tiles that take a panel of weights one after the other before the next panel; they should stay in L2."""
    ahead: bool
    """Whether the next panel is prefetched meanwhile."""

    def __str__(self) -> str:
        return f"rows {self.rows}, tiles {self.tiles}, {'ahead' if self.ahead else 'no ahead'}"


def parse_shape(text: str) -> Shape:
    """The shape that text spells. Raises ValueError that says what would be right."""
    match = re.fullmatch(r"(\w+) (\d+)x(\d+)", text)
    names = {word: precision for precision, word in WORDS.items()}
    if match is None or match[1] not in names or not int(match[2]) or not int(match[3]):
        raise ValueError(f'{text!r} is no shape: a precision ({", ".join(names)}) and N x K, "int8 1152x384"')
    return Shape(names[match[1]], int(match[2]), int(match[3]))


def parse_choice(text: str, most_rows: int | None = None) -> Choice:
    """The choice that text spells; `most_rows`: the ISA's tallest tile, where it is known. Raises ValueError that says what
    would be right."""
    match = re.fullmatch(r"rows (\d+), tiles (\d+), (no )?ahead", text)
    if match is None:
        raise ValueError(f'{text!r} is no choice: "rows 14, tiles 7, ahead", or "no ahead" at its end')
    choice = Choice(int(match[1]), int(match[2]), not match[3])
    if choice.rows < LEAST_ROWS or (most_rows is not None and choice.rows > most_rows):
        bound = f"{LEAST_ROWS} or more" if most_rows is None else f"{LEAST_ROWS} to {most_rows}"
        raise ValueError(f"{text!r}: rows must be {bound}")
    if not 1 <= choice.tiles <= MOST_TILES:
        raise ValueError(f"{text!r}: tiles must be 1 to {MOST_TILES}")
    return choice
