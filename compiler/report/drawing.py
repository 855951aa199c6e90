"""The report's figures as SVG: text stays text, colours are the page's own, the same numbers give the same bytes.

matplotlib draws with placeholder colours, which become CSS variables. Labels are drawn as they are: no markup is read in them.
"""

# pyright: reportUnknownMemberType=false
# (matplotlib's own annotations leave keyword arguments open)

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..errors import require
from . import shown
from .built import OpTime
from .figures import Curve, LoadFigures, Mark, MemoryFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
INK, MUTED, GRID = "#010203", "#010204", "#010205"
SERIES = ("#010206", "#010207", "#010208")
WORDS = {"met": "#010209", "missed": "#01020a", "not proved": "#01020b", None: MUTED}
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", SERIES[0]: "--one", SERIES[1]: "--two", SERIES[2]: "--three",
    WORDS["met"]: "--met", WORDS["missed"]: "--missed", WORDS["not proved"]: "--open",
}  # fmt: skip
STYLES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
LEVELS = (("all", 1.0), ("p50", 0.5), ("p90", 0.1), ("p99", 0.01), ("p99.9", 1e-3), ("p99.99", 1e-4), ("p99.999", 1e-5))
WIDTH = 4.5
MOST_OPS = 12
MOST_LABEL = 34
NEAR = 0.07
"""The share of an axis' width within which two names beside their lines would touch."""
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "infc", "text.parse_math": False, "font.size": 9, "font.family": "sans-serif",
    "axes.edgecolor": GRID, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID, "grid.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "axes.axisbelow": True, "lines.linewidth": 1.6, "legend.frameon": False, "legend.fontsize": 8.5, "path.simplify": False,
}  # fmt: skip


def draw_distribution(name: str, label: str, curves: Sequence[Curve], marks: Sequence[Mark], what: str) -> str:
    """The share of `what` that took longer than a time, both on logarithmic axes, with each target's line: a target is met
    where its bar, what the evidence leaves possible, lies left of its diamond."""
    with _figure(3.3) as (figure, axes):
        floor = min([0.5 / max(c.samples for c in curves), *(0.4 * (1 - m.quantile) for m in marks if m.quantile < 1)])
        for number, curve in enumerate(curves):
            x, y = _drawn(curve, floor)
            axes.plot(
                x, y, color=SERIES[number], linestyle=STYLES[number], label=curve.what,
                drawstyle="steps-post" if curve.samples < 200 else "default",
            )  # fmt: skip
        _times(axes, [x for c in curves for x in c.x], [m.bound for m in marks])
        _levels(axes, floor)
        for number, curve in enumerate(curves):
            if curve.failed and curve.x:  # they never were answered
                at, right = curve.failed / curve.samples, axes.get_xlim()[1]
                axes.plot([curve.x[-1], right], [at, at], color=SERIES[number], linestyle=STYLES[number])
        _mark(axes, marks)
        axes.set_xlabel("time")
        axes.set_ylabel(f"share of {what} that took longer", labelpad=7)
        if len(curves) > 1 or curves[0].what.startswith("void"):
            figure.legend(loc="outside upper left", ncols=len(curves))
        return _svg(figure, name, label)


def draw_rates(name: str, label: str, loads: Sequence[LoadFigures]) -> str:
    """The median and p99 of each load over the requests that were answered a second."""
    with _figure(3.0) as (figure, axes):
        ranked = sorted(loads, key=lambda load: load.answered)
        for number, quantile in enumerate(("p50", "p99")):
            points = [(load.answered, dict(load.curves[0].quantiles)[quantile]) for load in ranked]
            told = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
            if told:
                x, y = zip(*told, strict=True)
                axes.plot(
                    x, y, color=SERIES[number], linestyle=STYLES[number], marker="os"[number], ms=4.5, label=quantile
                )
        values = [y for load in loads for _, y in load.curves[0].quantiles if y is not None and math.isfinite(y)]
        axes.set_yscale("log")
        _fixed(axes, "y", _ticks(min(values), max(values)), shown.time)
        axes.set_ylim(min(values) / 1.5, max(values) * 1.5)
        rates = [load.answered for load in loads if load.answered > 0]
        if max(rates) > 8 * min(rates):
            axes.set_xscale("log")
            _fixed(axes, "x", _ticks(min(rates), max(rates)), lambda v: f"{v:,.4g}")
            axes.set_xlim(min(rates) / 1.4, max(rates) * 1.4)
        axes.grid(True)
        axes.set_xlabel("requests answered a second")
        axes.set_ylabel("latency")
        figure.legend(loc="outside upper left", ncols=2)
        return _svg(figure, name, label)


