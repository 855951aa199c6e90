"""The catalogue of machines: `targets/catalog/*.infer`, the same language, read when a spec names one."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from .cursor import Context
from .diagnostics import Diagnostic
from .entries import Collected, Entry, make_entry
from .keywords import words_of
from .load import Layer
from .making import spans_of, value_of
from .parse import parse_text
from .paths import Roots
from .spec import Machine, Peak

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "targets", "catalog")
"""Where the catalogue's files lie. (No pathlib in what `infc check` imports: it costs 10 ms.)"""


def read_catalog(text: str, file: str) -> tuple[tuple[Machine, ...], list[Diagnostic]]:
    """The machines of one catalogue file, and what is wrong with it."""
    statements, found = parse_text(text, file)
    roots = Roots("", "")
    layer = Layer(0, file, statements, roots)
    context = Context({}, found, roots)
    if not statements or statements[0].word.text != "infer":
        found.append(Diagnostic("E0307", f"{file} does not begin with the version of the language"))
    machines: list[Machine] = []
    for statement in statements[1:]:
        keyword = words_of("catalogue").get(statement.word.text)
        if keyword is None or statement.block is None:
            found.append(Diagnostic("E0301", "a catalogue file holds only `machine` blocks", statement.word.span))
            continue
        entry = make_entry(statement, keyword, "catalogue", None, layer, context, Collected())
        if entry is not None:
            machines.append(_machine(entry))
    return tuple(machines), found


def _machine(entry: Entry) -> Machine:
    own: dict[str, Entry] = {}
    for inner in entry.inner:
        own.setdefault(inner.word, inner)

    def value(word: str, capture: str) -> Any:
        return value_of(own[word].match.captures, capture) if word in own else None

    def items(word: str, capture: str) -> tuple[str, ...]:
        return tuple(item[capture].value for item in own[word].match.items) if word in own else ()

    peaks = tuple(
        Peak(precision=captures["precision"].value, ops_per_s=float(captures["speed"].value), span=inner.span)
        for inner in entry.inner
        if inner.word == "peak"
        for captures in (inner.match.captures,)
    )
    return Machine(
        name=entry.match.captures["name"].value,
        kind=value("kind", "kind"),
        aliases=items("alias", "alias"),
        vendor=value("vendor", "vendor"),
        isa=value("isa", "isa"),
        arch=value("arch", "arch"),
        cores=value("cores", "cores"),
        memory_bytes=value("memory", "memory"),
        device_memory_bytes=value("device_memory", "memory"),
        bandwidth_bytes_per_s=value("bandwidth", "bandwidth"),
        peaks=peaks,
        price_usd_per_h=value("price", "price"),
        topologies=items("topology", "shape"),
        source=value("from", "source"),
        date=value("date", "date"),
        span=entry.span,
        spans=spans_of(entry.match.captures, name="name"),
    )


@cache
def catalog() -> dict[str, Machine]:
    """Every machine by name and alias. Raises ValueError when a catalogue file is damaged."""
    out: dict[str, Machine] = {}
    for path in sorted(path for path in os.listdir(FOLDER) if path.endswith(".infer")):
        with open(os.path.join(FOLDER, path), encoding="utf-8") as file:
            machines, found = read_catalog(file.read(), path)
        if found:
            first = found[0]
            raise ValueError(f"the catalogue is damaged: {first.span}: {first.title}")
        for machine in machines:
            for name in (machine.name, *machine.aliases):
                out[name] = machine
    return out
