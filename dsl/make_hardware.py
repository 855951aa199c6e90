"""The `hardware` block → the alternatives, with what the catalogue knows of each name filled in."""

from __future__ import annotations

from typing import Any

from .catalog import catalog
from .entries import Entry
from .making import Making, value_of
from .spec import Accept, Hardware, Machine
from .suggest import hint, listed

_BELONGS = {
    "isa": ("cpu",),
    "arch": ("cuda", "rocm"),
    "topology": ("tpu",),
    "device_memory": ("cuda", "rocm", "tpu"),
}
_NEEDS = {"cuda": "arch", "rocm": "arch"}


def make_hardware(making: Making) -> tuple[tuple[Hardware, ...], tuple[Accept, ...]]:
    """The `use` lines (this machine's CPU where there are none) and the `accept` lines."""
    uses = making.all(None, "hardware", "use")
    machines = tuple(h for h in (_use(making, entry) for entry in uses) if h is not None)
    accepts: list[Accept] = []
    for entry in making.all(None, "hardware", "accept"):
        kind, name = entry.match.captures["kind"].value, entry.match.captures["name"].value
        accepts.append(Accept(kind=kind, name=name, span=entry.span))
    return machines or (Hardware(written=False),), tuple(accepts)


def _use(making: Making, entry: Entry) -> Hardware | None:
    captures = entry.match.captures
    named = captures.get("name")
    kind = value_of(captures, "kind")
    machine: Machine | None = None
    if named is not None:
        machine = _look_up(making, named.value, kind, entry)
        if machine is None:
            return None
        if kind is not None and kind != machine.kind:
            making.error(
                "E0602",
                f'"{named.value}" is a {machine.kind} machine',
                captures["kind"].span,
                f"expected {machine.kind}",
            )
            return None
        kind = machine.kind
    if kind is None:
        making.error(
            "E0603", "use needs a kind or a name", entry.statement.word.span, "expected cpu, cuda, rocm, tpu or a name",
            ('as in `use cpu { cores 2 }` or `use "aws:c7a.large"`',),
        )  # fmt: skip
        return None
    own = {inner.word: inner for inner in entry.inner}
    for word, kinds in _BELONGS.items():
        if word in own and kind not in kinds:
            making.error(
                "E0604", f"`{word}` belongs to {listed(kinds)}, and this is {kind}", own[word].statement.word.span
            )

    def value(word: str, capture: str, known: Any = None) -> Any:
        return own[word].match.captures[capture].value if word in own else known

    arch = value("arch", "arch", machine.arch if machine else None)
    if kind in _NEEDS and arch is None:
        example = {"cuda": "sm_90", "rocm": "gfx942"}[kind]
        making.error("E0603", f"use {kind} needs a name or an arch", entry.span, f"expected {{ arch {example} }}")
    if "arch" in own:
        prefix = {"cuda": "sm_", "rocm": "gfx"}.get(kind, "")
        if not str(arch).startswith(prefix):
            span = own["arch"].match.captures["arch"].span
            making.error("E0604", f"`{arch}` is not an architecture of {kind}", span, f"expected {prefix}...")
    topology = value("topology", "shape")
    if topology is not None and machine is not None and machine.topologies and topology not in machine.topologies:
        span = own["topology"].match.captures["shape"].span
        making.error(
            "E0604", f"{machine.name} has no topology {topology}", span, f"expected {listed(machine.topologies)}"
        )
    return Hardware(
        kind=kind,
        name=None if named is None else named.value,
        isa=value("isa", "isa", (machine.isa if machine else None) or "native") if kind == "cpu" else None,
        arch=arch,
        topology=(topology or "1x1") if kind == "tpu" else None,
        cores=value("cores", "cores", machine.cores if machine else None),
        memory_bytes=value("memory", "memory", machine.memory_bytes if machine else None),
        device_memory_bytes=value("device_memory", "memory", machine.device_memory_bytes if machine else None),
        price_usd_per_h=_float(value("price", "price", machine.price_usd_per_h if machine else None)),
        count=value("count", "range", (1, 1)),
        machine=machine,
        span=entry.span,
        spans=(
            *((("name", named.span),) if named is not None else ()),
            *((_FIELDS.get(word, word), inner.span) for word, inner in own.items()),
        ),
    )


_FIELDS = {"memory": "memory_bytes", "device_memory": "device_memory_bytes", "price": "price_usd_per_h"}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _look_up(making: Making, name: str, kind: str | None, entry: Entry) -> Machine | None:
    machines = catalog()
    machine = machines.get(name)
    if machine is None:
        known = sorted(n for n, m in machines.items() if kind is None or m.kind == kind)
        help = hint(name, known, "the catalogue has")
        span = entry.match.captures["name"].span
        making.error("E0601", f'the catalogue has no "{name}"', span, "", help)
    return machine
