"""The picture of docs/benchmarks.md: each peer's time over infc's (over the best peer's where infc did not run)."""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cases import OURS, PRECISIONS, floor_of
from .interleave import Result, Row

SHORT = {"minilm": "MiniLM", "bert-base": "BERT", "mlp": "MLP"}


HIGHEST = 4.0
"""Higher bars are cut off, their height written above."""


def draw(results: Sequence[Result], file: Path) -> None:
    """Writes an SVG: a panel a precision, a group of bars a case, whiskers from quartile to quartile, 1 marked;
    hatched: below the floor of exactness."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "infc", "font.size": 8})
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    panels = [p for p in PRECISIONS if any(r.case.precision == p for r in results)]
    colors = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(row.name for r in results for row in r.rows))}
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(9, 2.6 * len(panels) + 0.4), layout="constrained", squeeze=False
    )
    for axes, precision in zip(grid[:, 0], panels, strict=True):
        shown = [r for r in results if r.case.precision == precision]
        for place, result in enumerate(shown):
            ran = [row for row in result.rows if not row.failure]
            width = 0.84 / max(1, len(result.rows))
            for number, row in enumerate(ran):
                low, middle, high = row.ratio_to(base_of(ran))
                at = place + (number - (len(ran) - 1) / 2) * width
                axes.bar(
                    at, middle, width * 0.92, color=colors[row.name], hatch="" if row.exact >= floor_of(result.case) else "///",
                    edgecolor="white", linewidth=0, yerr=[[middle - low], [high - middle]], capsize=1.5,
                    error_kw={"linewidth": 0.7},
                )  # fmt: skip
                if middle > HIGHEST:
                    axes.text(at, HIGHEST * 1.02, f"{middle:.0f}", ha="center", fontsize=7)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_ylim(0, min(HIGHEST, axes.get_ylim()[1]))
        axes.set_xticks(range(len(shown)), [f"{SHORT[r.case.model]}\n{r.case.shape}" for r in shown])
        axes.set_ylabel("time over infc's")
        axes.set_title(precision, loc="left", fontweight="bold")
    handles = [Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    figure.legend(handles, list(colors), ncols=len(colors), loc="outside upper center", frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def base_of(rows: Sequence[Row]) -> Row:
    """infc's row, else the fastest."""
    return next((row for row in rows if row.name == OURS), min(rows, key=lambda row: row.median))
