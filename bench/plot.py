"""The picture of docs/benchmarks.md: each peer's time over infc's (over the best peer's where infc did not run)."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .interleave import Result
from .report import OURS


def draw(results: Sequence[Result], file: Path) -> None:
    """Writes an SVG: a group of bars a case, whiskers from quartile to quartile, 1 marked."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "infc"
    import matplotlib.pyplot as plt

    names = [row.name for row in results[0].rows]
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(names)
    reference = OURS
    for number, name in enumerate(names):
        for place, result in enumerate(results):
            ran = {row.name: row for row in result.rows if not row.failure}
            if name not in ran:
                continue
            base = ran.get(OURS)
            if base is None:
                base = min(ran.values(), key=lambda row: row.median)
                reference = "the best peer"
            low, middle, high = ran[name].ratio_to(base)
            axes.bar(
                place + (number - (len(names) - 1) / 2) * width, middle, width * 0.9, color=f"C{number}",
                yerr=[[middle - low], [high - middle]], capsize=2, label=name if place == 0 else None,
            )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(results)), [result.case.title for result in results])
    axes.set_ylabel(f"time over that of {reference} (lower is faster)")
    axes.set_title("MiniLM-L6, float32")
    axes.legend(ncols=3, fontsize="small")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