def draw_ops(name: str, label: str, ops: Sequence[OpTime]) -> str:
    """Shares of a request's time by op and provider; the strong part of a bar is the least that this machine could take."""
    ranked = sorted((op for op in ops if op.share is not None), key=lambda op: -(op.share or 0.0))
    rows = [(f"{op.op} · {op.provider}", op.share or 0.0, op.of_limit) for op in ranked[:MOST_OPS]]
    if len(ranked) > MOST_OPS:
        rows.append((f"{len(ranked) - MOST_OPS} others", sum(op.share or 0.0 for op in ranked[MOST_OPS:]), None))
    with _figure(0.75 + 0.24 * len(rows)) as (figure, axes):
        for place, (_, share, of_limit) in enumerate(rows):
            axes.barh(place, share, 0.64, color=SERIES[0], alpha=0.4 if any(r[2] for r in rows) else 0.85)
            if of_limit is not None:
                axes.barh(place, share * min(of_limit, 1.0), 0.64, color=SERIES[0])
        _named_bars(axes, [row[0] for row in rows])
        _fixed(axes, "x", _linear(0.0, max(row[1] for row in rows)), shown.share)
        axes.set_xlabel("share of a request's time")
        return _svg(figure, name, label)


def draw_memory(name: str, label: str, memory: MemoryFigures) -> str:
    """Peaks of the resident set beside what the bundle promises and what the spec allows."""
    rows = [*memory.loads, *((f"queue full, {fill.document[:3]}", fill.peak_bytes) for fill in memory.fills)]
    with _figure(1.15 + 0.24 * len(rows)) as (figure, axes):
        for place, (_, peak) in enumerate(rows):
            axes.barh(place, peak, 0.64, color=SERIES[0], alpha=0.85)
        _named_bars(axes, [row[0] for row in rows])
        lines = [("ceiling", float(memory.ceiling), MUTED), *(("target", bound, INK) for _, bound in memory.bounds)]
        most = max([row[1] for row in rows] + [at for _, at, _ in lines])
        for number, (text, at, color) in enumerate(lines):
            axes.axvline(at, color=color, linestyle=STYLES[1 + number % 2], linewidth=1.3, label=text)
        axes.set_xlim(0, most * 1.06)
        axes.xaxis.set_major_locator(_locator(_sizes(most)))
        axes.xaxis.set_major_formatter(lambda v, _: shown.size(v))
        axes.set_xlabel("peak of the resident set")
        figure.legend(loc="outside upper left", ncols=2)
        return _svg(figure, name, label)


# ── parts of a figure ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _figure(height: float) -> Generator[tuple[Figure, Axes]]:
    """One axes, under settings of ours alone. Raises InfcError (exit 6) where matplotlib is not installed."""
    matplotlib = require("matplotlib")
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def _drawn(curve: Curve, floor: float) -> tuple[list[float], list[float]]:
    """From all requests down to those that never were answered, or to the floor."""
    if not curve.x:
        return [], []
    return [curve.x[0], *curve.x], [1.0, *(max(y, floor) for y in curve.y)]


def _times(axes: Axes, values: Sequence[float], bounds: Sequence[float]) -> None:
    inside = [v for v in (*values, *bounds) if v > 0] or [1e-3]
    low, high = min(inside) / 1.25, max(inside) * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _fixed(axes, "x", _ticks(low, high), shown.time)


