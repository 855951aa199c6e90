"""Plots of a terminal, of block characters, or of ASCII where it knows no others."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

EIGHTHS = " ▏▎▍▌▋▊▉█"
ROWS = 16
PLAIN = str.maketrans({"─": "-", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "-", "▎": "-", "▏": "-"})
NARROWEST, WIDEST = 40, 120


def plot_width() -> int:
    """Columns of the terminal, within reason."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, NARROWEST), WIDEST)


def drawable(text: str, stream: TextIO) -> str:
    """text as `stream` can write it."""
    coding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(coding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(PLAIN).encode("ascii", "replace").decode()
    return text


def histogram(
    values: Sequence[float], marks: Mapping[str, float], width: int, show: Callable[[float], str]
) -> list[str]:
    """Lines of a histogram whose bins are equal factors; `marks` name values, each beside the bin that it falls in."""
    low, high = max(min(values), 1e-9), max(max(values), 1e-9)
    count = min(ROWS, max(1, math.isqrt(len(values))))
    if high <= low * (1 + 1e-9):
        count = 1
    step = math.log(high / low) / count if count > 1 else 0.0

    def bin_of(value: float) -> int:
        return min(count - 1, max(0, int(math.log(max(value, low) / low) / step))) if step else 0

    bins = [0] * count
    for value in values:
        bins[bin_of(value)] += 1
    names = [""] * count
    for name, value in marks.items():
        at = bin_of(value)
        names[at] = f"{names[at]} {name}".strip()
    ends = [f"{show(low * math.exp(step * i))}" for i in range(1, count)] + [show(high)]
    left, right = max(map(len, ends)), max(map(len, names))
    shares = [f"{n / len(values):.1%}" for n in bins]
    numbers = max(map(len, shares))
    room = max(8, width - left - numbers - right - 6)
    most = max(bins)
    return [
        f"{end:>{left}}  {bar(n / most, room):<{room}}  {share:>{numbers}}  {name}".rstrip()
        for end, n, share, name in zip(ends, bins, shares, names, strict=True)
    ]


def bar(share: float, width: int) -> str:
    """A bar of so much of `width` columns, to an eighth; of anything at all at least one."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return EIGHTHS[-1] * full + (EIGHTHS[rest] if rest else "")
