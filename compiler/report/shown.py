"""Numbers for people: four digits at most, a unit that fits."""

from __future__ import annotations

import math

from ..proof.verdict import digits

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))


def time(seconds: float) -> str:
    """`1.597 ms`."""
    return _scaled(seconds, _TIMES)


def size(count: float) -> str:
    """`740.4 MiB`."""
    return _scaled(count, _SIZES)


def share(value: float) -> str:
    """`12.5%`, with the digits that are left of one, near one and near nothing."""
    text = digits(100 * value)
    return f"{text if len(text) <= 8 else f'{100 * value:.3g}'}%"


def count(value: int) -> str:
    """`12,345`."""
    return f"{value:,}"


def rate(value: float, unit: str = "req/s") -> str:
    """`149.8 req/s`."""
    return f"{digits(value)} {unit}"


def score(value: float) -> str:
    """`0.9883`, and `2.297e-10` of what is next to nothing."""
    return digits(value, tends_to_one=True) if value == 0 or abs(value) >= 1e-4 else f"{value:.4g}"


def _scaled(value: float, scales: tuple[tuple[float, str], ...]) -> str:
    if not math.isfinite(value):
        return "no answer"
    scale, word = next(((s, w) for s, w in scales if abs(value) >= s * (1 - 1e-9)), scales[-1])
    return f"{digits(value / scale)} {word}"