def _levels(axes: Axes, floor: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(floor, 1.25)
    told = [(text, at) for text, at in LEVELS if at >= floor * 0.999]
    axes.yaxis.set_major_locator(_locator([at for _, at in told]))
    axes.yaxis.set_minor_locator(_locator([]))
    names = {at: text for text, at in told}
    axes.yaxis.set_major_formatter(lambda v, _: names.get(v, ""))
    axes.grid(True)


def _mark(axes: Axes, marks: Sequence[Mark]) -> None:
    left, right = axes.get_xlim()
    before = 0.0
    for mark in sorted(marks, key=lambda m: m.bound):
        color = WORDS[mark.verdict]
        axes.axvline(mark.bound, color=color, linewidth=1.1, linestyle=STYLES[1])
        at = 1 - mark.quantile if mark.quantile < 1 else None
        if at is not None:
            axes.plot([mark.bound], [at], marker="D", ms=5.5, color=color, clip_on=False, zorder=4)
            if mark.low is not None or mark.high is not None:
                low, high = mark.low or left, right if mark.high is None else mark.high
                axes.plot([low, high], [at, at], color=color, linewidth=5, alpha=0.45, solid_capstyle="butt", zorder=3)
                for end in (mark.low, mark.high):
                    if end is not None:
                        axes.plot([end], [at], marker="|", ms=9, mew=1.4, color=color, zorder=4)
        near = before > 0 and math.log(mark.bound / before) < NEAR * math.log(right / left)
        high_up = mark.quantile < 0.95  # the diamond is where the name would begin
        axes.annotate(
            mark.name, (mark.bound, 0.03 if high_up else 0.98), xycoords=axes.get_xaxis_transform(),
            xytext=(3 if near else -3, 0), textcoords="offset points", rotation=90, ha="left" if near else "right",
            va="bottom" if high_up else "top", fontsize=8.5, color=color, zorder=5,
        )  # fmt: skip
        before = mark.bound


def _named_bars(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _plain(text: str) -> str:
    """A text that is drawn: printable, and short."""
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 1]}…"


def _ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: decades, or 1, 2 and 5 of each, or evenly spaced ones in a short range."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 3), (1, 2, 5)):
        found = [part * 10.0**e for e in exponents for part in parts if low <= part * 10.0**e <= high]
        if 3 <= len(found) <= 6:
            return found
        if len(found) > 6:
            return found[:: math.ceil(len(found) / 6)]
    return [tick for tick in _linear(low, high) if low <= tick <= high]


def _linear(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _sizes(most: float) -> list[float]:
    step = 2.0 ** math.ceil(math.log2(most / 4))
    return [i * step for i in range(math.floor(most * 1.06 / step) + 1)]


def _fixed(axes: Axes, axis: str, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    on = axes.xaxis if axis == "x" else axes.yaxis
    on.set_major_locator(_locator(ticks))
    on.set_minor_locator(_locator([]))
    on.set_major_formatter(lambda v, _: text(v))


def _locator(ticks: Sequence[float]) -> Any:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(list(ticks))


# ── SVG for the page ─────────────────────────────────────────────────────────────────────────────────────────────────


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an element of a page: sized by the page, its ids under `name`, colours as variables."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(out.getvalue())
    used = set(re.findall(r"#([A-Za-z][\w-]*)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        for child in list(element):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                element.remove(child)
        for key, value in list(element.attrib.items()):
            if key == "id":
                if value in used:
                    element.set(key, f"{name}-{value}")
                else:
                    del element.attrib[key]
            else:
                element.set(key, _page_value(value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _page_value(value: str, name: str) -> str:
    value = re.sub(r"^#(?=[A-Za-z])|(?<=url\()#", f"#{name}-", value)
    return re.sub(
        r"#[0-9a-f]{6}", lambda found: f"var({VARIABLES[found[0]]})" if found[0] in VARIABLES else found[0], value
    )
