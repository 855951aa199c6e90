"""report.html: one page that tells what a bundle promises and what its evidence says, readable without anything else.

    write_report(folder)    # reads the bundle's own files, writes folder/report.html

The page has no script and loads nothing. Everything that a spec, a model or a document says is escaped. The same files give
the same bytes.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.write import cannot_write
from ..errors import require
from ..proof.verdict import Word, quantity
from . import shown
from .drawing import draw_distribution, draw_memory, draw_ops, draw_rates
from .figures import Figures, figures_of, runs_of

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
MOST_ROWS = 400
"""Rows of a table of layers, notes or islands; the others are in the evidence."""
MOST_CHARACTERS = 2000
"""Of one text that a model or a document says."""
CLASSES: Mapping[Word, str] = {"met": "met", "missed": "missed", "not proved": "open"}
MARKS: Mapping[Word, str] = {"met": "✓", "missed": "✗", "not proved": "?"}
HEADLINES: Mapping[Word, str] = {
    "met": "Every target is met",
    "missed": "Missed",
    "not proved": "Not proved",
}
KINDS: Mapping[str, str] = {"look": "load", "repeat": "load after a miss", "fill": "queue full"}


def write_report(folder: Path) -> None:
    """Writes folder/report.html, whole or not at all; a link that is there is replaced, not followed. Raises InfcError: exit 2
    where folder is no bundle, 6 where a package is missing or the disk refuses, 7 where manifest, spec or evidence is
    damaged."""
    page = render_report(figures_of(folder))
    try:
        number, name = tempfile.mkstemp(prefix=f".{REPORT}.", dir=folder)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(page)
            os.replace(name, folder / REPORT)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise cannot_write(folder / REPORT, error) from error


def render_report(figures: Figures) -> str:
    """The page."""
    built = figures.built
    template = _environment().get_template("page.html.j2")
    drawn = {name: require("markupsafe").Markup(text) for name, text in draw(figures).items()}
    return template.render(
        f=figures,
        svg=drawn,
        headline=HEADLINES[figures.verdict],
        parts=_parts(figures),
        limits=any(op.of_limit is not None for op in built.ops),
        layers=dict(Counter(layer.precision for layer in built.layers)),
        measured_with=_tools_of_runs(figures),
        unread=_unread(figures),
        shared=[run.document for run in figures.noise if run.shared],
    )  # fmt: skip


def draw(figures: Figures) -> dict[str, str]:
    """Every figure by its place on the page, as SVG."""
    found: dict[str, str] = {}
    for number, load in enumerate(figures.loads):
        if load.curves:
            label = f"Share of requests that took longer than a time, at {load.name}. The table below has the numbers."
            name = f"load.{number}"
            found[name] = draw_distribution(_id(name), label, load.curves, load.marks, "requests")
    told = [load for load in figures.loads if load.judged and dict(load.curves[0].quantiles)["p50"] is not None]
    if len(told) > 1:
        label = "Latency over the requests answered a second, a point a load. The table below has the numbers."
        found["rates"] = draw_rates("rates", label, told)
    if any(op.share is not None for op in figures.built.ops):
        label = "Share of a request's time by op and provider. The table below has the numbers."
        found["ops"] = draw_ops("ops", label, figures.built.ops)
    if figures.memory.loads or figures.memory.fills:
        label = "Peak memory by load and with the queue full. The table below has the numbers."
        found["memory"] = draw_memory("memory", label, figures.memory)
    for start in figures.starts:
        name = f"start.{'cold' if start.cold else 'warm'}"
        label = "Share of starts that took longer than a time. The table below has the numbers."
        found[name] = draw_distribution(_id(name), label, [start.curve], start.marks, "starts")
    return found


def _parts(figures: Figures) -> list[tuple[str, str]]:
    """The sections of the page: id and title."""
    wanted = (
        ("targets", "Targets", figures.claims),
        ("latency", "Latency", figures.loads),
        ("throughput", "Throughput", figures.loads),
        ("accuracy", "Accuracy", figures.scores),
        ("time", "Time per op", True),
        ("layers", "Layers", True),
        ("memory", "Memory", True),
        ("starts", "Starts", figures.starts),
        ("noise", "Noise", figures.noise),
        ("machine", "Machine", figures.machines),
        ("tools", "Tools", True),
        ("repeat", "Repeat it", True),
    )
    return [(name, title) for name, title, there in wanted if there]


def _unread(figures: Figures) -> dict[str, list[str]]:
    """Runs by what of the noise could not be read in all of their blocks."""
    found: dict[str, list[str]] = {}
    for run in figures.noise:
        if run.unknown:
            found.setdefault(", ".join(run.unknown), []).append(run.document)
    return found


def _tools_of_runs(figures: Figures) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _, _, run in runs_of(figures.bundled):
        for tool, version in run.tools.items():
            if version not in found.setdefault(tool, []):
                found[tool].append(version)
    return found


# ── the template's words ─────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment() -> Environment:
    """Its words are set through Any: jinja2's own types name those that it comes with, and no others."""
    jinja2 = require("jinja2")
    environment: Any = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    said = {"time": shown.time, "size": shown.size, "share": shown.share, "count": shown.count}
    environment.filters.update(said | {
        "rate": shown.rate, "score": shown.score, "exact": _exact, "anchor": _anchor, "plain_json": _plain_json, "command": _command,
    })  # fmt: skip
    environment.globals.update(said | {
        "classes": CLASSES, "marks": MARKS, "kinds": KINDS, "most": MOST_ROWS, "quantity": _quantity, "dict": dict,
    })  # fmt: skip
    return environment


def _plain(value: Any) -> Any:
    """A text of others without characters that steer (controls, marks of direction), and of bounded length."""
    if type(value) is not str or (value.isprintable() and len(value) <= MOST_CHARACTERS):
        return value
    cut = value if len(value) <= MOST_CHARACTERS else f"{value[: MOST_CHARACTERS - 1]}…"
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "�" for c in cut)


def _exact(value: float | str) -> str:
    """A number with all its digits."""
    return value if isinstance(value, str) else repr(value)


def _quantity(verdict: Any, value: float, up: bool | None = None) -> str:
    return quantity(verdict, value, up).replace(" us", " µs")


def _plain_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["./serve", *arguments])


def _id(name: str) -> str:
    return name.replace(".", "-")


def _anchor(name: str) -> str:
    """The id of a document's row."""
    return "evidence-" + "".join(c if c.isalnum() and c.isascii() else "-" for c in name.removesuffix(".json"))
